// What is remembered of hosts' TLS, so that whoever takes STARTTLS away on the way is noticed: a value without a clock and
// without a file. Told by sessions, asked for each host's MemoryStanding, kept by TLSMemory+Text.

import SlimtaMail

/// How far each host of each domain was seen to be encrypted: a high-water mark with an end.
///
/// By domain and host, not by domain: one good exchanger must not condemn the others of its domain. It comes into force
/// after sessions on three different days (UTC), and ends thirty days after the last: a host that has given TLS up for good
/// gets its mail again, and one that was looked at once binds nobody. A certificate is no part of it.
struct TLSMemory: Hashable, Sendable {
    /// Whose host.
    struct Key: Hashable, Comparable, Sendable {
        /// The recipient's domain, in A-labels and lower case.
        let domain: String
        /// The name of the MX record, likewise.
        let host: String

        static func < (a: Key, b: Key) -> Bool { (a.domain, a.host) < (b.domain, b.host) }
    }

    /// What was seen of it. Days are counted since 1970-01-01, in UTC.
    struct Entry: Hashable, Sendable {
        /// On how many different days it was encrypted, without a gap that ended them.
        var days: Int
        var first: Int
        var last: Int
        /// When DANE authenticated it the last time; nil: never.
        var lastDANE: Int?
        /// When a policy of MTA-STS did.
        var lastPolicy: Int?
    }

    /// What a session was authenticated by.
    struct Proof: OptionSet, Hashable, Sendable {
        let rawValue: Int
        static let dane = Proof(rawValue: 1)
        static let policy = Proof(rawValue: 2)
    }

    /// Days that it takes to come into force.
    static let daysToCount = 3
    /// Days that it lasts.
    static let lifetime = 30
    /// Days for which DANE is expected to go on.
    static let lifetimeOfDANE = 7
    /// How many hosts are remembered. A line of the file has some sixty octets.
    static let capacity = 100_000

    private(set) var entries: [Key: Entry] = [:]

    init() {}

    /// A day as they are counted here.
    static func day(of time: Timestamp) -> Int { Int(time.seconds / 86_400) - (time.seconds % 86_400 < 0 ? 1 : 0) }

    /// A session with the host was encrypted, and mail went over it or could have.
    mutating func encrypted(_ key: Key, at time: Timestamp, by proof: Proof = []) {
        let today = Self.day(of: time)
        var entry = entries[key] ?? Entry(days: 0, first: today, last: today)
        if entry.days > 0, today - entry.last > Self.lifetime { entry = Entry(days: 0, first: today, last: today) }
        // A day that is behind us for a clock that was set back is no new one.
        if entry.days == 0 || today > entry.last { entry.days += 1 }
        entry.last = max(entry.last, today)
        if proof.contains(.dane) { entry.lastDANE = max(entry.lastDANE ?? today, today) }
        if proof.contains(.policy) { entry.lastPolicy = max(entry.lastPolicy ?? today, today) }
        insert(entry, for: key, at: today)
    }

    /// What of it still counts.
    func standing(of key: Key, at time: Timestamp) -> MemoryStanding {
        guard let entry = entries[key] else { return .nothing }
        let today = Self.day(of: time)
        let isInForce = entry.days >= Self.daysToCount && today - entry.last <= Self.lifetime
        return MemoryStanding(
            encrypted: isInForce ? .init(days: entry.days, last: entry.last) : nil,
            hadDANE: entry.lastDANE.map { today - $0 <= Self.lifetimeOfDANE } ?? false)
    }

    /// The operator knows better: nothing is remembered of the domain any more. How many hosts that were.
    mutating func forget(domain: String) -> Int {
        let keys = entries.keys.filter { $0.domain == domain }
        for key in keys { entries[key] = nil }
        return keys.count
    }

    /// Forgets what has ended.
    mutating func sweep(at time: Timestamp) {
        let today = Self.day(of: time)
        entries = entries.filter { today - $0.value.last <= Self.lifetime }
    }

    /// Adds what was remembered before, as it was written.
    mutating func insert(_ entry: Entry, for key: Key) {
        if entries.count < Self.capacity || entries[key] != nil { entries[key] = entry }
    }

    private mutating func insert(_ entry: Entry, for key: Key, at today: Int) {
        if entries.count >= Self.capacity, entries[key] == nil { makeRoom(at: today) }
        entries[key] = entry
    }

    /// What has ended goes first, then what was seen least lately, down to nine tenths: rare enough to sort for.
    private mutating func makeRoom(at today: Int) {
        entries = entries.filter { today - $0.value.last <= Self.lifetime }
        let surplus = entries.count - Self.capacity * 9 / 10
        guard surplus > 0 else { return }
        for (key, _) in entries.sorted(by: { ($0.value.last, $0.key) < ($1.value.last, $1.key) }).prefix(surplus) {
            entries[key] = nil
        }
    }
}
