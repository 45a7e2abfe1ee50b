// One part of a message as its header describes it (RFC 2045). Made by MIMEWalker when the part's header is over, given to
// whoever visits the message.

package import NIOCore
package import SlimtaMail

/// What a message is made of: the message itself, a part of a multipart, a message within a message.
package struct MIMEEntity: Sendable {
    /// What is behind its header.
    package enum Form: Hashable, Sendable {
        /// Content.
        case leaf
        /// Parts between lines with this boundary (RFC 2046 section 5.1).
        case multipart(boundary: [UInt8])
        /// A header and what belongs to it (RFC 2046 section 5.2).
        case message
    }

    /// Where its header ended.
    package enum HeaderEnd: Hashable, Sendable {
        /// At the empty line.
        case emptyLine
        /// At a line that is no field, which is the first of the content, or because it grew too large.
        case cut
        /// Where the part or the message ended: there is no content.
        case end
    }

    /// Its number in the order in which parts begin; the message itself is 0.
    package let index: Int
    /// The number of what it is in; nil: it is the message itself.
    package let parent: Int?
    /// How many it is in.
    package let depth: Int
    /// Lines of a mailbox file before the header ("From a@b Sat Jan ..."), with which programs hand over what they took out
    /// of one: they are no part of the message. Clients read on behind them.
    package let mailboxLines: ByteBuffer
    /// The octets of its header, with the empty line if there was one.
    package let header: ByteBuffer
    /// The fields in ``header``.
    package let fields: HeaderBlock
    /// Where its header ended.
    package let headerEnd: HeaderEnd
    /// Its type and subtype in lower case, such as "text/plain". What none is said of, or something that is none, has the
    /// type that stands for that (RFC 2045 section 5.2, RFC 2046 section 5.1.5).
    package let type: String
    /// The field Content-Type; nil: there is none.
    package let contentType: ParameterizedValue?
    /// What Content-Transfer-Encoding says.
    package let encoding: TransferEncoding
    /// What is behind the header.
    package let form: Form
    /// Whether it is a leaf because of the limits alone.
    package let isCutOff: Bool

    /// - Parameters:
    ///   - defaultType: of what does not say one.
    ///   - mayHaveParts: whether anything may be in it; if not it is a leaf.
    init(
        index: Int, parent: Int?, depth: Int, mailboxLines: ByteBuffer, header: ByteBuffer, headerEnd: HeaderEnd,
        defaultType: String, mayHaveParts: Bool
    ) {
        (self.index, self.parent, self.depth, self.mailboxLines) = (index, parent, depth, mailboxLines)
        (self.header, self.headerEnd) = (header, headerEnd)
        fields = HeaderBlock(scanning: header)
        contentType = fields.fields(named: "content-type", in: header).first.map {
            ParameterizedValue(parsing: $0.value(in: header))
        }
        let said = contentType.map(\.value) ?? defaultType
        let sides = said.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        type = sides.count == 2 && sides.allSatisfy { !$0.isEmpty } ? said : "text/plain"
        encoding =
            fields.fields(named: "content-transfer-encoding", in: header).first.map {
                TransferEncoding(parsing: $0.value(in: header))
            } ?? .none
        var form = Form.leaf
        if type.utf8.starts(with: "multipart/".utf8), let boundary = contentType?.boundary {
            form = .multipart(boundary: boundary)
        } else if type == "message/rfc822" || type == "message/global" {
            form = .message
        }
        isCutOff = form != .leaf && !mayHaveParts
        self.form = isCutOff ? .leaf : form
    }

    /// Whether it is a multipart by its type, whatever its boundary.
    package var isMultipart: Bool { type.utf8.starts(with: "multipart/".utf8) }

    /// Whether it may not be encoded as a whole (RFC 2045 section 6.4), but for what RFC 6532 and RFC 6533 allow.
    package var isComposite: Bool { isMultipart || type.utf8.starts(with: "message/".utf8) }

    /// What Content-Disposition says (RFC 2183), in lower case: "attachment"; nil: there is none.
    package var disposition: String? { contentDisposition?.value }

    private var contentDisposition: ParameterizedValue? {
        fields.fields(named: "content-disposition", in: header).first.map {
            ParameterizedValue(parsing: $0.value(in: header))
        }
    }

    private func values(of name: StaticString) -> [ParameterizedValue] {
        fields.fields(named: name, in: header).map { ParameterizedValue(parsing: $0.value(in: header)) }
    }

    /// The names that a mail client may save it under, each once: those of Content-Disposition, then those of Content-Type,
    /// of each field what stands in RFC 2231's form and what does not. Of several such fields clients take the first or the
    /// last one, and some look for `name` and `filename` in either. Encoded words (RFC 2047) are decoded, for clients do
    /// that although section 5 forbids them there. Nothing is made harmless: they are for comparing.
    package var names: [String] {
        var seen: Set = [""]
        let all =
            values(of: "content-disposition").flatMap { $0.texts(of: "filename") + $0.texts(of: "name") }
            + values(of: "content-type").flatMap { $0.texts(of: "name") + $0.texts(of: "filename") }
        return all.filter { seen.insert($0).inserted }
    }
}

/// What Content-Transfer-Encoding says (RFC 2045 section 6).
package enum TransferEncoding: Hashable, Sendable {
    case sevenBit
    case eightBit
    case binary
    case quotedPrintable
    case base64
    /// One of the names of uuencode, which was never standardised and is decoded by clients.
    case uuencode
    /// There is no such field.
    case none
    /// Something else.
    case other

    /// Reads the value of the field; a ";" behind it is seen.
    init(parsing value: some Sequence<UInt8>) {
        switch ParameterizedValue(parsing: value).value {
        case "7bit": self = .sevenBit
        case "8bit": self = .eightBit
        case "binary": self = .binary
        case "quoted-printable": self = .quotedPrintable
        case "base64": self = .base64
        case "x-uuencode", "uuencode", "x-uue", "uue": self = .uuencode
        default: self = .other
        }
    }

    /// Whether content stands as it is.
    package var isIdentity: Bool {
        switch self {
        case .sevenBit, .eightBit, .binary, .none: true
        case .quotedPrintable, .base64, .uuencode, .other: false
        }
    }
}
