// What a client calls itself in EHLO, where it has to be one harmless word: replies of SlimtaSMTP, Received of
// SlimtaPolicy. Desktops say all sorts of things: umlauts, blanks, DOMAIN\host.

extension String {
    /// The most octets of a domain name (RFC 5321 section 4.5.3.1.2).
    private static let longestName = 255

    /// The name as one word of ASCII of at most 255 octets: letters, digits, "-", "_" and "." stand as they are, and
    /// so do address literals; of all else each octet is "+" and two hexadecimal digits (xtext, RFC 3461 section 4). What
    /// is nothing but text can then neither end a comment or a line, nor be an encoded word, nor need SMTPUTF8; and what
    /// would be too long a line of a reply or a header is cut. An octet that is no UTF-8 alone has nine.
    package var asClientName: String {
        let octets = utf8
        let isLiteral =
            octets.count > 2 && octets.first == UInt8(ascii: "[") && octets.last == UInt8(ascii: "]")
            && octets.dropFirst().dropLast().allSatisfy { isNameOctet($0) || $0 == UInt8(ascii: ":") }
        if octets.count <= Self.longestName, isLiteral || octets.allSatisfy(isNameOctet) { return self }
        var word = ""
        for octet in octets {
            let text =
                isNameOctet(octet)
                ? String(Unicode.Scalar(octet)) : "+" + String(hexadecimal: octet, digits: 2, uppercase: true)
            guard word.utf8.count + text.utf8.count <= Self.longestName else { break }
            word += text
        }
        return word
    }
}

private func isNameOctet(_ octet: UInt8) -> Bool {
    octet.isASCIILetterOrDigit || "-._".utf8.contains(octet)
}
