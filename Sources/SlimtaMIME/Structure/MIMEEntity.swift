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
    /// ``type``, and what else it may be for clients that take another field than the first, or read another header (where all
    /// that was asked for: ``MIMEWalker``).
    package let types: [String]
    /// What lines between its parts may have for some client: that of ``form``, and those of other readings.
    let boundaries: [[UInt8]]
    /// The header, and what else clients may read it as.
    private let readings: [(fields: HeaderBlock, octets: ByteBuffer)]

    /// - Parameters:
    ///   - readings: what else the header may be for some client; nil: the first field of a name is what counts.
    ///   - defaultType: of what does not say one.
    ///   - mayHaveParts: whether anything may be in it; if not it is a leaf.
    init(
        index: Int, parent: Int?, depth: Int, mailboxLines: ByteBuffer, header: ByteBuffer, headerEnd: HeaderEnd,
        readings: [ByteBuffer]? = nil, defaultType: String, mayHaveParts: Bool
    ) {
        (self.index, self.parent, self.depth, self.mailboxLines) = (index, parent, depth, mailboxLines)
        (self.header, self.headerEnd) = (header, headerEnd)
        fields = HeaderBlock(scanning: header)
        self.readings = [(fields, header)] + (readings ?? []).map { (HeaderBlock(scanning: $0), $0) }
        var values = Self.values(of: "content-type", self.readings)
        contentType = Self.values(of: "content-type", [self.readings[0]]).first
        if readings == nil { values = contentType.map { [$0] } ?? [] }
        encoding =
            fields.fields(named: "content-transfer-encoding", in: header).first.map {
                TransferEncoding(parsing: $0.value(in: header))
            } ?? .none
        type = Self.type(contentType?.value ?? defaultType)
        var (types, boundaries, form) = ([type], [[UInt8]](), Self.form(type, contentType))
        // Of what is a message for some client the header comes first.
        var seen: Set = [type]
        for value in values {
            for type in readings == nil ? [Self.type(value.value)] : Self.types(value) {
                if seen.insert(type).inserted { types.append(type) }
                guard Self.isMultipart(type) else {
                    if Self.form(type, value) == .message { form = .message }
                    continue
                }
                for boundary in readings == nil ? value.boundary.map({ [$0] }) ?? [] : value.boundaries
                where boundaries.count <= MIMELimits.boundaries && !boundaries.contains(boundary) {
                    boundaries.append(boundary)
                }
                if form == .leaf { form = Self.form(type, value) }
            }
        }
        isCutOff = form != .leaf && !mayHaveParts
        self.form = isCutOff ? .leaf : form
        (self.types, self.boundaries) = (types, isCutOff ? [] : boundaries)
    }

    /// Whether it depends on the client what is in it: several boundaries, or a message and a multipart in one.
    var isAmbiguous: Bool { boundaries.count > 1 || form == .message && !boundaries.isEmpty }

    private static func type(_ said: String) -> String { isType(said) ? said : "text/plain" }

    /// What a value may mean: for most clients, and for those that end it at the first blank.
    private static func types(_ value: ParameterizedValue) -> [String] {
        [type(value.value)] + value.readings.dropFirst().filter(isType)
    }

    private static func isType(_ said: String) -> Bool {
        let sides = said.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        return sides.count == 2 && sides.allSatisfy { !$0.isEmpty }
    }

    private static func form(_ type: String, _ value: ParameterizedValue?) -> Form {
        if isMultipart(type), let boundary = value?.boundary { return .multipart(boundary: boundary) }
        return type == "message/rfc822" || type == "message/global" ? .message : .leaf
    }

    /// What a client may take a part for.
    struct Claim: Hashable {
        let type: String
        /// Of a multipart; nil: it has none that lines could have.
        let boundary: [UInt8]?
    }

    /// What it says that it is: a type and a boundary for each of its Content-Type fields, for all that one may mean, for each of
    /// several boundaries. More than one: clients do not agree. Empty: it does not say.
    var claims: Set<Claim> {
        var claims: Set<Claim> = []
        for value in Self.values(of: "content-type", readings) {
            for type in Self.types(value) {
                for boundary in Self.isMultipart(type) ? [value.boundary] + value.boundaries : [nil] {
                    claims.insert(Claim(type: type, boundary: boundary))
                }
            }
        }
        return claims
    }

    static func isMultipart(_ type: String) -> Bool { type.utf8.starts(with: "multipart/".utf8) }

    /// Whether it is a multipart by its type, whatever its boundary.
    package var isMultipart: Bool { Self.isMultipart(type) }

    /// Whether it may not be encoded as a whole (RFC 2045 section 6.4), but for what RFC 6532 and RFC 6533 allow.
    package var isComposite: Bool { isMultipart || type.utf8.starts(with: "message/".utf8) }

    /// What its Content-Disposition fields say (RFC 2183), in lower case: "attachment".
    package var dispositions: [String] { Self.values(of: "content-disposition", readings).flatMap(\.readings) }

    /// What its Content-Transfer-Encoding fields say.
    package var encodings: [TransferEncoding] {
        readings.flatMap { fields, octets in
            fields.fields(named: "content-transfer-encoding", in: octets).map {
                TransferEncoding(parsing: $0.value(in: octets))
            }
        }
    }

    private static func values(
        of name: StaticString, _ readings: [(fields: HeaderBlock, octets: ByteBuffer)]
    ) -> [ParameterizedValue] {
        readings.flatMap { fields, octets in
            fields.fields(named: name, in: octets).map { ParameterizedValue(parsing: $0.value(in: octets)) }
        }
    }

    /// The names that a mail client may save it under, each once: those of Content-Disposition, then those of Content-Type,
    /// of each field what stands in RFC 2231's form and what does not. Of several such fields clients take the first or the
    /// last one, and some look for `name` and `filename` in either. Encoded words (RFC 2047) are decoded, for clients do
    /// that although section 5 forbids them there. Nothing is made harmless: they are for comparing.
    package var names: [String] {
        var seen: Set = [""]
        let all =
            Self.values(of: "content-disposition", readings).flatMap { $0.texts(of: "filename") + $0.texts(of: "name") }
            + Self.values(of: "content-type", readings).flatMap { $0.texts(of: "name") + $0.texts(of: "filename") }
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
