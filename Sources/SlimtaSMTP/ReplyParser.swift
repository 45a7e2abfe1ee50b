// Takes SMTP replies out of what a server sends: octets in, Reply values out. Used by SMTPClientMachine.
//
// A server is not trusted: lines, their number and their text are bounded, and what comes out is safe to log, to store
// and to show to people.

import Glibc
package import NIOCore
package import SlimtaMail

/// Why a server's octets are no SMTP reply (RFC 5321 section 4.2). The connection cannot go on.
package enum ReplyError: Error, Hashable, Sendable {
    /// More than ``ReplyParser/maximumLine`` octets without an end of line.
    case lineTooLong
    /// More than ``ReplyParser/maximumLines`` lines in one reply.
    case tooManyLines
    /// A line that does not begin with a code from 200 to 599 and a blank, a hyphen or the end of the line.
    case notAReply
    /// The lines of one reply have different codes.
    case codeChanged
}

/// Parses replies (RFC 5321 section 4.2.1, enhanced status codes of RFC 2034), however the octets were cut.
///
/// A line may end in LF alone: that is a fault that does no harm here. Text is made safe: what is not printable
/// (controls, invalid UTF-8, characters that change the direction of text) becomes "?".
package struct ReplyParser: Sendable {
    /// The longest line that is taken, with its end; RFC 5321 section 4.5.3.1.5 allows servers 512 octets.
    package static let maximumLine = 2048
    /// The most lines of one reply; an EHLO reply has some twenty.
    package static let maximumLines = 128

    private var input = ByteBuffer()
    /// The octets at the start of `input` that were searched and hold no LF.
    private var searched = 0
    /// The reply under way; `lines` is empty between replies.
    private var code: UInt16 = 0
    private var status: EnhancedStatus?
    private var lines: [String] = []

    package init() {}

    /// Whether there is anything that no reply was made of: a part of a reply, or more than was asked for.
    package var hasUnread: Bool { input.readableBytes > 0 || !lines.isEmpty }

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
                throw .codeChanged
            }
            guard lines.count < Self.maximumLines else { throw .tooManyLines }
            lines.append(textBehindStatus(line.text))
            if line.isLast {
                let reply = Reply(code, status, lines: lines)
                lines = []
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
        guard let end = lineFeed() else {
            searched = input.readableBytes
            if searched >= Self.maximumLine { throw .lineTooLong }
            return nil
        }
        guard end < Self.maximumLine else { throw .lineTooLong }
        searched = 0
        let line = input.withUnsafeReadableBytes { octets in
            let hasCR = end > 0 && octets[end - 1] == UInt8(ascii: "\r")
            return Self.line(UnsafeRawBufferPointer(rebasing: octets[..<(hasCR ? end - 1 : end)]))
        }
        input.moveReaderIndex(forwardBy: end + 1)
        guard let line else { throw .notAReply }
        return line
    }

    /// Where the next LF is, counted from the start of `input`.
    private func lineFeed() -> Int? {
        input.withUnsafeReadableBytes { octets in
            guard octets.count > searched, let start = octets.baseAddress,
                let hit = memchr(start + searched, Int32(UInt8(ascii: "\n")), octets.count - searched)
            else { return nil }
            return UnsafeRawPointer(hit) - start
        }
    }

    /// A line without its end; nil if it is none of a reply.
    private static func line(_ octets: UnsafeRawBufferPointer) -> Line? {
        guard octets.count >= 3 else { return nil }
        var code: UInt16 = 0
        for octet in octets.prefix(3) {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(octet) else { return nil }
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
            safe.append(isPrintable(scalar) ? scalar : scalar == "\t" ? " " : "?")
        }
        return String(safe)
    }

    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        // What String makes of invalid UTF-8.
        if scalar == "\u{FFFD}" { return false }
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: return false
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .nonspacingMark,
            .spacingMark, .enclosingMark, .decimalNumber, .letterNumber, .otherNumber, .connectorPunctuation,
            .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
            .otherPunctuation, .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol, .spaceSeparator:
            return true
        @unknown default: return false
        }
    }
}

extension ReplyError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .lineTooLong: "a reply line is too long"
        case .tooManyLines: "a reply has too many lines"
        case .notAReply: "not an SMTP reply"
        case .codeChanged: "the lines of a reply have different codes"
        }
    }
}
