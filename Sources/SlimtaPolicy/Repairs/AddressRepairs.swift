// Addresses that have no domain (RFC 6409 section 8, RFC 5321 section 2.3.5): `[queue] qualify`. Part of PolicyChain, before
// anybody asks whose addresses they are.

internal import NIOCore
internal import SlimtaMIME
internal import SlimtaMail

/// Completes addresses of From, Sender, Reply-To, To and Cc, also of the newest block of what is sent on. Nothing else of a
/// field is changed, and nothing of one that cannot be read.
///
/// A field that can be read only when what is raw in it is encoded (a name of several words, or one that is no UTF-8, beside
/// addresses) is encoded here, as it would be later (Containment): who looks at its addresses behind us sees those that leave.
///
/// A word beyond ASCII that stands alone, raw or as an encoded word (RFC 2047), is a name without an address, and stays one: raw
/// it is encoded then (Containment). An address of it would have to go by SMTPUTF8 alone, and be nobody's. In "<" and ">" it is
/// one, if the client has SMTPUTF8.
struct Qualification: QueuePolicy {
    /// What is put behind the "@".
    let domain: String

    var place: PolicyPlace { .qualification }

    /// Octets of a field that is read. Thousands of addresses have room there.
    private static let longest = 64 << 10

    private static let fields: [StaticString] = [
        "from", "sender", "reply-to", "to", "cc", "resent-from", "resent-sender", "resent-to", "resent-cc",
    ]

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        let head = mail.message.head
        // Read once, if at all: there may be as many signatures as fields.
        let signed = SignedFields.of(mail.header, head)
        let allowsUTF8 = mail.envelopes.first?.smtpUTF8 == true
        var edits: [HeaderSenders.Edit] = []
        var isEncoded = false
        for field in mail.header.fields where Self.fields.contains(where: { field.isNamed($0, in: head) }) {
            guard field.range.count <= Self.longest else { continue }
            let found: [HeaderSenders.Edit]
            if let ends = endsOfBareNames(in: field.value(in: head), allowsUTF8: allowsUTF8) {
                let start = field.valueOffset(in: head)
                found = ends.map { (start + $0..<start + $0, "@\(domain)") }
            } else if let text = encoded(field, head) {
                found = [(field.range, text)]
                isEncoded = isEncoded || !signed.has(field, head)
            } else {
                continue
            }
            guard !found.isEmpty else { continue }
            guard !signed.has(field, head) else {
                mail.left(.qualified)
                continue
            }
            edits += found
        }
        guard !edits.isEmpty else { return }
        mail.replace(edits)
        mail.repaired(.qualified)
        if isEncoded { mail.repaired(.encoded) }
    }

    /// Where addresses end that have no domain, as offsets into the value; nil: it cannot be read.
    private func endsOfBareNames(in value: ByteBufferView, allowsUTF8: Bool) -> [Int]? {
        guard let list = try? AddressList(parsing: value, qualifiedWith: domain) else { return nil }
        let octets = Array(value)
        return list.entries.compactMap { entry in
            entry.endOfBareName.flatMap { end in
                let next = octets[end...].first { !" \t\r\n".utf8.contains($0) }
                let local = entry.mailbox.localPart
                let isAddress =
                    next == UInt8(ascii: ">") ? allowsUTF8 || local.isASCII : local.isASCII && !entry.isEncodedName
                return isAddress ? end : nil
            }
        }
    }

    /// The field with what is raw in it encoded and its addresses completed; nil: that makes none readable that has to be.
    private func encoded(_ field: HeaderBlock.Field, _ head: ByteBuffer) -> String? {
        guard let raw = head.getSlice(at: head.readerIndex + field.range.lowerBound, length: field.range.count),
            raw.withUnsafeReadableBytes(\.hasEightBit),
            let edit = HeaderContainment(of: HeaderBlock(scanning: raw), in: raw).edits.first
        else { return nil }
        let encoded = ByteBuffer(bytes: edit.field)
        guard let field = HeaderBlock(scanning: encoded).fields.first,
            let ends = endsOfBareNames(in: field.value(in: encoded), allowsUTF8: false), !ends.isEmpty
        else { return nil }
        let start = field.valueOffset(in: encoded)
        var octets = edit.field
        for end in ends.reversed() { octets.insert(contentsOf: "@\(domain)".utf8, at: start + end) }
        return String(decoding: octets, as: UTF8.self)
    }
}
