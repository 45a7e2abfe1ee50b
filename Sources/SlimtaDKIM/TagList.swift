// Lists of tags (RFC 6376 section 3.2): the form of signatures and of key records. Strict: what one verifier reads in one way
// and another in another is refused, in records of ours as well.

import SlimtaMail

/// `name=value; name=value`.
struct TagList {
    /// Why octets are none.
    enum Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// What is between two ";" has no name, or none in front of a "=".
        case name
        /// A tag is there twice.
        case twice(String)
        /// An octet in a value that may not be there: a control, one above 127, a line end that is no fold.
        case value(String)

        var description: String {
            switch self {
            case .name: "a tag without a name"
            case .twice(let name): "two tags \(name)="
            case .value(let name): "a character that may not be in \(name)="
            }
        }
    }

    private struct Tag {
        let value: ArraySlice<UInt8>
        let whole: Range<Int>
    }

    private let octets: [UInt8]
    private var tags: [String: Tag] = [:]

    /// Reads all of `octets`.
    init(parsing octets: [UInt8]) throws(Fault) {
        self.octets = octets
        var start = 0
        repeat {
            let end = octets[start...].firstIndex(of: UInt8(ascii: ";")) ?? octets.endIndex
            // Behind the last ";" nothing need follow.
            if end == octets.endIndex, start > 0, Self.trimmed(octets[start...]).isEmpty {
                guard Self.isText(octets[start...]) else { throw .name }
                break
            }
            try read(start..<end)
            start = end + 1
        } while start <= octets.endIndex
    }

    private mutating func read(_ spec: Range<Int>) throws(Fault) {
        let octets = octets[spec]
        guard let equals = octets.firstIndex(of: UInt8(ascii: "=")) else { throw .name }
        let name = Self.trimmed(octets[..<equals])
        guard Self.isText(octets[..<equals]), let first = name.first, first.asciiLowercased().isASCIILowercase,
            name.allSatisfy({ $0.isASCIILetterOrDigit || $0 == UInt8(ascii: "_") })
        else { throw .name }
        let text = String(decoding: name, as: UTF8.self)
        let whole = equals + 1..<spec.upperBound
        guard Self.isText(octets[whole]) else { throw .value(text) }
        guard tags.updateValue(Tag(value: Self.trimmed(octets[whole]), whole: whole), forKey: text) == nil else {
            throw .twice(text)
        }
    }

    /// VALCHAR, blanks, and CRLF where a blank follows.
    private static func isText(_ octets: ArraySlice<UInt8>) -> Bool {
        var place = octets.startIndex
        while place < octets.endIndex {
            switch octets[place] {
            case 0x21...0x7E, UInt8(ascii: " "), UInt8(ascii: "\t"): break
            case UInt8(ascii: "\r"):
                guard place + 2 < octets.endIndex, octets[place + 1] == UInt8(ascii: "\n"),
                    Canonicalization.isBlank(octets[place + 2])
                else { return false }
                place += 1
            default: return false
            }
            place += 1
        }
        return true
    }

    private static func isSpace(_ octet: UInt8) -> Bool {
        Canonicalization.isBlank(octet) || octet == UInt8(ascii: "\r") || octet == UInt8(ascii: "\n")
    }

    private static func trimmed(_ octets: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var octets = octets.drop(while: isSpace)
        while let last = octets.last, isSpace(last) { octets.removeLast() }
        return octets
    }

    /// The value of a tag without white space around it; nil: it is not there. Names are as they are written: "S" is
    /// another tag than "s".
    func text(_ name: String) -> String? { tags[name].map { String(decoding: $0.value, as: UTF8.self) } }

    /// A value of which white space is no part, wherever it is.
    func withoutSpace(_ name: String) -> [UInt8]? { tags[name].map { $0.value.filter { !Self.isSpace($0) } } }

    /// The parts of a value between colons, without white space around them.
    func parts(_ name: String) -> [String]? {
        tags[name].map { tag in
            tag.value.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
                .map { String(decoding: Self.trimmed($0), as: UTF8.self) }
        }
    }

    /// All that was read, but for a tag's value and the white space around it (RFC 6376 section 3.7).
    func octets(without name: String) -> [UInt8] {
        guard let whole = tags[name]?.whole else { return octets }
        return Array(octets[..<whole.lowerBound] + octets[whole.upperBound...])
    }
}
