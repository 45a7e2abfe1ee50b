// JSON (RFC 8259 section 2): what the control socket speaks. The daemon writes it, the command line reads it again; Foundation's
// would come with Foundation.

internal import SlimtaMail

/// A JSON value. Two are the same if they are written in the same way: of 1 and 1.0 nothing is lost.
package enum JSON: Hashable, Sendable {
    case null
    case bool(Bool)
    /// An integer of 64 bits.
    case number(Int64)
    /// Any other number.
    case decimal(Decimal)
    case string(String)
    case array([JSON])
    case object([Member])

    /// A member of an object, which keeps the order in which it was written.
    package struct Member: Hashable, Sendable {
        /// The same only once in an object.
        package var name: String
        /// null is something else than no member.
        package var value: JSON

        /// For objects that are written by hand.
        package init(_ name: String, _ value: JSON) {
            self.name = name
            self.value = value
        }
    }

    /// A number with a fraction or an exponent, or one too large for 64 bits, as it is written (RFC 8259 section 6).
    package struct Decimal: Hashable, Sendable {
        /// The number as in JSON.
        package let text: String

        /// `text` is a number of JSON.
        init(written text: String) { self.text = text }

        /// nil for infinities and what is no number.
        package init?(_ value: Double) {
            guard value.isFinite else { return nil }
            text = "\(value)"
        }
    }

    /// A text, or null.
    package static func optional(_ text: String?) -> JSON { text.map { .string($0) } ?? .null }

    /// A count of anything.
    package static func count(_ number: some BinaryInteger) -> JSON { .number(Int64(clamping: number)) }

    // MARK: reading

    /// The member of an object; null where there is none.
    package subscript(_ name: String) -> JSON {
        guard case .object(let members) = self else { return .null }
        return members.first { $0.name == name }?.value ?? .null
    }

    /// The content of a string; nil of any other value.
    package var text: String? {
        if case .string(let text) = self { return text }
        return nil
    }

    /// A number that is written as an integer and has at most 64 bits.
    package var integer: Int64? {
        if case .number(let number) = self { return number }
        return nil
    }

    /// The nearest double to any number, such as the NumericDate of a JWT (RFC 7519 section 2); nil if it is too large.
    package var double: Double? {
        switch self {
        case .number(let number): Double(number)
        case .decimal(let decimal): Double(decimal.text).flatMap { $0.isFinite ? $0 : nil }
        case .null, .bool, .string, .array, .object: nil
        }
    }

    /// Whether it is the word true, and nothing like it.
    package var isTrue: Bool { self == .bool(true) }

    /// Those of an array; none of any other value.
    package var elements: [JSON] {
        if case .array(let elements) = self { return elements }
        return []
    }

    /// Those of an object; none of any other value.
    package var members: [Member] {
        if case .object(let members) = self { return members }
        return []
    }

    // MARK: writing

    /// Appends the value as text, in one line.
    package func write(to output: inout [UInt8]) {
        switch self {
        case .null: output += "null".utf8
        case .bool(let value): output += (value ? "true" : "false").utf8
        case .number(let number): output += String(number).utf8
        case .decimal(let number): output += number.text.utf8
        case .string(let text): Self.write(text, to: &output)
        case .array(let elements):
            output.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                element.write(to: &output)
            }
            output.append(UInt8(ascii: "]"))
        case .object(let members):
            output.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                Self.write(member.name, to: &output)
                output.append(UInt8(ascii: ":"))
                member.value.write(to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
    }

    /// The value as one line of text.
    package var line: String {
        var output: [UInt8] = []
        write(to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    private static func write(_ text: String, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\":
                output.append(UInt8(ascii: "\\"))
                output.append(UInt8(truncatingIfNeeded: scalar.value))
            case "\n": output += "\\n".utf8
            case "\r": output += "\\r".utf8
            case "\t": output += "\\t".utf8
            case " "..."~": output.append(UInt8(truncatingIfNeeded: scalar.value))
            default:
                let octets = String(scalar)
                if scalar.isVisible { output += octets.utf8 } else { octets.utf16.forEach { escape($0, to: &output) } }
            }
        }
        output.append(UInt8(ascii: "\""))
    }

    /// What a terminal might act upon goes out as its number, which is the same JSON.
    private static func escape(_ unit: UInt16, to output: inout [UInt8]) {
        output += "\\u\(String(hexadecimal: unit, digits: 4))".utf8
    }
}

/// Text that is not the JSON that was expected: where, and what.
package struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Octets before the place.
    package let offset: Int
    /// In words.
    package let what: String

    /// For who reads a message of an error.
    package var description: String { "not JSON at octet \(offset): \(what)" }
}
