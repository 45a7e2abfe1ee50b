// What the header of a message lacks that a program gave to sendmail: who it is from, when it was written, where its bare
// names are. What any message may lack (Message-ID), and what none may have (Bcc), is the daemon's affair.

import NIOCore
import SlimtaMail

/// Who called sendmail.
struct SendmailCaller: Equatable {
    /// The address that it sends as, unless it says otherwise.
    let mailbox: Mailbox
    /// What it is called; empty if nobody knows.
    let fullName: String
    /// The name of this machine, for addresses without a domain.
    let hostname: String
}

/// Completes the beginning of a message.
struct SendmailHeader {
    let caller: SendmailCaller
    /// For From where it is missing; nil: the null sender, which is nobody to answer to.
    let sender: Mailbox?
    let now: Timestamp

    /// `head` with its fields qualified and completed. It begins with the whole header, its lines end with CRLF.
    func complete(_ header: HeaderBlock, _ head: ByteBuffer) -> ByteBuffer {
        var result = ByteBuffer()
        var copied = 0
        func copy(to end: Int) {
            result.writeImmutableBuffer(head.slice(copied..<end))
            copied = end
        }
        for field in header.fields where Self.withAddresses.contains(where: { field.isNamed($0, in: head) }) {
            guard let list = try? AddressList(parsing: field.value(in: head), qualifiedWith: caller.hostname) else {
                continue
            }
            for end in list.entries.compactMap(\.endOfBareName) {
                copy(to: field.valueOffset(in: head) + end)
                result.writeString("@\(caller.hostname)")
            }
        }
        // Behind the fields: those of a message that is sent on stand at the top (RFC 5322 section 3.6.6).
        copy(to: header.fields.last?.range.upperBound ?? 0)
        if !header.has("date", in: head) {
            result.writeString("Date: \(now.mailDate(offset: now.localOffset))\r\n")
        }
        if !header.has("from", in: head) {
            let name = caller.fullName.isEmpty ? "" : "\(caller.fullName.asDisplayName) "
            let address = sender ?? caller.mailbox
            result.writeString("From: \(name)\(name.isEmpty ? "\(address)" : "<\(address)>")\r\n")
        }
        // Text without any header must not be taken for one.
        if header.fields.isEmpty, !header.isWellFormed { result.writeStaticString("\r\n") }
        copy(to: head.readableBytes)
        return result
    }

    private static let withAddresses: [StaticString] = [
        "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender", "resent-to", "resent-cc",
        "resent-bcc",
    ]
}

extension ByteBuffer {
    /// Octets, counted from the reader index.
    fileprivate func slice(_ range: Range<Int>) -> ByteBuffer {
        getSlice(at: readerIndex + range.lowerBound, length: range.count) ?? ByteBuffer()
    }
}

extension String {
    /// A name before an address: as it is, quoted, or as encoded-words (RFC 2047 section 2), of at most 75 octets each.
    var asDisplayName: String {
        let visible = String(String.UnicodeScalarView(unicodeScalars.filter { !$0.endsLineOrSteers }))
        guard visible.isASCII else {
            var (words, word) = ([String](), "")
            for scalar in visible.unicodeScalars {
                if word.utf8.count + UTF8.width(scalar) > 45 {
                    words.append(word)
                    word = ""
                }
                word.unicodeScalars.append(scalar)
            }
            return (words + [word]).map { "=?utf-8?b?\(Base64.encode($0.utf8))?=" }.joined(separator: "\r\n ")
        }
        // A literal "=?" would be read as the beginning of such a word.
        let isPlain = visible.utf8.allSatisfy { $0.isASCIILetterOrDigit || " -'_+".utf8.contains($0) }
        if isPlain { return visible }
        return "\"\(visible.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\""
    }
}
