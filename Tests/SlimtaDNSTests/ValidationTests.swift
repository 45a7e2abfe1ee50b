// DNSSEC: a signed root zone of our own, and servers that have none.

import Foundation
import TestKit
import Testing

@testable import SlimtaDNS

@Suite struct ValidationTests {
    @Test(arguments: [DNSSECMode.auto, .required])
    func signedRoot(mode: DNSSECMode) async throws {
        let zones = try SignedZones()
        let server = try zones.server()
        defer { server.stop() }
        let resolver = try Resolver(
            servers: [("127.0.0.1", server.port)], dnssec: mode, trustAnchorFile: zones.key)
        // Asked before it is known.
        let secure = try await resolver.mx("secure.example")
        #expect(secure.records == [MXRecord(preference: 10, exchanger: "mx.secure.example")])
        #expect(secure.security == .secure)
        #expect(await resolver.validation == .working)

        let alias = try await resolver.mx("alias.example")
        #expect(alias.records == secure.records)
        #expect(alias.security == .secure)
        #expect(alias.canonicalName == "secure.example")

        let itself = try await resolver.cname("alias.example")
        #expect(itself.records == ["secure.example"] && itself.security == .secure)

        let nothing = try await resolver.aaaa("mx.secure.example")
        #expect(nothing.records.isEmpty)
        #expect(nothing.security == .secure)
        await #expect(throws: DNSError.noSuchName) { try await resolver.mx("nowhere.example") }

        let error = await #expect(throws: DNSError.self) { try await resolver.mx("forged.example") }
        guard case .bogus(let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.contains("forged.example"))

        // Provably not signed.
        let unsigned = try await resolver.mx("unsigned")
        #expect(unsigned.records == [MXRecord(preference: 5, exchanger: "mx.unsigned")])
        #expect(unsigned.security == .insecure)
        // The root denies it, and the local server knows better.
        let local = try await resolver.mx("corp")
        #expect(local.records == [MXRecord(preference: 5, exchanger: "mx.corp")])
        #expect(local.security == .insecure)
        await resolver.close()
    }

    @Test func notValidated() async throws {
        let zones = try SignedZones()
        let server = try zones.server()
        defer { server.stop() }
        let resolver = try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .off)
        #expect(await resolver.validation == .off)
        #expect(try await resolver.mx("secure.example").security == .insecure)
        #expect(try await resolver.mx("forged.example").records.first?.exchanger == "mx.evil.example")
        await resolver.close()
    }

    /// A key that the root is not signed with: an attacker's root, or a network of its own.
    @Test func anotherRoot() async throws {
        let zones = try SignedZones()
        let server = try zones.server()
        defer { server.stop() }
        let resolver = try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .required)
        let error = await #expect(throws: DNSError.self) { try await resolver.mx("secure.example") }
        guard case .temporary(let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.contains("DNSSEC validation does not work"))
        guard case .unavailable = await resolver.validation else {
            Issue.record("not noticed")
            return
        }
        await resolver.close()
    }

    /// What most test and many office networks have: a server without signatures.
    @Test func unsignedServer() async throws {
        let server = try NameServer(records: [
            "example.com. 300 IN MX 10 mx.example.com.", ". 300 IN SOA ns. hostmaster. 1 3600 900 86400 3600",
        ])
        defer { server.stop() }
        let zones = try SignedZones()
        let auto = try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .auto, trustAnchorFile: zones.key)
        let answer = try await auto.mx("example.com")
        #expect(answer.records == [MXRecord(preference: 10, exchanger: "mx.example.com")])
        #expect(answer.security == .insecure)
        guard case .unavailable(let reason) = await auto.validation else {
            Issue.record("not noticed")
            return
        }
        #expect(!reason.isEmpty)
        await auto.close()

        let required = try Resolver(
            servers: [("127.0.0.1", server.port)], dnssec: .required, trustAnchorFile: zones.key)
        let error = await #expect(throws: DNSError.self) { try await required.mx("example.com") }
        guard case .temporary? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        await required.close()
    }

    /// The network comes up after the daemon: validation is found to work later.
    @Test func triedAgain() async throws {
        let zones = try SignedZones()
        let port = try NameServer.freePort()
        let before = try NameServer(
            records: ["early.example. 300 IN MX 10 mx.early.example."], refusing: ["."], port: port)
        let resolver = try Resolver(
            servers: [("127.0.0.1", port)], dnssec: .auto, trustAnchorFile: zones.key, probeInterval: 0)
        guard case .unavailable = await resolver.validation else {
            Issue.record("it cannot work yet")
            return
        }
        #expect(try await resolver.mx("early.example").security == .insecure)
        before.stop()
        let after = try zones.server(port: port)
        defer { after.stop() }
        for _ in 0..<1000 {
            _ = try? await resolver.mx("secure.example")
            if await resolver.validation == .working { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(await resolver.validation == .working)
        #expect(try await resolver.mx("secure.example").security == .secure)
        await resolver.close()
    }

    @Test func noTrustAnchor() async throws {
        let server = try NameServer(records: ["example.com. 300 IN MX 10 mx.example.com."])
        defer { server.stop() }
        let file = "/nonexistent/root.key"
        let resolver = try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .auto, trustAnchorFile: file)
        guard case .unavailable(let reason) = await resolver.validation else {
            Issue.record("not noticed")
            return
        }
        #expect(reason.contains(file))
        #expect(try await resolver.mx("example.com").records.count == 1)
        await resolver.close()
        let error = #expect(throws: DNSError.self) {
            try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .required, trustAnchorFile: file)
        }
        #expect(error == .temporary(reason))
    }

    @Test func closedBeforeItIsKnown() async throws {
        let server = try NameServer(records: [], silent: ["."])
        defer { server.stop() }
        let resolver = try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .auto)
        async let validation = resolver.validation
        let lookup = Task { () async -> DNSError? in
            do throws(DNSError) {
                _ = try await resolver.mx("example.com")
                return nil
            } catch {
                return error
            }
        }
        await Task.yield()
        await resolver.close()
        #expect(await lookup.value == .temporary("resolver closed"))
        guard case .unavailable = await validation else {
            Issue.record("it cannot be known")
            return
        }
    }
}
