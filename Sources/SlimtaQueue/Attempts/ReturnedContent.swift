// What a notice returns of the message that it is about: as much of it as goes through every host, which is lines of at most
// 998 octets of ASCII. Made by NoticeBuilder.

internal import NIOCore
internal import SlimtaMail

/// The last part of a notice.
struct ReturnedContent {
    /// The most octets of an original that is returned whole; of a larger one only the header.
    static let wholeLimit = 64 * 1024

    /// Its Content-Type.
    let type: String
    let isEncoded: Bool
    let content: ByteBuffer
    /// Whether the body is there.
    let isWhole: Bool

    /// - Parameter wantsWhole: else the header is enough.
    init(_ stored: StoredEnvelope, wantsWhole: Bool) {
        let isSmall =
            stored.message.rest == nil
            && stored.message.size + stored.envelope.prependedFields.readableBytes <= Self.wholeLimit
        if wantsWhole, isSmall, let whole = Self.whole(stored) {
            (type, isEncoded, content, isWhole) = ("message/rfc822", false, whole, true)
            return
        }
        let header = Self.header(stored)
        isWhole = false
        if header.isSafeText {
            (type, isEncoded, content) = ("text/rfc822-headers", false, header)
        } else {
            // Text may be encoded (RFC 6522 section 4), which a message/rfc822 may not (RFC 2045 section 6.4).
            let isUTF8 = String(validating: header.readableBytesUInt8Span) != nil
            type = "text/rfc822-headers; charset=\(isUTF8 ? "utf-8" : "unknown-8bit")"
            (isEncoded, content) = (true, QuotedPrintable.encode(header.readableBytesView))
        }
    }

    /// All of the message; nil if it cannot be said in ASCII: a header that is not, or parts within parts.
    private static func whole(_ stored: StoredEnvelope) -> ByteBuffer? {
        let head = stored.message.head
        var content = stored.envelope.prependedFields
        let all = content.readableBytes + head.readableBytes
        content.reserveCapacity(all)
        content.writeImmutableBuffer(head)
        if content.isSafeText { return content }

        // One text with octets above 127 or long lines: the same in quoted-printable.
        let header = HeaderBlock(scanning: head)
        guard header.isWellFormed, header.isComplete else { return nil }
        let type = header.fields(named: "content-type", in: head).map { value($0, head) }
        let encoding = header.fields(named: "content-transfer-encoding", in: head)
        guard type.count <= 1, type.first?.hasPrefix("text/") ?? true,
            encoding.allSatisfy({ ["7bit", "8bit", "binary"].contains(value($0, head)) })
        else { return nil }
        content = stored.envelope.prependedFields
        for field in header.fields where !encoding.contains(field) {
            content.writeImmutableBuffer(head.slice(field.range))
        }
        let body = head.slice(header.end..<head.readableBytes)
        if !header.has("mime-version", in: head) { content.writeStaticString("MIME-Version: 1.0\r\n") }
        if type.isEmpty {
            let isUTF8 = String(validating: body.readableBytesUInt8Span) != nil
            content.writeString("Content-Type: text/plain; charset=\(isUTF8 ? "utf-8" : "unknown-8bit")\r\n")
        }
        content.writeStaticString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
        content.writeImmutableBuffer(QuotedPrintable.encode(body.readableBytesView))
        return content.isSafeText ? content : nil
    }

    /// The fields, as many as fit.
    private static func header(_ stored: StoredEnvelope) -> ByteBuffer {
        var content = stored.envelope.prependedFields
        for field in HeaderBlock(scanning: stored.message.head).fields
        where content.readableBytes + field.range.count <= Self.wholeLimit {
            content.writeImmutableBuffer(stored.message.head.slice(field.range))
        }
        return content
    }

    /// The value of a field in lower case, without blanks around.
    private static func value(_ field: HeaderBlock.Field, _ head: ByteBuffer) -> String {
        let octets = head.slice(field.name.upperBound..<field.range.upperBound).readableBytesView
        let value = octets.drop { $0 != UInt8(ascii: ":") }.dropFirst().drop { $0 <= 32 }
        let end = value.lastIndex { $0 > 32 }.map { $0 + 1 } ?? value.startIndex
        return String(decoding: value[..<end], as: UTF8.self).asciiLowercased()
    }
}

extension ByteBuffer {
    /// Whether every host takes it as it is: ASCII without NUL, CR and LF at the ends of lines only, and no line longer than
    /// RFC 5322 section 2.1.1 allows.
    var isSafeText: Bool {
        withUnsafeReadableBytes { octets in
            var length = 0
            for (index, octet) in octets.enumerated() {
                switch octet {
                case 0, 0x80...: return false
                case UInt8(ascii: "\r"):
                    guard index + 1 < octets.count, octets[index + 1] == UInt8(ascii: "\n") else { return false }
                case UInt8(ascii: "\n"):
                    guard index > 0, octets[index - 1] == UInt8(ascii: "\r") else { return false }
                    length = 0
                default:
                    length += 1
                    if length > 998 { return false }
                }
            }
            return true
        }
    }

    /// Octets, counted from the reader index.
    fileprivate func slice(_ range: Range<Int>) -> ByteBuffer {
        getSlice(at: readerIndex + range.lowerBound, length: range.count) ?? ByteBuffer()
    }
}
