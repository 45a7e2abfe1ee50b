// Whose signature a message gets (RFC 6376 section 5.1): that of its author's domain, which is what DMARC aligns with (RFC 7489
// section 3.1.1). A function of the header and of the domains of slimta.conf. The envelope's sender decides nothing here.

package import NIOCore
package import SlimtaMail

/// What becomes of a message.
package enum SigningDecision: Hashable, Sendable {
    /// It is signed with the keys of `entry`. `isAligned`: that is the author's domain, or one above it.
    case sign(entry: String, isAligned: Bool)
    /// It goes as it is: nobody has told us to sign for its author, whose domain this is, if it has one.
    case unsigned(author: String?)
    /// It may not come.
    case refuse(Reply)
}

/// The domains that we sign for.
package struct SigningDomains: Hashable, Sendable {
    /// What becomes of mail whose author is at none of them.
    package enum Otherwise: Hashable, Sendable {
        /// It goes unsigned.
        case unsigned
        /// It is refused.
        case refuse
        /// It is signed for this one of them: not aligned, but somebody answers for it.
        case domain(String)
    }

    private var allowsSubdomains: [String: Bool] = [:]
    private let otherwise: Otherwise

    /// - Parameter domains: each with whether it signs for all that is below it, too.
    package init(_ domains: [(domain: String, allowsSubdomains: Bool)], otherwise: Otherwise) {
        for (domain, allows) in domains { allowsSubdomains[domain.foldedAsDomain()] = allows }
        self.otherwise =
            if case .domain(let domain) = otherwise { .domain(domain.foldedAsDomain()) } else { otherwise }
    }

    /// The domain in whose name mail from `author`, a domain, is signed: itself, or the nearest one above it, if that signs
    /// for what is below. Of notices the author is the name of this host.
    ///
    /// The table alone says where an organisation ends: no list of public suffixes is asked.
    package func entry(for author: String) -> String? {
        let author = author.foldedAsDomain()
        if allowsSubdomains[author] != nil { return author }
        var rest = author[...]
        while let dot = rest.firstIndex(of: ".") {
            rest = rest[rest.index(after: dot)...]
            // The nearest decides, for those above it too.
            if let allows = allowsSubdomains[String(rest)] { return allows ? String(rest) : nil }
        }
        return nil
    }

    /// What becomes of a message with these authors: the addresses of its From, of which the first counts. A From without one
    /// (a group, RFC 6854) belongs to nobody.
    package func decision(authors: [Mailbox]) -> SigningDecision {
        let author = authors.first?.foldedDomain
        if let entry = author.flatMap(entry(for:)) { return .sign(entry: entry, isAligned: true) }
        switch otherwise {
        case .unsigned: return .unsigned(author: author)
        case .refuse:
            return .refuse(Reply(550, .init(5, 7, 1), "Mail from this author's domain is not signed here"))
        case .domain(let domain): return .sign(entry: domain, isAligned: false)
        }
    }

    /// The same of a header that was found in `buffer`. There has to be one From: of two, each reader picks his own. One that
    /// cannot be read is refused where it may be meant to name one of ours; else it names nobody.
    package func decision(_ header: HeaderBlock, in buffer: ByteBuffer) -> SigningDecision {
        decision(DKIMHeader(header, in: buffer))
    }

    /// The same of a header that leaves.
    package func decision(_ header: DKIMHeader) -> SigningDecision {
        let fields = header.fields.filter { $0.name == "from" }
        guard fields.count == 1 else {
            let what = fields.isEmpty ? "no From field" : "several From fields"
            return .refuse(Reply(550, .init(5, 6, 0), "The header has \(what)"))
        }
        let value = fields[0].value
        do throws(AddressList.Fault) {
            return decision(authors: try AddressList(parsing: value).entries.map(\.mailbox))
        } catch {
            // Readers' programs guess whom it names. Where one of ours is among that, it is not to leave without a signature.
            guard !Self.possibleDomains(in: value).contains(where: { entry(for: $0) != nil }) else {
                return .refuse(Reply(550, .init(5, 6, 0), "The From field cannot be read"))
            }
            return decision(authors: [])
        }
    }

    /// What is behind each "@", as far as it can be a domain.
    private static func possibleDomains(in value: ByteBufferView) -> [String] {
        value.split(separator: UInt8(ascii: "@"), omittingEmptySubsequences: false).dropFirst().map { rest in
            let rest = rest.drop { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x0A }
            var domain = rest.prefix { octet in
                switch octet {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"),
                    UInt8(ascii: "_"), 0x80...:
                    true
                default: false
                }
            }
            while domain.last == UInt8(ascii: ".") { domain = domain.dropLast() }
            // Domains are no longer than that, and the end decides.
            return String(decoding: domain.suffix(255), as: UTF8.self)
        }
    }
}
