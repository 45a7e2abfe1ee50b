// How many lines of a kind one client may cause: a stranger must not fill the log. A value without a clock; SessionLog
// asks it before each line.

internal import NIOCore

/// Counts events by who causes them. The first few of a window are to be told one by one; of the rest only how many.
struct RepeatedEvents {
    struct Key: Hashable, Sendable {
        /// nil: a UNIX socket, or one of the many that there is no room for.
        var source: ConnectionLimiter.Source?
        /// Whoever has logged in is known, and counted apart from others behind the same address.
        var login: String?
        var event: String
    }

    enum Verdict: Equatable {
        /// Tell it.
        case tell
        /// Leave it out.
        case leaveOut
        /// The first to be left out: ask ``sumUp(_:)`` for this key when its window ends.
        case leaveOutAndSumUp(Key, at: NIODeadline)
    }

    private struct Entry {
        let end: NIODeadline
        var count = 0
    }

    /// How many of a window are told.
    static let told = 20
    static let window = TimeAmount.minutes(1)
    /// How many keys are counted at a time; more are counted as one for each kind of event.
    static let keys = 4096

    private var entries: [Key: Entry] = [:]
    /// Before this, looking for windows that have ended finds none: a flood of addresses would else cost a look through
    /// all keys for each event.
    private var earliestEnd = NIODeadline.uptimeNanoseconds(0)

    /// `key` has caused what may become a line.
    mutating func happened(_ key: Key, at now: NIODeadline) -> Verdict {
        var key = key
        if entries[key] == nil, entries.count >= Self.keys {
            if earliestEnd <= now {
                // Those that have left something out are asked for by sumUp.
                entries = entries.filter { $0.value.end > now || $0.value.count > Self.told }
                earliestEnd = entries.values.lazy.map(\.end).filter { $0 > now }.min() ?? now
            }
            if entries.count >= Self.keys { key = Key(source: nil, login: nil, event: key.event) }
        }
        var entry = entries[key] ?? Entry(end: now + Self.window)
        if entry.end <= now, entry.count <= Self.told { entry = Entry(end: now + Self.window) }
        entry.count += 1
        entries[key] = entry
        if entry.count <= Self.told { return .tell }
        return entry.count == Self.told + 1 ? .leaveOutAndSumUp(key, at: entry.end) : .leaveOut
    }

    /// The window of `key` has ended: how many were left out of it.
    mutating func sumUp(_ key: Key) -> Int { max(0, (entries.removeValue(forKey: key)?.count ?? 0) - Self.told) }
}
