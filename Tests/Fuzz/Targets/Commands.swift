// What a client's octets become: lines, commands, and the addresses in them.

import NIOCore
import SlimtaMail
import SlimtaSASL

@testable import SlimtaSMTP

extension FuzzTarget {
    /// Lines out of octets, commands out of lines.
    static let command = FuzzTarget(name: "command", maximumLength: 4096) { octets in
        let isLenient = octets.first.map { $0 & 1 == 1 } ?? false
        let limit = octets.first.map { $0 & 2 == 0 } ?? true ? 64 : 2048
        let lines = try anyCut(Array(octets.dropFirst())) { chunks in
            var reader = LineReader()
            var input = ByteBuffer()
            var lines: [LineReader.Line] = []
            for chunk in chunks {
                input.writeImmutableBuffer(chunk)
                while let line = reader.next(&input, limit: limit) {
                    lines.append(line)
                    // Nothing behind it is to be read.
                    if line == .malformed { return lines }
                }
                try hold(input.readableBytes < max(limit, 2), "\(input.readableBytes) octets are kept of a line")
            }
            return lines
        }
        for case .line(let line) in lines {
            let text = Array(line.readableBytesView)
            try hold(text.count + 2 <= limit, "a line of \(text.count) octets")
            try hold(!text.contains { [0, 10, 13].contains($0) }, "a line end or NUL within a line")
            try checkCommand(text, isLenient: isLenient)
        }
    }

    /// Mailboxes, against a grammar of our own.
    static let mailbox = FuzzTarget(name: "mailbox", maximumLength: 320) { octets in
        let ascii = Mailbox(parsing: octets.span, allowsUTF8: false)
        let international = Mailbox(parsing: octets.span, allowsUTF8: true)
        try same(
            ascii != nil, isMailboxOfRFC5321(octets), "\(octets) is a mailbox, for the parser and for RFC 5321")
        if let ascii { try same(ascii, international ?? ascii, "with and without SMTPUTF8") }
        guard let mailbox = international else {
            try hold(ascii == nil, "SMTPUTF8 takes an address away")
            return
        }
        try hold(mailbox.text.utf8.elementsEqual(octets), "the octets of \(octets) have changed")
        try hold("\(mailbox.localPart)@\(mailbox.domain)".utf8.elementsEqual(octets), "the parts of \(mailbox)")
        try hold(mailbox.isSafeInCommand && !mailbox.text.hasControls, "\(mailbox) has controls")
        try same(mailbox.needsSMTPUTF8, ascii == nil, "whether \(mailbox) needs SMTPUTF8")
        try same(mailbox.foldedDomain.foldedAsDomain(), mailbox.foldedDomain, "the folded domain of \(mailbox)")
        let next = mailbox.forNextHop
        // In A-labels it can be too long for a path.
        if next.text.utf8.count <= 254 {
            try same(Mailbox(parsing: next.text), next, "the form of \(mailbox) for the next hop")
        }
        try same(next.foldedDomain, mailbox.foldedDomain, "the domain of \(mailbox) and of \(next)")
        // In a path, nothing of it is taken for the end.
        let path = Array("<".utf8) + octets + Array(">".utf8)
        try same(Mailbox.endOfPath(in: path.span.extracting(1..<path.count), allowsUTF8: true), octets.count, "its end")
        guard case .rcpt(.mailbox(let recipient)) = try? SMTPCommand(parsing: (Array("RCPT TO:".utf8) + path).span)
        else { throw Broken(description: "\(mailbox) is no recipient") }
        try same(recipient, mailbox, "the recipient")
    }
}

