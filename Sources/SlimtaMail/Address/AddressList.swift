// The addresses in a header field, on a command line or in a request: To, Cc, From and their like. Unlike the paths of SMTP
// (MailboxParser) they have names, comments and groups. Read for `sendmail -t`, for dropped files and for JSON.

/// The addresses of an address-list (RFC 5322 sections 3.4 and 4.4; RFC 6532 section 3.2 for UTF-8), in their order.
///
/// Members of a group stand where the group stands; what a group is called is of no use to anybody who delivers. Besides the
/// grammar it takes what programs write: nothing between two commas, a ";" where no group is, a name that is itself an
/// address.
package struct AddressList: Hashable, Sendable {
    /// One address.
    package struct Entry: Hashable, Sendable {
        /// What is before the "<", quotes and folding undone; of an address without "<" its comment, where old programs have
        /// the name. Encoded words (RFC 2047) stay as they are. Nil if there is none.
        package let displayName: String?
        /// The address: without comments and blanks, of a route (RFC 5322 section 4.4) the end.
        package let mailbox: Mailbox
        /// Where "@" and a domain would have to be put in, as an offset into the octets that were read: the address had
        /// none and got the one that was given. Nil if it had.
        package let endOfBareName: Int?
        /// Whether it had no domain, and one of its words is an encoded word (RFC 2047): a name, and not an address.
        package let isEncodedName: Bool
        /// What else a reader's program may take for the address; nil: nothing.
        package let rival: Rival?
    }

    /// What stands with an address and looks like another one, to which programs may answer, or which they show.
    package enum Rival: Hashable, Sendable {
        /// A route (RFC 5322 section 4.4).
        case route
        /// A name with an "@" that is not within quotes: the address that it is; nil: it is none.
        case name(Mailbox?)
    }

    /// What is no list of addresses, and where.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// What is wrong.
        package enum Reason: String, Sendable {
            case control = "a control character"
            case openComment = "a comment without its \")\""
            case openQuote = "a quoted text without its second quote"
            case openLiteral = "a \"[\" without its \"]\""
            case openBracket = "a \"<\" without its \">\""
            case strayCharacter = "a character that has no place there"
            case group = "a \":\" where no group can begin"
            case behindBracket = "text behind the \">\""
            case noAddress = "what is no address"
            case noDomain = "an address without a domain"
        }

        /// The offset of the octet where it is.
        package let offset: Int
        /// What is wrong.
        package let reason: Reason

        /// In words: "found an address without a domain at offset 7".
        package var description: String { "found \(reason.rawValue) at offset \(offset)" }
    }

    /// The addresses in their order; empty if there are none, as in "undisclosed-recipients:;".
    package let entries: [Entry]

    /// Reads all of `octets`, such as the value of a field with its folding (CRLF or LF before a blank or tab).
    /// - Parameter domain: what an address without one gets; nil: such an address is a fault.
    package init(parsing octets: some Sequence<UInt8>, qualifiedWith domain: String? = nil) throws(Fault) {
        var parser = AddressListParser(octets, domain)
        entries = try parser.list()
    }

    /// As ``init(parsing:qualifiedWith:)-(Sequence,_)``, from text.
    package init(parsing text: String, qualifiedWith domain: String? = nil) throws(Fault) {
        try self.init(parsing: text.utf8, qualifiedWith: domain)
    }
}

extension [Mailbox] {
    /// Each address once, where it is first: local parts are compared octet for octet, domains as domains.
    package var eachOnce: [Mailbox] {
        guard count > 1 else { return self }
        var seen = Set<Mailbox>(minimumCapacity: count)
        return filter { seen.insert(Mailbox(localPart: String($0.localPart), domain: $0.foldedDomain)).inserted }
    }
}
