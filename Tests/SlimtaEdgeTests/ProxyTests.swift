// An SMTP edge behind proxies, on real sockets: who the client is, who is let in, and what is told of it.

import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaNet
import SlimtaSMTP
import TestKit
import Testing

@testable import SlimtaEdge

@Suite struct ProxyTests {
    private static let line = "PROXY TCP4 192.0.2.7 192.0.2.8 56324 587\r\n"
    private static let greeting = "220 mx.example.org ESMTP Mail Gateway"

    /// Nothing is said before the header; behind it the session is as any other, and the client the header's.
    @Test func theClientIsTheHeaders() async throws {
        try await withEdge { edge, port, log in
            for isGlued in [false, true] {
                let client = try await LineClient(port: port)
                try await client.send(Self.line + (isGlued ? "FOO\r\n" : ""))
                #expect(await client.line() == Self.greeting)
                if !isGlued { try await client.send("FOO\r\n") }
                #expect(await client.line()?.hasPrefix("500 ") == true)
                // Trusted by its own address, not by the proxy's.
                #expect(try await client.ask("EHLO c")?.hasPrefix("250 ") == true)
                #expect(try await client.ask("MAIL FROM:<a@x.org>")?.hasPrefix("250 ") == true)
                #expect(try await client.ask("QUIT")?.hasPrefix("221 ") == true)
            }
            let lines = log.lines("refused")
            #expect(lines.count == 2)
            for line in lines { #expect(line.fields["client"] == "192.0.2.7" && line.fields["proxy"] == "127.0.0.1") }
        }
    }

    /// LOCAL and UNKNOWN: the real peer, which has a proxy's address and nobody's rights.
    @Test(arguments: ["PROXY UNKNOWN\r\n", "\r\n\r\n\0\r\nQUIT\n\u{20}\0\0\0", "\r\n\r\n\0\r\nQUIT\n\u{21}\0\0\0"])
    func theRealPeer(_ header: String) async throws {
        try await withEdge { edge, port, log in
            let client = try await LineClient(port: port)
            try await client.send(header)
            #expect(await client.line() == Self.greeting)
            #expect(try await client.ask("EHLO c")?.hasPrefix("250 ") == true)
            #expect(try await client.ask("MAIL FROM:<a@x.org>")?.hasPrefix("530 ") == true)
            let line = try #require(log.lines("refused").last)
            #expect(line.fields["client"] == "127.0.0.1" && line.fields["proxy"] == "127.0.0.1")
        }
    }

    /// A second header is a command like any other that there is not.
    @Test func twoHeaders() async throws {
        try await withEdge { edge, port, log in
            let client = try await LineClient(port: port)
            try await client.send(Self.line + Self.line)
            #expect(await client.line() == Self.greeting)
            #expect(await client.line()?.hasPrefix("500 ") == true)
        }
    }

    /// From others none is read: theirs is a bad command.
    @Test func notFromAProxy() async throws {
        try await withEdge(proxies: "10.0.0.0/8") { edge, port, log in
            let client = try await LineClient(port: port)
            #expect(await client.line() == Self.greeting)
            try await client.send(Self.line)
            #expect(await client.line()?.hasPrefix("500 ") == true)
        }
    }

    /// No banner, no reply: closed. At info what was sent that is no header, and nothing of who just went.
    @Test func withoutAHeader() async throws {
        try await withEdge { edge, port, log in
            let wrong = try await LineClient(port: port)
            try await wrong.send("EHLO c\r\n")
            #expect(await wrong.line() == nil)
            #expect(log.lines("no valid PROXY header").map { $0.fields["proxy"] } == ["127.0.0.1"])
            try await wait { edge.sessionCount == 0 }
        }
        try await withEdge(timeout: .milliseconds(100)) { edge, port, log in
            let silent = try await LineClient(port: port)
            #expect(await silent.line() == nil)
            #expect(log.lines("no PROXY header").isEmpty)
            try await wait { edge.sessionCount == 0 }
        }
    }

    /// A health check leaves one line, of debug, whenever it goes: nothing at all is told at info.
    @Test(arguments: ["", line, "\r\n\r\n\0\r\nQUIT\n\u{20}\0\0\0"], [false, true])
    func healthChecks(_ header: String, waitsForBanner: Bool) async throws {
        try await withEdge { edge, port, log in
            log.logLevel = .debug
            do {
                let check = try await LineClient(port: port)
                if !header.isEmpty { try await check.send(header) }
                if !header.isEmpty, waitsForBanner { #expect(await check.line() == Self.greeting) }
                withExtendedLifetime(check) {}
            }
            try await wait { edge.sessionCount == 0 && !log.all.isEmpty }
            #expect(log.all.map(\.message) == [header.isEmpty ? "no PROXY header" : "disconnected"])
        }
    }

    /// What the proxy says of its client stands in one line of the session.
    @Test func whatElseTheProxySays() async throws {
        try await withEdge { edge, port, log in
            log.logLevel = .debug
            let client = try await LineClient(port: port)
            // Without addresses: unique-id "u1", authority "mx.x", TLS 1.3.
            try await client.send(
                "\r\n\r\n\0\r\nQUIT\n\u{21}\0\0\u{20}\u{5}\0\u{2}u1\u{2}\0\u{4}mx.x"
                    + "\u{20}\0\u{11}\u{1}\0\0\0\0\u{21}\0\u{9}TLSv1.3.0")
            #expect(await client.line() == Self.greeting)
            #expect(log.lines("connected").isEmpty)
            try await client.send("NOOP\r\n")
            #expect(await client.line() == "250 2.0.0 Ok")
            let fields = try #require(log.lines("connected").first).fields
            #expect(fields["unique_id"] == "u1" && fields["authority"] == "mx.x")
            #expect(fields["proxy_tls"] == "TLSv1.3.0 unknown" && fields["proxy"] == "127.0.0.1")
        }
    }

    /// The client counts for its address, the proxy's connections for the proxy; all leave when they go.
    @Test func limits() async throws {
        let limiter = ConnectionLimiter(.init(total: 10, perAddress: 2))
        try await withEdge(limiter) { edge, port, log in
            var clients: [LineClient] = []
            for number in 0..<9 {
                let client = try await LineClient(port: port)
                try await client.send("PROXY TCP4 192.0.2.\(number / 2) 192.0.2.8 56324 587\r\n")
                #expect(await client.line() == Self.greeting)
                clients.append(client)
            }
            #expect(limiter.count == 9)
            // One proxy has nine tenths of all.
            let tenth = try await LineClient(port: port)
            #expect(await tenth.line() == nil)
            _ = try await clients.removeLast().ask("QUIT")
            try await wait { limiter.count == 8 }
            let third = try await LineClient(port: port)
            try await third.send("PROXY TCP4 192.0.2.0 192.0.2.8 56324 587\r\n")
            #expect(await third.line() == "421 4.7.0 mx.example.org Too many connections")
            #expect(await third.line() == nil)
            let lines = log.lines("too many connections")
            #expect(lines.map { $0.fields["client"] } == ["127.0.0.1", "192.0.2.0"])
            #expect(lines.map { $0.fields["proxy"] } == [nil, "127.0.0.1"])
            for client in clients { _ = try await client.ask("QUIT") }
            try await wait { edge.sessionCount == 0 && limiter.count == 0 }
        }
    }

    /// Who has not said yet who it is for is closed at a stop; the others get their 421.
    @Test func draining() async throws {
        try await withEdge { edge, port, log in
            let waiting = try await LineClient(port: port)
            let idle = try await LineClient(port: port)
            try await idle.send(Self.line)
            #expect(await idle.line() == Self.greeting)
            try await wait { edge.sessionCount == 2 }
            await edge.drain()
            #expect(await waiting.line() == nil)
            #expect(await idle.line()?.hasPrefix("421 4.3.2 ") == true)
            try await wait { edge.sessionCount == 0 }
        }
    }

    /// The delay before the greeting begins behind the header, and so does talking early.
    @Test func greetDelay() async throws {
        try await withEdge(greetDelay: .milliseconds(300)) { edge, port, log in
            log.logLevel = .debug
            let early = try await LineClient(port: port)
            try await early.send(Self.line + "NOOP\r\n")
            #expect(await early.line() == Self.greeting)
            #expect(await early.line() == "250 2.0.0 Ok")
            #expect(log.lines("talks before the greeting").map { $0.fields["client"] } == ["192.0.2.7"])
            let polite = try await LineClient(port: port)
            try await polite.send(Self.line)
            #expect(await polite.line() == Self.greeting)
            #expect(log.lines("talks before the greeting").count == 1)
        }
    }

    private func withEdge(
        _ limiter: ConnectionLimiter = ConnectionLimiter(.init(total: 100, perAddress: 100)),
        proxies: String = "127.0.0.0/8", timeout: TimeAmount = .hours(1), greetDelay: TimeAmount = .zero,
        _ body: (SMTPEdge, Int, KeptLog) async throws -> Void
    ) async throws {
        // The proxy's network is among the trusted ones: whoever hides behind a proxy must have none of that.
        let trusted = try ["192.0.2.0/24", "127.0.0.0/8"].map { try #require(NetworkRange($0)) }
        var settings = SMTPEdgeSettings(
            name: "test",
            server: SMTPServerConfiguration(
                hostname: "mx.example.org", tls: .none, authentication: .required, allowsPlaintextAuthentication: true),
            tls: nil, credentials: HeldCredentials(), trust: ClientTrust(networks: trusted, allowsThisMachine: true),
            handshakeTimeout: timeout)
        settings.proxies = [try #require(NetworkRange(proxies))]
        settings.greetDelay = greetDelay
        let log = KeptLog()
        let edge = SMTPEdge(
            settings: settings, limiter: limiter, submissions: AcceptingStorage(),
            group: .singletonMultiThreadedEventLoopGroup, logger: Logger(label: "test") { _ in log })
        let socket = try #require(try ListeningSocket.tcp(host: "127.0.0.1", port: 0).first)
        try await edge.accept(on: socket, address: "configured")
        try await body(edge, try #require(socket.port), log)
        await edge.drain()
        await edge.closeSessions()
    }

    private func wait(_ condition: () -> Bool) async throws {
        for _ in 0..<500 where !condition() { try await Task.sleep(for: .milliseconds(10)) }
        #expect(condition())
    }
}
