// DANE from the name server to the message: a signed zone, a resolver that validates, and sessions that are made by what it
// says.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaTLS
import TestKit
import Testing

@testable import SlimtaDNS
@testable import SlimtaRelay

@Suite(.serialized, .timeLimit(.minutes(4)))
struct DANERelayTests {
    /// The domains of SignedMail, and their exchangers.
    final class World {
        let port: Int
        /// At 127.0.1.1, with the key that the good records name, and at 127.0.1.2, without STARTTLS.
        let server: ScriptedServer
        let clear: ScriptedServer
        let memory = TLSMemoryBook()
        private let zones: SignedZones
        private let names: NameServer
        private let resolver: SlimtaDNS.Resolver
        private let certificates: Certificates

        init(dnssec: DNSSECMode = .required) async throws {
            zones = try SignedMail.zones()
            names = try zones.server()
            resolver = try SlimtaDNS.Resolver(
                servers: [("127.0.0.1", names.port)], dnssec: dnssec, trustAnchorFile: zones.key)
            certificates = try Certificates()
            let pair = try certificates.selfSigned("somebody.example", keyPEM: SignedMail.privateKey)
            let tls = try TLSServerContext(certificatePEM: pair.certificatePEM, keyPEM: pair.keyPEM, minimum: .v1_2)
            port = try NameServer.freePort()
            server = try await ScriptedServer(
                at: "127.0.1.1", port: port,
                [
                    .send("220 x\r\n"), .expect("EHLO"), .send("250-x\r\n250 STARTTLS\r\n"), .expect("STARTTLS"),
                    .send("220 go\r\n"), .startTLS(tls), .serve([]),
                ])
            clear = try await ScriptedServer(at: "127.0.1.2", port: port, [.send("220 x\r\n"), .serve([])])
        }

        func relay(
            demands: [TLSDemand] = [], reports: TLSReports? = nil, _ change: (inout RelayOptions) -> Void = { _ in }
        ) throws -> MXRelay {
            var options = RelayOptions(hostname: "client.test")
            options.port = port
            options.networks.allowed = ["127.0.0.0/8"].compactMap { NetworkRange($0) }
            change(&options)
            return try MXRelay(
                options, resolver: resolver, own: OwnAddresses(listeners: []),
                security: RelaySecurity(memory: memory, reports: reports, logger: Fixture.logger), demands: demands,
                group: Fixture.group, logger: Fixture.logger)
        }

        func end() async {
            await server.stop()
            await clear.stop()
            await resolver.close()
            names.stop()
        }
    }

    /// What comes of mail for a domain: whether it is delivered, or the reply's status and words in it; and what is said of TLS.
    struct Case: Sendable, CustomTestStringConvertible {
        let domain: String
        var failure: (status: EnhancedStatus, words: String)?
        var security: String?
        /// What SNI says; nil: there is no handshake that ends well.
        var serverName: String?

        var testDescription: String { domain }
    }

    static let cases: [Case] = [
        Case(domain: "good.example", security: "DANE (1 of 1 TLSA records): TLSA 3 1 1", serverName: "mx.good.example"),
        Case(
            domain: "bad.example",
            failure: (EnhancedStatus(4, 7, 5), "the certificate of mx.bad.example is not accepted"),
            security: "DANE (1 of 1 TLSA records)"),
        Case(domain: "failover.example", security: "DANE (1 of 1", serverName: "mx.good.example"),
        Case(
            domain: "useless.example", security: "encrypted (1 TLSA records, none of use)",
            serverName: "mx.useless.example"),
        Case(domain: "none.example", serverName: "mx.none.example"),
        // The name that the alias leads to is where the records are.
        Case(domain: "alias.example", security: "DANE (1 of 1", serverName: "mx.good.example"),
        // The alias is proved, and where it leads is not: its own records count.
        Case(
            domain: "away.example", failure: (EnhancedStatus(4, 7, 5), "the certificate of gone.example"),
            security: "DANE (1 of 1"),
        Case(domain: "implicit.example", security: "DANE (1 of 1", serverName: "implicit.example"),
        Case(
            domain: "forged.example",
            failure: (EnhancedStatus(4, 7, 5), "mx.forged.example is signed by DNSSEC, and TLSA _"),
            security: "not used (no answer for TLSA _"),
        Case(
            domain: "clear.example",
            failure: (EnhancedStatus(4, 7, 4), "mx.clear.example does not offer STARTTLS, which is demanded of it"),
            security: "DANE (1 of 1"),
        Case(
            domain: "half.unsigned", security: "DANE (1 of 1 TLSA records, MX records without DNSSEC)",
            serverName: "mx.good.example"),
        Case(domain: "halfbad.unsigned", failure: (EnhancedStatus(4, 7, 5), "mx.bad.example")),
        Case(domain: "plain.unsigned", serverName: "mx.unsigned"),
    ]

