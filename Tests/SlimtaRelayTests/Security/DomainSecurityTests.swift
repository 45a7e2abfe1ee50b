// Which hosts of a domain may be asked, where TLSA records are looked for, and what is said when nothing goes.

import SlimtaMail
import SlimtaTLS
import Testing

@testable import SlimtaRelay

@Suite struct DomainSecurityTests {
    private func policy(_ mode: STSPolicy.Mode, _ patterns: [String]) -> STSPolicy {
        STSPolicy(mode: mode, patterns: patterns.compactMap { STSPattern($0) }, maxAge: 86_400, lines: [])
    }

    private func domain(
        _ sts: STSStanding = .none, isTrusted: Bool = false, floor: TLSFloor = .opportunistic,
        message: MessageDemand = .nothing
    ) -> DomainSecurity {
        DomainSecurity(.domain, "example.com", isTrusted: isTrusted, sts: sts, floor: floor, message: message)
    }

    @Test func whatDNSSays() {
        let hosts = ExchangerFinding.hosts(["a.example.com", "b.example.com"])
        #expect(domain().hosts(of: hosts) == .hosts(["a.example.com", "b.example.com"], leftOut: []))
        #expect(domain().hosts(of: .implicit) == .hosts(["example.com"], leftOut: []))
        let null = domain().hosts(of: .null)
        #expect(null == .permanent(Reply(556, EnhancedStatus(5, 1, 10), "example.com takes no mail (null MX)")))
        for isBogus in [false, true] {
            guard case .failed(let failure) = domain().hosts(of: .failed(why: "SERVFAIL", isBogus: isBogus)) else {
                Issue.record("went on")
                continue
            }
            #expect(failure.reply.description == "451 4.4.3 example.com cannot be looked up: SERVFAIL")
            #expect(failure.result?.kind == (isBogus ? .validationFailure : nil))
        }
    }

