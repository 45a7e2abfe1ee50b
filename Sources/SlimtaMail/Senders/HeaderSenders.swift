// What From and Sender of a login's message may say, and what is put there where they are missing (RFC 5322 section 3.6.2,
// RFC 6409 section 8.1). An edge says whose message it is, and the policies look at the header as it was received.

package import NIOCore

/// The check of one login's headers.
package struct HeaderSenders: Hashable, Sendable {
    /// A header that may not come: 550.
    package struct Refusal: Error, Hashable, Sendable {
        /// 5.7.1 if it names somebody else's address, 5.6.0 if it names too many or too few.
        package let reply: Reply
    }

    /// A text in the place of octets of the header.
    package typealias Edit = (octets: Range<Int>, text: String)

    /// Who sends.
    package let login: String
    /// What it may use; nil: anything.
    package let rights: SenderRights?
    private let rules: SenderRules

    init(login: String, rights: SenderRights?, rules: SenderRules) {
        self.login = login
        self.rights = rights
        self.rules = rules
    }

    /// What has to be changed in a header so that it may go out: edits in their order, apart from each other.
    ///
    /// - Parameters:
    ///   - header: what was found in `buffer`.
    ///   - mailFrom: the envelope's sender, which stands for a login that has no address of its own.
    ///   - allowsUTF8: whether the message is one of RFC 6531, and may get addresses that need that.
    package func edits(
        of header: HeaderBlock, in buffer: ByteBuffer, mailFrom: Mailbox?, allowsUTF8: Bool
    ) throws(Refusal) -> [Edit] {
        let check = Check(self, header, buffer, mailFrom: mailFrom, allowsUTF8: allowsUTF8)
        return rules.checksFrom ? try check.checked(header) : check.repaired()
    }

    fileprivate func owns(_ address: Mailbox) -> Bool { rights?.allow(address, rules.matching) ?? true }

    /// The address that the login has in a field that it gets: the first that is said of it, else its name, else what the
    /// envelope has, if it may be used.
    fileprivate func ownAddress(mailFrom: Mailbox?, allowsUTF8: Bool) -> String? {
        let said = rights?.patterns.compactMap(\.address) ?? []
        let others = [Mailbox(parsing: login), mailFrom].compactMap(\.self).filter(owns)
        return (said + others).map(\.forNextHop).first { allowsUTF8 || !$0.needsSMTPUTF8 }?.text
    }
}

extension HeaderSenders {
    /// One header that is looked at.
    private struct Check {
        private let senders: HeaderSenders
        private let buffer: ByteBuffer
        private let mailFrom: Mailbox?
        private let allowsUTF8: Bool
        /// From or, of what is sent on, Resent-From.
        private let from: [HeaderBlock.Field]
        private let sender: [HeaderBlock.Field]
        /// "Resent-", or nothing.
        private let prefix: String
        /// Where a field is put: above those that it belongs to.
        private let start: Int

        init(
            _ senders: HeaderSenders, _ header: HeaderBlock, _ buffer: ByteBuffer, mailFrom: Mailbox?, allowsUTF8: Bool
        ) {
            self.senders = senders
            self.buffer = buffer
            self.mailFrom = mailFrom
            self.allowsUTF8 = allowsUTF8
            // Who sends a message on is named in the newest block alone; without Resent-From that is nobody.
            let block = senders.rules.allowsResent ? HeaderEnvelope.newestResentBlock(header, buffer) : []
            let resent = block.filter { $0.isNamed("resent-from", in: buffer) }
            if let first = block.first, !resent.isEmpty {
                (from, sender) = (resent, block.filter { $0.isNamed("resent-sender", in: buffer) })
                (prefix, start) = ("Resent-", first.range.lowerBound)
            } else {
                from = header.fields(named: "from", in: buffer)
                sender = header.fields(named: "sender", in: buffer)
                (prefix, start) = ("", 0)
            }
        }

        // MARK: Where From is checked

