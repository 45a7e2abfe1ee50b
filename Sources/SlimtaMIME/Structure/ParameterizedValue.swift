// The value of Content-Type or Content-Disposition, read as mail clients read it: what they make a name of must not be
// hidden from us by a missing quote. Used by MIMEEntity, and by the writer of such fields (Header/).

internal import SlimtaMail

/// A value with parameters behind it (RFC 2045 section 5.1, RFC 2183 section 2, RFC 2231).
package struct ParameterizedValue: Hashable, Sendable {
    /// One parameter as it stands there.
    package struct Parameter: Hashable, Sendable {
        /// In lower case, with what RFC 2231 puts behind it: "filename*0*".
        package let name: String
        /// Without quotes and folding.
        package let value: [UInt8]
        /// Where it stands among the octets that were read.
        let range: Range<Int>

        /// What RFC 2231 makes of its name: the name itself, the number of the piece (section 3), and whether its value is
        /// percent-encoded (section 4).
        var piece: (base: String, number: Int?, isExtended: Bool) {
            var octets = name.utf8[...]
            let isExtended = octets.last == UInt8(ascii: "*")
            if isExtended { octets = octets.dropLast() }
            guard let star = octets.lastIndex(of: UInt8(ascii: "*")),
                let number = Int(String(octets[octets.index(after: star)...]) ?? ""), (0...9999).contains(number)
            else { return (String(octets) ?? name, nil, isExtended) }
            return (String(octets[..<star]) ?? name, number, isExtended)
        }
    }

    /// What several parameters are together by RFC 2231.
    package struct Extended: Hashable, Sendable {
        /// As it is named, in lower case; empty: not said.
        package let charset: String
        /// With percent-encoding undone.
        package let value: [UInt8]
    }

    /// What is before the parameters, in lower case, without comments, and without blanks around it or "/".
    package let value: String
    /// ``value``, and what it is for programs that end it at the first blank.
    let readings: [String]
    /// In their order.
    package let parameters: [Parameter]
    /// Where ``value`` stands.
    let head: Range<Int>

    /// Reads all of `octets`, folded or not. There is nothing that it does not read.
    package init(parsing octets: some Sequence<UInt8>) {
        var parser = ParameterParser(octets)
        head = parser.head()
        value = parser.text(of: head)
        let word = parser.text(of: parser.firstWord(of: head))
        readings = word == value ? [value] : [value, word]
        parameters = parser.parameters()
    }

    /// ``value`` such that it has the same ``readings`` when it is written.
    var withoutComments: String {
        guard readings.count > 1, !readings[1].isEmpty, readings[1].utf8.last != UInt8(ascii: "/") else { return value }
        let behind = value.utf8.dropFirst(readings[1].utf8.count)
        // Where nothing but the second half of a type is behind the blank, none is wanted.
        return behind.first == UInt8(ascii: "/") ? value : "\(readings[1]) \(String(behind) ?? "")"
    }

    /// The boundary of a multipart (RFC 2046 section 5.1.1); nil: there is none that a line could have.
    package var boundary: [UInt8]? {
        let plain = parameters.first { $0.name == "boundary" }?.value
        return Self.boundary(plain ?? extended("boundary")?.value ?? [])
    }

    /// ``boundary``, and others that some client may take for it: of a parameter that is there several times, or in both forms.
    var boundaries: [[UInt8]] {
        let plain = parameters.filter { $0.name == "boundary" }.map(\.value)
        return (plain + [extended("boundary")?.value ?? []]).compactMap(Self.boundary)
    }

    private static func boundary(_ value: [UInt8]) -> [UInt8]? {
        var boundary = value
        while let last = boundary.last, last == 0x20 || last == 0x09 { boundary.removeLast() }
        let isLine = !boundary.contains { $0 == 0 || $0 == 0x0A || $0 == 0x0D }
        return (1...longestBoundary).contains(boundary.count) && isLine ? boundary : nil
    }

    /// Longer ones are looked for in no line. RFC 2046 allows 70, clients take more.
    static let longestBoundary = 900

    /// Whether it is a boundary as RFC 2046 section 5.1.1 wants it; signs beyond its bchars are seen and do no harm.
    static func isLegal(boundary: [UInt8]) -> Bool {
        boundary.count <= 70 && boundary.allSatisfy { (0x20...0x7E).contains($0) }
    }

    /// What stands in the forms of RFC 2231 for `name`; nil: nothing does.
    package func extended(_ name: String) -> Extended? {
        Self.extended(parameters.filter { $0.piece.base == name })
    }

    /// What parameters of one base are together, as far as they are in the forms of RFC 2231.
    static func extended(_ parameters: [Parameter]) -> Extended? {
        var pieces: [Int: Parameter] = [:]
        for parameter in parameters {
            let piece = parameter.piece
            if let number = piece.number {
                if pieces[number] == nil { pieces[number] = parameter }
            } else if piece.isExtended {
                return joined([parameter])
            }
        }
        var row: [Parameter] = []
        while let next = pieces[row.count] { row.append(next) }
        return row.isEmpty ? nil : joined(row)
    }

    private static func joined(_ pieces: [Parameter]) -> Extended {
        var (charset, value) = ("", [UInt8]())
        for (index, piece) in pieces.enumerated() {
            guard piece.piece.isExtended else {
                value += piece.value
                continue
            }
            var text = piece.value[...]
            // charset'language'value; section 4.1: only the first piece has them
            if index == 0, let first = text.firstIndex(of: UInt8(ascii: "'")),
                let second = text[(first + 1)...].firstIndex(of: UInt8(ascii: "'"))
            {
                charset = String(decoding: text[..<first], as: UTF8.self).asciiLowercased()
                text = text[(second + 1)...]
            }
            value += text.unescaped(by: UInt8(ascii: "%"))
        }
        return Extended(charset: charset, value: value)
    }

    /// The texts that clients may take for the parameter `name`: each of that name, and that of RFC 2231.
    func texts(of name: String) -> [String] {
        var texts = parameters.filter { $0.name == name }.map { EncodedWordReader.name($0.value) }
        if let extended = extended(name) {
            texts.insert(EncodedWordReader.name(extended.value, charset: extended.charset), at: 0)
        }
        return texts
    }
}

