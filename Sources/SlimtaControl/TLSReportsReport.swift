// What is known of TLS reports (RFC 8460), as the daemon tells it to Control, and commands to those who read it.

package import SlimtaMail
internal import SlimtaNet

/// What is counted, what waits and what was sent.
package struct TLSReportsReport: Sendable {
    /// What was counted of a policy, on a day, for a domain.
    package struct Count: Sendable {
        /// "2026-11-29", UTC.
        package var day: String
        /// Whose recipients mail was for.
        package var domain: String
        /// Where the report will go; empty: DNS has not said yet.
        package var places: [String]
        /// As reports name it, and whose it is.
        package var policy, policyDomain: String
        /// Sessions.
        package var successes, failures: Int
        /// What went wrong, and how often.
        package var results: [(result: String, count: Int)]

        /// Each is what its property says.
        package init(
            day: String, domain: String, places: [String], policy: String, policyDomain: String, successes: Int,
            failures: Int, results: [(result: String, count: Int)]
        ) {
            (self.day, self.domain, self.places, self.policy) = (day, domain, places, policy)
            (self.policyDomain, self.successes, self.failures) = (policyDomain, successes, failures)
            self.results = results
        }
    }

    /// A report that waits for its time, or for somebody to take it.
    package struct Waiting: Sendable {
        /// As those of ``Count``.
        package var day, domain: String
        /// Where it goes.
        package var places: [String]
        /// When it is sent.
        package var due: Timestamp
        /// Why nobody has taken it; nil: it was not tried.
        package var error: String?

        /// Each is what its property says.
        package init(day: String, domain: String, places: [String], due: Timestamp, error: String?) {
            (self.day, self.domain, self.places, self.due, self.error) = (day, domain, places, due, error)
        }
    }

    /// A report that was sent, or was tried.
    package struct Past: Sendable {
        /// As those of ``Count``.
        package var day, domain: String
        /// When.
        package var time: Timestamp
        /// Who has taken it; nil: nobody.
        package var place: String?
        /// Why not.
        package var error: String?

        /// Each is what its property says.
        package init(day: String, domain: String, time: Timestamp, place: String?, error: String?) {
            (self.day, self.domain, self.time, self.place, self.error) = (day, domain, time, place, error)
        }
    }

    /// Whether reports are sent: whether there is a `[tls_report]`.
    package var isOn: Bool
    /// By day, domain and policy.
    package var counts: [Count]
    /// By day and domain.
    package var waiting: [Waiting]
    /// The last ones, the oldest first.
    package var past: [Past]

    /// Each is what its property says.
    package init(isOn: Bool, counts: [Count], waiting: [Waiting], past: [Past]) {
        (self.isOn, self.counts, self.waiting, self.past) = (isOn, counts, waiting, past)
    }

    /// Of one domain, or of all.
    func json(of domain: String?) -> JSON {
        .object([
            .init("on", .bool(isOn)),
            .init("counted", .array(counts.filter { domain == nil || $0.domain == domain }.map(\.json))),
            .init("waiting", .array(waiting.filter { domain == nil || $0.domain == domain }.map(\.json))),
            .init("past", .array(past.filter { domain == nil || $0.domain == domain }.map(\.json))),
        ])
    }
}

extension TLSReportsReport.Count {
    fileprivate var json: JSON {
        .object([
            .init("day", .string(day)), .init("domain", .string(domain)),
            .init("to", .array(places.map { .string($0) })), .init("policy", .string(policy)),
            .init("policy_domain", .string(policyDomain)), .init("successful", .count(successes)),
            .init("failed", .count(failures)),
            .init(
                "results",
                .array(
                    results.map { .object([.init("result", .string($0.result)), .init("count", .count($0.count))]) })),
        ])
    }
}

extension TLSReportsReport.Waiting {
    fileprivate var json: JSON {
        .object([
            .init("day", .string(day)), .init("domain", .string(domain)),
            .init("to", .array(places.map { .string($0) })), .init("due", .string(due.isoDate)),
            .init("error", .optional(error)),
        ])
    }
}

extension TLSReportsReport.Past {
    var json: JSON {
        .object([
            .init("day", .string(day)), .init("domain", .string(domain)), .init("time", .string(time.isoDate)),
            .init("to", .optional(place)), .init("error", .optional(error)),
        ])
    }
}
