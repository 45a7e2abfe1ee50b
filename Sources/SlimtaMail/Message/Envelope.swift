// What the program is about: an envelope and its message. Made by an edge, changed by policies, owned by the queue,
// handed to a relay. The message's octets are never re-encoded: fields are prepended, the rest is passed on as it came.

package import NIOCore

/// Sender, recipients, and what is known of the client: one unit of the queue.
///
/// All envelopes that policies make of one submission share one ``Message``.
package struct Envelope: Hashable, Sendable {
    /// Its name in the queue.
    package var id: QueueID
    /// The reverse-path; nil is the null reverse-path `<>` of bounces.
    package var sender: Mailbox?
    /// The forward-paths. The index of a recipient is its name in stored state and never changes.
    package var recipients: [Mailbox]
    /// When the edge had the whole message.
    package var received: Timestamp
    /// What MAIL's BODY parameter said (RFC 6152), or what the content turned out to need.
    package var body: BodyType
    /// Whether MAIL had SMTPUTF8 (RFC 6531): the next hop needs it as well.
    package var smtpUTF8: Bool
    /// Who submitted it.
    package var client: ClientInfo
    /// Header fields that policies put before the message, the topmost first, each ended by CRLF.
    package var prependedFields: ByteBuffer

    package init(
        id: QueueID, sender: Mailbox?, recipients: [Mailbox], received: Timestamp, body: BodyType = .sevenBit,
        smtpUTF8: Bool = false, client: ClientInfo, prependedFields: ByteBuffer = ByteBuffer()
    ) {
        self.id = id
        self.sender = sender
        self.recipients = recipients
        self.received = received
        self.body = body
        self.smtpUTF8 = smtpUTF8
        self.client = client
        self.prependedFields = prependedFields
    }

    /// The sender for logs: the null reverse-path is `<>`.
    package var senderText: String { sender?.text ?? "<>" }
}

/// MAIL's BODY parameter (RFC 6152).
package enum BodyType: UInt8, Sendable {
    case sevenBit = 0
    case eightBitMIME = 1
}

/// What an edge knows of the client of a submission: for Received, logs and policies.
package struct ClientInfo: Hashable, Sendable {
    /// The IP address as text, without brackets or port; empty for what slimtad made itself or took from a file.
    package var address: String
    /// What it said in EHLO or HELO.
    package var name: String
    /// The protocol word of Received (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPSA, UTF8SMTPSA ...
    package var protocolWord: String
    /// TLS version and cipher, such as "TLSv1.3" and "TLS_AES_256_GCM_SHA384"; nil in clear.
    package var tls: TLSDescription?
    /// The login that it authenticated as; nil without AUTH.
    package var login: String?
    /// The name of the edge.
    package var edge: String

    package init(
        address: String, name: String, protocolWord: String, tls: TLSDescription? = nil, login: String? = nil,
        edge: String = ""
    ) {
        self.address = address
        self.name = name
        self.protocolWord = protocolWord
        self.tls = tls
        self.login = login
        self.edge = edge
    }
}

/// What a TLS session turned out to be: for Received and logs.
package struct TLSDescription: Hashable, Sendable, CustomStringConvertible {
    /// "TLSv1.2" or "TLSv1.3".
    package let version: String
    /// OpenSSL's name of the cipher suite.
    package let cipher: String

    package init(version: String, cipher: String) {
        self.version = version
        self.cipher = cipher
    }

    package var description: String { "\(version) \(cipher)" }
}

/// The content of a submission: header and body, as the client sent them (with dot-stuffing undone).
///
/// The first octets are in memory: all of a small message, and of a large one at least the whole header. What a large
/// message has beyond is in a file of the storage.
package struct Message: Sendable {
    /// The beginning, or all of it. The reader index is the first octet.
    package var head: ByteBuffer
    /// What comes behind `head`; nil if that was all.
    package var rest: (any SpooledBody)?

    package init(head: ByteBuffer, rest: (any SpooledBody)? = nil) {
        self.head = head
        self.rest = rest
    }

    /// The size in octets.
    package var size: Int { head.readableBytes + Int(rest?.reference.length ?? 0) }
}

/// The rest of a large message, in a file of the storage. An object: messages are handed on by every part, and few have
/// one.
package protocol SpooledBody: AnyObject, Sendable {
    /// What a stored record says of the file.
    var reference: SpoolReference { get }
    /// A new reader at the first octet.
    func makeReader() -> any SpoolReader
}

/// What the queue's records say of a spooled body.
package struct SpoolReference: Hashable, Sendable {
    /// The name of the file: the id of the first envelope that had it.
    package let id: QueueID
    /// Its length in octets.
    package let length: Int64
    /// The CRC32C of all its octets.
    package let crc32c: UInt32

    package init(id: QueueID, length: Int64, crc32c: UInt32) {
        self.id = id
        self.length = length
        self.crc32c = crc32c
    }
}

/// Reads a spooled body from beginning to end, on threads of the storage.
package protocol SpoolReader: AnyObject, Sendable {
    /// The next octets, at most `limit`; nil at the end. Throws a `StorageError` if the file is not what was stored.
    func next(_ limit: Int) async throws -> ByteBuffer?
}
