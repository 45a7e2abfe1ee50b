// What an attempt came to, for one recipient: made by a relay, recorded by the queue, told in bounces and logs.

/// The result of one attempt for one recipient. Temporary or permanent is in the type.
package struct Outcome: Hashable, Sendable {
    /// What is to become of the recipient.
    package enum Result: Hashable, Sendable {
        /// The next hop took responsibility.
        case delivered
        /// To be tried again.
        case temporary
        /// Never to be tried again: the sender is told.
        case permanent
    }

    /// What became of the content on its way to a host that takes 7 bits only (RFC 6152 section 3). The raw value is the word
    /// of the log.
    package enum Conversion: String, Hashable, Sendable {
        /// It was encoded.
        case sevenBit = "7bit"
        /// It was encoded, and had a signature, which holds no more.
        case signatureLost = "7bit, signature lost"
    }

    /// Whether it is delivered, to be tried again, or over.
    package var result: Result
    /// What the remote host said, or what we say where none said anything.
    package var reply: Reply
    /// Whether `reply` came from the remote host; false: it is ours (DNS, connection, timeout).
    package var isRemote: Bool
    /// The host that it was about, such as "mx.example.com[192.0.2.1]:25"; nil if it came to none.
    package var relay: String?
    /// The host's name alone, for Remote-MTA.
    package var remoteHost: String?
    /// TLS towards it; nil in clear.
    package var tls: TLSDescription?
    /// Whether no host could be used: no address, no connection, no session. That is said of the destination and not of
    /// this recipient, and others would fare no better now. Of temporary results only.
    package var isHostFailure: Bool
    /// What the remote host asked for: how long from now the next attempt is to wait at least; nil: it did not say.
    /// Of temporary results only.
    package var retryAfter: Duration?
    /// The site as a whole takes no mail now, or no more of it: how long from now the recipient is to wait. That was no
    /// attempt, and is no step towards the next one. Of temporary results only; nil: it was one.
    package var postponed: Duration?
    /// How the content was changed for the host; nil: it was not, or the host has seen none of it.
    package var conversion: Conversion?
    /// How the host's TLS was decided and why, and what its certificate was found to be by, in words; nil: nobody demanded
    /// anything.
    package var security: String?

    /// Without the optional facts: what we say ourselves, of no host in particular.
    package init(
        _ result: Result, _ reply: Reply, isRemote: Bool = false, relay: String? = nil, remoteHost: String? = nil,
        tls: TLSDescription? = nil, isHostFailure: Bool = false, retryAfter: Duration? = nil
    ) {
        self.result = result
        self.reply = reply
        self.isRemote = isRemote
        self.relay = relay
        self.remoteHost = remoteHost
        self.tls = tls
        self.isHostFailure = isHostFailure
        self.retryAfter = retryAfter
    }

    /// The result that a reply's code says: 2xx delivered, 5xx permanent, anything else temporary.
    package static func result(of reply: Reply) -> Result {
        reply.isPositive ? .delivered : reply.isPermanent ? .permanent : .temporary
    }
}