    /// What the reports of these domains say of one message each.
    @Test func whatReportsSay() async throws {
        let expected = [
            "good.example": "tlsa 1 0", "bad.example": "tlsa 0 1 validation-failure (dane-no-match) 1",
            "useless.example": "tlsa 0 1 tlsa-invalid (all-unusable) 1", "none.example": "no-policy-found 1 0",
            "forged.example": "tlsa 0 1 dnssec-invalid 1", "clear.example": "tlsa 0 1 starttls-not-supported 1",
            "plain.unsigned": "no-policy-found 1 0",
        ]
        let desk = try TLSReportsTests.Desk(Array(expected.keys))
        desk.open()
        let world = try await World()
        let relay = try world.relay(reports: desk.reports)
        for domain in expected.keys { _ = await relay.attempt(Delivery(to: ["a@\(domain)"], age: .seconds(600))) }
        for (domain, counted) in expected { #expect(await desk.counted(domain) == [counted], "\(domain)") }
        await relay.shutDown()
        await world.end()
        await desk.end()
    }

    @Test func whatDNSSays() async throws {
        let world = try await World()
        for one in Self.cases {
            let relay = try world.relay()
            let before = world.server.serverNames.count
            // Old enough to go in clear, where that may be.
            let outcome = try #require(
                await relay.attempt(Delivery(to: ["a@\(one.domain)"], age: .seconds(600))).first)
            if let failure = one.failure {
                #expect(outcome.result == .temporary, "\(one.domain): \(outcome.reply)")
                #expect(outcome.reply.code == 451 && outcome.reply.status == failure.status, "\(outcome.reply)")
                #expect(outcome.reply.text.contains(failure.words), "\(one.domain): \(outcome.reply)")
                #expect(outcome.isHostFailure && outcome.relay != nil && !outcome.isRemote)
            } else {
                #expect(outcome.result == .delivered && outcome.tls != nil, "\(one.domain): \(outcome.reply)")
                #expect(world.server.serverNames.dropFirst(before).last == one.serverName, "\(one.domain)")
            }
            if let words = one.security {
                #expect(outcome.security?.hasPrefix(words) == true, "\(one.domain): \(outcome.security ?? "nil")")
            } else if one.failure == nil {
                #expect(outcome.security == nil)
            }
            // The same, without a connection.
            let said = try #require(await relay.explain(one.domain))
            #expect(said.error == nil && said.isTrusted == !one.domain.hasSuffix("unsigned"))
            if let host = said.hosts.first, outcome.security?.hasPrefix("DANE") == true {
                #expect(host.plan.hasPrefix("encrypted, certificate of TLSA 3 1 1 "), "\(host.plan)")
            }
            await relay.shutDown()
        }
        await world.end()
    }

    /// Two names of one address: mail for one never goes over the session that was made for the other, whose SNI says so.
    @Test func oneAddressTwoNames() async throws {
        let world = try await World()
        let relay = try world.relay()
        for domain in ["good.example", "other.example", "none.example", "good.example", "other.example"] {
            #expect(await relay.attempt(Delivery(to: ["a@\(domain)"])).map(\.result) == [.delivered])
        }
        #expect(world.server.serverNames == ["mx.good.example", "mx.other.example", "mx.none.example"])
        // Two domains with one host share it.
        #expect(await relay.attempt(Delivery(to: ["a@alias.example"])).map(\.result) == [.delivered])
        await relay.shutDown()
        await world.end()
    }

