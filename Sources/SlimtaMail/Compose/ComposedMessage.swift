// A draft as the octets of a message: header, MIME structure, encodings (RFC 5322, RFC 2045 to 2047, 2231, 2387, 6532). The HTTP
// edge makes one of each JSON submission, and hands its pieces on as if a client had sent them.

package import NIOCore

/// A message that has been composed: pieces of octets, in lines that end with CRLF.
///
/// Everything is ASCII, in lines of at most 998 octets, so that no host on the way changes it and a signature of it lasts;
/// only addresses that need SMTPUTF8, and names beside them, are in UTF-8. What attachments take is their base64 as it came:
/// it is cut into lines when the pieces are read, so that memory has each of them once.
package struct ComposedMessage: Sequence, Sendable {
    /// What a message has beside its draft.
    package struct Frame: Sendable {
        /// Our name: behind the "@" of identifiers that have none.
        package var hostname: String
        /// What Date says.
        package var date: Timestamp
        /// What the local zone adds to UTC then, in seconds.
        package var zoneOffset: Int
        /// The queue's name of the message, of which its Message-ID is made.
        package var id: QueueID
        /// Nothing that could be in the message: 128 random bits.
        package var boundary: (UInt64, UInt64)

        /// For one message.
        package init(
            hostname: String, date: Timestamp, zoneOffset: Int, id: QueueID, boundary: (UInt64, UInt64)
        ) {
            self.hostname = hostname
            self.date = date
            self.zoneOffset = zoneOffset
            self.id = id
            self.boundary = boundary
        }
    }

    /// In octets.
    package let size: Int
    /// Whether its header has UTF-8 in it (RFC 6532).
    package let needsSMTPUTF8: Bool
    private let chunks: [MIMEWriter.Chunk]

    /// Composes `draft`, which has at least one of text, HTML and attachments. It cannot fail.
    package init(_ draft: MailDraft, _ frame: Frame) {
        needsSMTPUTF8 = draft.needsSMTPUTF8
        let token =
            String(hexadecimal: frame.boundary.0, digits: 16) + String(hexadecimal: frame.boundary.1, digits: 16)
        var writer = MIMEWriter(boundary: token)
        for field in Self.header(draft, frame, needsSMTPUTF8) { writer.write(field) }
        writer.write(MIMEPart(draft, hostname: frame.hostname))
        chunks = writer.chunks
        size = chunks.reduce(0) { $0 + $1.size }
    }

    private static func header(_ draft: MailDraft, _ frame: Frame, _ allowsUTF8: Bool) -> [FieldWriter] {
        var fields: [FieldWriter] = []
        func add(_ name: String, _ write: (inout FieldWriter) -> Void) {
            var field = FieldWriter(name)
            write(&field)
            fields.append(field)
        }
        func add(_ name: String, _ addresses: [MailDraft.Address]) {
            if !addresses.isEmpty { add(name) { $0.append(addresses, allowsUTF8: allowsUTF8) } }
        }
        add("Date") { $0.append(frame.date.mailDate(offset: frame.zoneOffset)) }
        add("From", [draft.from])
        add("To", draft.to)
        add("Cc", draft.cc)
        // All that is visible of blind copies (RFC 5322 section 3.6.3 leaves Bcc out).
        if draft.to.isEmpty, draft.cc.isEmpty { add("To") { $0.append("undisclosed-recipients:;") } }
        add("Reply-To", draft.replyTo)
        if let subject = draft.subject { add("Subject") { $0.append(text: subject) } }
        if !draft.fields.contains(where: { $0.name.asciiLowercased() == "message-id" }) {
            add("Message-ID") { $0.append("<\(frame.id)@\(frame.hostname)>") }
        }
        for field in draft.fields { add(field.name) { $0.append(text: field.value) } }
        add("MIME-Version") { $0.append("1.0") }
        return fields
    }

    /// Reads the pieces, from the first.
    package func makeIterator() -> Iterator { Iterator(chunks: chunks[...]) }

    /// Pieces of a message in their order, each of at most 60,000 octets.
    package struct Iterator: IteratorProtocol {
        fileprivate var chunks: ArraySlice<MIMEWriter.Chunk>
        private var offset = 0

        fileprivate init(chunks: ArraySlice<MIMEWriter.Chunk>) { self.chunks = chunks }

        /// The next one; nil: that was all.
        package mutating func next() -> ByteBuffer? {
            switch chunks.first {
            case nil: return nil
            case .octets(let octets):
                let length = Swift.min(MIMEWriter.pieceLength, octets.readableBytes - offset)
                defer {
                    offset += length
                    if offset == octets.readableBytes {
                        chunks.removeFirst()
                        offset = 0
                    }
                }
                return octets.getSlice(at: octets.readerIndex + offset, length: length)
            case .base64(let text):
                if offset >= text.utf8.count {
                    chunks.removeFirst()
                    offset = 0
                    return next()
                }
                defer { offset += MIMEWriter.lineLength * MIMEWriter.linesAtOnce }
                return MIMEWriter.lines(of: text, from: offset)
            }
        }
    }
}
