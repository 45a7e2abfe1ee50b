// Addresses that have no domain (RFC 6409 section 8, RFC 5321 section 2.3.5): `[queue] qualify`. Part of PolicyChain, before
// anybody asks whose addresses they are.

internal import NIOCore
internal import SlimtaMail

/// Completes addresses of From, Sender, Reply-To, To and Cc, also of the newest block of what is sent on. Nothing else of a
/// field is changed, and nothing of one that cannot be read.
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
        for field in mail.header.fields where Self.fields.contains(where: { field.isNamed($0, in: head) }) {
            guard field.range.count <= Self.longest,
                let list = try? AddressList(parsing: field.value(in: head), qualifiedWith: domain)
            else { continue }
            let start = field.valueOffset(in: head)
            let octets = Array(field.value(in: head))
            let ends = list.entries.compactMap { entry in
                entry.endOfBareName.flatMap { end in
                    let next = octets[end...].first { !" \t\r\n".utf8.contains($0) }
                    let local = entry.mailbox.localPart
                    let isAddress =
                        next == UInt8(ascii: ">") ? allowsUTF8 || local.isASCII : local.isASCII && !local.isEncodedWord
                    return isAddress ? end : nil
                }
            }
            guard !ends.isEmpty else { continue }
            guard !signed.has(field, head) else {
                mail.left(.qualified)
                continue
            }
            edits += ends.map { (start + $0..<start + $0, "@\(domain)") }
        }
        guard !edits.isEmpty else { return }
        mail.replace(edits)
        mail.repaired(.qualified)
    }
}

extension StringProtocol {
    /// Whether readers may take all of it for one (RFC 2047 section 2), whatever is in it.
    fileprivate var isEncodedWord: Bool { utf8.starts(with: "=?".utf8) && utf8.reversed().starts(with: "=?".utf8) }
}
