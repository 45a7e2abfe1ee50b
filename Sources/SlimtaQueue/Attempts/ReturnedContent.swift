// What a notice returns of the message that it is about: as much of it as goes through every host, which is lines of at most
// 998 octets of ASCII. Made by NoticeBuilder.

internal import NIOCore
internal import SlimtaMIME
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
            (type, isEncoded, content) = whole
            isWhole = true
        } else {
            (type, isEncoded, content) = Self.header(stored)
            isWhole = false
        }
    }

    private typealias Part = (type: String, isEncoded: Bool, content: ByteBuffer)

    /// All of the message: as it is, or as a host without 8BITMIME would get it. nil: it has no such form, but for one whose
    /// header needs SMTPUTF8. That is another type, which may be encoded as a whole (RFC 6532 section 3.7).
    private static func whole(_ stored: StoredEnvelope) -> Part? {
        var message = stored.envelope.prependedFields
        message.writeImmutableBuffer(stored.message.head)
        if message.isSafeText { return ("message/rfc822", false, message) }
        var planner = ConversionPlanner()
        planner.read(message)
        switch planner.finish() {
        case .unchanged: return nil
        case .convert(let plan):
            let converted = plan.applied(to: message)
            return converted.isSafeText ? ("message/rfc822", false, converted) : nil
        case .impossible:
            let header = HeaderBlock(scanning: message)
            guard header.isWellFormed, HeaderContainment(of: header, in: message).smtputf8Need != nil,
                String(validating: message.readableBytesUInt8Span) != nil
            else { return nil }
            return ("message/global", true, QuotedPrintable.encode(message.readableBytesView))
        }
    }

    /// The header, as much of it as fits: in ASCII, or, where it needs SMTPUTF8, as RFC 6533 section 4 has it.
    private static func header(_ stored: StoredEnvelope) -> Part {
        var content = ByteBuffer()
        for part in [stored.envelope.prependedFields, stored.message.head] {
            for field in HeaderBlock(scanning: part).fields
            where content.readableBytes + field.range.count <= Self.wholeLimit {
                content.writeImmutableBuffer(part.slice(field.range))
            }
        }
        if content.isSafeText { return ("text/rfc822-headers", false, content) }
        let contained = HeaderContainment(of: HeaderBlock(scanning: content), in: content)
        let encoded = contained.applied(to: content)
        if contained.faults.isEmpty, encoded.isSafeText { return ("text/rfc822-headers", false, encoded) }
        // Both may be encoded (RFC 6522 section 4, RFC 6533 section 6.3), which a message/rfc822 may not (RFC 2045 section 6.4).
        let isUTF8 = String(validating: content.readableBytesUInt8Span) != nil
        let needsUTF8 = isUTF8 && contained.smtputf8Need != nil
        let type =
            needsUTF8 ? "message/global-headers" : "text/rfc822-headers; charset=\(isUTF8 ? "utf-8" : "unknown-8bit")"
        return (type, true, QuotedPrintable.encode(content.readableBytesView))
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
