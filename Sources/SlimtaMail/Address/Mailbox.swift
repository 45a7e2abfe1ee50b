// An address as it came in: kept octet for octet, compared octet for octet. Made by MailboxParser.

/// A mailbox (RFC 5321 section 4.1.2, with RFC 6531 section 3.3): local part and domain, as they were given.
package struct Mailbox: Hashable, Sendable, CustomStringConvertible {
    /// The whole address, as given, without angle brackets and source route.
    package let text: String
    /// The offset of the octet behind the "@" that separates local part and domain.
    package let domainOffset: Int

    /// An address whose parts were already checked: from the parser, or from our own store.
    package init(localPart: String, domain: String) {
        text = localPart + "@" + domain
        domainOffset = localPart.utf8.count + 1
    }

    /// The address of a user of a machine: its name, quoted where it has to be, at the machine's name. Nil if no address can
    /// have such a name.
    package init?(localName name: String, domain: String) {
        if !name.contains("\""), let plain = Mailbox(parsing: "\(name)@\(domain)"), plain.localPart == name {
            self = plain
            return
        }
        let escaped = name.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        self.init(parsing: "\"\(escaped)\"@\(domain)", allowsUTF8: true)
    }

    /// What is before the "@", quotes included.
    package var localPart: Substring { text[..<text.utf8.index(text.startIndex, offsetBy: domainOffset - 1)] }

    /// The same as it is meant: the quotes and backslashes of a quoted string are no part of it (RFC 5321 section 4.1.2).
    package var unquotedLocalPart: String {
        guard localPart.utf8.first == UInt8(ascii: "\"") else { return String(localPart) }
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
        return String(decoding: local, as: UTF8.self)
    }

    /// What is behind the "@": a domain name, or an address literal in brackets.
    package var domain: Substring { text[text.utf8.index(text.startIndex, offsetBy: domainOffset)...] }

    /// The domain for comparison, grouping and DNS: in A-labels if it is international, in lower case.
    package var foldedDomain: String { String(domain).foldedAsDomain() }

    /// Whether an octet above 127 is in it: it then needs SMTPUTF8 (RFC 6531 section 3.3).
    package var needsSMTPUTF8: Bool { !text.isASCII }

    /// The address for the next hop: an international domain is in A-labels, which every server takes, unless the local
    /// part needs SMTPUTF8 anyway.
    package var forNextHop: Mailbox {
        guard needsSMTPUTF8, localPart.isASCII, let domain = DomainName.ascii(domain) else {
            return self
        }
        return Mailbox(localPart: String(localPart), domain: domain)
    }

    /// The address without angle brackets, octet for octet as it was given: as it goes into commands and logs.
    package var description: String { text }

    /// Octet for octet, domains too: String's == would call canonically equivalent addresses the same.
    package static func == (a: Mailbox, b: Mailbox) -> Bool {
        a.domainOffset == b.domainOffset && a.text.utf8.elementsEqual(b.text.utf8)
    }

    /// Hashes the octets.
    package func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}
