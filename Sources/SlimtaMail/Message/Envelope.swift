// What the program is about: an envelope. Made by an edge, changed by policies, owned by the queue, handed to a relay. Its
// message (Message.swift) is apart from it: several envelopes can have the same one.

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
    /// What MAIL's BODY parameter said (RFC 6152 section 2), or what the content turned out to need.
    package var body: BodyType
    /// Whether MAIL had SMTPUTF8 (RFC 6531 section 3.4): the next hop needs it as well.
    package var smtpUTF8: Bool
    /// Who submitted it.
    package var client: ClientInfo
    /// Header fields that policies put before the message, the topmost first, each ended by CRLF.
    package var prependedFields: ByteBuffer
    /// Of recipients that others were forwarded to: whom the sender has named.
    package private(set) var originals: [Mailbox: Mailbox] = [:]
    /// When the sender is told of recipients, where somebody has said so.
    package private(set) var notifications: [Mailbox: NotifyConditions] = [:]
    /// Whether it brings a TLS report (RFC 8460): it is given up after a day, goes where TLS is broken as well, and nothing is
    /// counted of its own sessions.
    package var isTLSReport = false

    /// An envelope as an edge makes it. Policies add `prependedFields`.
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

    /// Whom the sender has named, where that is another one than this recipient.
    package func original(of recipient: Mailbox) -> Mailbox? {
        originals.isEmpty ? nil : originals[recipient]
    }

    /// Notes that `recipient` is there in the place of `original`.
    package mutating func setOriginal(_ original: Mailbox, of recipient: Mailbox) { originals[recipient] = original }

    /// When the sender is told of this recipient.
    package func notifies(of recipient: Mailbox) -> NotifyConditions {
        notifications.isEmpty ? .usual : notifications[recipient] ?? .usual
    }

    /// Notes when the sender is told of `recipient`.
    package mutating func setNotifications(_ conditions: NotifyConditions, of recipient: Mailbox) {
        notifications[recipient] = conditions
    }

    /// The sender for logs: the null reverse-path is `<>`.
    package var senderText: String { sender?.text ?? "<>" }
}

/// MAIL's BODY parameter (RFC 6152 section 2).
package enum BodyType: UInt8, Sendable {
    /// 7BIT: ASCII only. What holds where the parameter is missing.
    case sevenBit = 0
    /// 8BITMIME: octets above 127 are in it, in lines as short as ever.
    case eightBitMIME = 1
}

/// What an edge knows of the client of a submission: for Received, logs and policies.
package struct ClientInfo: Hashable, Sendable {
    /// The IP address as text, without brackets or port; empty for what slimtad made itself or took from a file.
    package var address: String
    /// What it said in EHLO or HELO.
    package var name: String
    /// The protocol word of Received (RFC 3848 section 1, RFC 6531 section 4.3): SMTP, ESMTP, ESMTPS, ESMTPSA, UTF8SMTPSA ...
    package var protocolWord: String
    /// TLS version and cipher, such as "TLSv1.3" and "TLS_AES_256_GCM_SHA384"; nil in clear.
    package var tls: TLSDescription?
    /// The login that it authenticated as; nil without AUTH.
    package var login: String?
    /// The name of the edge.
    package var edge: String

    /// A client's description. Without `tls` it spoke in clear, without `login` it did not authenticate.
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
