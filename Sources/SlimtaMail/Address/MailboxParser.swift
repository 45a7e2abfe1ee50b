// The grammar of addresses in SMTP commands: RFC 5321 section 4.1.2, with RFC 6531 section 3.3 where SMTPUTF8
// was asked for.
// Called by the SMTP grammar (MAIL, RCPT), and for addresses in the users file and the configuration.

extension Mailbox {
    /// The mailbox that is all of `octets`: `local-part "@" ( domain / address-literal )`; nil if it is none.
    ///
    /// At most 254 octets: RFC 5321 section 4.5.3.1 has 256 for a path with its brackets. Its 64 for a local part are not
    /// asked for: addresses that programs make of others (VERP, SRS) are longer, and their own host says what it takes.
    /// - Parameter allowsUTF8: whether octets above 127 are allowed (RFC 6531 section 3.3); they must be valid UTF-8, and
    ///   no control characters.
    package init?(parsing octets: Span<UInt8>, allowsUTF8: Bool) {
        var scanner = MailboxScanner(allowsUTF8: allowsUTF8)
        guard octets.count <= 254, let at = scanner.localPart(in: octets),
            scanner.skip(UInt8(ascii: "@"), in: octets)
        else { return nil }
        let domain = scanner.offset
        guard scanner.domainOrLiteral(in: octets), scanner.offset == octets.count else { return nil }
        guard let localPart = String(validating: octets.extracting(0..<at)), !localPart.hasControls,
            let domainText = String(validating: octets.extracting(domain..<octets.count)), !domainText.hasControls
        else { return nil }
        self.init(localPart: localPart, domain: domainText)
    }

    /// As ``init(parsing:allowsUTF8:)``, from text.
    package init?(parsing text: String, allowsUTF8: Bool = true) {
        let octets = Array(text.utf8)
        self.init(parsing: octets.span, allowsUTF8: allowsUTF8)
    }

    /// The length of the mailbox, or of a lone local part, at the start of `octets`: where the ">" of a path is to be.
    /// A ">" inside of a quoted local part is not the end. Nil if there is no well-formed local part.
    /// - Parameter end: what ends it, if not ">".
    package static func endOfPath(
        in octets: Span<UInt8>, at end: UInt8 = UInt8(ascii: ">"), allowsUTF8: Bool
    ) -> Int? {
        var scanner = MailboxScanner(allowsUTF8: allowsUTF8)
        guard scanner.localPart(in: octets) != nil else { return nil }
        while scanner.offset < octets.count, octets[scanner.offset] != end { scanner.offset += 1 }
        return scanner.offset
    }
}

/// Walks over an address. Every method returns whether what it is named for was there, and stops behind it.
private struct MailboxScanner {
    let allowsUTF8: Bool
    var offset = 0

    mutating func skip(_ octet: UInt8, in octets: Span<UInt8>) -> Bool {
        guard offset < octets.count, octets[offset] == octet else { return false }
        offset += 1
        return true
    }

    /// Local-part = Dot-string / Quoted-string. Returns its length.
    mutating func localPart(in octets: Span<UInt8>) -> Int? {
        if offset < octets.count, octets[offset] == UInt8(ascii: "\"") {
            return quotedString(in: octets) ? offset : nil
        }
        repeat {
            let start = offset
            while offset < octets.count, isAtomText(octets[offset]) { offset += 1 }
            guard offset > start else { return nil }
        } while skip(UInt8(ascii: "."), in: octets)
        return offset
    }

    private mutating func quotedString(in octets: Span<UInt8>) -> Bool {
        guard skip(UInt8(ascii: "\""), in: octets) else { return false }
        while offset < octets.count {
            let octet = octets[offset]
            offset += 1
            switch octet {
            case UInt8(ascii: "\""): return true
            case UInt8(ascii: "\\"):
                // quoted-pairSMTP (RFC 5321 section 4.1.2): a backslash and one printable character
                guard offset < octets.count, (32...126).contains(octets[offset]) else { return false }
                offset += 1
            case 32...126: continue
            case 0x80...: guard allowsUTF8 else { return false }
            default: return false
            }
        }
        return false
    }

