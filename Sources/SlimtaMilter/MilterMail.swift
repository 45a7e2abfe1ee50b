// A message on its way through the milters, one after the other: what each is shown, and what has become of it. The policies
// make one of a submission, and make the submission anew of it behind the last milter.

package import NIOCore
package import SlimtaMail

/// Fields, envelope and body of a message that milters change.
package struct MilterMail: Sendable {
    /// A recipient.
    package struct Recipient: Hashable, Sendable {
        /// The address.
        package let mailbox: Mailbox
        /// Parameters of RCPT that a milter added it with; empty for those of the client.
        package let parameters: [String]
    }

    private var header: MilterHeader
    /// Where the body begins in the head of the message.
    private let bodyOffset: Int
    /// Whether an empty line is before the body.
    private let hasEmptyLine: Bool
    /// The fields were changed: the head is to be written anew.
    private var isHeaderChanged = false
    /// The sender; nil is the null reverse-path.
    package private(set) var sender: Mailbox?
    /// Parameters of MAIL that a milter gave with a new sender.
    package private(set) var senderParameters: [String] = []
    /// The recipients. None left: the client hears 250, nothing is stored, and the log says so.
    package private(set) var recipients: [Recipient]
    /// The new body; nil: it is the message's own.
    package private(set) var body: ByteBuffer?
    /// Why the message is held; nil: it is not.
    package private(set) var heldBecause: String?

    /// The message whose header is in `head`, for these recipients.
    package init(head: ByteBuffer, sender: Mailbox?, recipients: [Mailbox]) {
        let block = HeaderBlock(scanning: head)
        header = MilterHeader(block, in: head)
        bodyOffset = block.end
        // A line that is no field ends the header as well, and is the first of the body.
        hasEmptyLine = block.isComplete && block.isWellFormed
        self.sender = sender
        self.recipients = recipients.map { Recipient(mailbox: $0, parameters: []) }
    }

    /// The fields as the next milter is shown them: all but our Received.
    package var fields: [MilterField] { header.fields }

    /// What the next milter is shown of the body that is in memory: the rest of `message` comes behind it, unless the body
    /// was replaced.
    package func shownBody(of message: Message) -> ByteBuffer {
        body ?? message.head.getSlice(
            at: message.head.readerIndex + bodyOffset, length: message.head.readableBytes - bodyOffset) ?? ByteBuffer()
    }

    /// Fields that milters put above our Received: to be prepended behind it.
    package var fieldsAboveReceived: ByteBuffer { header.above }

    /// `message`, which it was made of, with its new fields and its new body: all in the head, which is one new buffer, but
    /// for a spooled rest whose octets are still the same.
    package func applied(to message: Message) -> Message {
        guard isHeaderChanged || body != nil else { return message }
        var head = header.below
        let kept = shownBody(of: message)
        if hasEmptyLine || kept.readableBytes > 0 { head.writeInteger(0x0D0A as UInt16) }
        head.writeImmutableBuffer(kept)
        return Message(head: head, rest: body == nil ? message.rest : nil)
    }

    /// Makes the changes of one milter.
    package mutating func apply(_ edits: MilterEdits) {
        for edit in edits.list { apply(edit) }
        if let body = edits.body { self.body = body }
    }

    private mutating func apply(_ edit: MilterEdit) {
        switch edit {
        case .append(let field): changeHeader { $0.append(field) }
        case .insert(let field, let position): changeHeader { $0.insert(field, at: position) }
        case .change(let field, let index): changeHeader { $0.change(field, index: index) }
        case .delete(let name, let index): changeHeader { $0.delete(name, index: index) }
        case .addRecipient(let mailbox, let parameters):
            // Postfix delivers a second time to a recipient that the client has named: nobody wants that.
            if !recipients.contains(where: { $0.mailbox == mailbox }) {
                recipients.append(Recipient(mailbox: mailbox, parameters: parameters))
            }
        case .removeRecipient(let text):
            let unquoted = Self.unquoted(text)
            recipients.removeAll { Self.unquoted($0.mailbox.text) == unquoted }
        case .sender(let mailbox, let parameters): (sender, senderParameters) = (mailbox, parameters)
        case .quarantine(let reason): heldBecause = heldBecause ?? reason
        }
    }

    private mutating func changeHeader(_ change: (inout MilterHeader) -> Void) {
        change(&header)
        isHeaderChanged = true
    }

    /// An address as it is meant, for comparison octet by octet; as it is, if it is none.
    private static func unquoted(_ text: String) -> [UInt8] {
        guard let mailbox = Mailbox(parsing: text) else { return Array(text.utf8) }
        return Array(mailbox.unquotedLocalPart.utf8) + [UInt8(ascii: "@")] + Array(mailbox.domain.utf8)
    }
}
