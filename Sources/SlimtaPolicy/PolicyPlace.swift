// The order of policies. It is not the order of `[queue] policies`, where people write them down: what is shown to a filter, what
// is signed and what is counted would hang on that. PolicyChain goes by it.

/// Where a policy stands in the chain, the first first. Behind the first place quotas are asked (Intake), behind all of them the
/// message is stored.
package enum PolicyPlace: Int, Comparable, Sendable, CaseIterable {
    /// What the header is, and what must not be in it.
    case header
    /// Addresses without a domain, before anybody asks whose they are.
    case qualification
    /// Whether From and Sender are the login's.
    case senders
    /// What a submission agent mends (RFC 6409 section 8).
    case repairs
    /// Date.
    case date
    /// Message-ID.
    case messageID
    /// The header in ASCII where no address needs more.
    case containment
    /// The content in 7 bits, where that is always wanted.
    case conversion
    /// Who gets the message.
    case forward
    /// What spamd says: it sees what has been mended, and whom the message goes to.
    case spamassassin
    /// Milters, in the order in which they were configured.
    case milters
    /// An envelope for each domain: nobody who is asked is asked more than once.
    case domainSplit
    /// An envelope for each recipient.
    case recipientSplit
    /// Our trace field, which names the queue id, and a lone recipient, of each envelope.
    case received
    /// What rules have to say of the message.
    case ruleFields
    /// What leaves is signed, and the signatures are verified.
    case signature

    /// By their order.
    package static func < (left: PolicyPlace, right: PolicyPlace) -> Bool { left.rawValue < right.rawValue }
}
