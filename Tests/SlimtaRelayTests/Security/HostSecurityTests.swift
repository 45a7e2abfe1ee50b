// The decision about a host: every case there is against the specification's table, and that whatever is made stronger of
// what goes in never makes the plan weaker.

import SlimtaMail
import SlimtaSMTP
import SlimtaTLS
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct HostSecurityTests {
    @Test func theWholeTable() {
        #expect(SecurityCase.all.count == 2 * 5 * 3 * 2 * 5 * 3 * 2 * 2 * 2 * 2 + 5 * 3 * 2 * 2 * 2 * 2 * 2)
        var rows: [Int: Int] = [:]
        for one in SecurityCase.all {
            let decision = one.decision
            let row = one.row
            rows[row ?? 0, default: 0] += 1
            var expected = row.flatMap(one.plan)
            if one.message == .requireTLS, let row, !one.servesRequireTLS(row) { expected = nil }
            guard decision.plan == expected else {
                Issue.record("row \(row ?? 0): \(decision.verdict), not \(String(describing: expected)): \(one)")
                return
            }
            let expectedRow = row.map { one.message == .tlsNotRequired ? 2 : $0 }
            guard decision.row?.rawValue == expectedRow, decision.requiresKeyword == (one.message == .requireTLS) else {
                Issue.record("row \(String(describing: decision.row)), not \(expectedRow ?? 0): \(one)")
                return
            }
        }
        #expect(Set(rows.keys) == Set([0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]))
    }

    @Test func nothingStrongerMakesItWeaker() {
        var compared = 0
        for one in SecurityCase.all {
            let facts = one.facts
            for other in one.stronger {
                compared += 1
                guard facts.isSubset(of: other.facts) else {
                    Issue.record("\(facts) became \(other.facts): \(one), then \(other)")
                    return
                }
            }
        }
        #expect(compared > 50_000)
    }

    /// A password never goes to a host that nobody knows, whatever else is said.
    @Test func passwords() {
        for one in SecurityCase.all where one.hasCredentials {
            #expect(one.facts.contains(.thatHost), "\(one)")
        }
    }

    /// In clear only where nobody demands anything.
    @Test func inClear() {
        for one in SecurityCase.all where one.decision.plan?.mayGoInClear == true {
            #expect(one.decision.plan?.authenticates == false)
            #expect(one.floor == .opportunistic && !one.hasCredentials && one.message != .requireTLS)
            let publishes = one.tlsa == .usable || one.tlsa == .unusable || one.sts == .enforce || one.isRemembered
            #expect(!publishes || one.message == .tlsNotRequired, "\(one)")
        }
    }

    @Test func reasons() {
        var one = SecurityCase()
        #expect(one.decision.reasons.isEmpty)
        one.floor = .verify
        one.tlsa = .usable
        one.sts = .enforce
        one.hasCredentials = true
        let said = one.decision.reasons.map(\.description)
        #expect(
            said == [
                "tls = verify", "a password goes to it", "2 of 3 TLSA records", "MX records without DNSSEC",
                "MTA-STS enforce",
            ])
        one = SecurityCase(isRemembered: true)
        #expect(one.decision.reasons.map(\.description) == ["encrypted on 41 days, last 2024-10-04"])
        one = SecurityCase(message: .requireTLS)
        #expect(one.decision.reasons.map(\.description) == ["REQUIRETLS"])
    }

    // MARK: Plans

    /// DANE-EE matches no names, so that a provider's customers share a session; DANE-TA does.
    @Test func namesOfPlans() {
        let ee = TLSPlan.DANE(base: "mx.a", names: ["a", "b"], records: [SecurityCase.ours])
        #expect(ee.names == [])
        let ta = TLSPlan.DANE(
            base: "mx.a", names: ["mx.a", "a", "a"], records: [SecurityCase.ours, SecurityCase.anchor])
        #expect(ta.names == ["a"])
        #expect(ta.records == [SecurityCase.anchor, SecurityCase.ours])
        let again = TLSPlan.DANE(
            base: "mx.a", names: ["a"], records: [SecurityCase.anchor, SecurityCase.ours, SecurityCase.anchor])
        #expect(ta == again && ta.hashValue == again.hashValue)
    }

    /// What would be a different session is a different plan.
    @Test func plansThatDiffer() {
        let dane = TLSPlan.DANE(base: "mx.a", names: [], records: [SecurityCase.ours])
        let rolled = TLSPlan.DANE(base: "mx.a", names: [], records: [SecurityCase.ours, SecurityCase.useless])
        let plans = [
            TLSPlan(.never, serverName: nil), TLSPlan(.ifOffered, serverName: "mx.a"),
            TLSPlan(.ifOffered, serverName: nil),
            TLSPlan(.always, serverName: "mx.a"), TLSPlan(.always, serverName: "mx.b"),
            TLSPlan(.always, pkixName: "mx.a", serverName: "mx.a"), TLSPlan(.always, dane: dane, serverName: "mx.a"),
            TLSPlan(.always, dane: rolled, serverName: "mx.a"),
            TLSPlan(.always, dane: dane, pkixName: "mx.a", serverName: "mx.a"),
        ]
        #expect(Set(plans).count == plans.count)
    }

    /// What is said of a session that did not come about: in the decision's words where it was a demand, else in its own.
    @Test func failuresOfSessions() {
        func said(_ one: SecurityCase, _ fault: SMTPSessionFailure.TLSFault) -> String? {
            one.decision.failure(fault, nil, words: "it broke", host: "mx.a", domain: "a.example")
                .map { "\($0.reply)" }
        }
        #expect(said(SecurityCase(), .notOffered) == nil)
        #expect(said(SecurityCase(floor: .none), .failed) == nil)
        let dane = SecurityCase(isTrusted: true, tlsa: .usable)
        #expect(said(dane, .notOffered) == "451 4.7.4 mx.a does not offer STARTTLS, which is demanded of it")
        #expect(
            said(dane, .refused(Reply(454, EnhancedStatus(4, 7, 0), "not now")))
                == "451 4.7.4 mx.a refuses STARTTLS, which is demanded of it: 454 4.7.0 not now")
        #expect(said(dane, .failed) == "451 4.7.5 TLS with mx.a failed: it broke")
        #expect(
            said(SecurityCase(isRemembered: true), .notOffered)
                == "451 4.7.5 mx.a does not offer STARTTLS; it was encrypted on 41 days, last 2024-10-04; slimtad tls "
                + "forget a.example")
        // Somebody else demands it, too.
        #expect(
            said(SecurityCase(tlsa: .unusable, isRemembered: true), .notOffered)
                == "451 4.7.4 mx.a does not offer STARTTLS, which is demanded of it")
    }

    @Test func summaries() {
        #expect(SecurityCase().decision.summary == nil)
        #expect(SecurityCase(floor: .required).decision.summary == "encrypted (tls = required)")
        #expect(SecurityCase(floor: .none).decision.summary == "no TLS (tls = none)")
        #expect(SecurityCase(isTrusted: true, tlsa: .usable).decision.summary == "DANE (2 of 3 TLSA records)")
        #expect(
            SecurityCase(tlsa: .failed).decision.summary
                == "not used (no answer for TLSA _25._tcp.mx.example.com)")
        #expect(SecurityCase(tlsa: .usable, sts: .enforce).decision.proof == [.dane, .policy])
        #expect(SecurityCase(sts: .enforce).decision.proof == .policy && SecurityCase().decision.proof == [])
    }

    @Test func implicitHosts() {
        let domain = DomainSecurity(.domain, "mx.example.com", isImplicit: true, isTrusted: true)
        let finding = HostFinding("mx.example.com", tlsa: .present(base: "mx.example.com", [SecurityCase.anchor]))
        #expect(HostSecurity(of: finding, in: domain).plan?.dane?.names == [])
    }

    @Test func literals() {
        let domain = DomainSecurity(.literal, "192.0.2.1", isTrusted: false, floor: .verify)
        let plan = HostSecurity(of: HostFinding("192.0.2.1", isAddress: true), in: domain).plan
        #expect(plan == TLSPlan(.always, pkixName: "192.0.2.1", serverName: nil))
    }
}
