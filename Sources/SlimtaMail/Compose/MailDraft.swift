// A message that is still to be written down: what somebody wants to say, to whom, and what goes with it. Made of JSON by
// the HTTP edge; ComposedMessage makes octets of it.

/// A message before it has a form (RFC 5322, MIME). Texts have no controls in them, but for the bodies: who makes one has
/// seen to that (``Swift/String/hasControls``), and to names of fields and media types that are some.
package struct MailDraft: Hashable, Sendable {
    /// An address with the name of who has it.
    package struct Address: Hashable, Sendable {
        /// Without blanks around it, and with single ones within; nil: none.
        package let name: String?
        /// As it is written into the field: its domain in A-labels, unless the local part is not ASCII (RFC 6532).
        package let mailbox: Mailbox

        /// `name` may have blanks as somebody typed them; of an empty one nothing is left.
        package init(name: String? = nil, _ mailbox: Mailbox) {
            // By scalars: a blank with an accent on it is one all the same.
            let words = name?.unicodeScalars.split(separator: " ").map { String($0) }.joined(separator: " ") ?? ""
            self.name = words.isEmpty ? nil : words
            self.mailbox = mailbox.forNextHop
        }
    }

    /// A file that goes with the message.
    package struct Attachment: Hashable, Sendable {
        /// As it is shown and saved: see ``fileName(from:)``; nil: it has none.
        package var fileName: String?
        /// What it is. What may not be written in base64 goes as application/octet-stream (``MediaType/isComposite``).
        package var type: MediaType
        /// Its octets.
        package var content: Base64Text
        /// An identifier that the HTML names it by (RFC 2392), with an "@"; nil: none.
        package var contentID: String?
        /// Whether it is shown with the text (RFC 2183 section 2.1), rather than offered.
        package var isInline: Bool

        /// An attachment as it was described.
        package init(
            fileName: String? = nil, type: MediaType = .octets, content: Base64Text, contentID: String? = nil,
            isInline: Bool = false
        ) {
            self.fileName = fileName
            self.type = type
            self.content = content
            self.contentID = contentID
            self.isInline = isInline
        }
    }

    /// A field that is written as unstructured text (RFC 5322 section 2.2.1).
    package struct Field: Hashable, Sendable {
        /// As it goes before the colon.
        package var name: String
        /// Any text without controls; encoded where that is needed.
        package var value: String

        /// A field that no other part of a draft stands for.
        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    /// Who writes.
    package var from: Address
    /// For all to see.
    package var to: [Address] = []
    /// For all to see as well.
    package var cc: [Address] = []
    /// Where answers are to go; empty: to ``from``.
    package var replyTo: [Address] = []
    /// nil: no such field.
    package var subject: String?
    /// The plain text. Its lines end as they like.
    package var text: String?
    /// The same as HTML.
    package var html: String?
    /// In their order.
    package var attachments: [Attachment] = []
    /// Further fields, in their order.
    package var fields: [Field] = []

    /// A message that says nothing yet.
    package init(from: Address) { self.from = from }

    /// Whether an address is in it that only SMTPUTF8 can carry: then the header has UTF-8 in it (RFC 6532).
    package var needsSMTPUTF8: Bool {
        ([from] + to + cc + replyTo).contains { $0.mailbox.needsSMTPUTF8 }
    }
}
