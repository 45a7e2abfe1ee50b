// Headers in ASCII wherever no address needs more (RFC 6531 section 3.2): a Subject is no reason for SMTPUTF8, which many hosts
// lack. Part of PolicyChain, behind the other repairs and before anybody signs; once more where a filter has changed the message.

internal import NIOCore
internal import SlimtaMIME
internal import SlimtaMail

/// Decides whether a message needs SMTPUTF8: by its addresses, not by what the client said at MAIL.
///
/// If it does not, what is raw in its header is encoded (RFC 2047, RFC 2231), and the message goes without. What a host has
/// stamped or signed stays as it is: no reader understands it less for that. What senders and recipients need is seen at each
/// delivery (SMTPClientMachine).
struct Containment: QueuePolicy {
    var place: PolicyPlace { .containment }

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        // With what filters have put above our Received: it leaves with the rest, and their signatures are there.
        let (header, head) = mail.wholeHeader
        let end = header.end
        guard head.withUnsafeReadableBytes({ UnsafeRawBufferPointer(rebasing: $0[..<end]).hasEightBit }) else { return }
        if mail.envelopes.first?.sender?.forNextHop.needsSMTPUTF8 == true { return mail.setSMTPUTF8(true) }
        let containment = HeaderContainment(of: header, in: head)
        guard containment.smtputf8Need == nil else {
            // Of octets that are no UTF-8 SMTPUTF8 makes nothing.
            let octets = Array(head.readableBytesView.prefix(end))
            if String(validating: octets.span) != nil { mail.setSMTPUTF8(true) }
            return
        }
        // Long lines are not the matter here.
        let edits = containment.edits.filter { edit in
            head.withUnsafeReadableBytes { UnsafeRawBufferPointer(rebasing: $0[edit.range]).hasEightBit }
        }
        let signed = SignedFields(header, head)
        guard !edits.contains(where: { signed.has(name: $0.name) }) else { return mail.left(.encoded) }
        if containment.faults.contains(where: { $0.reason != .longLine }) { mail.left(.encoded) }
        mail.setSMTPUTF8(false)
        guard !edits.isEmpty else { return }
        mail.replaceInWholeHeader(edits.map { ($0.range, String(decoding: $0.field, as: UTF8.self)) })
        mail.repaired(.encoded)
    }
}

extension PolicyMail {
    /// Whether the header needs SMTPUTF8.
    fileprivate mutating func setSMTPUTF8(_ isNeeded: Bool) {
        for index in envelopes.indices { envelopes[index].smtpUTF8 = isNeeded }
    }
}
