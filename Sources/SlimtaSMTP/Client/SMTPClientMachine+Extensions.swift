// What a server says in its EHLO reply, read with suspicion. Used by SMTPClientMachine.

package import SlimtaMail
package import SlimtaSASL

/// The service extensions (RFC 5321 section 4.1.1.1) of a server that matter to us.
package struct ServerExtensions: Hashable, Sendable {
    /// RFC 2920 section 2.
    package var pipelining = false
    /// RFC 6152 section 2.
    package var eightBitMIME = false
    /// RFC 6531 section 3.1.
    package var smtpUTF8 = false
    /// RFC 3207 section 3.
    package var startTLS = false
    /// RFC 1870 section 3: whether MAIL may have SIZE.
    package var size = false
    /// The largest message that the server takes, in octets; nil if it names no limit.
    package var maximumSize: Int?
    /// RFC 9422 section 4: how many transactions a session has, recipients a transaction, and domains these; nil: the server does
    /// not say.
    package var maximumTransactions: Int?
    package var maximumRecipients: Int?
    package var maximumDomains: Int?
    /// RFC 4954 section 3: the mechanisms that we could use.
    package var mechanisms: Set<SASLMechanism> = []

    /// No extensions: what a server that only knows HELO has.
    package init() {}

    /// What an EHLO reply lists: its first line is the greeting. Unknown keywords are ignored, as is a wrong parameter;
    /// of a repeated SIZE the first counts.
    package init(ehlo reply: Reply) {
        for line in reply.lines.dropFirst() {
            // AUTH= is what servers older than RFC 2554 wrote.
            let words = line.utf8.split(whereSeparator: { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "=") })
            guard let first = words.first else { continue }
            switch ServiceExtension(rawValue: String(Substring(first)).uppercased()) {
            case .pipelining: pipelining = true
            case .eightBitMIME: eightBitMIME = true
            case .smtpUTF8: smtpUTF8 = true
            case .startTLS: startTLS = true
            case .size where !size:
                size = true
                // RFC 1870 section 4: 0 is no limit; so is what no message can reach, or what is no number.
                if words.count > 1, let limit = Int(Substring(words[1])), limit > 0 { maximumSize = limit }
            case .limits:
                for (name, value) in zip(words.dropFirst(), words.dropFirst(2)) {
                    guard let limit = Int(Substring(value)), limit > 0 else { continue }
                    switch String(Substring(name)).asciiLowercased() {
                    case "mailmax": maximumTransactions = maximumTransactions ?? limit
                    case "rcptmax": maximumRecipients = maximumRecipients ?? limit
                    case "rcptdomainmax": maximumDomains = maximumDomains ?? limit
                    default: break
                    }
                }
            case .authentication:
                for word in words.dropFirst() {
                    if let mechanism = SASLMechanism(rawValue: Substring(word).uppercased()) {
                        mechanisms.insert(mechanism)
                    }
                }
            case .size, .chunking, .enhancedStatusCodes, nil: break
            }
        }
    }
}

extension Reply {
    /// The first word of its text, as far as anybody may see it; nil: there is none that could be a name.
    var firstWord: String? {
        let word = lines[0].utf8.prefix { $0 != UInt8(ascii: " ") }
        guard (1...255).contains(word.count), word.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
        return String(Substring(word))
    }
}
