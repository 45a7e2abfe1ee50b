// What is remembered for a while, and never more of it than fits. Used by the relays for lookups and dead hosts.

import NIOCore

/// A bounded map whose values have an end.
struct ExpiringCache<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private let capacity: Int
    private var entries: [Key: (value: Value, end: NIODeadline)] = [:]

    init(capacity: Int) { self.capacity = capacity }

    var count: Int { entries.count }

    /// The value, if it has not ended before `now`.
    func value(for key: Key, at now: NIODeadline) -> Value? {
        guard let entry = entries[key], now < entry.end else { return nil }
        return entry.value
    }

    mutating func insert(_ value: Value, for key: Key, until end: NIODeadline, at now: NIODeadline) {
        if entries.count >= capacity, entries[key] == nil {
            entries = entries.filter { now < $0.value.end }
            // Still full: half of it goes, whichever. Rare enough to be no question of which.
            if entries.count >= capacity {
                for key in entries.keys.prefix(max(1, capacity / 2)) { entries[key] = nil }
            }
        }
        entries[key] = (value, end)
    }

    mutating func remove(_ key: Key) { entries[key] = nil }

    mutating func removeEnded(at now: NIODeadline) { entries = entries.filter { now < $0.value.end } }
}
