// Domain names in the form in which they are compared and asked for. Called by Mailbox, by the reader of slimta.conf, by
// all that an operator names a domain to.

internal import CIDN2

/// Domain names in ASCII, international ones in A-labels (RFC 5890 section 2.3.2.1).
package enum DomainName {
    /// An international name in A-labels, in lower case (UTS 46 section 4, non-transitional, and RFC 5891 section 5):
    /// "xn--mnchen-3ya.de" for "M\u{FC}nchen.de". Nil if it cannot be one. An ASCII name comes back in lower case, and
    /// is not looked at.
    package static func ascii(_ name: some StringProtocol) -> String? {
        let name = String(name)
        if name.isASCII { return name.asciiLowercased() }
        // What is behind a NUL must not hide.
        guard !name.utf8.contains(0) else { return nil }
        var found: UnsafeMutablePointer<UInt8>?
        // Not IDN2_USE_STD3_ASCII_RULES: libidn2 then drops characters that are not allowed, and makes another name.
        let flags = CInt(IDN2_NFC_INPUT.rawValue | IDN2_NONTRANSITIONAL.rawValue)
        guard idn2_lookup_u8(name, &found, flags) == CInt(IDN2_OK.rawValue), let found else { return nil }
        defer { idn2_free(found) }
        let ascii = String(cString: found)
        return isHostName(ascii) ? ascii : nil
    }

    /// A name with its A-labels as they are read (RFC 5890 section 2.3.2.1): "m\u{FC}nchen.de" for "xn--mnchen-3ya.de". Labels
    /// that are none, or cannot be read, stay as they are.
    package static func unicode(_ name: String) -> String {
        name.split(separator: ".", omittingEmptySubsequences: false).map { label in
            let label = String(label)
            guard label.utf8.starts(with: "xn--".utf8), !label.utf8.contains(0) else { return label }
            var found: UnsafeMutablePointer<CChar>?
            guard idn2_to_unicode_8z8z(label, &found, 0) == CInt(IDN2_OK.rawValue), let found else { return label }
            defer { idn2_free(found) }
            return String(cString: found)
        }.joined(separator: ".")
    }

    /// Whether it is labels of 1 to 63 lower-case letters, digits, underscores and inner hyphens, 253 octets at most.
    private static func isHostName(_ name: String) -> Bool {
        name.utf8.count <= 253
            && name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
                (1...63).contains(label.count) && label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-")
                    && label.allSatisfy { $0.isASCIILowercase || $0.isASCIIDigit || "-_".utf8.contains($0) }
            }
    }
}

extension String {
    /// A domain as it is compared: in A-labels if it is international, in lower case. What is no domain name, such as an
    /// address literal, has its ASCII letters in lower case.
    package func foldedAsDomain() -> String { DomainName.ascii(self) ?? asciiLowercased() }

    /// An address, or "@domain", with its domain as it is compared, and all other letters in lower case.
    package func foldedAsAddress() -> String {
        let address = utf8.allSatisfy { $0 < 128 } ? asciiLowercased() : lowercasedBeforeDomain()
        guard let at = address.utf8.lastIndex(of: UInt8(ascii: "@")) else { return address }
        let domain = address.utf8.index(after: at)
        return address[..<domain] + String(address[domain...]).foldedAsDomain()
    }

    /// A domain has lower case of its own: IDNA takes other letters for the same ones.
    private func lowercasedBeforeDomain() -> String {
        guard let at = utf8.lastIndex(of: UInt8(ascii: "@")) else { return lowercased() }
        return self[..<at].lowercased() + self[at...]
    }
}
