// What may be shown of text that somebody else wrote. Used for log lines, for tables on terminals, and for names that
// people have to tell apart.

extension Unicode.Scalar {
    /// Whether it is seen, and does nothing else: no control characters (escape sequences begin with one), nothing that
    /// turns the direction of text around (U+202E), joins, hides or is not assigned.
    package var isVisible: Bool {
        if value < 0x7F { return value >= 0x20 }
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: return false
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .nonspacingMark,
            .spacingMark, .enclosingMark, .decimalNumber, .letterNumber, .otherNumber, .connectorPunctuation,
            .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
            .otherPunctuation, .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol, .spaceSeparator:
            // Fillers and variation selectors are letters and marks that nobody sees.
            return !properties.isDefaultIgnorableCodePoint
        @unknown default: return false
        }
    }

    /// As it is where it is visible, else as its number: `\x1b`, `\u202e`, `\U000e0041`.
    package var visible: String {
        if isVisible { return String(self) }
        let digits = String(value, radix: 16)
        let (prefix, count) = value < 0x80 ? ("\\x", 2) : value < 0x10000 ? ("\\u", 4) : ("\\U", 8)
        return prefix + String(repeating: "0", count: max(0, count - digits.count)) + digits
    }
}

extension StringProtocol {
    /// Whether all of it is visible.
    package var isVisible: Bool { unicodeScalars.allSatisfy(\.isVisible) }

    /// The text with what is not visible as numbers.
    package var visible: String {
        isVisible ? String(self) : unicodeScalars.reduce(into: "") { $0 += $1.visible }
    }
}
