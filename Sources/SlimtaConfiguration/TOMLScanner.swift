// Where things are in a TOML text. TOMLKit's values carry no positions and its parser stops at the first mistake; this
// scanner knows just enough of TOML 1.0 to tell the line of each key path, and from where to where each statement goes,
// so that a broken one can be taken out. It judges nothing that the parser judges. Used by TOMLDocument.

internal import SlimtaMail

/// A table's header or a key with its value.
struct TOMLStatement: Equatable {
    enum Kind: Equatable {
        /// `[a.b]` or `[[a.b]]`; the keys as far as they could be read.
        case header(isArray: Bool, keys: [String])
        /// `a.b = value`; the path is nil if the key or the "=" could not be read.
        case value(path: String?)
    }

    var kind: Kind
    /// From 1.
    var lines: ClosedRange<Int>
    /// The path of the table that it is in.
    var table: String
    /// What has no end and where that began: the end of the statement is then a guess.
    var problem: TOMLProblem?
    /// What the parser must not see: it would end the process, or silently take something else for it.
    var poison: TOMLProblem?
}

/// A mistake that the scanner sees better than the parser, which notices it only where it can go on no longer.
struct TOMLProblem: Equatable {
    /// From 1.
    var line: Int
    var text: String
}

/// The statements of a text and the lines of its key paths.
struct TOMLScanner {
    private(set) var statements: [TOMLStatement] = []
    /// The line where each key path is first mentioned.
    private(set) var lineOf: [String: Int] = [:]

    private let text: [UInt8]
    private var position = 0
    private var line = 1
    /// The path of the table that the last header began.
    private var table = ""
    /// How many elements each array of tables has so far.
    private var arrays: [String: Int] = [:]
    private var problem: TOMLProblem?
    private var poison: TOMLProblem?
    private var depth = 0

    init(_ text: [UInt8]) {
        self.text = text
        if text.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
        scan()
    }

    private mutating func scan() {
        while true {
            skipBlankLines()
            guard position < text.count else { return }
            let first = line
            (problem, poison) = (nil, nil)
            let before = table
            let kind = text[position] == UInt8(ascii: "[") ? scanHeader() : scanKeyAndValue()
            // It goes to the end of its last line, unless it ended before a line that looks like the next statement.
            var last = line
            if line > first, isFirstInLine { last -= 1 } else { skipToLineEnd() }
            var statement = TOMLStatement(
                kind: kind, lines: first...last, table: before, problem: problem, poison: poison)
            if case .header = kind { statement.table = table }
            statements.append(statement)
        }
    }

    // MARK: statements

    private mutating func scanHeader() -> TOMLStatement.Kind {
        let first = line
        advance()
        let isArray = peek == UInt8(ascii: "[")
        if isArray { advance() }
        skipBlanks()
        // The parser asserts that a key or "]" is there.
        if let octet = peek, !Self.beginsKey(octet), octet != UInt8(ascii: "]") {
            poison("the table's name is missing or begins with what needs quotes")
        }
        let keys = scanKeys()

        var path = ""
        for key in keys.dropLast() {
            path = KeyPath.joining(path, key)
            note(path, first)
            // [[a]] then [a.b]: b belongs to the last a
            if let count = arrays[path] { path = KeyPath.element(path, count - 1) }
        }
        if let key = keys.last {
            path = KeyPath.joining(path, key)
            note(path, first)
            if isArray {
                let index = arrays[path, default: 0]
                arrays[path] = index + 1
                path = KeyPath.element(path, index)
                note(path, first)
            }
        }
        table = path
        return .header(isArray: isArray, keys: keys)
    }

    private mutating func scanKeyAndValue() -> TOMLStatement.Kind {
        let first = line
        let keys = scanKeys()
        skipBlanks()
        guard !keys.isEmpty, peek == UInt8(ascii: "=") else { return .value(path: nil) }
        advance()
        let path = note(keys, in: table, first)
        skipBlanks()
        scanValue(path)
        return .value(path: path)
    }

    /// Dotted keys, as far as they can be read.
    private mutating func scanKeys() -> [String] {
        var keys: [String] = []
        while true {
            skipBlanks()
            guard let key = scanKey() else { return keys }
            keys.append(key)
            skipBlanks()
            guard peek == UInt8(ascii: ".") else { return keys }
            advance()
        }
    }

    private mutating func scanKey() -> String? {
        switch peek {
        case UInt8(ascii: "\""), UInt8(ascii: "'"): return scanString()
        case let octet? where KeyPath.isBareOctet(octet):
            let start = position
            while let octet = peek, KeyPath.isBareOctet(octet) { advance() }
            return String(decoding: text[start..<position], as: UTF8.self)
        case _?, nil: return nil
        }
    }

    // MARK: values

