// Path and query of a request target, decoded: what servers read and clients write.

internal import SlimtaMail

/// The origin form of a request target (RFC 9112 section 3.2.1): `/path?query`.
package struct HTTPTarget: Hashable, Sendable, CustomStringConvertible {
    /// A parameter of the query, decoded. `value` is empty where there is only a name.
    package struct Parameter: Hashable, Sendable {
        /// What comes before the first "=".
        package var name: String
        /// What comes behind it.
        package var value: String

        /// Both as they mean, not as they are written.
        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    /// The parts of the path: `/queue/019a` is "queue", "019a". Empty parts are left out.
    package var path: [String]
    /// In the order in which they were written; a name may be there several times.
    package var query: [Parameter]

    /// The target of a request that is to be made.
    package init(_ path: [String], _ query: [Parameter] = []) {
        self.path = path
        self.query = query
    }

    /// Reads a target; nil if it is none, or not UTF-8 when decoded. In a query "+" is a space, as in forms.
    package init?(_ text: String) {
        // The absolute form (section 3.2.2), whose host HTTPFraming compares with Host.
        let scheme = ["http://", "https://"].first { text.lowercased().hasPrefix($0) }
        let text = scheme.map { text.dropFirst($0.count).drop { $0 != "/" } } ?? text[...]
        let halves = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = halves.first, whole.hasPrefix("/") else { return nil }
        var path: [String] = []
        for part in whole.split(separator: "/") {
            guard let part = Self.decoded(part, plusIsSpace: false) else { return nil }
            path.append(part)
        }
        var query: [Parameter] = []
        for part in halves.count == 2 ? halves[1].split(separator: "&") : [] {
            let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = Self.decoded(sides[0], plusIsSpace: true),
                let value = Self.decoded(sides.count == 2 ? sides[1] : "", plusIsSpace: true)
            else { return nil }
            query.append(Parameter(name, value))
        }
        self.init(path, query)
    }

    /// What a client writes into its request line.
    package var description: String {
        let start = "/" + path.map(Self.encoded).joined(separator: "/")
        if query.isEmpty { return start }
        return start + "?" + query.map { "\(Self.encoded($0.name))=\(Self.encoded($0.value))" }.joined(separator: "&")
    }

    private static func decoded(_ text: Substring, plusIsSpace: Bool) -> String? {
        var octets: [UInt8] = []
        var rest = text.utf8[...]
        while let octet = rest.popFirst() {
            switch octet {
            case UInt8(ascii: "%"):
                guard let first = rest.popFirst().flatMap(\.hexadecimalValue),
                    let second = rest.popFirst().flatMap(\.hexadecimalValue)
                else { return nil }
                octets.append(first << 4 | second)
            case UInt8(ascii: "+") where plusIsSpace: octets.append(0x20)
            default: octets.append(octet)
            }
        }
        return String(validating: octets, as: UTF8.self)
    }

    private static func encoded(_ text: String) -> String {
        var octets: [UInt8] = []
        for octet in text.utf8 {
            if octet.isASCIILetterOrDigit || "-._~".utf8.contains(octet) {
                octets.append(octet)
            } else {
                octets += "%\(String(hexadecimal: octet, digits: 2, uppercase: true))".utf8
            }
        }
        return String(decoding: octets, as: UTF8.self)
    }
}
