// How many messages a client or a login has sent lately. The edge counts what it accepts; rules with `rate` compare.

package import SlimtaMail

/// What messages are counted by.
package enum RateSubject: String, CaseIterable, Hashable, Sendable {
    /// The client's address; of IPv6 the /64, the smallest network that a customer gets.
    case client
    /// Who has logged in.
    case login
}

/// How long is looked back.
package enum RateWindow: String, CaseIterable, Hashable, Sendable {
    case minute, hour, day

    /// In seconds.
    package var seconds: Int64 {
        switch self {
        case .minute: 60
        case .hour: 3600
        case .day: 86400
        }
    }
}

/// How many messages were accepted, by subject and window; what is absent is 0.
package struct RateFacts: Hashable, Sendable {
    /// Of whom, and over what time.
    package struct Key: Hashable, Sendable {
        /// Client or login.
        package var subject: RateSubject
        /// The time until now.
        package var window: RateWindow

        /// One count.
        package init(_ subject: RateSubject, _ window: RateWindow) {
            self.subject = subject
            self.window = window
        }
    }

    /// The counts.
    package var counts: [Key: Int]

    /// No messages yet, or those of `counts`.
    package init(_ counts: [Key: Int] = [:]) { self.counts = counts }
}

/// Counts accepted messages. A value; whoever shares it guards it.
///
/// Each window is twelve parts and the one that is being filled: a message counts for the window's time, or up to a twelfth
/// of it longer. Memory is bounded: where a new subject finds no room, the one that was silent for the longest time is
/// forgotten.
package struct RateCounters: Sendable {
    /// Who is counted.
    package enum Subject: Hashable, Sendable {
        case client(IPAddress)
        case login(String)

        fileprivate var kind: RateSubject {
            switch self {
            case .client: .client
            case .login: .login
            }
        }
    }

    fileprivate struct Window: Sendable {
        var first: Int64 = 0
        var parts: [UInt32] = []
    }

    private struct Entry: Sendable {
        var windows: [RateWindow: Window] = [:]
        var last: Int64
    }

    fileprivate static let parts: Int64 = 12
    private let limit: Int
    private var kept: Set<RateFacts.Key>
    private var entries: [Subject: Entry] = [:]

    /// Counts what `keys` need and nothing else; at most `limit` subjects are remembered.
    package init(for keys: Set<RateFacts.Key>, limit: Int = 100_000) {
        kept = keys
        self.limit = limit
    }

    /// Counts what `keys` need from now on: what was counted of them still counts, the rest is forgotten.
    package mutating func keep(_ keys: Set<RateFacts.Key>) {
        kept = keys
        for (subject, entry) in entries {
            let windows = entry.windows.filter { keys.contains(RateFacts.Key(subject.kind, $0.key)) }
            entries[subject] = windows.isEmpty ? nil : Entry(windows: windows, last: entry.last)
        }
    }

    /// How many subjects are remembered.
    package var count: Int { entries.count }

    /// Whom a message of this client and login counts for.
    private func subject(_ kind: RateSubject, _ client: IPAddress?, _ login: String?) -> Subject? {
        switch kind {
        case .client: client.map { .client($0.customerNetwork) }
        case .login: login.map { .login($0) }
        }
    }

    /// A message was accepted.
    package mutating func accepted(from client: IPAddress?, login: String?, at now: Timestamp) {
        for kind in RateSubject.allCases {
            let windows = kept.filter { $0.subject == kind }.map(\.window)
            guard !windows.isEmpty, let subject = subject(kind, client, login) else { continue }
            if entries[subject] == nil, entries.count >= limit { forgetTheOldest(at: now.seconds) }
            var entry = entries[subject] ?? Entry(last: now.seconds)
            entry.last = now.seconds
            for window in windows { entry.windows[window, default: Window()].count(window, at: now.seconds) }
            entries[subject] = entry
        }
    }

    /// What rules are told of this client and login.
    package func facts(client: IPAddress?, login: String?, at now: Timestamp) -> RateFacts {
        var counts: [RateFacts.Key: Int] = [:]
        for key in kept {
            guard let subject = subject(key.subject, client, login), let window = entries[subject]?.windows[key.window]
            else { continue }
            counts[key] = window.sum(key.window, at: now.seconds)
        }
        return RateFacts(counts)
    }

    /// Makes room: for a hundredth of all at once, so that a flood of new subjects does not cost a search each.
    private mutating func forgetTheOldest(at now: Int64) {
        entries = entries.filter { now - $0.value.last < RateWindow.day.seconds * 13 / 12 }
        guard entries.count >= limit else { return }
        let times = entries.values.map(\.last).sorted()
        let bound = times[min(times.count - 1, max(0, limit / 100))]
        var room = max(1, limit / 100)
        entries = entries.filter { entry in
            guard room > 0, entry.value.last <= bound else { return true }
            room -= 1
            return false
        }
    }
}

extension RateCounters.Window {
    fileprivate mutating func count(_ window: RateWindow, at now: Int64) {
        let part = now / (window.seconds / RateCounters.parts)
        let oldest = part - RateCounters.parts
        if parts.isEmpty || first + Int64(parts.count) <= oldest || part < first {
            // Nothing of it counts any more, or the clock was put back.
            (first, parts) = (part, [1])
            return
        }
        if first < oldest {
            parts.removeFirst(Int(oldest - first))
            first = oldest
        }
        while first + Int64(parts.count) <= part { parts.append(0) }
        let index = Int(part - first)
        parts[index] = parts[index] == .max ? .max : parts[index] + 1
    }

    fileprivate func sum(_ window: RateWindow, at now: Int64) -> Int {
        let part = now / (window.seconds / RateCounters.parts)
        var sum = 0
        for (index, count) in parts.enumerated() where (part - RateCounters.parts...part).contains(first + Int64(index))
        {
            sum += Int(count)
        }
        return sum
    }
}
