// What a session says of each policy that was looked at: the table of results, and what holds for all of them.

import SlimtaMail
import SlimtaTLS
import Testing

@testable import SlimtaRelay

@Suite struct TLSReportSubjectTests {
    /// A host, a session with it, and what the reports say.
    struct Row: Sendable, CustomTestStringConvertible {
        var one = SecurityCase()
        let outcome: TLSSessionOutcome
        let expected: String

        init(_ expected: String, _ outcome: TLSSessionOutcome, _ change: (inout SecurityCase) -> Void = { _ in }) {
            (self.outcome, self.expected) = (outcome, expected)
            change(&one)
        }

        var testDescription: String { "\(one) \(outcome)" }
    }

    private static func text(_ results: [TLSReportedPolicy: [TLSResult]]) -> String {
        results.map { policy, results in
            let words = results.map { result in result.kind.rawValue + (result.reason.map { " (\($0))" } ?? "") }
            return "\(policy.type.rawValue): \(words.isEmpty ? "good" : words.joined(separator: ", "))"
        }.sorted().joined(separator: "; ")
    }

    private static func results(_ one: SecurityCase, _ outcome: TLSSessionOutcome) -> [TLSReportedPolicy: [TLSResult]]?
    {
        guard let plan = one.decision.plan else { return nil }
        return TLSReportSubject(one.finding, in: one.domain)?.results(of: outcome, by: plan)
    }

    static let rows: [Row] = [
        // Nobody says anything.
        Row("no-policy-found: good", .established(.unseen)),
        Row("", .notOffered),
        Row("no-policy-found: starttls-not-supported", .notOffered) { $0.isRemembered = true },
        Row("no-policy-found: starttls-not-supported", .notOffered) { $0.floor = .required },
        Row("no-policy-found: starttls-not-supported", .refused),
        Row("no-policy-found: validation-failure (bad)", .handshake("bad")),
        Row("no-policy-found: certificate-host-mismatch", .certificate(.name, isBesideRecords: false)) {
            $0.floor = .verify
        },
        Row("no-policy-found: good", .established(.unseen)) { $0.tlsa = .unvalidated },
        // MTA-STS that is enforced.
        Row("sts: good", .established(.good)) { $0.sts = .enforce },
        Row("sts: starttls-not-supported", .notOffered) { $0.sts = .enforce },
        Row("sts: starttls-not-supported", .refused) { $0.sts = .enforce },
        Row("sts: validation-failure (bad)", .handshake("bad")) { $0.sts = .enforce },
        Row("sts: certificate-host-mismatch", .certificate(.name, isBesideRecords: false)) { $0.sts = .enforce },
        Row("sts: certificate-expired", .certificate(.date, isBesideRecords: false)) { $0.sts = .enforce },
        Row("sts: certificate-not-trusted", .certificate(.chain, isBesideRecords: false)) { $0.sts = .enforce },
        // That is a test: mail goes, and it is told what would be.
        Row("sts: good", .established(.good)) { $0.sts = .testing },
        Row("sts: certificate-expired", .established(.bad(.date))) { $0.sts = .testing },
        Row("", .established(.unseen)) { $0.sts = .testing },
        Row("sts: validation-failure (mx-mismatch)", .established(.good)) {
            ($0.sts, $0.isInPolicy) = (.testing, false)
        },
        Row("sts: validation-failure (mx-mismatch), certificate-not-trusted", .established(.bad(.chain))) {
            ($0.sts, $0.isInPolicy) = (.testing, false)
        },
        Row("sts: validation-failure (mx-mismatch), starttls-not-supported", .notOffered) {
            ($0.sts, $0.isInPolicy) = (.testing, false)
        },
        // DANE.
        Row("tlsa: good", .established(.unseen)) { ($0.tlsa, $0.isTrusted) = (.usable, true) },
        Row("tlsa: starttls-not-supported", .notOffered) { $0.tlsa = .usable },
        Row("tlsa: starttls-not-supported", .refused) { $0.tlsa = .usable },
        Row("tlsa: validation-failure (bad)", .handshake("bad")) { $0.tlsa = .usable },
        Row("tlsa: validation-failure (dane-no-match)", .certificate(.noMatch, isBesideRecords: false)) {
            $0.tlsa = .usable
        },
        Row("tlsa: certificate-host-mismatch", .certificate(.name, isBesideRecords: false)) { $0.tlsa = .usable },
        Row("tlsa: certificate-expired", .certificate(.date, isBesideRecords: false)) { $0.tlsa = .usable },
        Row("tlsa: certificate-not-trusted", .certificate(.chain, isBesideRecords: false)) { $0.tlsa = .usable },
        Row("tlsa: tlsa-invalid (all-unusable)", .established(.unseen)) { $0.tlsa = .unusable },
        Row("tlsa: tlsa-invalid (all-unusable), starttls-not-supported", .notOffered) { $0.tlsa = .unusable },
        Row("tlsa: tlsa-invalid (all-unusable), validation-failure (bad)", .handshake("bad")) { $0.tlsa = .unusable },
        // Both: DANE decides, MTA-STS counts.
        Row("sts: good; tlsa: good", .established(.good)) {
            ($0.sts, $0.tlsa, $0.isTrusted) = (.enforce, .usable, true)
        },
        Row("sts: certificate-not-trusted; tlsa: good", .established(.bad(.chain))) {
            ($0.sts, $0.tlsa, $0.isTrusted) = (.enforce, .usable, true)
        },
        Row("tlsa: validation-failure (dane-no-match)", .certificate(.noMatch, isBesideRecords: false)) {
            ($0.sts, $0.tlsa, $0.isTrusted) = (.enforce, .usable, true)
        },
        // Both decide, for nobody proves whose hosts they are.
        Row("sts: certificate-expired; tlsa: good", .certificate(.date, isBesideRecords: true)) {
            ($0.sts, $0.tlsa) = (.enforce, .usable)
        },
        Row("sts: starttls-not-supported; tlsa: starttls-not-supported", .notOffered) {
            ($0.sts, $0.tlsa) = (.enforce, .usable)
        },
        Row("sts: good; tlsa: tlsa-invalid (all-unusable)", .established(.good)) {
            ($0.sts, $0.tlsa) = (.enforce, .unusable)
        },
        Row(
            "sts: certificate-host-mismatch; tlsa: tlsa-invalid (all-unusable)",
            .certificate(.name, isBesideRecords: false)
        ) { ($0.sts, $0.tlsa) = (.enforce, .unusable) },
        // Looked up, and not applied.
        Row("tlsa: dnssec-invalid", .established(.unseen)) { ($0.message, $0.tlsa) = (.tlsNotRequired, .failed) },
        Row("", .established(.unseen)) { ($0.message, $0.tlsa) = (.tlsNotRequired, .usable) },
    ]