        func checked(_ header: HeaderBlock) throws(Refusal) -> [Edit] {
            // Which of two is shown is the reader's program's choice. Of a message that is sent on, too.
            for (name, shown) in [("from", "From"), ("sender", "Sender")] as [(StaticString, String)]
            where header.fields(named: name, in: buffer).count > 1 {
                throw malformed("The header has two \(shown) fields")
            }
            let hasSender = try hasOwnSender()
            guard let field = from.first else {
                guard senders.rules.missingFrom == .add, let address = ownAddress else {
                    throw malformed("The header has no From field")
                }
                return [added("From", address)]
            }
            let authors = try addresses(of: field)
            let other = authors.first { !senders.owns($0) }
            // Somebody of theirs may send for several, and has to say so.
            let isOwn = other == nil || authors.count > 1 && hasSender && authors.contains(where: senders.owns)
            if let other, !isOwn { throw notOwn(other, "From") }
            guard authors.count != 1, !hasSender else { return [] }
            // A Sender that we add does not make up for a message without an author.
            guard !authors.isEmpty else {
                throw malformed("The \(prefix)From field has no address, and no \(prefix)Sender says who sends")
            }
            guard senders.rules.addsSender, let address = ownAddress else {
                throw malformed(
                    "The \(prefix)From field has several addresses, and no \(prefix)Sender says which one sends")
            }
            return [added("Sender", address)]
        }

        /// Whether there is a Sender. It is then the login's.
        private func hasOwnSender() throws(Refusal) -> Bool {
            guard let field = sender.first else { return false }
            let addresses = try addresses(of: field)
            guard addresses.count == 1 else { throw malformed("The \(prefix)Sender field needs one address") }
            guard senders.owns(addresses[0]) else { throw notOwn(addresses[0], "Sender") }
            return true
        }

        /// Octets of a field. A thousand authors have room there; who sends more would have us read for others' time.
        private static var longest: Int { 64 << 10 }

        private func addresses(of field: HeaderBlock.Field) throws(Refusal) -> [Mailbox] {
            guard field.range.count <= Self.longest else {
                throw malformed("The \(field.name(in: buffer)) field has more than \(Self.longest) octets")
            }
            let entries: [AddressList.Entry]
            do throws(AddressList.Fault) {
                entries = try AddressList(parsing: field.value(in: buffer)).entries
            } catch {
                throw malformed("The \(field.name(in: buffer)) field cannot be read: \(error)")
            }
            // There are programs that show, or answer to, what stands before the address.
            for entry in entries {
                switch entry.rival {
                case .route: throw malformed("The \(field.name(in: buffer)) field has a route before an address")
                case .name(let name) where name.map({ !isSame($0, entry.mailbox) && !senders.owns($0) }) ?? true:
                    throw malformed("The \(field.name(in: buffer)) field has a name with an @ that needs quotes")
                case .name, nil: break
                }
            }
            return entries.map(\.mailbox)
        }

        private func isSame(_ one: Mailbox, _ other: Mailbox) -> Bool { [one, other].eachOnce.count == 1 }

        private func malformed(_ text: String) -> Refusal { Refusal(reply: Reply(550, .init(5, 6, 0), text)) }

        private func notOwn(_ address: Mailbox, _ name: String) -> Refusal {
            Refusal(
                reply: Reply(
                    550, sender: address, in: " in \(prefix)\(name)", notOf: senders.login, allowsUTF8: allowsUTF8))
        }

        // MARK: Where Sender alone is kept right

        /// From may be anybody's, as long as Sender says whose the message is. A Sender of somebody else's goes.
        func repaired() -> [Edit] {
            let authors = from.flatMap { (try? addresses(of: $0)) ?? [] }
            let own = sender.first { field in
                let addresses = (try? addresses(of: field)) ?? []
                return addresses.count == 1 && senders.owns(addresses[0])
            }
            if !prefix.isEmpty, own == nil, let field = sender.first, let address = ownAddress {
                // Without it a field of the next block would belong to this one.
                return [(field.range, added("Sender", address).text)]
            }
            let removed: [Edit] = sender.filter { $0 != own }.map { ($0.range, "") }
            let isOwed = authors.count != 1 || !senders.owns(authors[0])
            guard own == nil, isOwed, let address = ownAddress else { return removed }
            return [added("Sender", address)] + removed
        }

        private var ownAddress: String? { senders.ownAddress(mailFrom: mailFrom, allowsUTF8: allowsUTF8) }

        private func added(_ name: String, _ address: String) -> Edit {
            (start..<start, "\(prefix)\(name): \(address)\r\n")
        }
    }
}
