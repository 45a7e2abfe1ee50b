// The SMTP edge as the daemon has it, on real sockets: who is let in, what stopping, draining and closing do to sessions.

import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaNet
import SlimtaSMTP
import TestKit
import Testing

@testable import SlimtaEdge

@Suite struct SMTPEdgeTests {
    @Test func sessionsGoOnWhenItStopsAccepting() async throws {
        try await withEdge { edge, port in
            let client = try await LineClient(port: port)
            #expect(await client.line() == "220 mx.example.org ESMTP Mail Gateway")
            #expect(edge.sessionCount == 1)
            await edge.stopAccepting(on: "another")
            let second = try await LineClient(port: port)
            #expect(await second.line()?.hasPrefix("220 ") == true)
            await edge.stopAccepting(on: "configured")
            await #expect(throws: (any Error).self) { try await LineClient(port: port) }
            try await client.send("QUIT\r\n")
            #expect(await client.line()?.hasPrefix("221 ") == true)
            #expect(await client.line() == nil)
            try await second.send("NOOP\r\n")
            #expect(await second.line()?.hasPrefix("250 ") == true)
            try await wait { edge.sessionCount == 1 }
        }
    }

    /// Idle sessions end at once, the others with their transaction; whoever was accepted in the same moment ends as well.
    @Test func draining() async throws {
        try await withEdge { edge, port in
            let idle = try await LineClient(port: port)
            let busy = try await LineClient(port: port)
            for client in [idle, busy] { #expect(await client.line()?.hasPrefix("220 ") == true) }
            try await busy.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n")
            while let line = await busy.line(), !line.hasPrefix("354") {}
            await edge.drain()
            #expect(await idle.line()?.hasPrefix("421 ") == true)
            #expect(await idle.line() == nil)
            await #expect(throws: (any Error).self) { try await LineClient(port: port) }
            try await busy.send("x\r\n.\r\n")
            #expect(await busy.line()?.hasPrefix("250 ") == true)
            #expect(await busy.line()?.hasPrefix("421 ") == true)
            #expect(await busy.line() == nil)
            try await wait { edge.sessionCount == 0 }
        }
    }

    @Test func closing() async throws {
        try await withEdge { edge, port in
            var clients: [LineClient] = []
            for _ in 0..<5 { clients.append(try await LineClient(port: port)) }
            for client in clients { #expect(await client.line()?.hasPrefix("220 ") == true) }
            await edge.closeSessions()
            #expect(edge.sessionCount == 0)
            for client in clients { #expect(await client.line() == nil) }
        }
    }

    /// One too many is told so, and leaves nothing behind: the next has the room of who left.
    @Test func oneTooMany() async throws {
        let limiter = ConnectionLimiter(.init(total: 100, perAddress: 1))
        try await withEdge(limiter) { edge, port in
            let first = try await LineClient(port: port)
            #expect(await first.line()?.hasPrefix("220 ") == true)
            let second = try await LineClient(port: port)
            #expect(await second.line() == "421 4.7.0 mx.example.org Too many connections")
            #expect(await second.line() == nil)
            try await wait { edge.sessionCount == 1 }
            #expect(limiter.count == 1)
            try await first.send("QUIT\r\n")
            try await wait { edge.sessionCount == 0 && limiter.count == 0 }
            #expect(try await LineClient(port: port).line()?.hasPrefix("220 ") == true)
        }
    }

    /// Settings are those of the moment in which a session begins.
    @Test func settingsOfSessions() async throws {
        try await withEdge { edge, port in
            let before = try await LineClient(port: port)
            #expect(await before.line() == "220 mx.example.org ESMTP Mail Gateway")
            edge.setSettings(Self.settings(hostname: "new.example.org"))
            let after = try await LineClient(port: port)
            #expect(await after.line() == "220 new.example.org ESMTP Mail Gateway")
            try await before.send("HELO c\r\n")
            #expect(await before.line()?.contains("mx.example.org") == true)
        }
    }

    /// Whoever is asked for room answers on a thread of its own.
    @Test func theAnswerAboutRoomComesFromAnotherThread() async throws {
        let storage = AcceptingStorage()
        storage.isFar = true
        try await withEdge(submissions: storage) { edge, port in
            let client = try await LineClient(port: port)
            #expect(await client.line()?.hasPrefix("220 ") == true)
            try await client.send("HELO c\r\nMAIL FROM:<a@x.org>\r\nQUIT\r\n")
            #expect(await client.line()?.hasPrefix("250 ") == true)
            try await wait { storage.askingCount == 1 }
            await Task.detached { storage.answerRoom(nil) }.value
            #expect(await client.line() == "250 2.1.0 <a@x.org> Ok")
            #expect(await client.line()?.hasPrefix("221 ") == true)
        }
    }

    private static func settings(hostname: String) -> SMTPEdgeSettings {
        SMTPEdgeSettings(
            name: "test",
            server: SMTPServerConfiguration(hostname: hostname, tls: .none, authentication: .none), tls: nil,
            credentials: nil, trust: ClientTrust(networks: [], allowsThisMachine: true))
    }

    /// Runs `body` with an edge that listens on a port of this machine, which the configuration calls "configured".
    private func withEdge(
        _ limiter: ConnectionLimiter = ConnectionLimiter(.init(total: 100, perAddress: 100)),
        submissions: AcceptingStorage = AcceptingStorage(), _ body: (SMTPEdge, Int) async throws -> Void
    ) async throws {
        let edge = SMTPEdge(
            settings: Self.settings(hostname: "mx.example.org"), limiter: limiter, submissions: submissions,
            group: .singletonMultiThreadedEventLoopGroup,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let socket = try #require(try ListeningSocket.tcp(host: "127.0.0.1", port: 0).first)
        let port = try #require(socket.port)
        try await edge.accept(on: socket, address: "configured")
        try await body(edge, port)
        await edge.drain()
        await edge.closeSessions()
    }

    private func wait(_ condition: () -> Bool) async throws {
        for _ in 0..<500 where !condition() { try await Task.sleep(for: .milliseconds(10)) }
        #expect(condition())
    }
}
