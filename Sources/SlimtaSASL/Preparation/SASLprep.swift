// SASLprep (RFC 4013): the form of names and passwords in which SCRAM's two sides mean the same. Used by SCRAM's keys, server
// and client.

/// The profile of stringprep (RFC 3454) for names and passwords.
///
/// Its tables are of Unicode 3.2. What came since is unassigned to it, and passes: as in a query (RFC 3454 section 7), for
/// whoever has such a password has it on both sides. Where a table is a property of characters, it is that of today.
package enum SASLprep {
    /// The prepared text; nil: it is not UTF-8, or has what SASLprep prohibits. It may be empty.
    package static func prepare(_ text: some Collection<UInt8>) -> [UInt8]? {
        // Of ASCII nothing is mapped, and nothing is prohibited but controls.
        if text.allSatisfy({ $0 < 0x80 }) { return text.contains { $0 < 0x20 || $0 == 0x7F } ? nil : Array(text) }
        guard let scalars = [Unicode.Scalar](utf8: text) else { return nil }
        let mapped = scalars.compactMap { isNothing($0) ? nil : isBlank($0) ? " " : $0 }.normalized(.nfkc)
        guard !mapped.contains(where: isProhibited), keepsDirection(mapped) else { return nil }
        return mapped.utf8
    }

    /// Table B.1 of RFC 3454: what is commonly mapped to nothing.
    private static func isNothing(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00AD, 0x034F, 0x1806, 0x180B...0x180D, 0x200B...0x200D, 0x2060, 0xFE00...0xFE0F, 0xFEFF: true
        default: false
        }
    }

    /// Table C.1.2: blanks that are not ASCII's. U+200B is in both tables: it is nothing, as mapping comes in that order.
    private static func isBlank(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00A0, 0x1680, 0x2000...0x200B, 0x202F, 0x205F, 0x3000: true
        default: false
        }
    }

    /// Tables C.1.2 to C.9, as RFC 4013 section 2.3 lists them.
    private static func isProhibited(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        // C.2: controls.
        case 0x00...0x1F, 0x7F...0x9F, 0x06DD, 0x070F, 0x180E, 0x200C, 0x200D, 0x2028, 0x2029, 0x2060...0x2063,
            0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC, 0x1_D173...0x1_D17A:
            true
        // C.3: private use.
        case 0xE000...0xF8FF, 0xF_0000...0xF_FFFD, 0x10_0000...0x10_FFFD: true
        // C.6: inappropriate for plain text. C.7: for canonical representation. C.8: change display. C.9: tags. C.5,
        // surrogates, are no scalars.
        case 0xFFFD, 0x2FF0...0x2FFB, 0x0340, 0x0341, 0x200E, 0x200F, 0x202A...0x202E, 0xE_0001, 0xE_0020...0xE_007F:
            true
        // C.4.
        default: scalar.isNoncharacter || isBlank(scalar)
        }
    }

    /// RFC 3454 section 6: a text with a character that is written from right to left has none that is written from left
    /// to right, and begins and ends with one of the first kind.
    private static func keepsDirection(_ scalars: [Unicode.Scalar]) -> Bool {
        let directions = scalars.map(\.direction)
        func isRightToLeft(_ direction: Direction?) -> Bool { direction == .right || direction == .arabic }
        guard directions.contains(where: isRightToLeft) else { return true }
        return !directions.contains(.left) && isRightToLeft(directions.first) && isRightToLeft(directions.last)
    }
}
