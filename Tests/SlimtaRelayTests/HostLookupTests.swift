// What the relays are told of DNS: hosts, addresses, and whether DNSSEC proved them.

import NIOCore
import TestKit
import Testing

@testable import SlimtaDNS
@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct HostLookupTests {
    /// Twice: what is remembered here says the same.
    private static func ask<Answer: Equatable>(_ question: () async -> Answer) async -> Answer {
        let answer = await question()
        #expect(await question() == answer)
        return answer
    }

    /// A signed root: proved answers, provably unsigned ones, and a forgery.
    @Test func security() async throws {
        let zones = try SignedZones()
        let server = try zones.server()
        defer { server.stop() }
        let resolver = try Resolver(
            servers: [("127.0.0.1", server.port)], dnssec: .required, trustAnchorFile: zones.key)
        let lookup = HostLookup(resolver, port: 25)
        #expect(
            await Self.ask { await lookup.exchangers(of: "secure.example") }
                == .groups([["mx.secure.example"]], .secure))
        #expect(
            await Self.ask { await lookup.exchangers(of: "alias.example") }
                == .groups([["mx.secure.example"]], .secure, canonicalName: "secure.example"))
        #expect(await Self.ask { await lookup.exchangers(of: "unsigned") } == .groups([["mx.unsigned"]], .insecure))
        #expect(await Self.ask { await lookup.exchangers(of: "mx.secure.example") } == .implicit(.secure))
        #expect(await lookup.exchangers(of: "nowhere.example") == .noSuchDomain)
        // A forgery is none of the other things that keep an answer from us.
        guard case .unknown(.bogus(let reason)) = await lookup.exchangers(of: "forged.example") else {
            Issue.record("the forgery was not noticed")
            return
        }
        #expect(reason.contains("forged.example"))
        // There is no AAAA record, and that takes nothing from the A record.
        #expect(
            await Self.ask { await lookup.addresses(of: "mx.secure.example") }
                == .found(
                    .init(
                        addresses: [try SocketAddress(ipAddress: "192.0.2.1", port: 25)], security: .secure,
                        canonicalName: nil)))
        await resolver.close()
    }

    @Test func canonicalNames() async throws {
        let server = try NameServer(
            records: [
                "alias.test. 300 IN CNAME mx.test.", "mx.test. 300 IN A 192.0.2.1", "mx.test. 300 IN AAAA 2001:db8::1",
            ],
            refusing: ["refused.test."])
        defer { server.stop() }
        let resolver = try Fixture.resolver(server.port)
        let lookup = HostLookup(resolver, port: 2525)
        let addresses = try ["2001:db8::1", "192.0.2.1"].map { try SocketAddress(ipAddress: $0, port: 2525) }
        #expect(
            await Self.ask { await lookup.addresses(of: "mx.test") }
                == .found(.init(addresses: addresses, security: .insecure, canonicalName: nil)))
        #expect(
            await Self.ask { await lookup.addresses(of: "alias.test") }
                == .found(.init(addresses: addresses, security: .insecure, canonicalName: "mx.test")))
        #expect(await Self.ask { await lookup.addresses(of: "nowhere.test") } == .none)
        guard case .unknown(.temporary) = await lookup.addresses(of: "refused.test") else {
            Issue.record("what nobody says is none")
            return
        }
        await resolver.close()
    }
}
