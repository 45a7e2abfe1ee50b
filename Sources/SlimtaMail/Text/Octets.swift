// Octets: what one is in ASCII, where one is among many, and hexadecimal. Parsers, writers and readers of all rooms use
// these, so that a letter, a control character or a digit is the same everywhere. Inlinable, for they stand in the loops
// over messages.

public import Glibc

extension UInt8 {
    /// 0 to 9.
    @inlinable package var isASCIIDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }

    /// A to Z.
    @inlinable package var isASCIIUppercase: Bool { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) }

    /// a to z.
    @inlinable package var isASCIILowercase: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self) }

    /// A letter or digit of ASCII: Let-dig of RFC 5321 section 4.1.2.
    @inlinable package var isASCIILetterOrDigit: Bool { isASCIILowercase || isASCIIUppercase || isASCIIDigit }

    /// Below the blank, or DEL: ends a line, steers a terminal, or nobody sees it.
    @inlinable package var isASCIIControl: Bool { self < 0x20 || self == 0x7F }

    /// A letter, digit or sign of an atom: atext of RFC 5322 section 3.2.3.
    package var isAtomText: Bool { isASCIILetterOrDigit || "!#$%&'*+-/=?^_`{|}~".utf8.contains(self) }

    /// A letter in lower case, everything else unchanged.
    @inlinable package func asciiLowercased() -> UInt8 { isASCIIUppercase ? self | 0x20 : self }

    /// What it stands for as a hexadecimal digit, in either case; nil if it is none.
    @inlinable package var hexadecimalValue: UInt8? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// The hexadecimal digit for the lower four bits of `value`.
    @inlinable package init(hexadecimalDigit value: UInt8, uppercase: Bool = false) {
        let value = value & 0xF
        self = value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: uppercase ? "A" : "a") + value - 10
    }
}

extension UnsafeRawBufferPointer {
    /// Where `octet` is first, from the offset `start` up to `end` (all of it, without one).
    @inlinable package func firstOffset(of octet: UInt8, from start: Int = 0, to end: Int? = nil) -> Int? {
        let end = end ?? count
        guard start < end, let base = baseAddress, let found = memchr(base + start, CInt(octet), end - start) else {
            return nil
        }
        return UnsafeRawPointer(found) - base
    }

    /// The offset behind the next LF, or the end.
    @inlinable package func endOfLine(from start: Int) -> Int {
        firstOffset(of: UInt8(ascii: "\n"), from: start).map { $0 + 1 } ?? count
    }

    /// Whether an octet above 127 is in it.
    ///
    /// Without a branch in the loop, so that the compiler makes vector instructions of it.
    @inlinable package var hasEightBit: Bool { reduce(0) { $0 | $1 } >= 0x80 }
}

extension Sequence<UInt8> {
    /// Two hexadecimal digits for each octet, in lower case.
    package var hexadecimal: String { map { String(hexadecimal: $0, digits: 2) }.joined() }

    /// Letters, digits and octets of `signs` as they are, all else as "%" and two hexadecimal digits (RFC 3986 section 2.1).
    package func percentEncoded(except signs: String) -> String {
        reduce(into: "") { text, octet in
            if octet.isASCIILetterOrDigit || signs.utf8.contains(octet) {
                text.unicodeScalars.append(Unicode.Scalar(octet))
            } else {
                text += "%" + String(hexadecimal: octet, digits: 2, uppercase: true)
            }
        }
    }
}

extension ArraySlice<UInt8> {
    /// `sign` and two hexadecimal digits as the octet that they say, all else as `others` has it. A sign without them stands
    /// for itself.
    package func unescaped(by sign: UInt8, others: (UInt8) -> UInt8 = { $0 }) -> [UInt8] {
        var octets: [UInt8] = []
        var rest = self
        while let octet = rest.popFirst() {
            if octet == sign, rest.count >= 2,
                let high = rest[rest.startIndex].hexadecimalValue, let low = rest[rest.startIndex + 1].hexadecimalValue
            {
                octets.append(high << 4 | low)
                rest = rest.dropFirst(2)
            } else {
                octets.append(others(octet))
            }
        }
        return octets
    }
}

extension StringProtocol {
    /// Whether no octet is above 127.
    package var isASCII: Bool { utf8.allSatisfy { $0 < 0x80 } }

    /// Whether there is no control character of ASCII in it.
    package var hasNoASCIIControl: Bool { !utf8.contains(where: \.isASCIIControl) }
}

extension String {
    /// ASCII letters in lower case, everything else unchanged.
    package func asciiLowercased() -> String {
        guard utf8.contains(where: \.isASCIIUppercase) else { return self }
        return String(decoding: utf8.map { $0.asciiLowercased() }, as: UTF8.self)
    }

    /// A number in hexadecimal, in lower case unless told otherwise, with zeros before it up to `digits`.
    package init(hexadecimal value: some BinaryInteger, digits: Int, uppercase: Bool = false) {
        let text = String(value, radix: 16, uppercase: uppercase)
        self.init(String(repeating: "0", count: Swift.max(0, digits - text.count)) + text)
    }

    /// The text that `octets` encode; nil if they are not valid UTF-8. Nothing is repaired.
    package init?(validating octets: Span<UInt8>) {
        guard let utf8 = try? UTF8Span(validating: octets) else { return nil }
        self.init(copying: utf8)
    }
}
