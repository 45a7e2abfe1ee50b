// PRECIS: which names are the same, and which passwords (RFC 8264, RFC 8265). Used for logins and passwords that come in clear:
// SCRAM itself still says SASLprep.

/// The profiles of RFC 8265. Texts are UTF-8; nil: not UTF-8, empty, or with characters that the profile has no use for.
package enum PRECIS {
    /// A name in which case counts (RFC 8265 section 3.4).
    package static func usernameCasePreserved(_ name: some Collection<UInt8>) -> [UInt8]? {
        guard let scalars = [Unicode.Scalar](utf8: name) else { return nil }
        let mapped = scalars.flatMap(\.ofUsualWidth).normalized(.nfc)
        guard !mapped.isEmpty, PRECISClass.identifier.contains(mapped), keepsBidiRule(mapped) else { return nil }
        return mapped.utf8
    }

    /// A password (RFC 8265 section 4.2).
    package static func opaqueString(_ password: some Collection<UInt8>) -> [UInt8]? {
        guard let scalars = [Unicode.Scalar](utf8: password) else { return nil }
        let mapped = scalars.map { $0.isBlank ? " " : $0 }.normalized(.nfc)
        guard !mapped.isEmpty, PRECISClass.freeform.contains(mapped) else { return nil }
        return mapped.utf8
    }

    /// RFC 5893 section 2, for names with a character that is written from right to left; the first condition of it, and
    /// then those for the direction that the first character says.
    private static func keepsBidiRule(_ name: [Unicode.Scalar]) -> Bool {
        let directions = name.map(\.direction)
        guard directions.contains(where: { [.right, .arabic, .arabicNumber].contains($0) }) else { return true }
        let last = directions.last { $0 != .mark }
        switch directions.first {
        case .right, .arabic:
            let allowed: Set<Direction> = [
                .right, .arabic, .arabicNumber, .europeanNumber, .separator, .terminator, .neutral, .mark,
            ]
            return directions.allSatisfy(allowed.contains)
                && [.right, .arabic, .europeanNumber, .arabicNumber].contains(last)
                && !(directions.contains(.europeanNumber) && directions.contains(.arabicNumber))
        // A name from left to right has none of the others in it (condition 5): here it has.
        default: return false
        }
    }
}

/// Which characters a class of texts has (RFC 8264 section 4).
enum PRECISClass {
    /// Names: letters and digits, and what of ASCII can be seen.
    case identifier
    /// Passwords: also blanks, symbols and punctuation.
    case freeform

    /// Whether all of `text` is of the class.
    func contains(_ text: [Unicode.Scalar]) -> Bool {
        text.indices.allSatisfy { isValid(text[$0]) ?? ContextRule.allows(text, at: $0) }
    }

    /// RFC 8264 section 8, in its order; nil: it depends on what stands beside it.
    private func isValid(_ scalar: Unicode.Scalar) -> Bool? {
        switch scalar.value {
        // Exceptions (RFC 5892 section 2.6).
        case 0x00DF, 0x03C2, 0x06FD, 0x06FE, 0x0F0B, 0x3007: return true
        case 0x00B7, 0x0375, 0x05F3, 0x05F4, 0x30FB, 0x0660...0x0669, 0x06F0...0x06F9: return nil
        case 0x0640, 0x07FA, 0x302E, 0x302F, 0x3031...0x3035, 0x303B: return false
        default: break
        }
        if scalar.isUnassigned { return false }
        switch scalar.value {
        case 0x21...0x7E: return true
        // Join controls.
        case 0x200C, 0x200D: return nil
        // Old Hangul: Hangul_Syllable_Type of L, V or T.
        case 0x1100...0x11FF, 0xA960...0xA97C, 0xD7B0...0xD7C6, 0xD7CB...0xD7FB: return false
        default: break
        }
        if scalar.isIgnorable || scalar.isNoncharacter || scalar.isControl { return false }
        if scalar.hasCompatibility { return self == .freeform }
        if scalar.isLetterOrDigit { return true }
        return self == .freeform && scalar.isFreeText
    }
}

/// Characters that are allowed only beside certain others (RFC 5892 appendix A).
private enum ContextRule {
    static func allows(_ text: [Unicode.Scalar], at place: Int) -> Bool {
        let before = place > 0 ? text[place - 1] : nil
        let behind = place + 1 < text.count ? text[place + 1] : nil
        switch text[place].value {
        // A.1 ZERO WIDTH NON-JOINER: behind a virama, or between letters that would be joined.
        case 0x200C: return before?.isVirama == true || standsBetweenJoining(text, place)
        // A.2 ZERO WIDTH JOINER.
        case 0x200D: return before?.isVirama == true
        // A.3 MIDDLE DOT, of Catalan.
        case 0x00B7: return before == "l" && behind == "l"
        // A.4 GREEK LOWER NUMERAL SIGN.
        case 0x0375: return behind?.script == "Greek"
        // A.5 and A.6 HEBREW PUNCTUATION GERESH and GERSHAYIM.
        case 0x05F3, 0x05F4: return before?.script == "Hebrew"
        // A.7 KATAKANA MIDDLE DOT.
        case 0x30FB: return text.contains { ["Hiragana", "Katakana", "Han"].contains($0.script) }
        // A.8 ARABIC-INDIC DIGITS, A.9 EXTENDED ARABIC-INDIC DIGITS: one kind of them.
        case 0x0660...0x0669: return !text.contains { (0x06F0...0x06F9).contains($0.value) }
        case 0x06F0...0x06F9: return !text.contains { (0x0660...0x0669).contains($0.value) }
        default: return false
        }
    }

    private static func standsBetweenJoining(_ text: [Unicode.Scalar], _ place: Int) -> Bool {
        let before = text[..<place].map(\.joining).last { $0 != .transparent }
        let behind = text[(place + 1)...].map(\.joining).first { $0 != .transparent }
        return [.left, .both].contains(before) && [.right, .both].contains(behind)
    }
}