    @Test func policies() {
        let found = ExchangerFinding.hosts(["a.example.com", "evil.test", "b.example.com"])
        let all = DomainSecurity.Verdict.hosts(["a.example.com", "evil.test", "b.example.com"], leftOut: [])
        let enforced = STSStanding(policy(.enforce, ["*.example.com"]))
        #expect(
            domain(enforced).hosts(of: found) == .hosts(["a.example.com", "b.example.com"], leftOut: ["evil.test"]))
        // One that is proved may have TLSA records.
        #expect(domain(enforced, isTrusted: true).hosts(of: found) == all)
        #expect(domain(enforced, floor: .none).hosts(of: found) == all)
        #expect(domain(enforced, message: .tlsNotRequired).hosts(of: found) == all)
        #expect(domain(STSStanding(policy(.testing, ["*.example.com"]))).hosts(of: found) == all)
        #expect(domain(STSStanding(policy(.none, []))).hosts(of: found) == all)
        let nobody = domain(STSStanding(policy(.enforce, ["mx.other.test"]))).hosts(of: found)
        #expect(nobody == .failed(.noHostInPolicy(domain: "example.com")))
    }

    /// An address has no policy, and nobody can forge who is named by it.
    @Test func literals() {
        let literal = DomainSecurity(
            .literal, "192.0.2.1", isTrusted: false, sts: .enforce(policy(.enforce, ["mx.example.com"])))
        #expect(literal.sts == .none && literal.isTrusted)
    }

    // MARK: TLSA

    private func lookup(
        isSecure: Bool, alias: String? = nil, validates: Bool = true
    ) -> TLSALookup {
        TLSALookup(
            host: "mx.example.com", port: 25, .init(isSecure: isSecure, canonicalName: alias), validates: validates)
    }

    private static let records = [SecurityCase.ours]

    @Test func ofAPlainHost() {
        var check = lookup(isSecure: true)
        #expect(check.step == .ask("_25._tcp.mx.example.com"))
        check.answered(.records(Self.records, isSecure: true))
        #expect(check.step == .done(.present(base: "mx.example.com", Self.records)))
        check = lookup(isSecure: true)
        check.answered(.nothing)
        #expect(check.step == .done(.absent))
        // Below a delegation that is not signed.
        check = lookup(isSecure: true)
        check.answered(.records(Self.records, isSecure: false))
        #expect(check.step == .done(.absent))
        check = lookup(isSecure: true)
        check.answered(.failed("SERVFAIL"))
        #expect(check.step == .done(.failed(name: "_25._tcp.mx.example.com", why: "SERVFAIL")))
    }

    /// Old name servers of unsigned zones drop the question.
    @Test func unsignedHostsAreNotAsked() {
        #expect(lookup(isSecure: false).step == .done(.absent))
        #expect(lookup(isSecure: true, validates: false).step == .done(.unvalidated))
    }

    @Test func ofAnAlias() {
        var check = lookup(isSecure: true, alias: "real.test")
        #expect(check.step == .ask("_25._tcp.real.test"))
        var other = check
        check.answered(.nothing)
        #expect(check.step == .ask("_25._tcp.mx.example.com"))
        check.answered(.records(Self.records, isSecure: true))
        #expect(check.step == .done(.present(base: "mx.example.com", Self.records)))
        // The next name is no way around.
        other.answered(.failed("bogus"))
        #expect(other.step == .done(.failed(name: "_25._tcp.real.test", why: "bogus")))
    }

    @Test func ofAnAliasIntoAnUnsignedZone() {
        var check = lookup(isSecure: false, alias: "real.test")
        #expect(check.step == .askAlias("mx.example.com"))
        var (insecure, failed) = (check, check)
        check.aliasAnswered(.success(true))
        #expect(check.step == .ask("_25._tcp.mx.example.com"))
        insecure.aliasAnswered(.success(false))
        #expect(insecure.step == .done(.absent))
        failed.aliasAnswered(.failure(.init(why: "SERVFAIL")))
        #expect(failed.step == .done(.failed(name: "mx.example.com", why: "SERVFAIL")))
    }

    /// An answer that nobody asked for changes nothing.
    @Test func answersOutOfTurn() {
        var check = lookup(isSecure: true)
        check.aliasAnswered(.success(false))
        #expect(check.step == .ask("_25._tcp.mx.example.com"))
        check = lookup(isSecure: false)
        check.answered(.records(Self.records, isSecure: true))
        #expect(check.step == .done(.absent))
    }

    // MARK: What is said

    @Test(arguments: [
        (
            SecurityFailure.tlsaLookup(host: "h", question: "_25._tcp.h", why: "SERVFAIL"), "451 4.7.5",
            "dnssec-invalid tlsa"
        ),
        (.unvalidated(host: "h"), "451 4.7.5", ""), (.daneRequired(host: "h"), "451 4.7.5", "dane-required"),
        (.notInPolicy(host: "h", domain: "d"), "451 4.7.5", "validation-failure sts mx-mismatch"),
        (.noHostInPolicy(domain: "d"), "451 4.7.5", "validation-failure sts mx-mismatch"),
        (.notOffered(host: "h"), "451 4.7.4", "starttls-not-supported"),
        (.refused(host: "h", reply: "454 4.7.0 no"), "451 4.7.4", "starttls-not-supported"),
        (.handshake(host: "h", why: "alert"), "451 4.7.5", "validation-failure alert"),
        (.certificate(host: "h", .name, why: "w"), "451 4.7.5", "certificate-host-mismatch"),
        (.certificate(host: "h", .date, why: "w"), "451 4.7.5", "certificate-expired"),
        (.certificate(host: "h", .chain, why: "w"), "451 4.7.5", "certificate-not-trusted"),
        (.certificate(host: "h", .noMatch, why: "w"), "451 4.7.5", "validation-failure tlsa dane-no-match"),
        (
            .notOfferedAnyMore(host: "h", domain: "d", .init(days: 41, last: 20_000)), "451 4.7.5",
            "starttls-not-supported"
        ),
        (.lacksRequireTLS(host: "h", why: "w"), "451 4.7.30", ""),
        (.lookup("h", why: "SERVFAIL", isBogus: false), "451 4.4.3", ""),
        (.lookup("h", why: "bogus", isBogus: true), "451 4.4.3", "validation-failure no-policy-found"),
    ])
    func failures(_ failure: SecurityFailure, _ code: String, _ result: String) {
        #expect(failure.reply.description.hasPrefix("\(code) "))
        // A person has to find the host that it is about.
        let words = failure.reply.text.split(separator: " ")
        #expect(words.contains { $0 == "h" || $0 == "d" || $0 == "_25._tcp.h" })
        let found = [failure.result?.kind.rawValue, failure.result?.policy?.rawValue, failure.result?.reason]
        #expect(found.compactMap { $0 }.joined(separator: " ") == result)
    }

    @Test func requireTLS() {
        var tally = RequireTLSTally()
        #expect(tally.reply == nil)
        tally.unreached()
        #expect(tally.reply == nil)
        tally = RequireTLSTally()
        tally.lacks("a", why: "it does not offer REQUIRETLS")
        #expect(tally.reply?.description == "550 5.7.30 REQUIRETLS: a: it does not offer REQUIRETLS")
        tally.lacks("b", why: "nothing proves whose host it is")
        #expect(tally.reply?.description.hasPrefix("550 5.7.30 no host can take it; REQUIRETLS: b") == true)
        // Somebody else may have been able to.
        tally.unreached()
        #expect(tally.reply?.code == 451)
    }
}