    /// What the operator demands, by relay and by domain.
    @Test func floors() async throws {
        let world = try await World()
        func outcome(_ floor: TLSFloor, _ domain: String, _ demands: [TLSDemand] = []) async throws -> Outcome {
            let relay = try world.relay(demands: demands) { $0.security = floor }
            let outcome = try #require(await relay.attempt(Delivery(to: ["a@\(domain)"], age: .seconds(600))).first)
            await relay.shutDown()
            return outcome
        }
        #expect(try await outcome(.none, "clear.example").result == .delivered)
        #expect(try await outcome(.required, "none.example").result == .delivered)
        #expect(try await outcome(.dane, "good.example").result == .delivered)
        for domain in ["none.example", "useless.example", "half.unsigned"] {
            let refused = try await outcome(.dane, domain)
            #expect(refused.reply.status == EnhancedStatus(4, 7, 5), "\(refused.reply)")
            #expect(refused.reply.text.contains("tls = \"dane\" demands"), "\(refused.reply)")
        }
        // Nobody whom the system trusts has issued it.
        let verified = try await outcome(.verify, "none.example")
        #expect(
            verified.reply.text.hasPrefix("the certificate of mx.none.example is not accepted"), "\(verified.reply)")
        let demand = TLSDemand(.dane) { $0 == "none.example" }
        #expect(try await outcome(.opportunistic, "none.example", [demand]).result == .temporary)
        #expect(try await outcome(.opportunistic, "plain.unsigned", [demand]).result == .delivered)
        await world.end()
    }

    /// A host that was encrypted on three days, and is not any more.
    @Test func memory() async throws {
        let world = try await World(dnssec: .off)
        let key = TLSMemory.Key(domain: "clear.example", host: "mx.clear.example")
        for day in [3, 2, 1] { world.memory.encrypted(key, at: .now() + .seconds(-86_400 * day), by: []) }
        let relay = try world.relay()
        let outcome = try #require(
            await relay.attempt(Delivery(to: ["a@clear.example"], age: .seconds(600))).first)
        #expect(outcome.reply.status == EnhancedStatus(4, 7, 5))
        #expect(
            outcome.reply.text.hasPrefix("mx.clear.example does not offer STARTTLS; it was encrypted on 3 days, last ")
                && outcome.reply.text.hasSuffix("slimtad tls forget clear.example"), "\(outcome.reply)")
        // Nothing of it is known of other domains, and what is encrypted is learned.
        #expect(await relay.attempt(Delivery(to: ["a@none.example"])).map(\.result) == [.delivered])
        #expect(world.memory.entries(of: "none.example", at: .now()).map(\.days) == [1])
        #expect(world.memory.forget(domain: "clear.example") == 1)
        #expect(
            await relay.attempt(Delivery(to: ["a@clear.example"], age: .seconds(600))).map(\.result) == [.delivered])
        await relay.shutDown()
        // Told, and not held up.
        for day in [3, 2, 1] { world.memory.encrypted(key, at: .now() + .seconds(-86_400 * day), by: []) }
        for use in [TLSMemoryUse.report, .off] {
            let relay = try world.relay { $0.tlsMemory = use }
            #expect(await relay.attempt(Delivery(to: ["a@clear.example"])).map(\.result) == [.delivered])
            await relay.shutDown()
        }
        await world.end()
    }

    /// The file's content, there and back.
    @Test func memoryAsAFile() throws {
        let book = TLSMemoryBook()
        let now = Timestamp.now()
        #expect(book.takeChanged(at: now) == nil)
        book.encrypted(.init(domain: "a.example", host: "mx.a.example"), at: now, by: [.dane])
        let octets = try #require(book.takeChanged(at: now))
        #expect(book.takeChanged(at: now) == nil)
        let other = TLSMemoryBook()
        #expect(other.read(octets) && other.entries(of: nil, at: now) == book.entries(of: nil, at: now))
        #expect(other.entries(of: nil, at: now).map(\.dane) == [String(now.isoDate.prefix(10))])
        #expect(!other.read(Array("what?\n".utf8)))
    }
}
