// Takes SMTP replies out of what a server sends: octets in, Reply values out. Used by SMTPClientMachine.
//
// A server is not trusted: lines, their number and their text are bounded, and what comes out is safe to log, to store
// and to show to people.

package import NIOCore
package import SlimtaMail

/// Why a server's octets are no SMTP reply (RFC 5321 section 4.2). The connection cannot go on.
package enum ReplyError: Error, Hashable, Sendable {
    /// More than ``ReplyParser/maximumReply`` octets in one reply.
    case tooLong
    /// A line that does not begin with a code from 200 to 599 and a blank, a hyphen or the end of the line.
    case notAReply
    /// The lines of one reply have different codes.
    case codeChanged
}

/// Parses replies (RFC 5321 section 4.2.1, enhanced status codes of RFC 2034), however the octets were cut.
///
/// A line may end in LF alone: that is a fault that does no harm here. Text is made safe: what is not printable
/// (controls, invalid UTF-8, characters that change the direction of text) becomes "?". A line that is too long is cut,
/// and lines too many are left out: what a server decided stands at the beginning.
package struct ReplyParser: Sendable {
    /// How much of a line is kept, with its end; RFC 5321 section 4.5.3.1.5 allows servers 512 octets.
    package static let maximumLine = 2048
    /// How many lines of one reply are kept; an EHLO reply has some twenty.
    package static let maximumLines = 128
    /// The most octets of one reply, kept or not: a server that never comes to an end is given up.
    package static let maximumReply = 1 << 20

    private var input = ByteBuffer()
    /// The octets at the start of `input` that were searched and hold no LF.
    private var searched = 0
    /// The beginning of a line that is too long, of which the rest is still to come and not kept.
    private var cut: ByteBuffer?
    /// How many octets of the reply under way were taken out of `input`.
    private var taken = 0
    /// The first octet of the reply under way, if it is there.
    private var first: UInt8?
    /// A line of the reply under way says no, or not yet, behind one that has said something else.
    private var isContradicted = false
    /// The reply under way; `lines` is empty between replies.
    private var code: UInt16 = 0
    private var status: EnhancedStatus?
    private var lines: [String] = []

    /// At the beginning of a reply.
    package init() {}

    /// Whether there is anything that no reply was made of: a part of a reply, or more than was asked for.
    package var hasUnread: Bool { input.readableBytes > 0 || !lines.isEmpty || cut != nil }

    /// What there is of a reply that begins with 2 and did not come to a proper end; nil if there is none.
    ///
    /// RFC 5321 section 4.3.2: the first digit decides. Where a yes that is not heard means a second copy of a message,
    /// it is heard in whatever form it comes; but not if a line of it says no, which is often the last, and the one that was
    /// meant: that would be a lost message.
    package var halfYes: Reply? {
        guard !isContradicted, (first ?? input.readableBytesView.first) == UInt8(ascii: "2") else { return nil }
        if !lines.isEmpty { return Reply(code, status, lines: lines) }
        return (cut ?? input).withUnsafeReadableBytes { octets in
            let end = octets.prefix(Self.maximumLine).prefix { $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: "\n") }
            let octets = UnsafeRawBufferPointer(rebasing: end)
            let line = Self.line(octets)
            return Reply(line?.code ?? 250, nil, line?.text ?? Self.printable(octets))
        }
    }

    /// Takes what the server sent.
    package mutating func append(_ bytes: ByteBuffer) {
        if input.readableBytes == 0 {
            input = bytes
            searched = 0
        } else {
            input.writeImmutableBuffer(bytes)
        }
    }

    /// The next whole reply; nil until there is one.
    package mutating func next() throws(ReplyError) -> Reply? {
        while let line = try nextLine() {
            if lines.isEmpty {
                code = line.code
                status = nil
            } else if line.code != code {
                isContradicted = line.code / 100 != code / 100
                throw .codeChanged
            }
            if lines.count < Self.maximumLines { lines.append(textBehindStatus(line.text)) }
            if line.isLast {
                let reply = Reply(code, status, lines: lines)
                lines = []
                taken = 0
                first = nil
                return reply
            }
        }
        return nil
    }

    /// The text without the enhanced status code, which is noted: the first line's counts, if its class fits.
    private mutating func textBehindStatus(_ text: String) -> String {
        guard text.utf8.dropFirst().first == UInt8(ascii: "."), let found = EnhancedStatus(prefixOf: text),
            UInt16(found.statusClass) == code / 100, lines.isEmpty || found == status
        else { return text }
        status = found
        return String(text.utf8.drop { $0 != UInt8(ascii: " ") }.dropFirst()) ?? ""
    }

    // MARK: Lines

    private struct Line {
        let code: UInt16
        let isLast: Bool
        let text: String
    }

    private mutating func nextLine() throws(ReplyError) -> Line? {
        if first == nil { first = input.readableBytesView.first }
        guard let end = lineFeed() else {
            searched = input.readableBytes
            if searched >= Self.maximumLine || cut != nil { try cutLine() }
            return nil
        }
        searched = 0
        taken += end + 1
        guard taken <= Self.maximumReply else { throw .tooLong }
        var octets = input.readSlice(length: end) ?? ByteBuffer()
        input.moveReaderIndex(forwardBy: 1)
        if let begun = cut {
            octets = begun
            cut = nil
        } else if octets.readableBytes >= Self.maximumLine {
            octets = octets.getSlice(at: octets.readerIndex, length: Self.maximumLine - 1) ?? ByteBuffer()
        }
        let line = octets.withUnsafeReadableBytes { octets in
            let hasCR = octets.last == UInt8(ascii: "\r")
            return Self.line(UnsafeRawBufferPointer(rebasing: hasCR ? octets.dropLast() : octets[...]))
        }
        guard let line else {
            cut = octets
            throw .notAReply
        }
        return line
    }

    /// Takes what there is of a line that is too long, and keeps its beginning. What is no reply is not waited out.
    private mutating func cutLine() throws(ReplyError) {
        taken += input.readableBytes
        if cut == nil {
            let begun = input.getSlice(at: input.readerIndex, length: Self.maximumLine - 1) ?? ByteBuffer()
            cut = begun
            guard begun.withUnsafeReadableBytes({ Self.line($0) }) != nil else { throw .notAReply }
        }
        input.clear()
        searched = 0
        guard taken <= Self.maximumReply else { throw .tooLong }
    }

    /// Where the next LF is, counted from the start of `input`.
    private func lineFeed() -> Int? {
        input.withUnsafeReadableBytes { $0.firstOffset(of: UInt8(ascii: "\n"), from: searched) }
    }

    /// A line without its end; nil if it is none of a reply.
    private static func line(_ octets: UnsafeRawBufferPointer) -> Line? {
        guard octets.count >= 3 else { return nil }
        var code: UInt16 = 0
        for octet in octets.prefix(3) {
            guard octet.isASCIIDigit else { return nil }
            code = code * 10 + UInt16(octet - UInt8(ascii: "0"))
        }
        // RFC 5321 section 4.2.1: no reply of SMTP begins with 1.
        guard (200...599).contains(code) else { return nil }
        // Section 4.2: a code alone is to be taken as if a blank followed.
        guard octets.count > 3 else { return Line(code: code, isLast: true, text: "") }
        guard octets[3] == UInt8(ascii: " ") || octets[3] == UInt8(ascii: "-") else { return nil }
        return Line(
            code: code, isLast: octets[3] == UInt8(ascii: " "),
            text: printable(UnsafeRawBufferPointer(rebasing: octets[4...])))
    }

    private static func printable(_ octets: UnsafeRawBufferPointer) -> String {
        if octets.allSatisfy({ (0x20...0x7E).contains($0) }) { return String(decoding: octets, as: UTF8.self) }
        var safe = String.UnicodeScalarView()
        for scalar in String(decoding: octets, as: UTF8.self).unicodeScalars {
            // U+FFFD is what String makes of invalid UTF-8.
            safe.append(scalar.isText && scalar != "\u{FFFD}" ? scalar : scalar == "\t" ? " " : "?")
        }
        return String(safe)
    }
}

extension ReplyError: CustomStringConvertible {
    /// In words for an outcome's text.
    package var description: String {
        switch self {
        case .tooLong: "a reply is too long"
        case .notAReply: "not an SMTP reply"
        case .codeChanged: "the lines of a reply have different codes"
        }
    }
}
