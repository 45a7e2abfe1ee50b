// The HTTP edge as the daemon has it, on real sockets: who is let in, what stopping, draining and closing do to connections,
// and what becomes of a message whose client goes away.

import Foundation
import Glibc
import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaNet
import SlimtaRules
import SlimtaSMTP
import TestKit
import Testing

@testable import SlimtaEdge

extension LineClient {
    /// The status line of the next answer, whose content is empty; nil: the server has closed.
    fileprivate func answer() async -> String? {
        let first = await line()
        while let line = await line(), !line.isEmpty {}
        return first
    }

    /// The same behind answers whose content is JSON, which ends with LF.
    fileprivate func statusBehindJSON() async -> String? {
        await answer()?.split(separator: "\n").last.map(String.init)
    }
}

@Suite struct HTTPEdgeTests {
    private static func post(_ body: String = "Subject: x\r\n\r\nx\r\n", length: Int? = nil) -> String {
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Envelope-Sender: YUB4Lm9yZw==\r\nX-Envelope-Recipient: YkB5Lm9yZw==\r\n"
            + "Content-Length: \(length ?? body.utf8.count)\r\n\r\n\(body)"
    }

    private let accepted = "HTTP/1.1 200 OK"

    /// What a page can have its visitor's browser send is not sent, whatever name it has lead here.
    @Test func pagesOfOthers() async throws {
        var settings = Self.settings()
        settings.serverNames = ["mail.example.com"]
        try await withEdge(settings: settings) { _, port, storage in
            let client = try await LineClient(port: port)
            let forbidden = "HTTP/1.1 403 Forbidden"
            for (host, more, answer) in [
                ("evil.test:8025", "", forbidden), ("evil.test", "Origin: http://evil.test\r\n", forbidden),
                ("evil.test", "Sec-Fetch-Site: same-origin\r\n", forbidden), ("mail.example.com:80", "", accepted),
                ("localhost", "Origin: https://evil.test\r\n", forbidden), ("mx.example.org", "", accepted),
                ("localhost", "Sec-Fetch-Site: same-site\r\n", forbidden),
                ("127.0.0.1:1", "Sec-Fetch-Site: same-origin\r\nOrigin: http://127.0.0.1:1\r\n", accepted),
            ] {
                try await client.send(Self.post().replacing("Host: localhost\r\n", with: "Host: \(host)\r\n\(more)"))
                #expect(await client.answer() == answer, "\(host) \(more)")
            }
            #expect(storage.count == 3)
        }
    }

    @Test func requestsGoOnWhenItStopsAccepting() async throws {
        try await withEdge { edge, port, storage in
            let client = try await LineClient(port: port)
            try await client.send(Self.post())
            #expect(await client.answer() == accepted)
            #expect(edge.sessionCount == 1 && storage.count == 1)
            await edge.stopAccepting(on: "another")
            await edge.stopAccepting(on: "configured")
            await #expect(throws: (any Error).self) { try await LineClient(port: port) }
            try await client.send(Self.post() + Self.post())
            #expect(await client.answer() == accepted)
            #expect(await client.answer() == accepted)
            #expect(storage.count == 3)
        }
    }

    /// Idle connections end at once, the others behind the answer to the request that has begun.
    @Test func draining() async throws {
        try await withEdge { edge, port, storage in
            let (idle, busy) = (try await LineClient(port: port), try await LineClient(port: port))
            try await idle.send(Self.post())
            #expect(await idle.answer() == accepted)
            storage.isSlow = true
            try await busy.send(Self.post() + Self.post())
            try await wait { storage.count == 2 }
            await edge.drain()
            #expect(await idle.line() == nil)
            await #expect(throws: (any Error).self) { try await LineClient(port: port) }
            storage.isSlow = false
            storage.answer()
            #expect(await busy.answer() == accepted)
            #expect(await busy.line() == nil)
            #expect(storage.count == 2)
            try await wait { edge.sessionCount == 0 }
        }
    }