/// Reads a value with parameters from beginning to end.
private struct ParameterParser {
    private let octets: [UInt8]
    private var offset = 0
    /// Whether a "(" begins a comment. One that never ends is looked for once: there could be one at every octet.
    private var hasComments = true

    init(_ octets: some Sequence<UInt8>) { self.octets = Array(octets) }

    private static func isBlank(_ octet: UInt8) -> Bool {
        octet == 0x20 || octet == 0x09 || octet == 0x0D || octet == 0x0A
    }

    /// What is before the first ";", or before the first parameter where the ";" is missing.
    mutating func head() -> Range<Int> {
        var end = 0
        // Where the last word began: it is the name of a parameter if a "=" follows.
        var word = 0
        var wasBlank = true
        scan: while end < octets.count {
            switch octets[end] {
            case UInt8(ascii: ";"): break scan
            case UInt8(ascii: "(") where hasComments:
                end = endOfComment(from: end)
                wasBlank = true
                continue scan
            case UInt8(ascii: "="):
                offset = word
                return 0..<word
            case let octet where Self.isBlank(octet): wasBlank = true
            default:
                if wasBlank { word = end }
                wasBlank = false
            }
            end += 1
        }
        offset = end
        return 0..<end
    }

    /// What is there before the first blank or comment, which may be nothing.
    func firstWord(of range: Range<Int>) -> Range<Int> {
        let start = octets[range].firstIndex { !Self.isBlank($0) } ?? range.upperBound
        let end = octets[start..<range.upperBound].firstIndex { Self.isBlank($0) || $0 == UInt8(ascii: "(") }
        return start..<(end ?? range.upperBound)
    }

