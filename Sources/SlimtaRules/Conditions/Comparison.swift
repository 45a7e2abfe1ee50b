// Numbers and times of a rule: `recipients = "> 100"`, `rate = "login > 100/hour"`, `hours = "08:00-18:00"`, `weekdays`.

/// A comparison with a number.
package struct Comparison: Hashable, Sendable, CustomStringConvertible {
    /// How a number is compared. The raw value is the sign of slimta.conf.
    package enum Relation: String, CaseIterable, Sendable {
        // Longer signs first: that is how they are read.
        case atMost = "<="
        case atLeast = ">="
        case less = "<"
        case more = ">"
        case equal = "="
    }

    /// The sign.
    package let relation: Relation
    /// What is compared with.
    package let number: Int

    /// What holds for `relation` and `number`.
    package init(_ relation: Relation, _ number: Int) {
        self.relation = relation
        self.number = number
    }

    /// "> 100". `number` reads what is behind the sign, nil: it is none.
    package init(_ text: String, number: (String) -> Int?) throws(RuleError) {
        let allowed = "a comparison such as \"> 100\", with <, <=, =, >= or >"
        guard let relation = Relation.allCases.first(where: { text.hasPrefix($0.rawValue) }),
            let number = number(String(text.dropFirst(relation.rawValue.count).drop { $0 == " " })), number >= 0
        else { throw RuleError("\"\(text)\"", allowed) }
        self.init(relation, number)
    }

    /// Whether it is true of `value`.
    package func holds(_ value: Int) -> Bool {
        switch relation {
        case .atMost: value <= number
        case .atLeast: value >= number
        case .less: value < number
        case .more: value > number
        case .equal: value == number
        }
    }

    /// Whether it is true of no number from 0 on.
    var isImpossible: Bool { relation == .less && number == 0 }

    /// "> 100".
    package var description: String { "\(relation.rawValue) \(number)" }
}

/// `rate`: how many messages, of whom, in what time.
package struct RateCondition: Hashable, Sendable, CustomStringConvertible {
    /// Of whom, and over what time.
    package let key: RateFacts.Key
    /// How many.
    package let comparison: Comparison

    /// "login > 100/hour".
    package init(_ text: String) throws(RuleError) {
        let allowed = "whose messages and how many, such as \"login > 100/hour\" or \"client > 10/minute\""
        let words = text.split(separator: " ", maxSplits: 1)
        let parts = words.count == 2 ? words[1].split(separator: "/", omittingEmptySubsequences: false) : []
        guard parts.count == 2, let subject = RateSubject(rawValue: String(words[0])),
            let window = RateWindow(rawValue: String(parts[1])),
            let comparison = try? Comparison(String(parts[0].drop { $0 == " " }), number: { Int($0) })
        else { throw RuleError("\"\(text)\"", allowed) }
        key = RateFacts.Key(subject, window)
        self.comparison = comparison
    }

    /// "login > 100/hour".
    package var description: String { "\(key.subject.rawValue) \(comparison)/\(key.window.rawValue)" }
}

/// `hours`: a part of the day, which may go over midnight.
package struct Hours: Hashable, Sendable, CustomStringConvertible {
    private let from: Int
    private let to: Int

    /// "08:00-18:00": from the first minute on, up to the last and without it. "24:00" is the end of the day.
    package init(_ text: String) throws(RuleError) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false).map { Self.minute($0) }
        guard parts.count == 2, let from = parts[0], let to = parts[1], from < 1440, from != to else {
            throw RuleError("\"\(text)\"", "a time of day such as \"08:00-18:00\" or \"22:00-06:00\"")
        }
        self.from = from
        self.to = to
    }

    private static func minute(_ text: Substring) -> Int? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2,
            parts.allSatisfy({ $0.utf8.count == 2 && $0.utf8.allSatisfy { (48...57).contains($0) } }),
            let hour = Int(parts[0]), let minute = Int(parts[1]), minute < 60, hour * 60 + minute <= 1440
        else { return nil }
        return hour * 60 + minute
    }

    /// Whether it is now.
    package func contains(_ time: LocalTime) -> Bool {
        from < to ? (from..<to).contains(time.minute) : time.minute >= from || time.minute < to
    }

    /// "08:00-18:00".
    package var description: String { "\(Self.text(from))-\(Self.text(to))" }

    private static func text(_ minute: Int) -> String {
        [minute / 60, minute % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
    }
}

extension LocalTime.Weekday {
    /// "mon", or "mon-fri", which may go over Sunday.
    package static func days(_ text: String) throws(RuleError) -> Set<Self> {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { Self(rawValue: $0.lowercased()) }
        guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1] else {
            throw RuleError("\"\(text)\"", "mon, tue, wed, thu, fri, sat, sun, or a range such as \"mon-fri\"")
        }
        let all = Self.allCases
        guard let from = all.firstIndex(of: first), let to = all.firstIndex(of: last) else { return [] }
        return Set(from <= to ? all[from...to] : all[from...] + all[...to])
    }
}
