// What an operator says of a site, and what is kept of one between runs. Used by Sites.

import SlimtaMail

/// The limits of a site that somebody has set: nothing is learned of those. From `[[site]]` or `slimtad site set`.
package struct SiteLimits: Hashable, Sendable {
    /// The most sessions at a time.
    package var connections: Int?
    /// Messages a second.
    package var rate: Double?
    /// Messages in a session.
    package var messages: Int?
    /// Recipients in a transaction.
    package var recipients: Int?

    /// Without arguments: none.
    package init(connections: Int? = nil, rate: Double? = nil, messages: Int? = nil, recipients: Int? = nil) {
        self.connections = connections
        self.rate = rate
        self.messages = messages
        self.recipients = recipients
    }

    /// Whether nothing is set.
    package var isEmpty: Bool { self == SiteLimits() }

    /// These, and where they say nothing, the others.
    func over(_ others: SiteLimits) -> SiteLimits {
        SiteLimits(
            connections: connections ?? others.connections, rate: rate ?? others.rate,
            messages: messages ?? others.messages, recipients: recipients ?? others.recipients)
    }
}

/// What `[[site]]` says: limits of the sites that have a host of these names.
package struct SiteRule: Sendable {
    let matches: @Sendable (String) -> Bool
    let limits: SiteLimits

    /// - Parameter matches: whether a host's name, in lower case, is meant.
    package init(_ limits: SiteLimits, matches: @escaping @Sendable (String) -> Bool) {
        self.limits = limits
        self.matches = matches
    }
}

extension SiteRule {
    /// What hosts are known to take of which nobody finds out more by being refused.
    static let known = [
        // Submission of Microsoft 365: three sessions and thirty messages a minute.
        SiteRule(SiteLimits(connections: 3, rate: 0.5)) { $0 == "smtp.office365.com" }
    ]
}

/// What is kept of a site.
struct SiteRecord: Hashable, Sendable {
    var learning = SiteLearning()
    /// What an operator has set by command.
    var own = SiteLimits()
    var lastUsed: Timestamp

    /// Not used for so long, nothing but what an operator has set is kept.
    static let lifetime: Duration = .seconds(30 * 86_400)

    /// Whether there is anything to keep.
    func isWorthKeeping(at now: Timestamp) -> Bool {
        !own.isEmpty || learning != SiteLearning() && now - lastUsed <= Self.lifetime
    }
}

extension SiteRecord {
    /// As fields of a line, with tabs between them.
    var text: String {
        var fields = ["used=\(lastUsed.milliseconds)"]
        func add(_ name: String, _ value: (some CustomStringConvertible)?) {
            if let value { fields.append("\(name)=\(value)") }
        }
        add("rate", learning.rate)
        add("recipients", learning.recipients)
        add("messages", learning.messages)
        add("recipients_found", learning.recipientsFound?.milliseconds)
        add("messages_found", learning.messagesFound?.milliseconds)
        add("greylists", learning.greylisting?.last.milliseconds)
        add("greylist_wait", learning.greylisting?.shortest?.milliseconds)
        add("set_connections", own.connections)
        add("set_rate", own.rate)
        add("set_messages", own.messages)
        add("set_recipients", own.recipients)
        return fields.joined(separator: "\t")
    }

    /// From fields; nil if one is not understood.
    init?(fields: some Sequence<Substring>) {
        self.init(lastUsed: Timestamp(milliseconds: 0))
        var shortest: Duration?
        for field in fields {
            guard let equals = field.firstIndex(of: "=") else { return nil }
            let value = field[field.index(after: equals)...]
            func count() -> Int? { Int(value).flatMap { $0 >= 1 ? $0 : nil } }
            func rate() -> Double? { Double(value).flatMap { $0 > 0 ? $0 : nil } }
            func time() -> Timestamp? { Int64(value).map { Timestamp(milliseconds: $0) } }
            let isGood: Bool
            switch field[..<equals] {
            case "used":
                lastUsed = Timestamp(milliseconds: Int64(value) ?? 0)
                isGood = Int64(value) != nil
            // One that is too high is none, whatever wrote it: what else the line has is of use.
            case "rate":
                learning.rate = rate().flatMap { $0 <= SiteRate.most ? max(SiteRate.least, $0) : nil }
                isGood = rate() != nil
            case "recipients": (learning.recipients, isGood) = (count(), count() != nil)
            case "messages": (learning.messages, isGood) = (count(), count() != nil)
            case "recipients_found": (learning.recipientsFound, isGood) = (time(), time() != nil)
            case "messages_found": (learning.messagesFound, isGood) = (time(), time() != nil)
            case "greylists":
                learning.greylisting = time().map { .init(shortest: nil, last: $0) }
                isGood = learning.greylisting != nil
            case "greylist_wait":
                shortest = count().map { .milliseconds($0) }
                isGood = shortest != nil
            case "set_connections": (own.connections, isGood) = (count(), count() != nil)
            case "set_rate": (own.rate, isGood) = (rate(), rate()?.isFinite ?? false)
            case "set_messages": (own.messages, isGood) = (count(), count() != nil)
            case "set_recipients": (own.recipients, isGood) = (count(), count() != nil)
            // Of a later version.
            default: isGood = true
            }
            guard isGood else { return nil }
        }
        if let shortest { learning.greylisting?.shortest = shortest }
    }
}
