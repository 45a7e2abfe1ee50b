// What the words of the TOML parser leave out: which character of a line is none of TOML's, as text from web pages and
// word processors has, and where a thing is that may not be said twice. Used by `TOMLDocument`.

enum TOMLHint {
    /// What is to be said behind a mistake in this line; empty: nothing.
    static func text(for line: [UInt8]) -> String {
        guard let scalar = strayScalar(in: String(decoding: line, as: UTF8.self)) else { return "" }
        if quotes.contains(scalar) { return "; \(scalar) is no quote of TOML: write \"" }
        return "; an invisible character U+\(hexadecimal(scalar)) is in the line: write a plain space"
    }

    /// Instead of the parser's words, if they are that a table or key is there already; nil: they are not, or it is not
    /// known where.
    static func again(_ statement: TOMLStatement, _ message: String, _ lineOf: [String: Int]) -> String? {
        guard message.contains("cannot redefine existing") else { return nil }
        let line = statement.lines.lowerBound
        switch statement.kind {
        case .header(let isArray, let keys):
            let path = keys.reduce("", KeyPath.joining)
            guard let first = lineOf[path], first < line else { return nil }
            return isArray
                ? "\(path) is there already, in line \(first), and no list of tables"
                : "[\(path)] is there already, from line \(first) on: what is in it belongs there"
        case .value(let path?):
            guard let first = lineOf[path], first < line else { return nil }
            return "\(path) is there already, in line \(first)"
        case .value(nil): return nil
        }
    }

    private static let quotes = Set("‘’‚‛“”„‟«»′″".unicodeScalars)

    private static func isInvisible(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0xA0, 0x1680, 0x2000...0x200F, 0x2028...0x202F, 0x205F...0x2064, 0x3000, 0xFEFF: true
        default: false
        }
    }

    /// The first one that is neither in a string nor in a comment; in a string that has no end, the quote that was to be it.
    private static func strayScalar(in line: String) -> Unicode.Scalar? {
        var end: Unicode.Scalar?
        var isEscaped = false
        var quoteInString: Unicode.Scalar?
        for scalar in line.unicodeScalars {
            if let quote = end {
                if isEscaped {
                    isEscaped = false
                } else if scalar == quote {
                    end = nil
                } else if scalar == "\\", quote == "\"" {
                    isEscaped = true
                } else if quotes.contains(scalar) {
                    quoteInString = quoteInString ?? scalar
                }
                continue
            }
            switch scalar {
            case "#": return nil
            case "\"", "'": (end, quoteInString) = (scalar, nil)
            default: if quotes.contains(scalar) || isInvisible(scalar) { return scalar }
            }
        }
        return end == nil ? nil : quoteInString
    }

    private static func hexadecimal(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}
