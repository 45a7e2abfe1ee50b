// Fields of which a header may have one (RFC 5322 section 3.6): who reads the message and who signs it would take different
// ones. Part of PolicyChain, behind HeaderCheck.

internal import NIOCore
internal import SlimtaMail

/// Refuses such a message, or keeps the first field of each name.
struct DuplicateCheck: QueuePolicy {
    let duplicates: DuplicateFields

    var place: PolicyPlace { .header }

    /// RFC 5322 section 3.6, the table's "max number" of one; Bcc goes anyway. Those of MIME (RFC 2045 section 3, RFC 2183
    /// section 2): who looks for attachments and who opens them would read different ones.
    private static let names: [StaticString] = [
        "date", "from", "sender", "reply-to", "to", "cc", "message-id", "in-reply-to", "references", "subject",
        "content-type", "content-transfer-encoding", "content-disposition", "mime-version",
    ]
    private static let shown = [
        "Date", "From", "Sender", "Reply-To", "To", "Cc", "Message-ID", "In-Reply-To", "References", "Subject",
        "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "MIME-Version",
    ]

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
        let head = mail.message.head
        // Read once: there may be as many signatures as fields.
        let signed = duplicates == .first ? SignedFields.of(mail.header, head) : .none
        var (seen, removed): (UInt16, [HeaderBlock.Field]) = (0, [])
        for (field, kind) in zip(mail.header.fields, mail.header.kinds(of: Self.names, in: head)) {
            guard let index = kind else { continue }
            let bit = UInt16(1) << index
            if seen & bit != 0 {
                guard duplicates == .first, !signed.has(field, head) else {
                    throw PolicyRefusal(
                        Reply(550, .init(5, 6, 0), "The header has two \(Self.shown[index]) fields"))
                }
                removed.append(field)
            }
            seen |= bit
        }
        mail.remove(removed)
        if !removed.isEmpty { mail.repaired(.duplicates) }
    }
}
