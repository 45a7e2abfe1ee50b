// The composition root with all its real parts: start, reload, drain.

import Glibc
import SlimtaControl
import SlimtaNet
import SlimtaSystem
import TestKit
import Testing

@testable import slimtad

@Suite(.timeLimit(.minutes(2))) struct DaemonTests {
    @Test func aMessageFromSocketToMaildir() async throws {
        let daemon = try await DaemonFixture()
        #expect(await daemon.greeting("in.sock") == "220 mx.example.org in")
        #expect(try await daemon.submit("one")?.hasPrefix("250 2.6.0") == true)
        try await wait("delivery") { daemon.delivered == ["one"] }
        #expect(daemon.folder.names("run").contains("control"))
        await daemon.stop()
        #expect(!daemon.folder.names("run").contains("control"))
        #expect(daemon.log.lines("stopped").count == 1)
    }

    /// What was accepted before a stop is delivered after the next start.
    @Test func aRestart() async throws {
        let folder = try Folder()
        var conf = Conf()
        conf.queue = "deliver = false"
        let before = try await DaemonFixture(conf, folder)
        #expect(try await before.submit("kept")?.hasPrefix("250 ") == true)
        await before.stop()
        let after = try await DaemonFixture(Conf(), folder)
        try await wait("delivery") { after.delivered == ["kept"] }
        await after.stop()
    }

    @Test(arguments: ["no such key", "port taken", "no users file", "few files"])
    func aStartThatFails(_ what: String) async throws {
        let folder = try Folder()
        var conf = Conf()
        var limit = 4096
        let taken = try #require(try ListeningSocket.tcp(host: "127.0.0.1", port: 0).first)
        defer { taken.close() }
        switch what {
        case "no such key": conf.more = "nonsense = 1"
        case "port taken": conf.edges = [("in", ["127.0.0.1:\(taken.port ?? 0)"])]
        case "few files": limit = 30
        default:
            conf.relay = "type = \"smtp\"\nhost = \"127.0.0.1:9\"\nusername = \"u\"\npassword_file = \"/nowhere/p\""
        }
        await #expect(throws: Failure.self) { try await DaemonFixture(conf, folder, fileLimit: limit) }
    }

    // MARK: Reload

    /// Whatever is wrong with it, all of the old stays: edges, relays, settings.
    @Test(arguments: ["unknown key", "not TOML", "port taken", "secret missing"])
    func aReloadWithAMistake(_ what: String) async throws {
        let daemon = try await DaemonFixture()
        let session = try await daemon.client()
        _ = await session.line()
        let taken = try #require(try ListeningSocket.tcp(host: "127.0.0.1", port: 0).first)
        defer { taken.close() }
        var conf = Conf()
        // All that follows is right, and must not be taken either.
        conf.edges = [("other", ["other.sock"])]
        conf.queue = "deliver = false"
        switch what {
        case "unknown key": conf.more = "nonsense = 1"
        case "not TOML": conf.more = "= ="
        // Behind one that can be opened.
        case "port taken": conf.edges.append(("third", ["127.0.0.1:\(taken.port ?? 0)"]))
        default:
            conf.relay = "type = \"smtp\"\nhost = \"127.0.0.1:9\"\nusername = \"u\"\npassword_file = \"/nowhere/p\""
        }
        let result = try await daemon.reload(conf)
        #expect(!result.isApplied && !result.errors.isEmpty)
        #expect(!daemon.log.lines("reload failed").isEmpty && daemon.log.lines("reloaded").isEmpty)
        #expect(daemon.state.now.edges.map(\.name) == ["in"] && daemon.state.now.delivers)
        #expect(await daemon.greeting("other.sock") == nil)
        #expect(!daemon.folder.names("").contains("other.sock"))
        #expect(try await session.submit("session")?.hasPrefix("250 ") == true)
        #expect(try await daemon.submit("after")?.hasPrefix("250 ") == true)
        try await wait("delivery") { daemon.delivered == ["after", "session"] }
        // And the next one is taken.
        conf = Conf()
        conf.edges = [("other", ["other.sock"])]
        #expect(try await daemon.reload(conf).isApplied)
        #expect(await daemon.greeting("other.sock") == "220 mx.example.org other")
        await daemon.stop()
    }

    /// Addresses appear, go, and move from edge to edge; who is behind which is what the configuration says.
    @Test func addressesMove() async throws {
        let port = try NameServer.freePort()
        let ways: [[(name: String, listen: [String])]] = [
            [("one", ["1.sock", "127.0.0.1:\(port)"]), ("two", ["2.sock"])],
            [("one", ["1.sock"]), ("two", ["2.sock", "127.0.0.1:\(port)"])],
            [("two", ["1.sock"]), ("one", ["2.sock", "3.sock"])],
            [("three", ["3.sock", "1.sock"])],
            [("one", ["0.0.0.0:\(port)"]), ("three", ["3.sock"])],
            [("one", ["[::]:\(port)"])],
            [("one", ["1.sock", "127.0.0.1:\(port)"]), ("two", ["2.sock"])],
        ]
        var conf = Conf()
        conf.edges = ways[0]
        let daemon = try await DaemonFixture(conf)
        for way in ways {
            conf.edges = way
            // Not only this machine can reach some.
            conf.access = "tls = \"none\"\nauth = \"none\"\ntrusted_networks = [\"127.0.0.0/8\"]"
            let result = try await daemon.reload(conf)
            #expect(result.isApplied, "\(result.errors)")
            for name in ["1.sock", "2.sock", "3.sock"] {
                let owner = way.first { $0.listen.contains(name) }?.name
                #expect(await daemon.greeting(name) == owner.map { "220 mx.example.org \($0)" }, "\(name) of \(way)")
            }
            let owner = way.first { $0.listen.contains { $0.hasSuffix(":\(port)") } }?.name
            let greeting = await (try? LineClient(port: port))?.line()
            #expect(greeting == owner.map { "220 mx.example.org \($0)" }, "port of \(way)")
            #expect(daemon.state.now.edges.map(\.name) == way.map(\.name))
        }
        await daemon.stop()
    }

    /// A session goes on under what it began with, on an edge that is gone as well; the next has what is new.
    @Test func sessionsKeepTheirSettings() async throws {
        var conf = Conf()
        conf.limits = "recipients = 1"
        let daemon = try await DaemonFixture(conf)
        func refused(_ client: LineClient) async throws -> Bool {
            for command in ["EHLO c", "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>"] {
                _ = try await client.ask(command)
            }
            return try await client.ask("RCPT TO:<c@y.example>")?.hasPrefix("452 4.5.3") == true
        }
        let before = try await daemon.client()
        _ = await before.line()
        conf.limits = "recipients = 2"
        #expect(try await daemon.reload(conf).isApplied)
        let after = try await daemon.client()
        _ = await after.line()
        #expect(try await refused(before))
        #expect(try await !refused(after))
        for client in [before, after] { #expect(try await client.ask("QUIT")?.hasPrefix("221 ") == true) }
        await daemon.stop()
    }

    /// Thirty reloads, each with a session and a delivery open: sessions and deliveries go on, and each old world ends when
    /// they do.
    @Test func thirtyReloads() async throws {
        // Connections to it stay without a greeting.
        let silent = try #require(try ListeningSocket.tcp(host: "127.0.0.1", port: 0).first)
        var isClosed = false
        defer { if !isClosed { silent.close() } }
        var conf = Conf()
        conf.relay = "type = \"smtp\"\nhost = \"127.0.0.1:\(silent.port ?? 0)\"\ntls = \"none\""
        conf.queue = "retry = [\"1s\"]"
        let daemon = try await DaemonFixture(conf)
        var sessions: [LineClient] = []
        for number in 0..<30 {
            let session = try await daemon.client()
            #expect(await session.line()?.hasPrefix("220 ") == true)
            #expect(try await session.submit("\(number)")?.hasPrefix("250 ") == true)
            sessions.append(session)
            #expect(await daemon.reload().isApplied)
        }
        #expect(daemon.state.now.edges.first?.sessions() == 30)
        for session in sessions { #expect(try await session.ask("NOOP")?.hasPrefix("250 ") == true) }
        // The deliveries fail with their connections, and are made again in the world of that moment.
        conf.relay = nil
        #expect(try await daemon.reload(conf).isApplied)
        silent.close()
        isClosed = true
        try await wait("deliveries") { daemon.delivered.count == 30 }
        await daemon.stop()
        for session in sessions { #expect(await session.line()?.hasPrefix("421 ") == true) }
    }

    // MARK: Drain

    /// Idle sessions end at once, one in a transaction when that has ended. Who connects meanwhile waits for the next process.
    @Test func draining() async throws {
        let daemon = try await DaemonFixture()
        let (idle, busy) = (try await daemon.client(), try await daemon.client())
        for client in [idle, busy] { #expect(await client.line()?.hasPrefix("220 ") == true) }
        for command in ["EHLO c", "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA"] {
            _ = try await busy.ask(command)
        }
        daemon.signal(.terminate)
        #expect(await idle.reply()?.hasPrefix("421 ") == true)
        let result = await daemon.reload()
        #expect(!result.isApplied && result.errors == ["the daemon is stopping"])
        #expect(try await busy.ask("Subject: last\r\n\r\ntext\r\n.")?.hasPrefix("250 ") == true)
        #expect(await busy.reply()?.hasPrefix("421 ") == true)
        await daemon.end()
        // It is kept: a drain begins no attempts.
        let again = try await DaemonFixture(Conf(), daemon.folder)
        try await wait("delivery") { again.delivered == ["last"] }
        await again.stop()
    }

    /// An edge that a reload has removed is not forgotten: the stop waits for what it is in the middle of.
    @Test func drainingWhatAReloadEnds() async throws {
        var conf = Conf()
        conf.edges.append((name: "old", listen: ["old.sock"]))
        let daemon = try await DaemonFixture(conf)
        let busy = try await daemon.client("old.sock")
        _ = await busy.line()
        for command in ["EHLO c", "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA"] {
            _ = try await busy.ask(command)
        }
        conf.edges.removeLast()
        #expect(try await daemon.reload(conf).isApplied)
        // Another one, which has nothing to do with that edge.
        #expect(await daemon.reload().isApplied)
        daemon.signal(.terminate)
        try await wait("drain") { daemon.state.now.isDraining }
        #expect(try await busy.ask("Subject: last\r\n\r\ntext\r\n.")?.hasPrefix("250 ") == true)
        await daemon.end()
        let again = try await DaemonFixture(Conf(), daemon.folder)
        try await wait("delivery") { again.delivered == ["last"] }
        await again.stop()
    }

    @Test func drainTimeout() async throws {
        var conf = Conf()
        conf.drainTimeout = "1s"
        let daemon = try await DaemonFixture(conf)
        let busy = try await daemon.client()
        _ = await busy.line()
        for command in ["EHLO c", "MAIL FROM:<a@x.example>"] { _ = try await busy.ask(command) }
        await daemon.stop()
        #expect(await busy.line() == nil)
    }

    @Test func aSecondSignalHurries() async throws {
        var conf = Conf()
        conf.drainTimeout = "1h"
        let daemon = try await DaemonFixture(conf)
        let busy = try await daemon.client()
        _ = await busy.line()
        for command in ["EHLO c", "MAIL FROM:<a@x.example>"] { _ = try await busy.ask(command) }
        daemon.signal(.terminate)
        try await wait("drain") { daemon.state.now.isDraining }
        daemon.signal(.interrupt)
        await daemon.end()
        #expect(await busy.line() == nil)
    }
}
