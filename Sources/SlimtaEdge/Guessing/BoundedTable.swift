// A table that strangers fill and that never grows beyond its bound. GuessMachine remembers addresses and logins in it.

/// What can be weighed against others, to find the one that is missed least.
protocol Weighed {
    /// The greater, the longer it is kept.
    func weight(_ now: ContinuousClock.Instant) -> Int
}

/// A dictionary of at most `capacity` entries: a new one takes the place of the lightest of sixteen, which are looked at in
/// turn. So who makes up many keys pushes out others like himself, not what weighs more, and each step costs the same.
struct BoundedTable<Key: Hashable & Sendable, Value: Weighed & Sendable>: Sendable {
    private let capacity: Int
    private var entries: [(key: Key, value: Value)] = []
    private var places: [Key: Int] = [:]
    /// Where the next look begins.
    private var hand = 0

    init(capacity: Int) { self.capacity = capacity }

    var count: Int { entries.count }

    /// In no order.
    var all: [(key: Key, value: Value)] { entries }

    subscript(key: Key) -> Value? { places[key].map { entries[$0].value } }

    /// Changes the value of `key`, which begins as `initial`.
    mutating func update(
        _ key: Key, default initial: @autoclosure () -> Value, now: ContinuousClock.Instant,
        _ change: (inout Value) -> Void
    ) {
        if let place = places[key] { return change(&entries[place].value) }
        var value = initial()
        change(&value)
        guard entries.count == capacity else {
            places[key] = entries.count
            entries.append((key, value))
            return
        }
        let place = lightest(now)
        places[entries[place].key] = nil
        places[key] = place
        entries[place] = (key, value)
    }

    /// Takes `key` out; nil if it is not there.
    @discardableResult
    mutating func remove(_ key: Key) -> Value? {
        guard let place = places.removeValue(forKey: key) else { return nil }
        let value = entries[place].value
        let last = entries.removeLast()
        if place < entries.count {
            entries[place] = last
            places[last.key] = place
        }
        return value
    }

    private mutating func lightest(_ now: ContinuousClock.Instant) -> Int {
        let candidates = (0..<min(16, entries.count)).map { (hand + $0) % entries.count }
        hand = (hand + candidates.count) % entries.count
        return candidates.min { entries[$0].value.weight(now) < entries[$1].value.weight(now) } ?? 0
    }
}