    private mutating func scanValue(_ path: String) {
        switch peek {
        case UInt8(ascii: "\""), UInt8(ascii: "'"): _ = scanString()
        case UInt8(ascii: "["): nested { $0.scanArray(path) }
        case UInt8(ascii: "{"): nested { $0.scanInlineTable(path) }
        case _?, nil:
            // A number, a date, a word: the parser knows what it may be.
            let start = position
            while let octet = peek, !Self.endsWord.contains(octet) { advance() }
            // "1979-05-27T" and no digit behind it: the parser asserts that there is one.
            let word = text[start..<position]
            if word.count > 10, Self.isDate(word.prefix(10)), word[start + 10] | 0x20 == UInt8(ascii: "t"),
                word.count == 11 || !word[start + 11].isASCIIDigit
            {
                poison("a date is followed by what is no time")
            }
            // "1979-05-27 7": the parser takes the blank for the one of a date and time, and asserts that more follows.
            if position - start == 10, peek == UInt8(ascii: " "), let digit = peek(1),
                digit.isASCIIDigit, peek(2).map(Self.endsWord.contains) ?? true
            {
                poison("a date is followed by what is no time")
            }
        }
    }

    private mutating func nested(_ body: (inout TOMLScanner) -> Void) {
        guard depth < 64 else {
            fail(line, "values are nested too deeply")
            return
        }
        depth += 1
        body(&self)
        depth -= 1
    }

    private mutating func scanArray(_ path: String) {
        let first = line
        advance()
        var index = 0
        while true {
            skipBlankLines()
            guard position < text.count, !(line > first && isFirstInLine && looksLikeStatement) else {
                fail(first, "the array that begins here has no end")
                return
            }
            switch text[position] {
            case UInt8(ascii: "]"):
                advance()
                return
            case UInt8(ascii: ","):
                advance()
                index += 1
            default:
                let element = KeyPath.element(path, index)
                note(element, line)
                // The parser asserts that a value may begin so.
                if !Self.beginsValue(text[position]) { poison("a value in the list begins with what cannot begin one") }
                let start = position
                scanValue(element)
                if position == start { advance() }
            }
        }
    }

