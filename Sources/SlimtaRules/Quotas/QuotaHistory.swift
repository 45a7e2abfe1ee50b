// How much of what a sender has sent, over the last hour or day: parts of the window that move with the time. QuotaAccount
// has two of them.

/// A number for each counter.
package struct QuotaAmounts: Hashable, Sendable {
    /// See ``QuotaCounter``.
    package var messages = 0
    /// See ``QuotaCounter``.
    package var recipients = 0
    /// See ``QuotaCounter``.
    package var newRecipients = 0
    /// See ``QuotaCounter``.
    package var refused = 0
    /// See ``QuotaCounter``. Not of a message: of a window.
    package var networks = 0

    /// Without arguments: nothing.
    package init(messages: Int = 0, recipients: Int = 0, newRecipients: Int = 0, refused: Int = 0) {
        self.messages = messages
        self.recipients = recipients
        self.newRecipients = newRecipients
        self.refused = refused
    }

    /// That of a counter.
    package subscript(counter: QuotaCounter) -> Int {
        switch counter {
        case .messages: messages
        case .recipients: recipients
        case .newRecipients: newRecipients
        case .refused: refused
        case .networks: networks
        }
    }
}

/// What was counted in a window that ends now, in sixty parts and the one that is being filled: what is counted leaves the
/// window's length later, or up to a sixtieth of it after that.
///
/// Parts in which nothing happened take no memory, and nothing wraps.
struct QuotaHistory: Hashable, Sendable {
    static let parts: UInt32 = 60
    /// A part's number, which is its time divided by its length, and its four counts.
    static let stride = 5

    /// By number, `stride` words each.
    var words: [UInt32] = []

    /// Counts at the time whose part is `part`.
    mutating func add(_ amounts: QuotaAmounts, in part: UInt32) {
        let start = open(part)
        for (index, counter) in QuotaCounter.summed.enumerated() {
            let sum = Int(words[start + 1 + index]) + amounts[counter]
            words[start + 1 + index] = UInt32(clamping: sum)
        }
    }

    /// Takes back what was counted in `part`.
    mutating func subtract(_ amounts: QuotaAmounts, in part: UInt32) {
        for start in Swift.stride(from: 0, to: words.count, by: Self.stride) where words[start] == part {
            for (index, counter) in QuotaCounter.summed.enumerated() {
                words[start + 1 + index] = UInt32(clamping: Int(words[start + 1 + index]) - amounts[counter])
            }
        }
    }

    /// All of the window that ends in `part`.
    func sum(to part: UInt32) -> QuotaAmounts {
        var sum = QuotaAmounts()
        for start in Swift.stride(from: 0, to: words.count, by: Self.stride)
        where Self.isNear(words[start], part) {
            sum.messages += Int(words[start + 1])
            sum.recipients += Int(words[start + 2])
            sum.newRecipients += Int(words[start + 3])
            sum.refused += Int(words[start + 4])
        }
        return sum
    }

    /// Whether what was counted in `one` counts in the window that ends in `part`. The clock may have been put back by as much.
    private static func isNear(_ one: UInt32, _ part: UInt32) -> Bool {
        (one > part ? one - part : part - one) <= parts
    }

    /// Where the part is that takes counts of `part`: its own or, where the clock was put back, the newest.
    private mutating func open(_ part: UInt32) -> Int {
        if let newest = newest, newest >= part {
            if Self.isNear(newest, part) { return words.count - Self.stride }
            // It was wrong when these were counted.
            words = []
        }
        let old = Swift.stride(from: 0, to: words.count, by: Self.stride).prefix { !Self.isNear(words[$0], part) }.count
        words.removeFirst(old * Self.stride)
        words += [part, 0, 0, 0, 0]
        return words.count - Self.stride
    }

    private var newest: UInt32? { words.isEmpty ? nil : words[words.count - Self.stride] }
}
