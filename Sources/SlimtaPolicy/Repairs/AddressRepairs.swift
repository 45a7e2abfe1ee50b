// Addresses that have no domain (RFC 6409 section 8, RFC 5321 section 2.3.5): `[queue] qualify`. Part of PolicyChain, before
// anybody asks whose addresses they are.

internal import NIOCore
internal import SlimtaMail

/// Completes addresses of From, Sender, Reply-To, To and Cc, also of the newest block of what is sent on. Nothing else of a
/// field is changed, and nothing of one that cannot be read.
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
        var edits: [HeaderSenders.Edit] = []
        for field in mail.header.fields where Self.fields.contains(where: { field.isNamed($0, in: head) }) {
            guard field.range.count <= Self.longest,
                let list = try? AddressList(parsing: field.value(in: head), qualifiedWith: domain)
            else { continue }
            let start = field.valueOffset(in: head)
            let ends = list.entries.compactMap(\.endOfBareName)
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
