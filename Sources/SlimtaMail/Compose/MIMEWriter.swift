// Writes the tree of a message's parts: their fields, boundaries and encoded contents. Used by ComposedMessage.

import NIOCore

/// What has been written of a message.
struct MIMEWriter {
    /// Octets that stand one after another in the message.
    enum Chunk: Sendable {
        case octets(ByteBuffer)
        /// Goes out in lines.
        case base64(String)

        var size: Int {
            switch self {
            case .octets(let octets): octets.readableBytes
            case .base64(let text): text.utf8.count + (text.utf8.count + lineLength - 1) / lineLength * 2
            }
        }
    }

    /// RFC 2045 section 6.8.
    static let lineLength = 76
    /// Of an attachment.
    static let linesAtOnce = 768
    /// Octets of anything else at once.
    static let pieceLength = 60_000

    private var written: [Chunk] = []
    private var octets = ByteBuffer()
    private let token: String
    private var boundaries = 0

    /// - Parameter boundary: is in all boundaries; no part of the message.
    init(boundary: String) { token = boundary }

    /// All that was written.
    var chunks: [Chunk] { octets.readableBytes > 0 ? written + [.octets(octets)] : written }

    mutating func write(_ field: FieldWriter) { octets.writeBytes(field.field) }

    /// The fields that describe the part, an empty line, and its content, which ends with CRLF.
    mutating func write(_ part: MIMEPart) {
        switch part {
        case .text(let subtype, let body): write(body, subtype)
        case .file(let file): write(file)
        case .multipart(let subtype, let type, let parts): write(parts, subtype, type)
        }
    }

    private mutating func write(_ body: TextBody, _ subtype: String) {
        var type = FieldWriter("Content-Type")
        type.append("text/\(subtype)")
        type.append(parameter: "charset", "utf-8")
        write(type)
        endHeader(encoding: body.encoding)
        switch body.encoding {
        case .sevenBit: octets.writeBytes(body.lines)
        case .quotedPrintable:
            octets.writeImmutableBuffer(QuotedPrintable.encode(ByteBuffer(bytes: body.lines).readableBytesView))
        case .base64: write(base64: Base64.encode(body.lines))
        }
    }

    private mutating func write(_ file: MailDraft.Attachment) {
        let media = file.type.isComposite ? .octets : file.type
        var type = FieldWriter("Content-Type")
        type.append(media.name)
        for parameter in media.parameters { type.append(parameter: parameter.name, parameter.value) }
        write(type)
        var disposition = FieldWriter("Content-Disposition")
        disposition.append(file.isInline ? "inline" : "attachment")
        if let name = file.fileName { disposition.append(fileName: name) }
        write(disposition)
        if let id = file.contentID {
            var field = FieldWriter("Content-ID")
            field.append("<\(id)>")
            write(field)
        }
        endHeader(encoding: .base64)
        write(base64: file.content.text)
    }

    private mutating func write(_ parts: [MIMEPart], _ subtype: String, _ root: String?) {
        boundaries += 1
        // Neither quoted-printable nor base64 has "=_" (RFC 2045 section 6.7, example of RFC 2046 section 5.1.1).
        let boundary = "=_\(token)-\(boundaries)"
        var type = FieldWriter("Content-Type")
        type.append("multipart/\(subtype)")
        if let root { type.append(parameter: "type", root) }
        type.append(parameter: "boundary", boundary)
        write(type)
        octets.writeStaticString("\r\n")
        for (index, part) in parts.enumerated() {
            octets.writeString("\(index == 0 ? "" : "\r\n")--\(boundary)\r\n")
            write(part)
        }
        octets.writeString("\r\n--\(boundary)--\r\n")
    }

    private mutating func endHeader(encoding: TextBody.Encoding) {
        octets.writeString("Content-Transfer-Encoding: \(encoding.rawValue)\r\n\r\n")
    }

    private mutating func write(base64 text: String) {
        written += [.octets(octets), .base64(text)]
        octets = ByteBuffer()
    }

    /// Some lines of what is in base64, each with CRLF.
    static func lines(of text: String, from offset: Int) -> ByteBuffer {
        var text = text
        return text.withUTF8 { octets in
            let end = min(octets.count, offset + lineLength * linesAtOnce)
            var lines = ByteBuffer()
            lines.reserveCapacity((end - offset) / lineLength * (lineLength + 2) + lineLength + 2)
            for start in stride(from: offset, to: end, by: lineLength) {
                lines.writeBytes(
                    UnsafeRawBufferPointer(
                        rebasing: UnsafeRawBufferPointer(octets)[start..<min(end, start + lineLength)]))
                lines.writeStaticString("\r\n")
            }
            return lines
        }
    }
}
