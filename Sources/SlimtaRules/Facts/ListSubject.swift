// What a list in the DNS is asked about: `of` of [[dnsbl]]. The configuration reads it, the edge's lookups ask by it.

/// What is looked up in a list. The raw value is the word of slimta.conf.
package enum ListSubject: String, CaseIterable, Hashable, Sendable {
    /// The client's address (RFC 5782 section 2).
    case client
    /// The domain of the sender (RFC 5782 section 3).
    case sender
    /// The name in EHLO.
    case ehlo

    /// The first stage at which it is known.
    package var stage: Stage {
        switch self {
        case .client: .connect
        case .sender: .mail
        case .ehlo: .ehlo
        }
    }

    /// The IPv4 addresses, as numbers, that are listings if `answers` does not say which: 127.0.0.2 to 127.0.0.254, of names
    /// 127.0.1.2 to 127.0.1.254 as well. What is outside means that the list was not asked as it wants to be, or is gone:
    /// 127.0.0.1 is a refusal of some, 127.0.1.255 one of others.
    package var usualAnswers: [ClosedRange<UInt32>] {
        let addresses: ClosedRange<UInt32> = 0x7F00_0002...0x7F00_00FE
        return switch self {
        case .client: [addresses]
        case .sender, .ehlo: [addresses, 0x7F00_0102...0x7F00_01FE]
        }
    }
}
