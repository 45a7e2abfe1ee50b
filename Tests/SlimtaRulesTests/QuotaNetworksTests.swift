// Quotas by the networks that a login sends from: what is one network, the three levels, and the file.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct QuotaNetworksTests {
    private let alice = QuotaSubject.login("alice")
    private let start: Int64 = 1_800_000_000

    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: (start + seconds) * 1000) }

    private func quotas(_ limits: QuotaLimits) -> Quotas {
        var rules = QuotaRules()
        rules.limits = limits
        (rules.learning, rules.learningRecipients) = (.zero, 0)
        return Quotas(rules: rules, key: SIMD2(3, 4))
    }

    /// A message of a login, stored if it is taken: whether it is refused, whether it is held, and what is told.
    private func send(
        _ quotas: inout Quotas, from address: String?, at seconds: Int64, subject: QuotaSubject? = nil
    ) -> (isRefused: Bool, isHeld: Bool, events: [Quotas.Event]) {
        let decision = quotas.take(
            subject ?? alice, from: address.flatMap { IPAddress($0) },
            to: [Mailbox(localPart: "r", domain: "example.org")],
            size: 1000, at: at(seconds))
        guard let charge = decision.charge else { return (true, false, decision.events) }
        let isHeld = quotas.isHeld(charge)
        let settled = quotas.settle(charge, as: isHeld ? .held : .stored)
        return (false, isHeld, decision.events + (settled.news.map { [$0] } ?? []))
    }

    @Test func whatIsOneNetwork() {
        var quotas = quotas(QuotaLimits(soft: [.init(.networks, .hour, 200)]))
        let addresses = [
            "192.0.2.1", "192.0.2.255", "192.0.3.1", "2001:db8::1", "2001:db8:0:ffff::1", "2001:db8:1::1",
            "::ffff:192.0.2.9",
        ]
        for address in addresses { _ = send(&quotas, from: address, at: 0) }
        // Another process of this machine has none.
        _ = send(&quotas, from: nil, at: 0)
        #expect(quotas.facts(of: alice, at: at(0))?.hour.networks == 4)
        // Who has no login is one address.
        let address = QuotaSubject(login: nil, address: IPAddress("192.0.2.1"))
        _ = send(&quotas, from: "192.0.2.1", at: 0, subject: address)
        #expect(quotas.facts(of: address, at: at(0))?.hour.networks == 0)
    }

    @Test func softLimitIsToldOnce() {
        var quotas = quotas(QuotaLimits(soft: [.init(.networks, .hour, 10)]))
        let events = (0..<30).flatMap { send(&quotas, from: "10.0.\($0).1", at: Int64($0)).events }
        #expect(events == [.exceeded(alice, .over(.init(.networks, .hour, 10), count: 11))])
        #expect(quotas.warnings(at: at(30)) == ["alice sends much: 30 networks in an hour, allowed are 10"])
        // An hour after the last of them none is left.
        #expect(quotas.warnings(at: at(29 + 3600)).isEmpty)
        #expect(quotas.facts(of: alice, at: at(29 + 3600))?.day.networks == 30)
        #expect(QuotaLimits.standard.soft.contains(.init(.networks, .hour, 10)))
    }

    @Test func hardLimitRefusesTheNewOnes() {
        var quotas = quotas(QuotaLimits(hard: [.init(.networks, .day, 3)]))
        for number in 0..<3 { #expect(!send(&quotas, from: "10.0.\(number).1", at: 0).isRefused) }
        for _ in 0..<5 { #expect(send(&quotas, from: "10.0.9.1", at: 1).isRefused) }
        // Those that are known go on.
        #expect(!send(&quotas, from: "10.0.0.2", at: 2).isRefused)
        #expect(!send(&quotas, from: "10.0.9.1", at: 86401).isRefused)
    }

    @Test func breakerHolds() {
        var quotas = quotas(QuotaLimits(breaker: [.init(.networks, .hour, 3)]))
        for number in 0..<3 { #expect(!send(&quotas, from: "10.0.\(number).1", at: 0).isHeld) }
        let (isRefused, isHeld, events) = send(&quotas, from: "10.0.3.1", at: 1)
        #expect(!isRefused && isHeld)
        #expect(events == [.held("alice", .over(.init(.networks, .hour, 3), count: 4))])
        #expect(quotas.release(alice, at: at(2)) && quotas.facts(of: alice, at: at(2))?.hour.networks == 0)
    }

    /// However many come, and whatever the clock does: no more than 256 are kept, and what counts is of the window.
    @Test func bounds() {
        var networks = KnownNetworks()
        for number in 0..<1000 { networks.note(UInt64(number) << 32, at: 5_000_000) }
        #expect(networks.entries.count == KnownNetworks.most && networks.count(.hour, at: 5_000_000) == 256)
        // Put back by less than a window, they count; by more, they do not.
        #expect(networks.count(.hour, at: 5_000_000 - 3599) == 256)
        #expect(networks.count(.hour, at: 5_000_000 - 3600) == 0)
        networks.note(1 << 32, at: 5_000_000 - 86400)
        #expect(networks.entries.count == 1)
    }

    @Test func file() throws {
        var quotas = quotas(QuotaLimits(soft: [.init(.networks, .day, 2)]))
        for number in 0..<5 { _ = send(&quotas, from: "10.0.\(number).1", at: 0) }
        var read = try #require(Quotas(octets: quotas.octets))
        read.rules = quotas.rules
        #expect(read.accounts == quotas.accounts && read.facts(of: alice, at: at(1))?.day.networks == 5)
        // What was told is not told again, and a network that is known is not counted twice.
        #expect(send(&read, from: "10.0.4.200", at: 1).events.isEmpty)
        #expect(read.facts(of: alice, at: at(1))?.day.networks == 5)
    }

    /// A login that was held stays so where the file is of a slimtad that knew no networks.
    @Test func fileOfBefore() throws {
        var quotas = quotas(QuotaLimits())
        quotas.hold(alice, because: "an operator", at: at(0))
        var octets = Array(quotas.octets.dropLast(8))
        // The number of networks, the second octet of what was told, the format's number.
        octets.removeSubrange(91..<95)
        octets.remove(at: 61)
        octets[15] = UInt8(ascii: "1")
        let digest = octets.withUnsafeBytes { SipHash(key: SIMD2(0, 0))($0) }
        withUnsafeBytes(of: digest.littleEndian) { octets += $0 }
        let read = try #require(Quotas(octets: octets))
        #expect(read.accounts == quotas.accounts && read.held == 1)
    }
}
