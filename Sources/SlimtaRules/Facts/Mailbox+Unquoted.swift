// Addresses as they are meant: for conditions of rules, and for policy services.

internal import SlimtaMail

extension Mailbox {
    /// The quotes and backslashes of a quoted local part are no part of it: `"a"@example.com` is a@example.com (RFC 5321 section
    /// 4.1.2). No rule is to be got around by them, and Postfix, too, keeps addresses so.
    var unquoted: String {
        guard localPart.utf8.first == UInt8(ascii: "\"") else { return text }
        var local: [UInt8] = []
        var isEscaped = false
        for octet in localPart.utf8.dropFirst().dropLast() {
            if octet == UInt8(ascii: "\\"), !isEscaped {
                isEscaped = true
            } else {
                local.append(octet)
                isEscaped = false
            }
        }
        return String(decoding: local, as: UTF8.self) + "@" + domain
    }
}