    /// Domain (RFC 5321 section 4.1.2: letters, digits, hyphens; U-labels with RFC 6531 section 3.3) or address literal.
    mutating func domainOrLiteral(in octets: Span<UInt8>) -> Bool {
        if offset < octets.count, octets[offset] == UInt8(ascii: "[") { return addressLiteral(in: octets) }
        var labels = 0
        repeat {
            let start = offset
            while offset < octets.count,
                isLetterDigit(octets[offset]) || octets[offset] == UInt8(ascii: "-")
                    // Underscores are not letters of host names, and are in use in real domains all the same.
                    || octets[offset] == UInt8(ascii: "_")
            { offset += 1 }
            guard offset > start, octets[start] != UInt8(ascii: "-"), octets[offset - 1] != UInt8(ascii: "-") else {
                return false
            }
            // A label with UTF-8 in it must fit as an A-label, which is made where it is looked up.
            guard offset - start <= 63 || octets.extracting(start..<offset).withUnsafeBytes(\.hasEightBit) else {
                return false
            }
            labels += 1
        } while skip(UInt8(ascii: "."), in: octets)
        return labels > 0
    }

    /// RFC 5321 section 4.1.3.
    /// RFC 5321 section 4.1.3.
    private mutating func addressLiteral(in octets: Span<UInt8>) -> Bool {
        let start = offset + 1
        while offset < octets.count, octets[offset] != UInt8(ascii: "]") { offset += 1 }
        guard skip(UInt8(ascii: "]"), in: octets) else { return false }
        let content = octets.extracting(start..<offset - 1)
        return isIPv4(content) || isIPv6Literal(content)
    }

    /// atext (RFC 5322 section 3.2.3).
    /// atext (RFC 5322 section 3.2.3).
    private func isAtomText(_ octet: UInt8) -> Bool {
        if isLetterDigit(octet) { return true }
        switch octet {
        case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
            UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "/"),
            UInt8(ascii: "="), UInt8(ascii: "?"), UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"),
            UInt8(ascii: "{"), UInt8(ascii: "|"), UInt8(ascii: "}"), UInt8(ascii: "~"):
            return true
        default: return false
        }
    }

    private func isLetterDigit(_ octet: UInt8) -> Bool {
        octet.isASCIILetterOrDigit || allowsUTF8 && octet >= 0x80
    }
}

/// Whether `octets` are a dotted quad.
private func isIPv4(_ octets: Span<UInt8>) -> Bool {
    var parts = 0
    var digits = 0
    var value = 0
    for index in octets.indices {
        switch octets[index] {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            digits += 1
            value = value * 10 + Int(octets[index] - UInt8(ascii: "0"))
            guard digits <= 3, value <= 255 else { return false }
        case UInt8(ascii: "."):
            guard digits > 0 else { return false }
            parts += 1
            (digits, value) = (0, 0)
        default: return false
        }
    }
    return parts == 3 && digits > 0
}

/// Whether `octets` are "IPv6:" and an IPv6 address (RFC 5321 section 4.1.3).
private func isIPv6Literal(_ octets: Span<UInt8>) -> Bool {
    let tag: StaticString = "ipv6:"
    guard octets.count > tag.utf8CodeUnitCount else { return false }
    for index in 0..<tag.utf8CodeUnitCount where octets[index] | 0x20 != tag.utf8Start[index] | 0x20 { return false }
    return isIPv6(octets.extracting(tag.utf8CodeUnitCount..<octets.count))
}

/// Whether `octets` are an IPv6 address (RFC 4291 section 2.2), the last 32 bits possibly a dotted quad.
private func isIPv6(_ octets: Span<UInt8>) -> Bool {
    var groups = 0
    var elided = false
    var offset = 0
    while offset < octets.count {
        if octets[offset] == UInt8(ascii: ":") {
            // "::" once, at any place; a single ":" only between groups
            guard offset + 1 < octets.count, octets[offset + 1] == UInt8(ascii: ":"), !elided else { return false }
            elided = true
            offset += 2
            continue
        }
        let start = offset
        while offset < octets.count, octets[offset] != UInt8(ascii: ":") { offset += 1 }
        let group = octets.extracting(start..<offset)
        if offset == octets.count, isIPv4(group) {
            groups += 2
            break
        }
        guard group.count <= 4, isHexadecimal(group) else { return false }
        groups += 1
        guard offset < octets.count else { break }
        // A ":" that is not part of a "::" must have a group behind it.
        if offset + 1 < octets.count, octets[offset + 1] == UInt8(ascii: ":") { continue }
        offset += 1
        guard offset < octets.count else { return false }
    }
    return elided ? groups <= 7 : groups == 8
}

private func isHexadecimal(_ octets: Span<UInt8>) -> Bool {
    for index in octets.indices where octets[index].hexadecimalValue == nil { return false }
    return !octets.isEmpty
}
