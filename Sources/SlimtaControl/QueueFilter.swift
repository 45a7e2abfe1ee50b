// Which envelopes of the queue are meant: read from a request's query, written by the command line, applied by the daemon
// or, without one, by the command itself.

package import SlimtaMail
package import SlimtaNet
package import SlimtaQueue

/// How far an envelope is.
package enum QueuePlace: String, Sendable, CaseIterable {
    /// An operator or a rule holds it.
    case held
    /// An attempt is being made.
    case active
    /// Its time has come, and it waits for its turn.
    case due
    /// It waits for its time.
    case deferred

    /// How far an envelope is that nobody makes an attempt for.
    package init(of state: EnvelopeState, now: Timestamp) {
        self = state.isHeld ? .held : state.due <= now ? .due : .deferred
    }
}

/// A filter. What is nil is not asked for; all that is asked for must be so.
package struct QueueFilter: Hashable, Sendable {
    /// Why a filter cannot be used, in words.
    package struct Mistake: Error, Hashable, Sendable, CustomStringConvertible {
        /// Which parameter, and what it should be.
        package let description: String

        init(_ description: String) { self.description = description }
    }

    /// An address, `@domain`, or `<>` for the sender of notices; ASCII letters are the same in both cases.
    package var sender: String?
    /// An address or `@domain` of a recipient that is still to be delivered.
    package var recipient: String?
    /// The domain of a recipient that is still to be delivered.
    package var domain: String?
    /// The login that submitted it, as it was given.
    package var login: String?
    /// Names of edges, one of which it came in by; empty: any.
    package var edges: Set<String> = []
    /// The time since acceptance, at least.
    package var minimumAge: Duration?
    /// The time since acceptance, at most.
    package var maximumAge: Duration?
    /// How far it is.
    package var place: QueuePlace?
    /// A part of what was said last of a recipient that is still to be delivered, or of the rule's name that holds it.
    package var reason: String?

    /// One that means everything.
    package init() {}

    /// The names of the parameters.
    package static let names = ["sender", "recipient", "domain", "login", "edge", "age", "state", "reason"]

    /// Reads a filter from those parameters that belong to one; others are left to the caller.
    package init(_ query: [HTTPTarget.Parameter]) throws(Mistake) {
        for parameter in query {
            let value = parameter.value
            guard Self.names.contains(parameter.name) else { continue }
            guard !value.isEmpty else { throw Mistake("\(parameter.name): nothing is given") }
            switch parameter.name {
            case "sender": try Self.set(&sender, value.foldedAsAddress(), parameter.name)
            case "recipient": try Self.set(&recipient, value.foldedAsAddress(), parameter.name)
            case "domain": try Self.set(&domain, Self.domain(value), parameter.name)
            case "login": try Self.set(&login, value, parameter.name)
            case "edge": edges.insert(value)
            case "reason": try Self.set(&reason, value.asciiLowercased(), parameter.name)
            case "state":
                guard let known = QueuePlace(rawValue: value) else {
                    throw Mistake("state: \"\(value)\" is none of held, active, due, deferred")
                }
                try Self.set(&place, known, parameter.name)
            default:
                guard minimumAge == nil else { throw Mistake("age is given twice") }
                (minimumAge, maximumAge) = try Self.ages(value)
            }
        }
        for (name, address) in [("sender", sender), ("recipient", recipient)] {
            guard let address, address != "<>", !address.contains("@") else { continue }
            throw Mistake("\(name): \"\(address)\" is neither an address nor @domain")
        }
    }

    private static func set<Value>(_ place: inout Value?, _ value: Value, _ name: String) throws(Mistake) {
        guard place == nil else { throw Mistake("\(name) is given twice") }
        place = value
    }

    private static func domain(_ text: String) -> String {
        (text.hasPrefix("@") ? String(text.dropFirst()) : text).foldedAsDomain()
    }

    /// "2h": two hours or more; "10m-2h": from ten minutes to two hours.
    private static func ages(_ text: String) throws(Mistake) -> (Duration?, Duration?) {
        let sides = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        let ages = sides.map { duration(String($0)) }
        guard !ages.contains(nil), let first = ages[0] else {
            throw Mistake("age: \"\(text)\" is not like 30s, 10m, 2h, 1d (at least) or 10m-2h (between)")
        }
        return (first, ages.count == 2 ? ages[1] : nil)
    }

    private static func duration(_ text: String) -> Duration? {
        guard let unit = text.last,
            let seconds = (["s": 1, "m": 60, "h": 3600, "d": 86400] as [Character: Int64])[unit],
            text.utf8.dropLast().allSatisfy({ (0x30...0x39).contains($0) }), let number = Int64(text.dropLast()),
            number < 1 << 32
        else { return text == "0" ? .zero : nil }
        return .seconds(number * seconds)
    }

    /// Whether all envelopes are meant.
    package var isEmpty: Bool { self == QueueFilter() }

    /// Whether an envelope is meant. `place` is how far it is.
    package func matches(_ envelope: Envelope, _ state: EnvelopeState, _ place: QueuePlace, now: Timestamp) -> Bool {
        if let wanted = self.place, wanted != place { return false }
        let age = now - envelope.received
        if let minimumAge, age < minimumAge { return false }
        if let maximumAge, age > maximumAge { return false }
        if let login, envelope.client.login != login { return false }
        if !edges.isEmpty, !edges.contains(envelope.client.edge) { return false }
        if let sender {
            guard let mailbox = envelope.sender else { return sender == "<>" }
            guard Self.matches(mailbox, sender) else { return false }
        }
        guard recipient != nil || domain != nil || reason != nil else { return true }
        return zip(envelope.recipients, state.recipients).contains { mailbox, known in
            guard known.fate == .pending else { return false }
            if let recipient, !Self.matches(mailbox, recipient) { return false }
            if let domain, mailbox.foldedDomain != domain { return false }
            if let reason, !(state.heldReason ?? known.reply).asciiLowercased().contains(reason) { return false }
            return true
        }
    }

    /// `pattern` is folded: an address or `@domain`.
    private static func matches(_ mailbox: Mailbox, _ pattern: String) -> Bool {
        pattern.hasPrefix("@")
            ? mailbox.foldedDomain == pattern.dropFirst() : mailbox.text.foldedAsAddress() == pattern
    }
}
