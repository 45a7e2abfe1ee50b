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

    /// The negotiation was counted as a success, and then the server said behind the handshake that it was none.
    mutating func retract(_ negotiation: TLSNegotiation, for domain: String, at time: Timestamp) {
        _ = change(domain, at: time, negotiation.policies.keys) { tally, policy in
            tally.retracted(negotiation.details(of: policy))
        }
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
        let over = entries.filter { $0.key.day < today }
        for key in over.keys { entries[key] = nil }
        return over.sorted { ($0.key.day, $0.key.domain) < ($1.key.day, $1.key.domain) }.compactMap { key, entry in
            guard let destinations = entry.destinations, !entry.tallies.isEmpty else { return nil }
            let report = TLSReport(submitter: submitter, domain: key.domain, day: key.day, policies: entry.tallies)
            return (report, destinations)
        }
    }

    /// How many domains and days are counted, and those that want no report.
    var count: Int { entries.count }
}

/// When reports go.
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
