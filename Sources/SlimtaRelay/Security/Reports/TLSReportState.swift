// What is known of TLS reports, for people: `slimtad tlsrpt show` shows it. Made by TLSReports.

package import SlimtaMail

/// Counts, reports that wait, and what became of the last ones.
package struct TLSReportState: Sendable {
    /// What was counted of a policy for a domain.
    package struct Count: Sendable {
        /// "2026-11-29", UTC.
        package let day: String
        /// Whose recipients mail was for.
        package let domain: String
        /// Where the report will go; empty: that is being asked.
        package let places: [String]
        /// As the report names it: "tlsa", "sts", "no-policy-found".
        package let policy: String
        /// The policy's own: for "tlsa" the host's.
        package let policyDomain: String
        /// Sessions that satisfied it, and that did not.
        package let successes, failures: Int
        /// In which ways, and how often: in the words of the report.
        package let results: [(result: String, count: Int)]
    }

    /// A report that waits.
    package struct Waiting: Sendable {
        /// As ``Count/day``.
        package let day: String
        /// Whom it is for.
        package let domain: String
        /// Where it goes.
        package let places: [String]
        /// When it is sent.
        package let due: Timestamp
        /// Why nobody has taken it; nil: it was not tried.
        package let error: String?
    }

    /// A report that was sent, or was tried.
    package struct Past: Sendable {
        /// Whom it was for.
        package let domain: String
        /// As ``Count/day``.
        package let day: String
        /// When.
        package let time: Timestamp
        /// Who has taken it; nil: nobody.
        package internal(set) var place: String?
        /// Why not.
        package internal(set) var error: String?
    }

    /// Whether reports are sent.
    package let isOn: Bool
    /// By day, domain and policy.
    package let counts: [Count]
    /// By day and domain.
    package let waiting: [Waiting]
    /// The last ones, in their order.
    package let past: [Past]

    init(_ book: TLSReportBook, isOn: Bool) {
        self.isOn = isOn
        counts = book.counter.counts.flatMap { one in
            one.tallies.sorted { $0.key < $1.key }.map { policy, tally in
                var results: [String: Int] = [:]
                for (detail, count) in tally.details { results[detail.words, default: 0] += count }
                return Count(
                    day: TLSReport.text(ofDay: one.day), domain: one.domain,
                    places: (one.destinations ?? []).map(\.description), policy: policy.type.rawValue,
                    policyDomain: policy.domain, successes: tally.successes, failures: tally.failures,
                    results: results.sorted { $0.key < $1.key }.map { (result: $0.key, count: $0.value) })
            }
        }
        waiting = book.letters.sorted { ($0.report.day, $0.report.domain) < ($1.report.day, $1.report.domain) }.map {
            Waiting(
                day: $0.report.dayText, domain: $0.report.domain, places: $0.destinations.map(\.description),
                due: $0.due, error: $0.error)
        }
        past = book.past.map {
            Past(
                domain: $0.domain, day: TLSReport.text(ofDay: $0.day), time: $0.time, place: $0.place, error: $0.error)
        }
    }
}

extension TLSFailureDetail {
    fileprivate var words: String { reason.map { "\(kind.rawValue) (\($0))" } ?? kind.rawValue }
}