    @Test(arguments: rows)
    func table(_ row: Row) throws {
        let results = try #require(Self.results(row.one, row.outcome))
        #expect(Self.text(results) == row.expected)
    }

    static let outcomes: [TLSSessionOutcome] =
        [.good, .unseen, .bad(.name), .bad(.date), .bad(.chain)].map { .established($0) } + [
            .notOffered, .refused, .handshake("x"),
        ]
        + ([.name, .date, .chain, .noMatch] as [CertificateFault]).flatMap { fault in
            [false, true].map { .certificate(fault, isBesideRecords: $0) }
        }

    /// Of every case, with every outcome.
    @Test func whatHoldsForAll() {
        var counted = 0
        // What was seen before, and passwords, only change plans in ways that others do as well.
        let all = SecurityCase.all.filter {
            $0.origin != .fixedHost && !$0.isRemembered && !$0.hadDANE && !$0.hasCredentials
        }
        for one in all {
            for outcome in Self.outcomes {
                guard let results = Self.results(one, outcome) else { continue }
                counted += 1
                let types = results.keys.map(\.type)
                #expect(Set(types).count == types.count)
                let isLookedAt = one.sts != .none || [.usable, .unusable, .failed].contains(one.tlsa)
                if isLookedAt { #expect(!types.contains(.noPolicy), "\(one) \(outcome)") }
                if one.sts == .none { #expect(!types.contains(.sts)) }
                if one.tlsa == .absent || one.tlsa == .unvalidated { #expect(!types.contains(.tlsa)) }
                for (policy, found) in results {
                    // What is no success of a session is none of a policy, but for records that have matched.
                    if found.isEmpty {
                        switch outcome {
                        case .established: break
                        case .certificate(_, isBesideRecords: true): #expect(policy.type == .tlsa)
                        default: Issue.record("\(one) \(outcome): \(policy.type) succeeded")
                        }
                    }
                    #expect(found.allSatisfy { $0.policy == nil || $0.policy == policy.type || $0.policy == .tlsa })
                    #expect(Set(found).count == found.count)
                }
            }
        }
        #expect(counted > 5000)
    }

    @Test func nobodyAsksForAnAddress() {
        let address = HostFinding("192.0.2.1", isAddress: true)
        #expect(TLSReportSubject(address, in: DomainSecurity(.literal, "[192.0.2.1]", isTrusted: true)) == nil)
    }

    /// What fails without a session, as it is counted: with which policy.
    @Test func failuresWithoutASession() throws {
        let known = MemoryStanding.Encrypted(days: 3, last: 20_000)
        let failures: [(SecurityFailure, none: String, both: String)] = [
            (
                .lookup("x", why: "y", isBogus: true), "no-policy-found: validation-failure",
                "no-policy-found: validation-failure"
            ),
            (.lookup("x", why: "y", isBogus: false), "", ""),
            (.tlsaLookup(host: "x", question: "y", why: "z"), "tlsa: dnssec-invalid", "tlsa: dnssec-invalid"),
            (.unvalidated(host: "x"), "", ""),
            (.daneRequired(host: "x"), "no-policy-found: dane-required", "tlsa: dane-required"),
            (
                .notInPolicy(host: "x", domain: "y"), "no-policy-found: validation-failure (mx-mismatch)",
                "sts: validation-failure (mx-mismatch)"
            ),
            (
                .noHostInPolicy(domain: "y"), "no-policy-found: validation-failure (mx-mismatch)",
                "sts: validation-failure (mx-mismatch)"
            ),
            (.notOffered(host: "x"), "no-policy-found: starttls-not-supported", "tlsa: starttls-not-supported"),
            (
                .refused(host: "x", reply: "y"), "no-policy-found: starttls-not-supported",
                "tlsa: starttls-not-supported"
            ),
            (
                .handshake(host: "x", why: "y"), "no-policy-found: validation-failure (y)",
                "tlsa: validation-failure (y)"
            ),
            (
                .certificate(host: "x", .name, why: "y"), "no-policy-found: certificate-host-mismatch",
                "tlsa: certificate-host-mismatch"
            ),
            (
                .certificate(host: "x", .date, why: "y"), "no-policy-found: certificate-expired",
                "tlsa: certificate-expired"
            ),
            (
                .certificate(host: "x", .chain, why: "y"), "no-policy-found: certificate-not-trusted",
                "tlsa: certificate-not-trusted"
            ),
            (
                .certificate(host: "x", .noMatch, why: "y"), "tlsa: validation-failure (dane-no-match)",
                "tlsa: validation-failure (dane-no-match)"
            ),
            (
                .notOfferedAnyMore(host: "x", domain: "y", known), "no-policy-found: starttls-not-supported",
                "tlsa: starttls-not-supported"
            ),
            (.lacksRequireTLS(host: "x", why: "y"), "", ""),
        ]
        var both = SecurityCase()
        (both.sts, both.tlsa) = (.enforce, .usable)
        for (one, path) in [(SecurityCase(), \(SecurityFailure, none: String, both: String).none), (both, \.both)] {
            let subject = try #require(TLSReportSubject(one.finding, in: one.domain))
            for row in failures {
                let found = subject.result(of: row.0).map { Self.text([$0.policy: [$0.result]]) } ?? ""
                #expect(found == row[keyPath: path], "\(row.0)")
            }
        }
    }

    /// What a host says is part of a report, and of its size.
    @Test func reasonsAreShort() {
        let result = TLSResult(.validationFailure, reason: "a\u{1b}[1m" + String(repeating: "x", count: 1000))
        #expect(result.reason?.utf8.count == 200 && result.reason?.hasControls == false)
    }
}
