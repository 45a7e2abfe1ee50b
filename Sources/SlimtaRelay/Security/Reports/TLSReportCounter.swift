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

    /// What is counted for the domain that mail was for.
    private struct Entry {
        /// nil: whether the domain wants reports is being asked, and counted meanwhile.
        var destinations: [TLSReportRecord.Destination]?
        /// It does not: nothing is stored.
        var isUnwanted = false
        var tallies = TLSTallies()
        let least: Int

        init(_ domain: String, _ destinations: [TLSReportRecord.Destination]? = nil, _ tallies: TLSTallies = .init()) {
            (self.destinations, self.tallies) = (destinations, tallies)
            least = TLSReportRoom.least + domain.octetsAsJSON
        }

        var octets: Int { isUnwanted ? 0 : least + (destinations?.octets ?? 0) + tallies.octets }

        mutating func count(_ details: [TLSFailureDetail], of policy: TLSReportedPolicy, room: Int) -> Int {
            guard !isUnwanted else { return 0 }
            return tallies.count(details, of: policy, room: min(room, TLSReportRoom.domain - tallies.octets))
        }

        mutating func wants(_ found: [TLSReportRecord.Destination]?) {
            (destinations, isUnwanted) = (found, found == nil)
            if isUnwanted { tallies = TLSTallies() }
        }
    }

    private struct Key: Hashable {
        let day: Int
        let domain: String
    }

    private var entries: [Key: Entry] = [:]

    /// The name that TLSA records are at: as an entry, by the domain that mail was for.
    private struct HostEntry {
        /// Domains of a host that are told apart. Further ones are one, "".
        private static let mostSources = 1000

        var destinations: [TLSReportRecord.Destination]?
        var isUnwanted = false
        private(set) var tallies: [String: TLSTallies] = [:]
        /// Where the reports of domains go that were made before this one's.
        private(set) var readers: [String: [TLSReportRecord.Destination]] = [:]
        private let least: Int
        private var stored = 0

        init(_ host: String, _ destinations: [TLSReportRecord.Destination]? = nil) {
            self.destinations = destinations
            least = TLSReportRoom.least + host.octetsAsJSON
        }

        var octets: Int { isUnwanted ? 0 : least + (destinations?.octets ?? 0) + stored }

        mutating func count(
            _ details: [TLSFailureDetail], of policy: TLSReportedPolicy, for domain: String, room: Int
        ) -> Int {
            guard !isUnwanted else { return 0 }
            let room = min(room, TLSReportRoom.host - stored)
            // The last quarter is for those that are not told apart.
            let roomApart = max(0, room - TLSReportRoom.host / 4)
            var source = domain
            if tallies[domain]?.all[policy] == nil {
                let octets = TLSReportRoom.source + domain.octetsAsJSON + policy.octets
                let isTooMany = tallies[domain] == nil && tallies.count >= Self.mostSources
                if isTooMany || octets > roomApart { source = "" }
            }
            var added = tallies[source] == nil ? TLSReportRoom.source + source.octetsAsJSON : 0
            let left = (source.isEmpty ? room : roomApart) - added
            // What is there already goes on being counted.
            guard added == 0 || left >= 0 else { return 0 }
            added += tallies[source, default: TLSTallies()].count(details, of: policy, room: left)
            stored += added
            return added
        }

        mutating func wants(_ found: [TLSReportRecord.Destination]?) {
            (destinations, isUnwanted) = (found, found == nil)
            if isUnwanted { (tallies, readers, stored) = ([:], [:], 0) }
        }

        /// The report of this domain is made.
        mutating func isRead(_ domain: String, by found: [TLSReportRecord.Destination]) {
            guard !isUnwanted, readers.updateValue(found, forKey: domain) == nil else { return }
            stored += found.octets
        }

        /// As it was written down.
        mutating func restore(_ domain: String, _ known: TLSTallies, readBy found: [TLSReportRecord.Destination]?) {
            tallies[domain] = known
            stored += TLSReportRoom.source + domain.octetsAsJSON + known.octets
            if let found { isRead(domain, by: found) }
        }
    }

    private var hosts: [Key: HostEntry] = [:]
    /// About as many has it all in the file.
    private(set) var octets = 0
    /// What is not for counts: reports wait beside them.
    var reserved = 0

    init() {}

    static func day(of time: Timestamp) -> Int { Int(time.seconds / 86_400) }

    /// Octets that may be added.
    private var room: Int { max(0, TLSReportRoom.all - octets - reserved) }

    /// Counts a negotiation for the recipients' domain. Whether its record is now to be looked up, at the first of the day, and
    /// ``wants(_:_:at:)`` to be told.
    mutating func count(_ negotiation: TLSNegotiation, for domain: String, at time: Timestamp) -> Bool {
        change(domain, at: time, negotiation.policies.keys) { negotiation.details(of: $0) }
    }

    /// A failure that came before any connection to a host, or without one: of the policy itself, or of a host that is not in
    /// it.
    mutating func count(
        _ result: TLSResult, of policy: TLSReportedPolicy, mxName: String? = nil, for domain: String, at time: Timestamp
    ) -> Bool {
        var detail = TLSFailureDetail(result.kind, reason: result.reason)
        detail.mxName = mxName
        return change(domain, at: time, [policy]) { _ in [detail] }
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

    // Entries are changed where they are: a copy of all sources, or of all details, for each session would be felt.
    private mutating func countForHost(
        _ policy: TLSReportedPolicy, _ details: [TLSFailureDetail], of domain: String, at time: Timestamp
    ) -> Bool {
        guard policy.type == .tlsa, policy.domain != domain else { return false }
        let key = Key(day: Self.day(of: time), domain: policy.domain)
        let isNew = hosts[key] == nil
        if isNew {
            let entry = HostEntry(policy.domain)
            guard hosts.count < Self.mostDomains, entry.octets <= room else { return false }
            octets += entry.octets
            hosts[key] = entry
        }
        let room = room
        let added = hosts[key]?.count(details, of: policy, for: domain, room: room) ?? 0
        octets += added
        return isNew
    }

    private mutating func change(
        _ domain: String, at time: Timestamp, _ policies: some Sequence<TLSReportedPolicy>,
        _ details: (TLSReportedPolicy) -> [TLSFailureDetail]
    ) -> Bool {
        let key = Key(day: Self.day(of: time), domain: domain)
        let isNew = entries[key] == nil
        if isNew {
            let entry = Entry(domain)
            guard entries.count < Self.mostDomains, entry.octets <= room else { return false }
            octets += entry.octets
            entries[key] = entry
        }
        for policy in policies {
            let room = room
            let added = entries[key]?.count(details(policy), of: policy, room: room) ?? 0
            octets += added
        }
        return isNew
    }

    /// What the domain's record says, that was looked up for a negotiation at that time; nil: it wants none.
    mutating func wants(_ record: TLSReportRecord?, _ domain: String, at time: Timestamp) {
        let key = Key(day: Self.day(of: time), domain: domain)
        // A record that there is no room for is one too many.
        let destinations = record.flatMap { 2 * $0.destinations.octets <= room ? $0.destinations : nil }
        if let before = hosts[key]?.octets {
            hosts[key]?.wants(destinations)
            octets += (hosts[key]?.octets ?? 0) - before
        }
        if let before = entries[key]?.octets {
            entries[key]?.wants(destinations)
            octets += (entries[key]?.octets ?? 0) - before
        }
    }

    // MARK: The end of a day

    /// The reports of all days that are over, each with where it goes, in their order. They are forgotten here: whoever takes them
    /// writes them down before it sends any. So is what is older than two days: nobody was there to send it, or was to.
    ///
    /// - Parameter withToday: of today as well, as far as it has come.
    mutating func take(
        at now: Timestamp, withToday: Bool = false, by submitter: TLSReport.Submitter
    ) -> [(report: TLSReport, destinations: [TLSReportRecord.Destination])] {
        let today = Self.day(of: now)
        let end = withToday ? today + 1 : today
        for key in entries.keys.filter({ $0.day < today - 2 }) { forget(entry: key) }
        for key in hosts.keys.filter({ $0.day < today - 2 }) { forget(host: key) }
        let domains = entries.keys.filter { $0.day < end && !isOpen($0, entries[$0], today) }
        let names = hosts.keys.filter { $0.day < end && !isOpen($0, hosts[$0], today) }
        var taken: [Key: (destinations: [TLSReportRecord.Destination], tallies: [TLSReportedPolicy: TLSTally])] = [:]
        for key in names {
            if let host = hosts[key], let destinations = host.destinations {
                for (source, tallies) in host.tallies {
                    let readers =
                        entries[Key(day: key.day, domain: source)]?.destinations ?? host.readers[source] ?? []
                    guard !readers.contains(where: destinations.contains) else { continue }
                    taken[key, default: (destinations, [:])].tallies.merge(tallies.all) { $0.adding($1) }
                }
            }
            forget(host: key)
        }
        tellHosts(of: domains, before: end)
        for key in domains {
            if let entry = entries[key], let destinations = entry.destinations {
                taken[key, default: (destinations, [:])].tallies.merge(entry.tallies.all) { $0.adding($1) }
            }
            forget(entry: key)
        }
        return taken.filter { !$0.value.tallies.isEmpty }
            .sorted { ($0.key.day, $0.key.domain) < ($1.key.day, $1.key.domain) }
            .map { key, value in
                let report = TLSReport(submitter: submitter, domain: key.domain, day: key.day, policies: value.tallies)
                return (report, value.destinations)
            }
    }

    /// Whether DNS has not said yet who wants a report: it may still do so for a day.
    private func isOpen(_ key: Key, _ entry: Entry?, _ today: Int) -> Bool {
        guard let entry, key.day >= today - 1 else { return false }
        return entry.destinations == nil && !entry.isUnwanted
    }

    /// The same of a host, and of who has read of its sessions already: that DNS has to say of all domains that have some.
    private func isOpen(_ key: Key, _ host: HostEntry?, _ today: Int) -> Bool {
        guard let host, key.day >= today - 1, !host.isUnwanted else { return false }
        if host.destinations == nil { return true }
        return host.tallies.keys.contains { source in
            let other = Key(day: key.day, domain: source)
            return isOpen(other, entries[other], today)
        }
    }

    /// The reports of these domains are made, and those of some of their hosts are not: who reads them is remembered there.
    private mutating func tellHosts(of domains: [Key], before end: Int) {
        let domains = Set(domains)
        for key in hosts.keys.filter({ $0.day < end }) {
            guard let sources = hosts[key]?.tallies.keys, let before = hosts[key]?.octets else { continue }
            for source in sources {
                let domain = Key(day: key.day, domain: source)
                guard domains.contains(domain), let readers = entries[domain]?.destinations else { continue }
                hosts[key]?.isRead(source, by: readers)
            }
            octets += (hosts[key]?.octets ?? 0) - before
        }
    }

    private mutating func forget(entry key: Key) { octets -= entries.removeValue(forKey: key)?.octets ?? 0 }

    private mutating func forget(host key: Key) { octets -= hosts.removeValue(forKey: key)?.octets ?? 0 }

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
        /// Where the report of that domain went, if it was made already.
        var readers: [TLSReportRecord.Destination]?
    }

    /// By day, domain and source.
    var counts: [Count] {
        var counts = entries.filter { !$0.value.isUnwanted }.map { key, entry in
            Count(day: key.day, domain: key.domain, destinations: entry.destinations, tallies: entry.tallies.all)
        }
        for (key, host) in hosts where !host.isUnwanted {
            counts += host.tallies.map { source, tallies in
                Count(
                    day: key.day, domain: key.domain, destinations: host.destinations, tallies: tallies.all,
                    source: source, readers: host.readers[source])
            }
        }
        return counts.sorted { ($0.day, $0.domain, $0.source ?? "") < ($1.day, $1.domain, $1.source ?? "") }
    }

    init(_ counts: [Count]) {
        for count in counts {
            let key = Key(day: count.day, domain: count.domain)
            let tallies = TLSTallies(count.tallies)
            if let source = count.source {
                hosts[key, default: HostEntry(key.domain, count.destinations)]
                    .restore(source, tallies, readBy: count.readers)
            } else {
                entries[key] = Entry(key.domain, count.destinations, tallies)
            }
        }
        octets = entries.values.reduce(0) { $0 + $1.octets } + hosts.values.reduce(0) { $0 + $1.octets }
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
