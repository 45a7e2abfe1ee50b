// The type of an attachment (RFC 2045 section 5). Read of requests, written by MIMEWriter.

/// A media type with its parameters (RFC 2045 section 5.1), such as `text/calendar; method=REQUEST`.
package struct MediaType: Hashable, Sendable {
    /// One parameter.
    package struct Parameter: Hashable, Sendable {
        /// A token, in lower case.
        package var name: String
        /// Visible ASCII and blanks.
        package var value: String
    }

    /// "image/png": two tokens, in lower case.
    package let name: String
    /// In their order; no name is there twice.
    package let parameters: [Parameter]

    /// What is known of octets of which nothing is known (RFC 2046 section 4.5.1).
    package static let octets = MediaType(name: "application/octet-stream", parameters: [])

    private init(name: String, parameters: [Parameter]) {
        self.name = name
        self.parameters = parameters
    }

    /// Reads `type/subtype; name=value; name="value"`; nil if it is anything else, or has something in it that is not visible
    /// ASCII. `name` is left out: the name of a file has its own place (RFC 2183 section 2.3).
    package init?(_ text: String) {
        var scanner = Scanner(rest: Array(text.utf8)[...])
        guard let type = scanner.token(), scanner.skip("/"), let subtype = scanner.token() else { return nil }
        var parameters: [Parameter] = []
        scanner.skipBlanks()
        while scanner.skip(";") {
            scanner.skipBlanks()
            // A semicolon at the end is seen.
            if scanner.rest.isEmpty { break }
            guard let name = scanner.token()?.asciiLowercased(), scanner.skip("="), let value = scanner.value(),
                !parameters.contains(where: { $0.name == name }), !name.utf8.contains(UInt8(ascii: "*"))
            else { return nil }
            parameters.append(Parameter(name: name, value: value))
            scanner.skipBlanks()
        }
        guard scanner.rest.isEmpty, text.utf8.count <= 500 else { return nil }
        self.init(
            name: "\(type)/\(subtype)".asciiLowercased(), parameters: parameters.filter { $0.name != "name" })
    }

    /// Whether it is made of other parts: such content may not be in base64 (RFC 2045 section 6.4).
    package var isComposite: Bool {
        name.utf8.starts(with: "multipart/".utf8) || name.utf8.starts(with: "message/".utf8)
    }

    private struct Scanner {
        var rest: ArraySlice<UInt8>

        mutating func skip(_ octet: Unicode.Scalar) -> Bool {
            guard rest.first == UInt8(ascii: octet) else { return false }
            rest.removeFirst()
            return true
        }

        mutating func skipBlanks() { rest = rest.drop { $0 == 0x20 } }

        mutating func token() -> String? {
            let token = rest.prefix { $0.isTokenText }
            rest = rest[token.endIndex...]
            return token.isEmpty ? nil : String(decoding: token, as: UTF8.self)
        }

        /// A token or a quoted-string.
        mutating func value() -> String? {
            guard skip("\"") else { return token() }
            var value: [UInt8] = []
            while var octet = rest.popFirst() {
                if octet == UInt8(ascii: "\"") { return String(decoding: value, as: UTF8.self) }
                if octet == UInt8(ascii: "\\") {
                    guard let next = rest.popFirst() else { return nil }
                    octet = next
                }
                guard (0x20...0x7E).contains(octet) else { return nil }
                value.append(octet)
            }
            return nil
        }
    }
}

extension UInt8 {
    /// An octet of a token (RFC 2045 section 5.1).
    var isTokenText: Bool { (0x21...0x7E).contains(self) && !"()<>@,;:\\\"/[]?=".utf8.contains(self) }
}
