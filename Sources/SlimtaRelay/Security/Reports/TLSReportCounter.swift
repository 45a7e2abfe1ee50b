// Counts TLS negotiations for reports (RFC 8460 section 4): a value without a clock, told of each by the relay, asked for a
// day's reports when the day is over.
//
// The unit is a negotiation on a new connection. A session that is used again counts nothing, nor does a connection that never
// was. One negotiation counts once for each policy that was looked at, whichever decided; after a failed handshake the session
// in clear that follows counts nothing. Sessions that bring reports are not told here at all: two servers would report on each
// other's reports for ever (Stalwart issue 923).

import SlimtaMail

/// What came of one negotiation.
struct TLSNegotiation: Hashable, Sendable {
    /// Each policy that was looked at, and how it was not satisfied; empty: it was, or would have been.
    var policies: [TLSReportedPolicy: [TLSResult]]
    /// The address that we connected from.
    var source: String
    var mxName: String
    /// What the host said in its greeting; nil: nothing.
    var mxHELO: String?
    /// The host's address.
    var address: String

    /// The details of a policy's failures.
    func details(of policy: TLSReportedPolicy) -> [TLSFailureDetail] {
        (policies[policy] ?? []).map { result in
            var detail = TLSFailureDetail(result.kind, reason: result.reason)
            detail.source = source
            detail.mxName = mxName
            detail.mxHELO = mxHELO
            detail.address = address
            return detail
        }
    }
}

/// The counts of all domains that want to know, by day.
///
/// The name that TLSA records are at may want to know as well: whoever runs the host, and not the domain's owner, can mend what
/// is wrong there. It is told what domains are not that have other readers, or none.
struct TLSReportCounter: Sendable {
    /// Domains of a day. Those that are one too many have no report.
    static let mostDomains = 100_000
    /// Policies of a domain and day: of more than its own and its hosts' nobody has.
    static let mostPolicies = 100

    private struct Entry {
        /// nil: whether the domain wants reports is being asked, and counted meanwhile.
        var destinations: [TLSReportRecord.Destination]?
        /// It does not: nothing is stored.
        var isUnwanted = false
        var tallies: [TLSReportedPolicy: TLSTally] = [:]
    }

    private struct Key: Hashable {
        let day: Int
        let domain: String
    }

    private var entries: [Key: Entry] = [:]

    /// The name that TLSA records are at: as an entry, by the domain that mail was for.
    private struct HostEntry {
        var destinations: [TLSReportRecord.Destination]?
        var isUnwanted = false
        var tallies: [String: [TLSReportedPolicy: TLSTally]] = [:]
    }

    /// Domains of a host that are told apart. Further ones are one, "".
    private static let mostSources = 1000

    private var hosts: [Key: HostEntry] = [:]

    init() {}

    static func day(of time: Timestamp) -> Int { Int(time.seconds / 86_400) }

    /// Counts a negotiation for the recipients' domain. Whether its record is now to be looked up, at the first of the day, and
    /// ``wants(_:_:at:)`` to be told.
    mutating func count(_ negotiation: TLSNegotiation, for domain: String, at time: Timestamp) -> Bool {
        change(domain, at: time, negotiation.policies.keys) { tally, policy in
            let details = negotiation.details(of: policy)
            if details.isEmpty { tally.succeeded() } else { tally.failed(details) }
        }
    }

    /// A failure that came before any connection to a host, or without one: of the policy itself, or of a host that is not in
    /// it.
    mutating func count(
        _ result: TLSResult, of policy: TLSReportedPolicy, mxName: String? = nil, for domain: String, at time: Timestamp
    ) -> Bool {
        var detail = TLSFailureDetail(result.kind, reason: result.reason)
        detail.mxName = mxName
        return change(domain, at: time, [policy]) { tally, _ in tally.failed([detail]) }
    }

