// What may be shown of text that somebody else wrote. Used for log lines, for tables on terminals, and for names that
// people have to tell apart.

extension Unicode.Scalar {
    /// Whether it is seen, and does nothing else: no control characters (escape sequences begin with one), nothing that
    /// turns the direction of text around (U+202E), joins, hides or is not assigned.
    package var isVisible: Bool {
        if value < 0x7F { return value >= 0x20 }
        // Fillers and variation selectors are letters and marks that nobody sees.
        return isText && !properties.isDefaultIgnorableCodePoint
    }

    /// Whether it is a letter, mark, number, sign or blank, by its category.
    package var isText: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .nonspacingMark,
            .spacingMark, .enclosingMark, .decimalNumber, .letterNumber, .otherNumber, .connectorPunctuation,
            .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
            .otherPunctuation, .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol, .spaceSeparator:
            true
        @unknown default: false
        }
    }

    /// As it is where it is visible, else as its number: `\x1b`, `\u202e`, `\U000e0041`.
    package var visible: String {
        isVisible ? String(self) : asNumber
    }

    fileprivate var asNumber: String {
        let (prefix, digits) = value < 0x80 ? ("\\x", 2) : value < 0x10000 ? ("\\u", 4) : ("\\U", 8)
        return prefix + String(hexadecimal: value, digits: digits)
    }
}

extension StringProtocol {
    /// Whether all of it is visible.
    package var isVisible: Bool { unicodeScalars.allSatisfy(\.isVisible) }

    /// The text with what is not visible as numbers.
    package var visible: String {
        isVisible ? String(self) : unicodeScalars.reduce(into: "") { $0 += $1.visible }
    }

    /// As ``visible``, with what is not ASCII as numbers too: for replies to who has not asked for UTF-8.
    package var visibleASCII: String {
        unicodeScalars.reduce(into: "") { $0 += $1.isASCII ? $1.visible : $1.asNumber }
    }
}

extension String {
    /// Whether there is a character in it that ends a line for some program or steers a terminal: the controls of ASCII,
    /// those above it (U+0080 to U+009F), and Unicode's own line and paragraph separators.
    package var hasControls: Bool { unicodeScalars.contains(where: \.endsLineOrSteers) }

    /// The beginning of it, at most `limit` octets: whole scalars. Characters can be of any length, and strangers make them.
    package func cut(toOctets limit: Int) -> String {
        if utf8.count <= limit { return self }
        var count = 0
        let end = unicodeScalars.firstIndex { scalar in
            count += UTF8.width(scalar)
            return count > limit
        }
        return String(unicodeScalars[..<(end ?? unicodeScalars.endIndex)])
    }
}

extension Unicode.Scalar {
    /// As ``String/hasControls``.
    package var endsLineOrSteers: Bool {
        value < 32 || (127...159).contains(value) || (0x2028...0x2029).contains(value)
    }
}
