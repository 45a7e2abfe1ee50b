// What a header is, decided once: run first on every message, so that all behind it (Bcc, Date, Message-ID, hops, notices,
// other hosts) read the same header. Part of PolicyChain.

internal import NIOCore
internal import SlimtaMail

/// Refuses what has no header that we could work on, and what has gone in circles. Always first.
///
/// A header is fields, and ends at the first empty line (RFC 5322 section 2.1). Of what comes otherwise:
///
/// - the line of a mailbox file ("From a@b Sat Jan ...") before the first field is dropped;
/// - a line that is no field ends the header: an empty line is put before it, so that nobody reads on;
/// - unless fields that somebody would miss there (a Bcc that all would see, a Date that would be there twice) stand behind
///   it, or it looks like one of them itself: then the message is refused.
struct HeaderCheck: QueuePolicy {
    let receivedHops: Int

    var place: PolicyPlace { .header }

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
        let dropped = mail.message.head.withUnsafeReadableBytes { HeaderBlock.mailboxLines(in: $0) }
        if dropped.end > 0 {
            mail.replace([(0..<dropped.end, "")])
            mail.repaired(.mailboxLine)
        }
        if !mail.header.isComplete, mail.message.rest != nil {
            throw PolicyRefusal(Reply(552, .init(5, 3, 4), "Message header is too large"))
        }
        if !mail.header.isWellFormed {
            let end = mail.header.end
            let line = mail.message.head.withUnsafeReadableBytes { octets -> Int? in
                guard hasLostField(octets, from: end) else { return nil }
                return octets[..<end].count { $0 == UInt8(ascii: "\n") } + 1 + dropped.count
            }
            if let line {
                throw PolicyRefusal(
                    Reply(
                        554, .init(5, 6, 0),
                        "Line \(line) of the message is no header field, and an empty line must end the header"))
            }
            mail.replace([(end..<end, "\r\n")])
            mail.repaired(.emptyLine)
        }
        if mail.header.fields(named: "received", in: mail.message.head).count > receivedHops {
            throw PolicyRefusal(Reply(554, .init(5, 4, 6), "Too many hops, this message is in a loop"))
        }
    }
}

/// Whether a line from `start` to the first empty line has the name of one of these fields, however it is spoilt.
private func hasLostField(_ octets: UnsafeRawBufferPointer, from start: Int) -> Bool {
    var offset = start
    while offset < octets.count {
        let next = octets.endOfLine(from: offset)
        let line = octets[offset..<next]
        if line.elementsEqual("\r\n".utf8) || line.elementsEqual("\n".utf8) { return false }
        if let colon = line.prefix(80).firstIndex(of: UInt8(ascii: ":")) {
            // What is no part of a name is passed over: controls, blanks, octets above 127.
            let name = String(
                decoding: line[..<colon].map { $0.asciiLowercased() }.filter {
                    $0.isASCIILowercase || $0 == UInt8(ascii: "-")
                }, as: UTF8.self)
            if missed.contains(name) || name.hasPrefix("resent-") || name.hasPrefix("content-") { return true }
        }
        offset = next
    }
    return false
}

/// Fields that policies look for, and those without which a message is shown as another one.
private let missed: Set<String> = [
    "bcc", "cc", "date", "from", "in-reply-to", "message-id", "mime-version", "received", "references", "reply-to",
    "sender",
    "subject", "to",
]
