// What was mended in a header, and what must not be: the words of the log, and the fields that a signature of the client's
// is about. The policies that mend say it here.

internal import NIOCore
internal import SlimtaDKIM
internal import SlimtaMail

/// Something that a submission agent mends (RFC 6409 section 8), in the words of the log (slimta.conf(5) has them).
package enum HeaderRepair: String, Hashable, Sendable, CaseIterable {
    /// It began as a mailbox file does.
    case mailboxLine = "mailbox_line"
    /// A line that is no field stood where the header ends.
    case emptyLine = "empty_line"
    /// Of several fields of which there may be one, the first was kept.
    case duplicates
    /// Other recipients are not to be seen.
    case blind = "bcc"
    /// An address without a domain got `qualify`'s.
    case qualified
    /// From and Sender are to be the login's.
    case senders = "login"
    /// There was no From.
    case from
    /// There were several authors, and nobody said who sent it.
    case sender
    /// There was no Date.
    case noDate = "date"
    /// Date was no date.
    case date = "date_replaced"
    /// There was no Message-ID.
    case noMessageID = "message_id"
    /// Message-ID was none, or one of ours for another message.
    case messageID = "message_id_replaced"
    /// What is sent on needs a date and an identifier of its own.
    case resent
    /// Return-Path is added at the end of the way only (RFC 5321 section 4.4).
    case returnPath = "return_path"
    /// To had nobody in it.
    case to
    /// There were blanks between a name and its colon (RFC 5322 section 4.5).
    case colon
    /// There were octets above 127 where no address needs them.
    case encoded
}

/// The fields that signatures of the client's are about: what is in the h= of its DKIM-Signature fields (RFC 6376 section
/// 3.5). Nothing is mended there: the signature would be worth nothing.
struct SignedFields {
    private let names: Set<String>

    /// None are.
    static let none = SignedFields()

    private init() { names = [] }

    /// Those of a header, of which most have no signature.
    static func of(_ header: HeaderBlock, _ head: ByteBuffer) -> SignedFields {
        header.has("dkim-signature", in: head) ? SignedFields(header, head) : none
    }

    init(_ header: HeaderBlock, _ head: ByteBuffer) {
        names = header.fields(named: "dkim-signature", in: head).reduce(into: []) { names, field in
            names.formUnion(DKIMSignature.signedNames(in: field.value(in: head)))
        }
    }

    /// `name` in lower case.
    func has(_ name: StaticString) -> Bool { !names.isEmpty && names.contains(name.description) }

    /// Whether it is one of them.
    func has(_ field: HeaderBlock.Field, _ head: ByteBuffer) -> Bool {
        !names.isEmpty && has(name: field.name(in: head))
    }

    /// `name` as it is written.
    func has(name: String) -> Bool { !names.isEmpty && names.contains(name.asciiLowercased()) }
}
