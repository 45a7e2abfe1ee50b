// Whom a sender has written to: a digest of each address, with the day of the last message. QuotaAccount has one.

/// A set of recipients that forgets those that were not written to for 90 days, and the oldest where it becomes too large.
///
/// Eight octets for each: 48 bits of the digest, and the day. That a new recipient looks like one of 20,000 that are known has
/// a chance of one in ten billion.
struct KnownRecipients: Hashable, Sendable {
    /// How long one is known without being written to, in days.
    static let days: UInt16 = 90

    /// In ascending order: the digest's first 48 bits, then the day since 1970.
    var entries: [UInt64] = []

    var count: Int { entries.count }

    /// Whether the recipient is known on `day`.
    func contains(_ digest: UInt64, on day: UInt16) -> Bool {
        let place = place(of: digest)
        guard place < entries.count, entries[place] >> 16 == digest >> 16 else { return false }
        return Self.isKnown(entries[place], on: day)
    }

    /// They are written to on `day`; at most `limit` are then known.
    mutating func note(_ digests: [UInt64], on day: UInt16, limit: Int) {
        var added: [UInt64] = []
        for digest in digests {
            let place = place(of: digest)
            let entry = digest & ~0xFFFF | UInt64(day)
            if place < entries.count, entries[place] >> 16 == digest >> 16 {
                entries[place] = entry
            } else {
                added.append(entry)
            }
        }
        guard !added.isEmpty else { return }
        entries = Self.merged(entries, added.sorted())
        if entries.count > limit { forget(on: day, limit: limit) }
    }

    /// Forgets who is not known any more and, where that is too few, who was not written to for the longest time: down to some
    /// less than `limit`, so that it is not done for each new one.
    mutating func forget(on day: UInt16, limit: Int) {
        entries.removeAll { !Self.isKnown($0, on: day) }
        guard entries.count > limit else { return }
        let room = limit - limit / 16
        let days = entries.map { UInt16(truncatingIfNeeded: $0) }.sorted()
        // Those of the last day that has to go are as good as each other.
        let last = days[entries.count - room - 1]
        var surplus = entries.count - room
        surplus -= days.prefix { $0 < last }.count
        entries.removeAll { entry in
            let day = UInt16(truncatingIfNeeded: entry)
            if day < last { return true }
            guard day == last, surplus > 0 else { return false }
            surplus -= 1
            return true
        }
    }

    private static func isKnown(_ entry: UInt64, on day: UInt16) -> Bool {
        Int(day) - Int(UInt16(truncatingIfNeeded: entry)) <= Int(days)
    }

    /// The first entry that is not before the digest.
    private func place(of digest: UInt64) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle] >> 16 < digest >> 16 { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Both in order; of those in `added` that are the same recipient, one.
    private static func merged(_ entries: [UInt64], _ added: [UInt64]) -> [UInt64] {
        var merged: [UInt64] = []
        merged.reserveCapacity(entries.count + added.count)
        var (i, j) = (0, 0)
        while i < entries.count || j < added.count {
            let next: UInt64
            if j == added.count || i < entries.count && entries[i] < added[j] {
                next = entries[i]
                i += 1
            } else {
                next = added[j]
                j += 1
            }
            if merged.last.map({ $0 >> 16 != next >> 16 }) ?? true { merged.append(next) }
        }
        return merged
    }
}