    /// What a rule delays does not hold up the end, neither what is delayed already nor what would be.
    @Test(.timeLimit(.minutes(1))) func drainingDelays() async throws {
        let rule = Rule("slow", at: .rcpt, [], .delay(.seconds(3600)))
        var settings = Self.settings()
        settings.submission.gate = Gate(rules: RuleSet([rule]), spf: nil, lookups: nil, rates: nil)
        try await withEdge(settings: settings) { edge, port, storage in
            storage.isFar = true
            var clients: [LineClient] = []
            for _ in 0..<2 {
                let client = try await LineClient(port: port)
                try await client.send(Self.post())
                clients.append(client)
            }
            try await wait { storage.askingCount == 2 }
            storage.answerRoom(nil)
            let late = try await LineClient(port: port)
            try await late.send(Self.post())
            try await wait { storage.askingCount == 1 }
            await edge.drain()
            storage.answerRoom(nil)
            for client in clients + [late] { #expect(await client.answer() == accepted) }
            #expect(storage.count == 3)
        }
    }

    @Test func closing() async throws {
        try await withEdge { edge, port, storage in
            storage.isSlow = true
            var clients: [LineClient] = []
            for number in 0..<6 {
                clients.append(try await LineClient(port: port))
                // In the middle of a head, of a body, and of an answer.
                try await clients[number].send([Self.post(), Self.post(length: 1000), "POST / HT"][number % 3])
            }
            try await wait { edge.sessionCount == 6 && storage.count == 2 }
            await edge.closeSessions()
            #expect(edge.sessionCount == 0)
            for client in clients { #expect(await client.line() == nil) }
            storage.answer()
        }
    }

    /// One too many is told so, and leaves nothing behind.
    @Test func oneTooMany() async throws {
        let limiter = ConnectionLimiter(.init(total: 100, perAddress: 1))
        try await withEdge(limiter) { edge, port, _ in
            let first = try await LineClient(port: port)
            try await first.send(Self.post())
            #expect(await first.answer() == accepted)
            let second = try await LineClient(port: port)
            #expect(await second.answer() == "HTTP/1.1 503 Service Unavailable")
            #expect(await second.line() == nil)
            try await wait { edge.sessionCount == 1 }
            try await first.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            try await wait { edge.sessionCount == 0 && limiter.count == 0 }
        }
    }

    /// Where the kernel says whose a process is, one user does not have all connections.
    @Test func oneUserTooMany() async throws {
        let limiter = ConnectionLimiter(.init(total: 100, perAddress: 2))
        let path = FileManager.default.temporaryDirectory.appending(path: "slimtad-\(UUID())").path
        defer { unlink(path) }
        let settings = Self.settings(.process { _ in .user(.init(login: "somebody")) })
        try await withEdge(limiter, settings: settings, try ListeningSocket.unix(path: path)) { edge, _, storage in
            var clients: [LineClient] = []
            for _ in 0..<2 {
                let client = try await LineClient(path: path)
                try await client.send(Self.post())
                #expect(await client.answer() == accepted)
                clients.append(client)
            }
            #expect(try await LineClient(path: path).answer() == "HTTP/1.1 503 Service Unavailable")
            #expect(limiter.enter(nil), "there is room for others")
            limiter.leave(nil)
            clients.removeLast()
            try await wait { limiter.count == 1 }
            let next = try await LineClient(path: path)
            try await next.send(Self.post())
            #expect(await next.answer() == accepted)
            #expect(storage.count == 3)
        }
    }

    /// A request is answered by the settings that hold when it comes.
    @Test func settingsOfRequests() async throws {
        try await withEdge { edge, port, _ in
            let client = try await LineClient(port: port)
            try await client.send(Self.post())
            #expect(await client.answer() == accepted)
            edge.setSettings(Self.settings(messageSize: 10))
            try await client.send(Self.post(String(repeating: "x", count: 11)))
            #expect(await client.answer()?.hasPrefix("HTTP/1.1 413 ") == true)
        }
    }

    /// Of a message that does not come to its end nothing is submitted, however its client goes away.
    @Test func clientsThatGoAway() async throws {
        try await withEdge { edge, port, storage in
            for half in [Self.post(length: 1000), Self.post().dropLast(2).description] {
                do {
                    let client = try await LineClient(port: port)
                    try await client.send(half)
                    try await wait { edge.sessionCount == 1 }
                }
                try await wait { edge.sessionCount == 0 }
            }
            #expect(storage.count == 0)
        }
    }

    /// Memory for JSON is taken by what has come, not by what is announced: who announces much and sends nothing keeps
    /// nobody out, who sends it does, until it is done.
    @Test func roomForJSON() async throws {
        // So much one submitter may have at once, but for a little.
        let (most, length) = (100_000, 90_000)
        func head(_ fields: String = "") -> String {
            "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\(fields)"
                + "Content-Length: \(length)\r\n\r\n"
        }
        let (start, end) = (#"{"from": "a@x.org", "to": ["b@y.org"], "text": ""#, #""}"#)
        let text = String(repeating: "x", count: length - start.utf8.count - end.utf8.count)
        let whole = head() + start + text + end
        let settings = Self.settings(messageSize: most, resources: [JSONResource(version: "1", messageSize: most)])
        try await withEdge(settings: settings) { _, port, _ in
            let (slow, other) = (try await LineClient(port: port), try await LineClient(port: port))
            try await slow.send(head("Expect: 100-continue\r\n"))
            // Whether there is room was looked at before.
            #expect(await slow.answer() == "HTTP/1.1 100 Continue")
            try await other.send(whole)
            var status = await other.statusBehindJSON()
            #expect(status == "HTTP/1.1 202 Accepted")
            try await slow.send(start + text.prefix(60_000))
            while status == "HTTP/1.1 202 Accepted" {
                try await other.send(whole)
                status = await other.statusBehindJSON()
            }
            #expect(status == "HTTP/1.1 503 Service Unavailable")
            try await slow.send(text.dropFirst(60_000) + end)
            #expect(await slow.statusBehindJSON() == "HTTP/1.1 202 Accepted")
            try await slow.send(whole)
            #expect(await slow.statusBehindJSON() == "HTTP/1.1 202 Accepted")
        }
    }

    private static func settings(
        _ authenticator: HTTPAuthenticator = .none, messageSize: Int = 1000,
        resources: [any HTTPResource] = [MessageResource(path: "/")]
    ) -> HTTPEdgeSettings {
        HTTPEdgeSettings(
            SubmissionSettings(
                name: "test", hostname: "mx.example.org",
                rules: TransactionRules(authentication: .none, messageSize: messageSize),
                trust: ClientTrust(networks: [], allowsThisMachine: true)),
            tls: nil, authenticator: authenticator, resources: resources)
    }

    /// Runs `body` with an edge that listens on a port of this machine, which the configuration calls "configured".
    private func withEdge(
        _ limiter: ConnectionLimiter = ConnectionLimiter(.init(total: 100, perAddress: 100)),
        settings: HTTPEdgeSettings = Self.settings(), _ socket: ListeningSocket? = nil,
        _ body: (HTTPEdge, Int, AcceptingStorage) async throws -> Void
    ) async throws {
        let storage = AcceptingStorage()
        let edge = HTTPEdge(
            settings: settings, limiter: limiter, submissions: storage, group: .singletonMultiThreadedEventLoopGroup,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let listening = try socket ?? #require(try ListeningSocket.tcp(host: "127.0.0.1", port: 0).first)
        try await edge.accept(on: listening, address: "configured")
        try await body(edge, listening.port ?? 0, storage)
        await edge.drain()
        await edge.closeSessions()
    }

    private func wait(_ condition: () -> Bool) async throws {
        for _ in 0..<500 where !condition() { try await Task.sleep(for: .milliseconds(10)) }
        #expect(condition())
    }
}
