// Reads the subset of YAML in which the suite of RFC 7208 is written: nested maps and lists by indentation, plain, quoted
// and folded scalars, flow lists of scalars. An octet of a scalar is what its escape says, not UTF-8 of it.

import SlimtaMail

/// A value of the suite.
enum SuiteNode {
    case scalar([UInt8])
    case list([SuiteNode])
    case map([(key: [UInt8], value: SuiteNode)])

    subscript(key: String) -> SuiteNode? {
        guard case .map(let pairs) = self else { return nil }
        return pairs.first { $0.key.elementsEqual(key.utf8) }?.value
    }

    var octets: [UInt8] { if case .scalar(let octets) = self { octets } else { [] } }
    var text: String { String(decoding: octets, as: UTF8.self) }
    /// Its members; itself, if it is none.
    var members: [SuiteNode] { if case .list(let members) = self { members } else { [self] } }
    var pairs: [(key: [UInt8], value: SuiteNode)] { if case .map(let pairs) = self { pairs } else { [] } }
}

/// The documents of a file.
struct SuiteReader {
    private struct Line {
        var indent: Int
        var text: Substring
    }

    private var lines: ArraySlice<Line>

    static func documents(_ octets: [UInt8]) -> [SuiteNode] {
        let lines = String(decoding: octets, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
            .map { Line(indent: $0.prefix { $0 == " " }.count, text: $0.drop { $0 == " " }) }
            .filter { !$0.text.isEmpty && !$0.text.hasPrefix("#") }
        return lines.split { $0.text == "---" }.map { part in
            var reader = SuiteReader(lines: part)
            return reader.block()
        }
    }

    /// What stands at the indentation of the next line.
    private mutating func block() -> SuiteNode {
        guard let indent = lines.first?.indent else { return .scalar([]) }
        var members: [SuiteNode] = []
        var pairs: [(key: [UInt8], value: SuiteNode)] = []
        while let line = lines.first, line.indent == indent {
            lines.removeFirst()
            if line.text.hasPrefix("- ") {
                let item = line.text.dropFirst(2)
                if let (key, value) = Self.pair(item) {
                    members.append(.map([(key, Self.value(value))]))
                } else {
                    members.append(Self.value(item))
                }
            } else if let (key, value) = Self.pair(line.text) {
                pairs.append((key, nested(value, below: indent)))
            }
        }
        return members.isEmpty ? .map(pairs) : .list(members)
    }

    /// The value behind a key, which may go on in lines below it.
    private mutating func nested(_ value: Substring, below indent: Int) -> SuiteNode {
        if value.isEmpty {
            guard let next = lines.first, next.indent > indent else { return .scalar([]) }
            return block()
        }
        let isFolded = value.hasPrefix(">") || value.hasPrefix("|")
        var parts = isFolded ? [] : [value]
        while let line = lines.first, line.indent > indent {
            parts.append(line.text)
            lines.removeFirst()
        }
        let whole = parts.joined(separator: " ")
        return isFolded ? .scalar(Array(whole.utf8)) : Self.value(whole[...])
    }

    /// A key, quoted or plain, and what is behind its colon.
    private static func pair(_ text: Substring) -> (key: [UInt8], value: Substring)? {
        var rest = text
        let key: [UInt8]
        if text.hasPrefix("\"") {
            key = quoted(&rest)
            guard rest.hasPrefix(":") else { return nil }
            rest = rest.dropFirst()
        } else {
            guard !text.hasPrefix("[") else { return nil }
            if let range = text.utf8.indices.first(where: { text[$0...].hasPrefix(": ") }) {
                key = Array(text[..<range].utf8)
                rest = text[range...].dropFirst()
            } else if text.hasSuffix(":") {
                key = Array(text.dropLast().utf8)
                rest = ""
            } else {
                return nil
            }
        }
        return (key, rest.drop { $0 == " " })
    }

    private static func value(_ text: Substring) -> SuiteNode {
        guard text.hasPrefix("[") else {
            var rest = text
            return .scalar(scalar(&rest, until: ""))
        }
        var rest = text.dropFirst().drop { $0 == " " }
        var members: [SuiteNode] = []
        while let first = rest.first, first != "]" {
            members.append(.scalar(scalar(&rest, until: ",]")))
            rest = rest.drop { $0 == " " || $0 == "," }
        }
        return .list(members)
    }

    private static func scalar(_ rest: inout Substring, until stops: String) -> [UInt8] {
        switch rest.first {
        case "\"": return quoted(&rest)
        case "'":
            let inner = rest.dropFirst().prefix { $0 != "'" }
            rest = rest[inner.endIndex...].dropFirst()
            return Array(inner.utf8)
        default:
            let plain = rest.prefix { !stops.contains($0) }
            rest = rest[plain.endIndex...]
            return Array(
                plain[..<(plain.lastIndex { $0 != " " }.map { plain.index(after: $0) } ?? plain.startIndex)].utf8)
        }
    }

    /// A string in double quotes, with `\x` and `\0`.
    private static func quoted(_ rest: inout Substring) -> [UInt8] {
        var octets: [UInt8] = []
        rest.removeFirst()
        while let character = rest.popFirst(), character != "\"" {
            guard character == "\\", let escape = rest.popFirst() else {
                octets += String(character).utf8
                continue
            }
            switch escape {
            case "x":
                octets.append(UInt8(rest.prefix(2), radix: 16) ?? 0)
                rest = rest.dropFirst(2)
            case "0": octets.append(0)
            default: octets += String(escape).utf8
            }
        }
        return octets
    }
}
