// The arguments of MAIL and RCPT: a path, then parameters (RFC 5321 sections 4.1.1.2, 4.1.1.3 and 4.1.2).
// Part of SMTPCommand's grammar.

internal import SlimtaMail

extension MailCommand {
    /// Parses what is behind "MAIL ".
    init(parsing argument: Span<UInt8>, isLenient: Bool) throws(SMTPSyntaxError) {
        guard let pathStart = startOfPath(argument, after: "from:") else { throw .badArgument }
        let path = argument.extracting(pathStart..<argument.count)
        guard let bounds = pathBounds(path, isLenient: isLenient) else { throw .badSender }
        if bounds.mailbox.isEmpty {
            guard bounds.mailbox.lowerBound == 1 else { throw .badSender }  // a source route and no mailbox
            sender = nil
        } else {
            guard let mailbox = Mailbox(parsing: path.extracting(bounds.mailbox), allowsUTF8: true) else {
                throw .badSender
            }
            sender = mailbox
        }
        var seen = Set<String>()
        for parameter in try parameters(path.extracting(bounds.end..<path.count)) {
            guard let one = ServiceExtension.ofMail(parameter.keyword) else {
                throw .unknownParameter(parameter.keyword)
            }
            guard seen.insert(parameter.keyword).inserted else { throw .badParameter }
            if !extensions.contains(one) { extensions.append(one) }
            switch parameter.keyword {
            case "SIZE":
                guard let size = decimal(parameter.value) else { throw .badParameter }
                self.size = size
            case "BODY":
                switch parameter.value?.uppercased() {
                case "7BIT": body = .sevenBit
                case "8BITMIME": body = .eightBitMIME
                default: throw .badParameter
                }
            case "SMTPUTF8":
                guard parameter.value == nil else { throw .badParameter }
                smtpUTF8 = true
            case "AUTH":
                // RFC 4954 section 5: 500 octets at most; who submitted is told by our own AUTH.
                guard let value = parameter.value, value.utf8.count <= 500, let name = submitterName(value) else {
                    throw .badParameter
                }
                submitter = name
            default: throw .unknownParameter(parameter.keyword)
            }
        }
        guard smtpUTF8 || sender?.needsSMTPUTF8 != true else { throw .needsSMTPUTF8 }
    }
}

extension RecipientPath {
    /// Parses what is behind "RCPT ". Addresses with UTF-8 are let through: the machine knows whether MAIL allowed them.
    init(parsing argument: Span<UInt8>, isLenient: Bool) throws(SMTPSyntaxError) {
        guard let pathStart = startOfPath(argument, after: "to:") else { throw .badArgument }
        let path = argument.extracting(pathStart..<argument.count)
        guard let bounds = pathBounds(path, isLenient: isLenient), !bounds.mailbox.isEmpty else { throw .badRecipient }
        let octets = path.extracting(bounds.mailbox)
        if let mailbox = Mailbox(parsing: octets, allowsUTF8: true) {
            self = .mailbox(mailbox)
        } else if let word = String(validating: octets), word.asciiLowercased() == "postmaster" {
            self = .postmaster(word)
        } else {
            throw .badRecipient
        }
        // No RCPT parameter is offered.
        if let parameter = try parameters(path.extracting(bounds.end..<path.count)).first {
            throw .unknownParameter(parameter.keyword)
        }
    }
}