    /// TOML 1.0 wants it in one line. If it ends some lines later, all of it is one broken statement; else its first
    /// line is.
    private mutating func scanInlineTable(_ path: String) {
        let first = line
        advance()
        var lineEnd: (position: Int, line: Int)?
        while true {
            skipBlanks()
            switch peek {
            case UInt8(ascii: "}"):
                advance()
                return
            case UInt8(ascii: ","): advance()
            case nil, UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "#"):
                fail(line, "the inline table has no end in this line")
                // One within another leaves that to the outer one: each looking ahead on its own would never end.
                guard depth == 1 else { return }
                lineEnd = lineEnd ?? (position, line)
                skipBlankLines()
                let hasNoEnd = peek == nil || peek == UInt8(ascii: "[") || peek == UInt8(ascii: "\r")
                if let lineEnd, hasNoEnd || line > first + 50 {
                    (position, line) = lineEnd
                    return
                }
            case _?:
                let start = position
                let keys = scanKeys()
                skipBlanks()
                if !keys.isEmpty, peek == UInt8(ascii: "=") {
                    advance()
                    skipBlanks()
                    scanValue(note(keys, in: path, line))
                }
                if position == start { advance() }
            }
        }
    }

    // MARK: strings

    /// The text of the string that begins here; nil if it has no end or a wrong escape.
    private mutating func scanString() -> String? {
        let quote = text[position]
        let isBasic = quote == UInt8(ascii: "\"")
        let first = line
        advance()
        guard !(peek == quote && peek(1) == quote) else {
            advance()
            advance()
            scanMultilineString(quote, isBasic, first)
            return nil  // as a value its text is not asked for, as a key it is not allowed
        }
        var content: [UInt8] = []
        var isSound = true
        while let octet = peek, octet != UInt8(ascii: "\n") {
            advance()
            if octet == quote { return isSound ? String(decoding: content, as: UTF8.self) : nil }
            if isBasic, octet == UInt8(ascii: "\\") {
                isSound = scanEscape(&content) && isSound
            } else {
                content.append(octet)
            }
        }
        fail(first, "the string has no end in this line")
        return nil
    }

    private mutating func scanMultilineString(_ quote: UInt8, _ isBasic: Bool, _ first: Int) {
        var ignored: [UInt8] = []
        while let octet = peek {
            if octet == quote, peek(1) == quote, peek(2) == quote {
                // One or two quotes right before the end belong to the string.
                var count = 0
                while peek == quote, count < 5 {
                    advance()
                    count += 1
                }
                return
            }
            advance()
            if isBasic, octet == UInt8(ascii: "\\") { _ = scanEscape(&ignored) }
        }
        fail(first, "the multi-line string that begins here has no end")
    }

    /// What is behind a backslash; false if it is no escape.
    private mutating func scanEscape(_ content: inout [UInt8]) -> Bool {
        guard let octet = peek, octet != UInt8(ascii: "\n") else { return false }
        advance()
        switch octet {
        case UInt8(ascii: "b"): content.append(8)
        case UInt8(ascii: "t"): content.append(9)
        case UInt8(ascii: "n"): content.append(10)
        case UInt8(ascii: "f"): content.append(12)
        case UInt8(ascii: "r"): content.append(13)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): content.append(octet)
        case UInt8(ascii: "u"), UInt8(ascii: "U"):
            var value: UInt32 = 0
            for _ in 0..<(octet == UInt8(ascii: "u") ? 4 : 8) {
                guard let digit = peek, let nibble = digit.hexadecimalValue else {
                    return false
                }
                value = value << 4 | UInt32(nibble)
                advance()
            }
            guard let scalar = Unicode.Scalar(value) else { return false }
            if value == 0 { poison("an escape stands for NUL, which no value may contain") }
            content.append(contentsOf: String(Character(scalar)).utf8)
        default: return false
        }
        return true
    }

    // MARK: octets

    private mutating func fail(_ line: Int, _ text: String) {
        if problem == nil { problem = TOMLProblem(line: line, text: text) }
    }

    private mutating func poison(_ text: String) {
        if poison == nil { poison = TOMLProblem(line: line, text: text) }
    }

    /// Whether it is digits and hyphens as in "1979-05-27".
    private static func isDate(_ word: ArraySlice<UInt8>) -> Bool {
        zip(word, "0000-00-00".utf8).allSatisfy { octet, form in
            form == UInt8(ascii: "-") ? octet == form : octet.isASCIIDigit
        }
    }

    private static func beginsKey(_ octet: UInt8) -> Bool {
        KeyPath.isBareOctet(octet) || octet == UInt8(ascii: "\"") || octet == UInt8(ascii: "'")
    }

    private static func beginsValue(_ octet: UInt8) -> Bool {
        beginsKey(octet)
            || [UInt8(ascii: "["), UInt8(ascii: "{"), UInt8(ascii: "+"), UInt8(ascii: ".")].contains(octet)
    }

    private var peek: UInt8? { position < text.count ? text[position] : nil }

    private func peek(_ offset: Int) -> UInt8? { position + offset < text.count ? text[position + offset] : nil }

    private mutating func advance() {
        if text[position] == UInt8(ascii: "\n") { line += 1 }
        position += 1
    }

    /// Whether nothing but blanks is before this in its line.
    private var isFirstInLine: Bool {
        var before = position
        while before > 0, text[before - 1] == UInt8(ascii: " ") || text[before - 1] == UInt8(ascii: "\t") {
            before -= 1
        }
        return before == 0 || text[before - 1] == UInt8(ascii: "\n")
    }

    private mutating func skipBlanks() {
        while let octet = peek, octet == UInt8(ascii: " ") || octet == UInt8(ascii: "\t") { advance() }
    }

    private mutating func skipToLineEnd() {
        while let octet = peek, octet != UInt8(ascii: "\n") { advance() }
    }

    /// Skips blanks, line ends and comments.
    private mutating func skipBlankLines() {
        while true {
            skipBlanks()
            switch peek {
            case UInt8(ascii: "\n"): advance()
            case UInt8(ascii: "\r") where peek(1) == UInt8(ascii: "\n"): advance()
            case UInt8(ascii: "#"): skipToLineEnd()
            case _?, nil: return
            }
        }
    }

    /// Whether the line, which should go on with an array, begins with what cannot be in one: `key =` or `[key]`.
    private var looksLikeStatement: Bool {
        var ahead = self
        if ahead.peek == UInt8(ascii: "[") {
            ahead.advance()
            if ahead.peek == UInt8(ascii: "[") { ahead.advance() }
            ahead.skipBlanks()
            guard let octet = ahead.peek, KeyPath.isBareOctet(octet), let key = ahead.scanKey() else { return false }
            ahead.skipBlanks()
            // [true] and [1] may be elements, and are no names that slimta.conf has
            return ["true", "false", "inf", "nan"].contains(key) == false
                && !octet.isASCIIDigit
                && (ahead.peek == UInt8(ascii: "]") || ahead.peek == UInt8(ascii: "."))
        }
        // A multi-line string is no key.
        if let quote = ahead.peek, !KeyPath.isBareOctet(quote), ahead.peek(1) == quote, ahead.peek(2) == quote {
            return false
        }
        let keys = ahead.scanKeys()
        ahead.skipBlanks()
        return !keys.isEmpty && ahead.peek == UInt8(ascii: "=")
    }

    @discardableResult
    private mutating func note(_ keys: [String], in table: String, _ line: Int) -> String {
        var path = table
        for key in keys {
            path = KeyPath.joining(path, key)
            note(path, line)
        }
        return path
    }

    private mutating func note(_ path: String, _ line: Int) {
        if lineOf[path] == nil { lineOf[path] = line }
    }

    private static let endsWord: Set<UInt8> = Set(" \t\r\n#,]}=".utf8)
}