    /// Counts it for the names as well that TLSA records are at. Whose records are now to be looked up.
    mutating func countForHosts(_ negotiation: TLSNegotiation, of domain: String, at time: Timestamp) -> [String] {
        negotiation.policies.keys.filter { policy in
            countForHost(policy, negotiation.details(of: policy), of: domain, at: time)
        }.map(\.domain)
    }

    /// The same of a failure without a connection.
    mutating func countForHost(
        _ result: TLSResult, of policy: TLSReportedPolicy, mxName: String?, _ domain: String, at time: Timestamp
    ) -> [String] {
        var detail = TLSFailureDetail(result.kind, reason: result.reason)
        detail.mxName = mxName
        return countForHost(policy, [detail], of: domain, at: time) ? [policy.domain] : []
    }

    private mutating func countForHost(
        _ policy: TLSReportedPolicy, _ details: [TLSFailureDetail], of domain: String, at time: Timestamp
    ) -> Bool {
        guard policy.type == .tlsa, policy.domain != domain else { return false }
        let key = Key(day: Self.day(of: time), domain: policy.domain)
        let isNew = hosts[key] == nil
        if isNew, hosts.count >= Self.mostDomains { return false }
        var entry = hosts[key] ?? HostEntry()
        guard !entry.isUnwanted else { return false }
        let source = entry.tallies[domain] != nil || entry.tallies.count < Self.mostSources ? domain : ""
        var tally = entry.tallies[source]?[policy] ?? TLSTally()
        if details.isEmpty { tally.succeeded() } else { tally.failed(details) }
        if entry.tallies[source]?[policy] != nil || (entry.tallies[source]?.count ?? 0) < Self.mostPolicies {
            entry.tallies[source, default: [:]][policy] = tally
        }
        hosts[key] = entry
        return isNew
    }

    private mutating func change(
        _ domain: String, at time: Timestamp, _ policies: some Sequence<TLSReportedPolicy>,
        _ body: (inout TLSTally, TLSReportedPolicy) -> Void
    ) -> Bool {
        let key = Key(day: Self.day(of: time), domain: domain)
        let isNew = entries[key] == nil
        if isNew, entries.count >= Self.mostDomains { return false }
        var entry = entries[key] ?? Entry()
        guard !entry.isUnwanted else { return false }
        for policy in policies where entry.tallies[policy] != nil || entry.tallies.count < Self.mostPolicies {
            body(&entry.tallies[policy, default: TLSTally()], policy)
        }
        entries[key] = entry
        return isNew
    }

    /// What the domain's record says, that was looked up for a negotiation at that time; nil: it wants none.
    mutating func wants(_ record: TLSReportRecord?, _ domain: String, at time: Timestamp) {
        let key = Key(day: Self.day(of: time), domain: domain)
        if var host = hosts[key] {
            host.destinations = record?.destinations
            host.isUnwanted = record == nil
            if host.isUnwanted { host.tallies = [:] }
            hosts[key] = host
        }
        guard var entry = entries[key] else { return }
        entry.destinations = record?.destinations
        entry.isUnwanted = record == nil
        if entry.isUnwanted { entry.tallies = [:] }
        entries[key] = entry
    }

