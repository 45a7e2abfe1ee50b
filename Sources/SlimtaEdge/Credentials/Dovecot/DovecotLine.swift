// Lines of Dovecot's authentication protocol: words between TABs, and what stands for octets that would end them. The reader
// is DovecotHandler's; DovecotMessage says what the words mean.

internal import NIOCore
internal import SlimtaMail

/// One line: its words, unescaped. What is no UTF-8 in them has U+FFFD in its place.
struct DovecotLine: Equatable, Sendable {
    let words: [String]

    /// - Parameter octets: without the LF.
    init(_ octets: some Collection<UInt8>) {
        words = octets.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false)
            .map { String(decoding: DovecotEscape.decoded($0), as: UTF8.self) }
    }
}

/// Octet 1 and a letter stand for what would end a word or a line: Dovecot's `str_tabescape`.
enum DovecotEscape {
    private static let escape: UInt8 = 1

    private static func letter(for octet: UInt8) -> UInt8? {
        switch octet {
        case 0: UInt8(ascii: "0")
        case escape: UInt8(ascii: "1")
        case UInt8(ascii: "\t"): UInt8(ascii: "t")
        case UInt8(ascii: "\n"): UInt8(ascii: "n")
        case UInt8(ascii: "\r"): UInt8(ascii: "r")
        default: nil
        }
    }

    private static func octet(for letter: UInt8) -> UInt8? {
        switch letter {
        case UInt8(ascii: "0"): 0
        case UInt8(ascii: "1"): escape
        case UInt8(ascii: "t"): UInt8(ascii: "\t")
        case UInt8(ascii: "n"): UInt8(ascii: "\n")
        case UInt8(ascii: "r"): UInt8(ascii: "\r")
        default: nil
        }
    }

    /// The octets of a word.
    static func encoded(_ text: some Collection<UInt8>) -> [UInt8] {
        text.reduce(into: []) { octets, octet in
            if let letter = letter(for: octet) { octets += [escape, letter] } else { octets.append(octet) }
        }
    }

    /// What a word stands for. An escape that is none of the five is the letter alone, as Dovecot reads it; one at the end is
    /// nothing.
    static func decoded(_ word: some Collection<UInt8>) -> [UInt8] {
        var octets: [UInt8] = []
        var isEscaped = false
        for octet in word {
            if isEscaped {
                octets.append(self.octet(for: octet) ?? octet)
                isEscaped = false
            } else if octet == escape {
                isEscaped = true
            } else {
                octets.append(octet)
            }
        }
        return octets
    }
}

/// Takes lines out of what comes.
struct DovecotLineReader {
    /// Octets of the longest line in either direction, its LF counted: Dovecot's own limit.
    static let longest = 16_384

    private var kept: [UInt8] = []

    /// The next line of `chunk`; nil if its end has not come yet: then all of the chunk is taken.
    mutating func read(_ chunk: inout ByteBuffer) throws(DovecotFault) -> DovecotLine? {
        let octets = chunk.readableBytesView
        let end = octets.firstIndex(of: UInt8(ascii: "\n"))
        let piece = octets[..<(end ?? octets.endIndex)]
        guard kept.count + piece.count < Self.longest else { throw .lineTooLong }
        kept += piece
        chunk.moveReaderIndex(forwardBy: piece.count + (end == nil ? 0 : 1))
        guard end != nil else { return nil }
        defer { kept.removeAll(keepingCapacity: true) }
        return DovecotLine(kept)
    }
}

/// What ends a connection: whoever is there does not speak the protocol, or not as we do.
enum DovecotFault: Error, Hashable, CustomStringConvertible {
    case lineTooLong
    /// A line whose command is known and whose words are not right.
    case malformed(command: String)
    /// The first version that it has said.
    case version(String)
    /// A line that is right, and not at this place.
    case unexpected(command: String)
    case tooManyMechanisms

    /// For logs. Nothing of a line but the command, and that only if we know it, or the version: visible, and cut.
    var description: String {
        switch self {
        case .lineTooLong: "it sent a line of more than \(DovecotLineReader.longest) octets"
        case .malformed(let command): "it sent a \(command) line that cannot be read"
        case .version(let version): "it speaks version \(version.visible.cut(toOctets: 64)) of the protocol, not 1"
        case .unexpected(let command): "it sent a \(command) line where none is due"
        case .tooManyMechanisms: "it offers more mechanisms than there are"
        }
    }
}
