// What is missing in a header, or must not be in it: the repairs of RFC 6409 section 8 that need no setting. Part of
// PolicyChain, behind the check of From and Sender.

internal import NIOCore
internal import SlimtaMail

/// Mends single fields. Date and Message-ID have policies of their own, which can be left out.
struct FieldRepairs: QueuePolicy {
    var place: PolicyPlace { .repairs }

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
        try authors(&mail)
        octets(&mail)
        resent(&mail, context)
    }

    /// Octets of a From field that is read for its authors. A thousand have room there.
    private static let longest = 64 << 10

    /// A message without From, or with an empty one, gets its envelope's sender; several authors need a Sender (RFC 5322 section 3.6.2). Logins that
    /// may not send as everybody were looked at before.
    private func authors(_ mail: inout PolicyMail) throws(PolicyRefusal) {
        let head = mail.message.head
        guard let from = mail.header.fields(named: "from", in: head).first else {
            guard let sender = sender(of: mail) else {
                throw PolicyRefusal(Reply(550, .init(5, 6, 0), "The header has no From field"))
            }
            mail.prepend(["From: \(sender)\r\n"])
            return mail.repaired(.from)
        }
        if isBlank(from.value(in: head)) {
            guard let sender = sender(of: mail) else {
                throw PolicyRefusal(Reply(550, .init(5, 6, 0), "The From field is empty"))
            }
            guard !SignedFields(mail.header, head).has("from") else { return mail.left(.from) }
            mail.replace([(from.valueOffset(in: head)..<from.range.upperBound, " \(sender)\r\n")])
            return mail.repaired(.from)
        }
        // Most have one author, and nothing that could part two.
        let isList = head.withUnsafeReadableBytes { octets in
            octets.firstOffset(of: UInt8(ascii: ","), from: from.range.lowerBound, to: from.range.upperBound) != nil
                || octets.firstOffset(of: UInt8(ascii: ";"), from: from.range.lowerBound, to: from.range.upperBound)
                    != nil
        }
        guard isList, from.range.count <= Self.longest, !mail.has("sender"), let sender = sender(of: mail),
            let list = try? AddressList(parsing: from.value(in: head)), list.entries.count > 1
        else { return }
        guard !SignedFields(mail.header, head).has("sender") else { return mail.left(.sender) }
        mail.prepend(["Sender: \(sender)\r\n"])
        mail.repaired(.sender)
    }

    private func sender(of mail: PolicyMail) -> String? { mail.envelopes.first?.sender?.forNextHop.text }

    /// What is wrong within fields, in one go.
    private func octets(_ mail: inout PolicyMail) {
        let head = mail.message.head
        // Read once, if at all: there may be as many signatures as fields.
        let signed = SignedFields.of(mail.header, head)
        var edits: [HeaderSenders.Edit] = []
        for (field, kind) in zip(mail.header.fields, mail.header.kinds(of: ["return-path", "to"], in: head)) {
            let colon = field.valueOffset(in: head) - 1
            let isLoose = colon > field.name.upperBound
            let isReturnPath = kind == 0
            let isEmptyTo = kind == 1 && isBlank(field.value(in: head))
            guard isLoose || isReturnPath || isEmptyTo else { continue }
            let repairs: [HeaderRepair] =
                isReturnPath ? [.returnPath] : (isLoose ? [.colon] : []) + (isEmptyTo ? [.to] : [])
            guard !signed.has(field, head) else {
                repairs.forEach { mail.left($0) }
                continue
            }
            repairs.forEach { mail.repaired($0) }
            if isReturnPath {
                edits.append((field.range, ""))
                continue
            }
            if isLoose { edits.append((field.name.upperBound..<colon, "")) }
            // Who wants to say nobody has a word for that (RFC 5322 section 3.4).
            if isEmptyTo { edits.append((colon + 1..<field.range.upperBound, " undisclosed-recipients:;\r\n")) }
        }
        mail.replace(edits)
    }

    /// What is sent on has a block of fields of its own (RFC 5322 section 3.6.6), with its date and identifier.
    private func resent(_ mail: inout PolicyMail, _ context: PolicyContext) {
        let head = mail.message.head
        let block = HeaderEnvelope.newestResentBlock(mail.header, head)
        guard let first = block.first else { return }
        let signed = SignedFields(mail.header, head)
        var text = ""
        func add(_ name: StaticString, _ field: String) {
            guard !block.contains(where: { $0.isNamed(name, in: head) }) else { return }
            if signed.has(name) { mail.left(.resent) } else { text += field }
        }
        add("resent-date", "Resent-Date: \(context.now.mailDate(offset: context.zoneOffset))\r\n")
        add("resent-message-id", "Resent-Message-ID: <\(mail.envelopes[0].id)@\(context.hostname)>\r\n")
        guard !text.isEmpty else { return }
        mail.replace([(first.range.lowerBound..<first.range.lowerBound, text)])
        mail.repaired(.resent)
    }

    private func isBlank(_ value: ByteBufferView) -> Bool {
        value.allSatisfy {
            $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\n")
        }
    }
}