    /// The reports of all days before that of `time`, each with where it goes, in their order. They are forgotten here: whoever
    /// takes them writes them down before it sends any.
    mutating func take(
        before time: Timestamp, by submitter: TLSReport.Submitter
    ) -> [(report: TLSReport, destinations: [TLSReportRecord.Destination])] {
        let today = Self.day(of: time)
        var taken: [Key: (destinations: [TLSReportRecord.Destination], tallies: [TLSReportedPolicy: TLSTally])] = [:]
        // Where DNS has not said yet whether the domain wants one, it may still do so for a day.
        func isOver(_ key: Key, _ destinations: [TLSReportRecord.Destination]?, _ isUnwanted: Bool) -> Bool {
            key.day < today && (destinations != nil || isUnwanted || key.day < today - 1)
        }
        for (key, host) in hosts where isOver(key, host.destinations, host.isUnwanted) {
            hosts[key] = nil
            guard let destinations = host.destinations else { continue }
            for (source, tallies) in host.tallies {
                let readers = entries[Key(day: key.day, domain: source)]?.destinations ?? []
                guard !readers.contains(where: destinations.contains) else { continue }
                taken[key, default: (destinations, [:])].tallies.merge(tallies) { $0.adding($1) }
            }
        }
        for (key, entry) in entries where isOver(key, entry.destinations, entry.isUnwanted) {
            entries[key] = nil
            guard let destinations = entry.destinations else { continue }
            taken[key, default: (destinations, [:])].tallies.merge(entry.tallies) { $0.adding($1) }
        }
        return taken.filter { !$0.value.tallies.isEmpty }
            .sorted { ($0.key.day, $0.key.domain) < ($1.key.day, $1.key.domain) }
            .map { key, value in
                let report = TLSReport(submitter: submitter, domain: key.domain, day: key.day, policies: value.tallies)
                return (report, value.destinations)
            }
    }

    /// How many domains and days are counted, and those that want no report.
    var count: Int { entries.count }

    /// Of which domains DNS has not said whether they want reports, and at a time of which day.
    var unknown: [(domain: String, time: Timestamp)] {
        let open =
            entries.filter { $0.value.destinations == nil && !$0.value.isUnwanted }.map(\.key)
            + hosts.filter { $0.value.destinations == nil && !$0.value.isUnwanted }.map(\.key)
        return Set(open).map { key in (key.domain, Timestamp(milliseconds: Int64(key.day) * 86_400_000)) }
    }

    // MARK: What is kept of it

    /// A domain of a day that wants reports, or of which nobody knows yet.
    struct Count: Hashable, Sendable {
        var day: Int
        var domain: String
        /// nil: it is being asked.
        var destinations: [TLSReportRecord.Destination]?
        var tallies: [TLSReportedPolicy: TLSTally]
        /// Of a name that TLSA records are at: the domain that mail was for.
        var source: String?
    }

    /// By day, domain and source.
    var counts: [Count] {
        var counts = entries.filter { !$0.value.isUnwanted }.map { key, entry in
            Count(day: key.day, domain: key.domain, destinations: entry.destinations, tallies: entry.tallies)
        }
        for (key, host) in hosts where !host.isUnwanted {
            counts += host.tallies.map { source, tallies in
                Count(
                    day: key.day, domain: key.domain, destinations: host.destinations, tallies: tallies, source: source)
            }
        }
        return counts.sorted { ($0.day, $0.domain, $0.source ?? "") < ($1.day, $1.domain, $1.source ?? "") }
    }

    init(_ counts: [Count]) {
        for count in counts {
            let key = Key(day: count.day, domain: count.domain)
            if let source = count.source {
                hosts[key, default: HostEntry(destinations: count.destinations)].tallies[source] = count.tallies
            } else {
                entries[key] = Entry(destinations: count.destinations, tallies: count.tallies)
            }
        }
    }
}

extension TLSTally {
    fileprivate func adding(_ other: TLSTally) -> TLSTally {
        var sum = self
        sum.add(other)
        return sum
    }
}

/// When reports go (RFC 8460 section 4.4).
enum TLSReportSchedule {
    /// Behind the end of the day: what is under way is to be counted.
    static let margin: Duration = .seconds(600)
    /// Not to all at once.
    static let spread: Duration = .seconds(4 * 3600)
    /// A report that nobody has taken by then is dropped.
    static let lifetime: Duration = .seconds(86_400)

    /// The time of a day's report. `random`: 0 to 1, once for each domain.
    static func time(ofDay day: Int, random: Double) -> Timestamp {
        Timestamp(milliseconds: Int64(day + 1) * 86_400_000) + margin + spread * random
    }
}
