// One entry of a list of addresses that somebody may send as, and how addresses are compared with it. SenderRights has
// lists of them; the users file and [[senders]] are read to them.

/// How an address that is sent is compared with those that may be sent.
package struct SenderMatching: Hashable, Sendable {
    /// Whether local parts that differ by case only are the same. Domains always are.
    package var foldsCase = true
    /// What parts a local part from its extension: each of these characters. Empty: nothing does.
    package var separators = ""

    /// As slimta.conf has it by default.
    package init() {}
}

/// Whom an entry stands for: an address, `@domain`, `@.domain` for all below it, or `*`.
///
/// Compared are local parts without quotes (`"a"@x` is `a@x`) and in any normal form (RFC 6532 section 3.1), and domains
/// in A-labels. An extension is taken off what is sent, never off the entry: `a+b@x` stands for nothing but itself.
package struct SenderPattern: Hashable, Sendable, CustomStringConvertible {
    private enum Kind: Hashable, Sendable {
        case any
        /// The domain, folded.
        case domain(String)
        /// The domain, folded, with its dot in front.
        case below(String)
        case address(Mailbox, local: String, domain: String)
    }

    /// As it was written.
    package let description: String
    private let kind: Kind

    /// What an entry can be, in words.
    package static let allowed = "an address, @domain, @.domain for all below it, or *"

    /// Nil if it is none of these.
    package init?(_ text: String) {
        guard text.isVisible else { return nil }
        description = text
        if text.utf8.elementsEqual("*".utf8) {
            kind = .any
        } else if text.utf8.first != UInt8(ascii: "@") {
            guard let mailbox = Mailbox(parsing: text) else { return nil }
            kind = .address(mailbox, local: mailbox.unquotedLocalPart, domain: mailbox.foldedDomain)
        } else {
            let isBelow = text.utf8.dropFirst().first == UInt8(ascii: ".")
            let domain = String(decoding: text.utf8.dropFirst(isBelow ? 2 : 1), as: UTF8.self)
            guard let folded = Mailbox(parsing: "x@" + domain)?.foldedDomain,
                !isBelow || folded.utf8.first != UInt8(ascii: "[")
            else { return nil }
            kind = isBelow ? .below("." + folded) : .domain(folded)
        }
    }

    /// The address, if it stands for one alone.
    package var address: Mailbox? { if case .address(let mailbox, _, _) = kind { mailbox } else { nil } }

    /// Whether it stands for `sender`.
    func allows(_ sender: ComparedSender) -> Bool {
        switch kind {
        case .any: true
        case .domain(let domain): sender.domain.utf8.elementsEqual(domain.utf8)
        // Not the domain itself, and a label's end is where the dot is.
        case .below(let domain):
            sender.domain.utf8.count > domain.utf8.count
                && sender.domain.utf8.suffix(domain.utf8.count).elementsEqual(domain.utf8)
        case .address(_, let local, let domain):
            sender.domain.utf8.elementsEqual(domain.utf8) && sender.locals.contains(sender.folded(local))
        }
    }
}

/// An address that is sent, in the forms in which entries are compared with it.
struct ComparedSender {
    let domain: String
    /// The local part, then what it is without its extension, for each separator that is in it.
    let locals: [String]
    private let foldsCase: Bool

    init(_ sender: Mailbox, _ matching: SenderMatching) {
        domain = sender.foldedDomain
        foldsCase = matching.foldsCase
        let local = sender.unquotedLocalPart
        // String's == takes canonically equivalent texts for the same, which is what a normal form would be for.
        let whole = matching.foldsCase ? local.lowercased() : local
        locals =
            [whole]
            + matching.separators.utf8.compactMap { separator in
                guard let end = whole.utf8.firstIndex(of: separator), end > whole.startIndex else { return nil }
                return String(whole[..<end])
            }
    }

    func folded(_ local: String) -> String { foldsCase ? local.lowercased() : local }
}
