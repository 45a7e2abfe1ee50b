// What a client calls itself in EHLO, where it has to be one harmless word: replies of SlimtaSMTP, Received of
// SlimtaPolicy. Desktops say all sorts of things: umlauts, blanks, DOMAIN\host.

extension String {
    /// The name as one word of ASCII, at most three times as long: letters, digits, "-", "_" and "." stand as they are, and
    /// so do address literals; of all else each octet is "+" and two hexadecimal digits (xtext, RFC 3461 section 4). What
    /// is nothing but text can then neither end a comment or a line, nor be an encoded word, nor need SMTPUTF8.
    package var asClientName: String {
        let octets = utf8
        let isLiteral =
            octets.count > 2 && octets.first == UInt8(ascii: "[") && octets.last == UInt8(ascii: "]")
            && octets.dropFirst().dropLast().allSatisfy { isNameOctet($0) || $0 == UInt8(ascii: ":") }
        if isLiteral || octets.allSatisfy(isNameOctet) { return self }
        var word = ""
        for octet in octets {
            if isNameOctet(octet) {
                word.unicodeScalars.append(Unicode.Scalar(octet))
            } else {
                word += "+" + String(hexadecimal: octet, digits: 2, uppercase: true)
            }
        }
        return word
    }
}

private func isNameOctet(_ octet: UInt8) -> Bool {
    octet.isASCIILetterOrDigit || "-._".utf8.contains(octet)
}
