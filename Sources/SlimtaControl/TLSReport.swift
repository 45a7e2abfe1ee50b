// What is known of the TLS of those whom mail goes to, as the daemon tells it to Control, and commands to those who read it.

internal import SlimtaNet

/// What is remembered of one host.
package struct TLSMemoryReport: Sendable {
    /// The recipients' domain.
    package var domain: String
    /// The host.
    package var host: String
    /// On how many days it was encrypted.
    package var days: Int
    /// The first and the last of them: "2026-11-29".
    package var first, last: String
    /// When DANE and MTA-STS authenticated it last.
    package var dane, policy: String?
    /// Whether mail for it waits rather than going in clear.
    package var isInForce: Bool

    /// Each is what its property says.
    package init(
        domain: String, host: String, days: Int, first: String, last: String, dane: String?, policy: String?,
        isInForce: Bool
    ) {
        (self.domain, self.host, self.days, self.first, self.last) = (domain, host, days, first, last)
        (self.dane, self.policy, self.isInForce) = (dane, policy, isInForce)
    }

    var json: JSON {
        .object([
            .init("domain", .string(domain)), .init("host", .string(host)), .init("days", .count(days)),
            .init("first", .string(first)), .init("last", .string(last)), .init("dane", .optional(dane)),
            .init("mta_sts", .optional(policy)), .init("in_force", .bool(isInForce)),
        ])
    }
}

/// How mail for a domain would go now.
package struct TLSPlanReport: Sendable {
    /// One host.
    package struct Host: Sendable {
        /// Its name.
        package var name: String
        /// How many addresses it has; nil: nobody knows.
        package var addresses: Int?
        /// How sessions with it are made.
        package var plan: String
        /// Why.
        package var reasons: [String]
        /// Why it is not used; nil: it is.
        package var error: String?

        /// Each is what its property says.
        package init(name: String, addresses: Int?, plan: String, reasons: [String], error: String?) {
            (self.name, self.addresses, self.plan, self.reasons, self.error) = (name, addresses, plan, reasons, error)
        }
    }

    /// Whether DNSSEC, or the operator, proves whose hosts they are.
    package var isTrusted: Bool
    /// The mode of the domain's policy of MTA-STS; nil: it has none.
    package var policy: String?
    /// In the order in which they would be tried.
    package var hosts: [Host]
    /// Why none is tried; nil: they are.
    package var error: String?

    /// Each is what its property says.
    package init(isTrusted: Bool, policy: String?, hosts: [Host], error: String?) {
        (self.isTrusted, self.policy, self.hosts, self.error) = (isTrusted, policy, hosts, error)
    }

    func json(of domain: String) -> JSON {
        .object([
            .init("domain", .string(domain)), .init("proved", .bool(isTrusted)), .init("mta_sts", .optional(policy)),
            .init("error", .optional(error)),
            .init(
                "hosts",
                .array(
                    hosts.map { host in
                        .object([
                            .init("host", .string(host.name)),
                            .init("addresses", host.addresses.map { .count($0) } ?? .null),
                            .init("plan", .string(host.plan)),
                            .init("reasons", .array(host.reasons.map { .string($0) })),
                            .init("error", .optional(host.error)),
                        ])
                    })),
        ])
    }
}
