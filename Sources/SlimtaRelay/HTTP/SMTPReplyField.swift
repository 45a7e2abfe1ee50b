// The field that says over HTTP what a server of SMTP would say. Read by HTTPVerdict; other people's servers write it as they
// like, so it is read with patience, and never beyond a bound.

import SlimtaMail

/// Reads X-Smtp-Reply: `250; message="2.6.0 Message accepted for delivery"`, with or without blanks around `;` and `=`, the
/// text quoted or not, other parameters (`command`) left alone.
enum SMTPReplyField {
    static let name = "X-Smtp-Reply"

    /// Octets of a value that is looked at, and of the text that is kept of it.
    private static let (longest, longestText) = (4096, 512)

    /// The reply; nil if the value is none. What cannot be read behind the code is left out, the code counts all the same.
    static func reply(_ value: String) -> Reply? {
        guard value.utf8.count <= longest else { return nil }
        var rest = value.utf8[...]
        rest.skipBlanks()
        let digits = rest.prefix { $0.isASCIIDigit }
        guard digits.count == 3, let code = UInt16(Substring(digits)), [2, 4, 5].contains(code / 100) else {
            return nil
        }
        rest = rest.dropFirst(3)
        rest.skipBlanks()
        guard rest.isEmpty || rest.first == UInt8(ascii: ";") else { return nil }
        var text = ""
        while let (name, value) = parameter(&rest) { if name == "message" { text = value } }
        text = text.visible.cut(toOctets: longestText)
        // RFC 2034 section 4: of the class of the code, or it is none.
        guard let status = EnhancedStatus(prefixOf: text), status.statusClass == code / 100 else {
            return Reply(code, nil, text)
        }
        return Reply(code, status, String(text.dropFirst(status.description.count).drop { $0 == " " }))
    }

    /// The next parameter, out of what is left.
    private static func parameter(_ rest: inout Substring.UTF8View) -> (name: String, value: String)? {
        rest.skipBlanks()
        guard rest.popFirst() == UInt8(ascii: ";") else { return nil }
        rest.skipBlanks()
        let name = rest.prefix { $0.isASCIILetterOrDigit || "-_".utf8.contains($0) }
        rest = rest[name.endIndex...]
        rest.skipBlanks()
        guard !name.isEmpty, rest.popFirst() == UInt8(ascii: "=") else { return nil }
        rest.skipBlanks()
        guard rest.first == UInt8(ascii: "\"") else {
            let word = rest.prefix { $0 != UInt8(ascii: ";") && !$0.isBlank }
            rest = rest[word.endIndex...]
            return (Substring(name).lowercased(), String(Substring(word)))
        }
        rest.removeFirst()
        var octets: [UInt8] = []
        while let octet = rest.popFirst() {
            switch octet {
            case UInt8(ascii: "\""): return (Substring(name).lowercased(), String(decoding: octets, as: UTF8.self))
            case UInt8(ascii: "\\"): if let next = rest.popFirst() { octets.append(next) }
            default: octets.append(octet)
            }
        }
        return nil
    }
}

extension Substring.UTF8View {
    fileprivate mutating func skipBlanks() { self = drop(while: \.isBlank) }
}

extension UInt8 {
    fileprivate var isBlank: Bool { self == 0x20 || self == 0x09 }
}
