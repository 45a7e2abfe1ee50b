// Tokens from a real HTTPS endpoint: one request for all, refresh tokens on the disk first, and hosts that refuse.

import Foundation
import NIOCore
import NIOPosix
import SlimtaDNS
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaTLS
import Synchronization
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct TokenSourceTests {
    /// A folder that may be full.
    private final class Store: RefreshTokenStore {
        let turns = Turns(1)
        let kept = Mutex<[StoredRefreshToken]>([])
        let fault = Mutex<String?>(nil)
        let readFault = Mutex<String?>(nil)

        func read() throws(TokenSource.Unavailable) -> StoredRefreshToken? {
            if let fault = readFault.withLock({ $0 }) { throw TokenSource.Unavailable(why: fault) }
            return kept.withLock { $0.last }
        }

        func write(_ token: StoredRefreshToken) -> String? {
            if let fault = fault.withLock({ $0 }) { return fault }
            kept.withLock { $0.append(token) }
            return nil
        }

        var tokens: [String] { kept.withLock { $0.map(\.token) } }
    }

    private final class House {
        let certificates = try! Certificates()
        let endpoint: ScriptedServer
        let client: HTTPSClient
        let store = Store()
        let threads = NIOThreadPool(numberOfThreads: 1)

        /// Each connection gets the next of these answers; the last one is for all that come later.
        init(_ answers: [(status: Int, body: String)]) async throws {
            let pair = try certificates.selfSigned("login.test", "IP:127.0.0.1")
            let tls = try TLSServerContext(certificatePEM: pair.certificatePEM, keyPEM: pair.keyPEM)
            endpoint = try await ScriptedServer(
                all: answers.map { answer in
                    [.startTLS(tls)] + Array(repeating: ScriptedServer.Step.expect(""), count: 7)
                        + [
                            .send(
                                "HTTP/1.1 \(answer.status) x\r\nContent-Length: \(answer.body.utf8.count)\r\n\r\n"
                                    + answer.body)
                        ]
                })
            client = try HTTPSClient(
                resolver: FixedHostRelayTests.resolver, group: Fixture.group, trustFile: pair.certificateFile)
            threads.start()
        }

        func source(_ token: String = "first", _ store: (any RefreshTokenStore)? = nil) -> TokenSource {
            TokenSource(
                TokenSettings(
                    endpoint: .init(host: "127.0.0.1", port: endpoint.port, target: "/token"), username: "a@b.test",
                    clientID: "me", proof: .none, grant: .refreshToken(token), margin: .seconds(600)),
                client: client, store: store ?? self.store, threads: threads, logger: Fixture.logger)
        }

        func end() async throws {
            await client.shutDown()
            await endpoint.stop()
            try await threads.shutdownGracefully()
        }
    }

    private static func token(_ text: String, _ seconds: Int = 3600, refresh: String? = nil) -> (Int, String) {
        (
            200,
            #"{"access_token":"\#(text)","expires_in":\#(seconds)\#(refresh.map { #","refresh_token":"\#($0)""# } ?? "")}"#
        )
    }

    @Test func oneRequestForAHundred() async throws {
        let house = try await House([Self.token("a")])
        let source = house.source()
        let tokens = await withTaskGroup(of: String?.self) { group in
            for _ in 0..<100 { group.addTask { try? await source.token().get() } }
            return await group.reduce(into: Set<String?>()) { $0.insert($1) }
        }
        #expect(tokens == ["a"])
        #expect(house.endpoint.connections == 1)
        #expect(house.endpoint.lines.first == "POST /token HTTP/1.1" && source.current == "a")
        // It is used, and so on the disk, for the next start to know when.
        #expect(house.store.tokens == ["first"])
        try await house.end()
    }

    /// A new refresh token is kept before anybody has the access token; where it cannot be, nobody asks again before it is.
    @Test func rotation() async throws {
        let house = try await House([Self.token("a", refresh: "second"), Self.token("b", refresh: "third")])
        house.store.fault.withLock { $0 = "no space" }
        let source = house.source()
        guard case .failure(let missing) = await source.token() else {
            Issue.record("a token whose successor would be lost")
            return
        }
        #expect(missing.why == "the new refresh token cannot be kept: no space")
        #expect(source.current == nil && house.store.tokens == [] && house.endpoint.connections == 1)
        house.store.fault.withLock { $0 = nil }
        var found: String?
        while found == nil {
            found = try? await source.token().get()
            if found == nil { try await Task.sleep(for: .milliseconds(100)) }
        }
        #expect(found == "a" && house.store.tokens == ["second"] && house.endpoint.connections == 1)

        // The next start uses the newest; and what the operator has configured since is newer than that.
        let next = house.source()
        #expect(try await next.token().get() == "b")
        #expect(house.store.tokens == ["second", "third"])
        let changed = house.source("fresh")
        #expect(try await changed.token().get() == "b")
        #expect(house.store.tokens == ["second", "third", "third"])
        let bodies = house.endpoint.lines.filter { $0.hasPrefix("grant_type") }
        #expect(bodies == [], "a body has no end of line")
        try await house.end()
    }

    /// The configured token was given up for one that cannot be read: who showed it again might lose both.
    @Test func aKeptTokenThatCannotBeRead() async throws {
        let house = try await House([Self.token("a", refresh: "second")])
        house.store.readFault.withLock { $0 = "too many open files" }
        let source = house.source()
        let why = "the kept refresh token cannot be read: too many open files"
        #expect(await source.token() == .failure(.init(why: why)))
        #expect(source.complaint?.hasSuffix(why) == true)
        #expect(house.endpoint.connections == 0 && house.store.tokens == [])
        try await house.end()
    }

    @Test func whatOnlyTheOperatorCanPutRight() async throws {
        let house = try await House([(400, #"{"error":"invalid_grant"}"#)])
        let source = house.source()
        for _ in 0..<3 {
            guard case .failure(let missing) = await source.token() else {
                Issue.record("no token")
                return
            }
            #expect(missing.why == "it answers 400 invalid_grant")
        }
        #expect(house.endpoint.connections == 1)
        #expect(
            source.complaint
                == "https://127.0.0.1:\(house.endpoint.port)/token: no token for a@b.test: it answers 400 invalid_grant"
        )
        #expect(house.store.tokens == [])
        try await house.end()
    }

    /// An attempt that is broken off waits for nobody.
    @Test func cancelled() async throws {
        let mute = try await ScriptedServer([.pause(.minutes(5))])
        let house = try await House([Self.token("a")])
        let source = TokenSource(
            TokenSettings(
                endpoint: .init(host: "127.0.0.1", port: mute.port, target: "/"), username: "u", clientID: "c",
                proof: .none, grant: .clientCredentials),
            client: house.client, store: nil, threads: house.threads, logger: Fixture.logger)
        let task = Task { await source.token() }
        try await Task.sleep(for: .milliseconds(50))
        task.cancel()
        #expect(await task.value == .failure(.init(why: "cancelled")))
        await mute.stop()
        try await house.end()
    }

    // MARK: With a host

    /// The host's sessions, each told which token it takes.
    private static func host(_ tls: TLSServerContext, _ scripts: [[ScriptedServer.Step]]) async throws -> ScriptedServer
    {
        try await ScriptedServer(
            all: scripts.map { script in
                FixedHostRelayTests.ehlo + [
                    FixedHostRelayTests.tlsOffer, .expect("STARTTLS"), .send("220 go\r\n"), .startTLS(tls),
                    .expect("EHLO"), .send("250-x\r\n250 AUTH XOAUTH2\r\n"),
                ] + script
            })
    }

    private static func line(_ token: String) -> ScriptedServer.Step {
        .expect("AUTH XOAUTH2 " + Base64.encode("user=a@b.test\u{1}auth=Bearer \(token)\u{1}\u{1}".utf8))
    }

    private static func refusal(_ token: String) -> [ScriptedServer.Step] {
        [
            line(token), .send("334 eyJzdGF0dXMiOiI0MDEifQ==\r\n"), .expect(""),
            .send("535 5.7.8 token has ended\r\n"), .close,
        ]
    }

    private static func relay(
        _ host: ScriptedServer, _ source: TokenSource, trustFile: String,
        _ options: RelayOptions = FixedHostRelayTests.options(), _ sites: Sites? = nil
    ) throws -> FixedHostRelay {
        try FixedHostRelay(
            options, to: [.host("127.0.0.1", port: host.port)], login: .tokens(source), trustFile: trustFile,
            resolver: FixedHostRelayTests.resolver, sites: sites, group: Fixture.group, logger: Fixture.logger)
    }

    /// A token that the host no longer takes is thrown away, and the message goes with another in the same attempt.
    @Test func aTokenThatHasEnded() async throws {
        let house = try await House([Self.token("old"), Self.token("new")])
        let (tls, file, certificates) = try FixedHostRelayTests.serverContext("IP:127.0.0.1")
        let host = try await Self.host(
            tls, [Self.refusal("old"), [Self.line("new"), .send("235 ok\r\n"), .serve([])]])
        let relay = try Self.relay(host, house.source(), trustFile: file)
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.result) == [.delivered], "\(outcomes)")
        // The session outlives the token: the next message goes over it.
        #expect(await relay.attempt(Delivery(to: ["b@x.test"])).map(\.result) == [.delivered])
        #expect(host.faults == [] && host.connections == 2 && house.endpoint.connections == 2)
        #expect(relay.complaint == nil)
        await relay.shutDown()
        await host.stop()
        try await house.end()
        withExtendedLifetime(certificates) {}
    }

    /// While a refused token is replaced nobody connects: without one there would be a login that fails.
    @Test func noSessionWithoutAToken() async throws {
        let house = try await House([Self.token("one"), Self.token("two")])
        let (tls, file, certificates) = try FixedHostRelayTests.serverContext("IP:127.0.0.1")
        let host = try await Self.host(tls, [[Self.line("two"), .send("235 ok\r\n"), .serve([])]])
        let source = house.source()
        var options = FixedHostRelayTests.options()
        options.connectionsPerDestination = 1
        let sites = Sites(logger: Fixture.logger)
        let relay = try Self.relay(host, source, trustFile: file, options, sites)
        let site = sites.site(relay.siteKey, connections: 1)
        let visitor = SiteVisitor()
        guard case .go = await site.enter(for: "x.test", visitor) else {
            Issue.record("no place")
            return
        }
        let attempt = Task { await relay.attempt(Delivery(to: ["a@x.test"])) }
        while site.state.withLock({ $0.lineCount }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        source.rejected("one")
        site.leave(visitor)
        let outcomes = await attempt.value
        #expect(outcomes.map(\.result) == [.delivered], "\(outcomes)")
        #expect(host.faults == [] && host.connections == 1 && house.endpoint.connections == 2)
        await relay.shutDown()
        await host.stop()
        try await house.end()
        withExtendedLifetime(certificates) {}
    }

    /// Who refuses new tokens as well is not asked again and again.
    @Test func aHostThatTakesNone() async throws {
        let house = try await House([Self.token("one"), Self.token("two")])
        let (tls, file, certificates) = try FixedHostRelayTests.serverContext("IP:127.0.0.1")
        let host = try await Self.host(tls, [Self.refusal("one"), Self.refusal("two")])
        let relay = try Self.relay(host, house.source(), trustFile: file)
        let first = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(first.map(\.result) == [.temporary] && first[0].reply.text.contains("535 5.7.8 token has ended"))
        let second = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(second.map(\.result) == [.temporary] && second[0].isHostFailure)
        #expect(second[0].reply.code == 454 && second[0].reply.status == EnhancedStatus(4, 7, 0))
        #expect(second[0].reply.text.hasSuffix("the host refuses new tokens as well"))
        #expect(host.connections == 2 && house.endpoint.connections == 2 && host.faults == [])
        #expect(relay.complaint?.contains("the host refuses new tokens as well") == true)
        await relay.shutDown()
        await host.stop()
        try await house.end()
        withExtendedLifetime(certificates) {}
    }
}