    /// A stretch in lower case without comments and blanks.
    mutating func text(of range: Range<Int>) -> String {
        var text: [UInt8] = []
        var index = range.lowerBound
        while index < range.upperBound {
            let octet = octets[index]
            if octet == UInt8(ascii: "("), hasComments {
                index = endOfComment(from: index)
                continue
            }
            if !Self.isBlank(octet) { text.append(octet.asciiLowercased()) }
            index += 1
        }
        return String(decoding: text, as: UTF8.self)
    }

    mutating func parameters() -> [ParameterizedValue.Parameter] {
        var parameters: [ParameterizedValue.Parameter] = []
        while true {
            skipBlanks(and: UInt8(ascii: ";"))
            guard offset < octets.count else { return parameters }
            let start = offset
            while offset < octets.count, octets[offset] != UInt8(ascii: "="), octets[offset] != UInt8(ascii: ";") {
                let isComment = hasComments && octets[offset] == UInt8(ascii: "(")
                offset = isComment ? endOfComment(from: offset) : offset + 1
            }
            guard offset < octets.count, octets[offset] == UInt8(ascii: "=") else { continue }
            let name = text(of: start..<offset)
            offset += 1
            skipBlanks()
            let value = value()
            parameters.append(.init(name: name, value: value.octets, range: start..<value.end))
        }
    }

    /// Blanks and comments, and such signs.
    private mutating func skipBlanks(and sign: UInt8? = nil) {
        while offset < octets.count {
            if hasComments, octets[offset] == UInt8(ascii: "(") {
                offset = endOfComment(from: offset)
            } else if Self.isBlank(octets[offset]) || octets[offset] == sign {
                offset += 1
            } else {
                return
            }
        }
    }

    /// A quoted-string, up to the end where its second quote is missing, or whatever there is up to a ";".
    private mutating func value() -> (octets: [UInt8], end: Int) {
        var value: [UInt8] = []
        if offset < octets.count, octets[offset] == UInt8(ascii: "\"") {
            offset += 1
            while offset < octets.count, octets[offset] != UInt8(ascii: "\"") {
                // Paths of other systems have backslashes that quote nothing.
                if octets[offset] == UInt8(ascii: "\\"), offset + 1 < octets.count,
                    octets[offset + 1] == UInt8(ascii: "\"") || octets[offset + 1] == UInt8(ascii: "\\")
                {
                    offset += 1
                }
                if octets[offset] != 0x0D, octets[offset] != 0x0A { value.append(octets[offset]) }
                offset += 1
            }
            offset = min(octets.count, offset + 1)
            return (value, offset)
        }
        let start = offset
        while offset < octets.count, octets[offset] != UInt8(ascii: ";") {
            // A comment has a blank before it: "report(1).pdf" has none in it.
            if hasComments, octets[offset] == UInt8(ascii: "("), offset == start || Self.isBlank(octets[offset - 1]) {
                break
            }
            if octets[offset] != 0x0D, octets[offset] != 0x0A { value.append(octets[offset]) }
            offset += 1
        }
        while let last = value.last, Self.isBlank(last) { value.removeLast() }
        return (value, offset)
    }

    /// Behind the comment that begins at `start` (RFC 5322 section 3.2.2), or `start` if it never ends.
    private mutating func endOfComment(from start: Int) -> Int {
        var depth = 0
        var index = start
        while index < octets.count {
            switch octets[index] {
            case UInt8(ascii: "\\"): index += 1
            case UInt8(ascii: "("): depth += 1
            case UInt8(ascii: ")"):
                depth -= 1
                if depth == 0 { return index + 1 }
            default: break
            }
            index += 1
        }
        hasComments = false
        return start
    }
}
