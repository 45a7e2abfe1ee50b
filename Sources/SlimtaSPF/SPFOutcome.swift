// What a check has come to, and in which words it is told. Made by SPFCheck; its result goes to rules and `[spf]`, its
// reason into replies, its field above Received.

package import SlimtaMail

/// Whose domain was asked (RFC 7208 sections 2.3 and 2.4), in the words of Received-SPF.
package enum SPFIdentity: String, Hashable, Sendable {
    /// The sender's, of MAIL.
    case mailFrom = "mailfrom"
    /// That of EHLO: the sender is null.
    case helo
}

/// The outcome of `check_host()`.
package struct SPFOutcome: Hashable, Sendable {
    /// The result (section 2.6).
    package let result: SPFResult
    /// The mechanism that matched, as the record has it, in visible ASCII: "-all". Nil: none did.
    package let mechanism: String?
    /// Whose domain was asked.
    package let identity: SPFIdentity
    /// What the domain says of a `fail` (section 6.2), in printable ASCII, at most 200 octets. Strangers write it.
    package let explanation: String?
    /// What is wrong, of a temperror or permerror, in printable ASCII.
    package let problem: String?
    /// Why, in words for `{reason}`: printable ASCII, which may be empty. No "%" of an explanation is in it.
    package let reason: String
}

/// Text of strangers, made harmless.
enum SPFText {
    /// The visible ASCII and blanks of `octets`, "?" for each other octet, at most `limit` of them.
    static func printable(_ octets: some Collection<UInt8>, limit: Int) -> String {
        String(
            decoding: octets.prefix(limit).map { (0x20...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
    }
}

/// The reasons of the results, in the words in which operators know them from slimta and pyspf.
enum SPFReason {
    static func of(_ result: SPFResult, problem: String?) -> String {
        switch result {
        case .none: ""
        case .neutral: "access neither permitted nor denied"
        case .pass: "sender SPF authorized"
        case .fail: "SPF fail - not authorized"
        case .softfail: "domain owner discourages use of this host"
        case .temperror: problem.map { "SPF Temporary Error: " + $0 } ?? "SPF Temporary Error"
        case .permerror: problem.map { "SPF Permanent Error: " + $0 } ?? "SPF Permanent Error"
        }
    }

    /// Who has run out of time is told so, and nothing else.
    static let timedOut = "Timed out"

    /// The domain's own words, and that they are its (RFC 7208 section 6.2). A "%" would be a macro or a format for some
    /// program that the reply comes to.
    static func explained(by domain: [UInt8], _ explanation: String) -> String {
        SPFText.printable(domain, limit: SPFName.longest) + " explains: "
            + String(explanation.map { $0 == "%" ? "_" : $0 })
    }
}