/// A command that was understood means the same when it is said as we would say it.
private func checkCommand(_ text: [UInt8], isLenient: Bool) throws {
    guard let command = try? SMTPCommand(parsing: text.span, lenientPaths: isLenient) else { return }
    var words: String
    switch command {
    case .ehlo(let name): words = "EHLO \(name)"
    case .helo(let name): words = "HELO \(name)"
    case .startTLS: words = "STARTTLS"
    case .auth(let mechanism, let response):
        words = "AUTH \(mechanism)"
        if let response { words += " " + String(decoding: response.base64, as: UTF8.self) }
    case .mail(let mail):
        words = "MAIL FROM:<\(mail.sender?.text ?? "")>"
        if let size = mail.size { words += " SIZE=\(size)" }
        if mail.body == .eightBitMIME { words += " BODY=8BITMIME" }
        if mail.smtpUTF8 { words += " SMTPUTF8" }
        if let submitter = mail.submitter { words += " AUTH=" + (submitter.isEmpty ? "<>" : xtext(submitter)) }
        try hold(mail.smtpUTF8 || mail.sender?.needsSMTPUTF8 != true, "\(mail) without SMTPUTF8")
        try hold((mail.size ?? 0) >= 0, "\(mail) has a size")
    case .rcpt(.mailbox(let mailbox)): words = "RCPT TO:<\(mailbox)>"
    case .rcpt(.postmaster(let word)):
        words = "RCPT TO:<\(word)>"
        try hold(word.lowercased() == "postmaster", "\(word) for postmaster")
    case .data: words = "DATA"
    case .bdat(let chunk):
        words = "BDAT \(chunk.size)" + (chunk.isLast ? " LAST" : "")
        try hold(chunk.size >= 0, "\(chunk) has a size")
    case .rset: words = "RSET"
    case .noop: words = "NOOP"
    case .vrfy: words = "VRFY x"
    case .expn: words = "EXPN"
    case .help: words = "HELP"
    case .quit: words = "QUIT"
    }
    // A response that is not UTF-8 is no base64 either.
    if case .auth(_, let response?) = command, !response.base64.allSatisfy({ $0 < 0x80 }) { return }
    // A name in another character set is not what it was, and may be longer.
    if case .ehlo(let name) = command, name.unicodeScalars.contains("\u{FFFD}") { return }
    if case .helo(let name) = command, name.unicodeScalars.contains("\u{FFFD}") { return }
    guard var again = try? SMTPCommand(parsing: Array(words.utf8).span) else {
        throw Broken(description: "\(command) is not understood as \(words)")
    }
    if case .mail(var second) = again, case .mail(let first) = command {
        second.extensions = first.extensions
        again = .mail(second)
    }
    try same(again, command, "a command and its canonical form")
}

/// RFC 3461 section 4, with "<" as well, for `<>` means nobody.
private func xtext(_ text: String) -> String {
    text.utf8.reduce(into: "") { written, octet in
        let isPlain = (33...126).contains(octet) && !"+=<".utf8.contains(octet)
        written +=
            isPlain ? String(UnicodeScalar(octet)) : "+" + String(hexadecimal: octet, digits: 2, uppercase: true)
    }
}

/// `Mailbox` of RFC 5321 section 4.1.2, written down from its ABNF, with what the parser says beside it: 254 octets at
/// most, labels of 63, underscores in domains; section 4.1.3's literals by the system's own reader of addresses.
private func isMailboxOfRFC5321(_ octets: [UInt8]) -> Bool {
    guard octets.count <= 254, octets.allSatisfy({ (32...126).contains($0) }) else { return false }
    let text = octets.map { Character(Unicode.Scalar($0)) }
    var local: ArraySlice<Character>
    var domain: ArraySlice<Character>
    if text.first == "\"" {
        var end = 1
        while end < text.count, text[end] != "\"" { end += text[end] == "\\" ? 2 : 1 }
        guard end + 1 < text.count, text[end + 1] == "@" else { return false }
        (local, domain) = (text[...end], text[(end + 2)...])
    } else {
        guard let at = text.firstIndex(of: "@") else { return false }
        (local, domain) = (text[..<at], text[(at + 1)...])
        let atext = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~")
        let atoms = local.split(separator: ".", omittingEmptySubsequences: false)
        guard atoms.allSatisfy({ !$0.isEmpty && $0.allSatisfy(atext.contains) }) else { return false }
    }
    if domain.first == "[" {
        guard domain.count > 2, domain.last == "]" else { return false }
        let literal = String(domain.dropFirst().dropLast())
        let isIPv6 = literal.lowercased().hasPrefix("ipv6:")
        let address = isIPv6 ? String(literal.dropFirst(5)) : literal
        // Section 4.1.3 has numbers of up to three digits, the system none that begins with 0.
        let parts = address.split(separator: ".", omittingEmptySubsequences: false).map { part -> String in
            let colon = part.lastIndex(of: ":").map { part.index(after: $0) } ?? part.startIndex
            guard address.contains("."), part[colon...].count <= 3, part[colon...].allSatisfy(\.isNumber) else {
                return String(part)
            }
            let digits = part[colon...].drop { $0 == "0" }
            return String(part[..<colon] + (digits.isEmpty && colon < part.endIndex ? "0" : digits))
        }
        return address.contains(":") == isIPv6 && isAddressOfSystem(parts.joined(separator: "."), isIPv6: isIPv6)
    }
    let letters = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
    return domain.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
        (1...63).contains(label.count) && letters.contains(label.first!) && letters.contains(label.last!)
            && label.allSatisfy { letters.contains($0) || $0 == "-" }
    }
}