/// The offset behind "FROM:" or "TO:", in any case, and behind blanks, which many clients put there.
private func startOfPath(_ argument: Span<UInt8>, after keyword: StaticString) -> Int? {
    let length = keyword.utf8CodeUnitCount
    guard argument.count >= length else { return nil }
    for index in 0..<length {
        var octet = argument[index]
        if (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(octet) { octet |= 0x20 }
        guard octet == keyword.utf8Start[index] else { return nil }
    }
    var offset = length
    while offset < argument.count, argument[offset] == UInt8(ascii: " ") { offset += 1 }
    return offset
}

/// The offsets of the mailbox between "<" and ">", without a source route (RFC 5321 appendix C: to be accepted and
/// ignored), and of what is behind the ">". Printers and the like leave the brackets out: if that is allowed, a blank ends
/// the mailbox.
private func pathBounds(_ path: Span<UInt8>, isLenient: Bool) -> (mailbox: Range<Int>, end: Int)? {
    guard !path.isEmpty else { return nil }
    guard path[0] == UInt8(ascii: "<") else {
        guard isLenient, let length = Mailbox.endOfPath(in: path, at: UInt8(ascii: " "), allowsUTF8: true) else {
            return nil
        }
        return (0..<length, length)
    }
    var start = 1
    if start < path.count, path[start] == UInt8(ascii: "@") {
        while start < path.count, path[start] != UInt8(ascii: ":"), path[start] != UInt8(ascii: ">") { start += 1 }
        guard start < path.count, path[start] == UInt8(ascii: ":") else { return nil }
        start += 1
    }
    guard start < path.count else { return nil }
    if path[start] == UInt8(ascii: ">") { return (start..<start, start + 1) }
    let behind = path.extracting(start..<path.count)
    guard let length = Mailbox.endOfPath(in: behind, allowsUTF8: true), length < behind.count,
        behind[length] == UInt8(ascii: ">")
    else { return nil }
    return (start..<start + length, start + length + 1)
}

/// ESMTP parameters (RFC 5321 section 4.1.2): `*(SP keyword ["=" value])`, keywords in upper case.
private func parameters(_ octets: Span<UInt8>) throws(SMTPSyntaxError) -> [(keyword: String, value: String?)] {
    var parameters: [(keyword: String, value: String?)] = []
    var offset = 0
    while offset < octets.count {
        guard octets[offset] == UInt8(ascii: " ") else { throw .badArgument }
        while offset < octets.count, octets[offset] == UInt8(ascii: " ") { offset += 1 }
        guard offset < octets.count else { break }
        let start = offset
        var equals: Int?
        while offset < octets.count, octets[offset] != UInt8(ascii: " ") {
            let octet = octets[offset]
            if octet == UInt8(ascii: "="), equals == nil {
                equals = offset
            } else if equals == nil {
                // esmtp-keyword: letters, digits, hyphens; the first is no hyphen
                guard isKeyword(octet, isFirst: offset == start) else { throw .badParameter }
            } else {
                // esmtp-value: printable, without "="
                guard (33...126).contains(octet), octet != UInt8(ascii: "=") else { throw .badParameter }
            }
            offset += 1
        }
        guard let keyword = String(validating: octets.extracting(start..<(equals ?? offset))), !keyword.isEmpty else {
            throw .badParameter
        }
        var value: String?
        if let equals {
            value = String(validating: octets.extracting((equals + 1)..<offset))
            guard value?.isEmpty == false else { throw .badParameter }
        }
        parameters.append((keyword.uppercased(), value))
    }
    return parameters
}

private func isKeyword(_ octet: UInt8, isFirst: Bool) -> Bool {
    octet.isASCIILetterOrDigit || !isFirst && octet == UInt8(ascii: "-")
}

/// One to twenty digits (RFC 1870 section 3); what does not fit is `Int.max`, which is above every limit.
private func decimal(_ text: String?) -> Int? {
    guard let text, (1...20).contains(text.utf8.count), text.utf8.allSatisfy(\.isASCIIDigit) else {
        return nil
    }
    return Int(text) ?? .max
}

/// What AUTH= says: a mailbox, or nothing for `<>`; nil if it is neither. curl puts brackets around the mailbox, too.
private func submitterName(_ value: String) -> String? {
    guard var octets = value.xtextDecoded else { return nil }
    if octets.first == UInt8(ascii: "<"), octets.last == UInt8(ascii: ">") {
        octets = Array(octets[1..<octets.count - 1])
    }
    return octets.isEmpty ? "" : Mailbox(parsing: octets.span, allowsUTF8: true)?.text
}
