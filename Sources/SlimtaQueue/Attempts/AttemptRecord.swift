// What attempts came to, for who asks later: `slimtad queue show`. Written by AttemptResolution, kept with the state.

package import SlimtaMail

/// What one attempt came to for the recipients that got the same answer from the same relay.
package struct AttemptRecord: Hashable, Sendable {
    /// When the attempt ended.
    package var time: Timestamp
    /// Delivered, or how it failed.
    package var result: Outcome.Result
    /// As in the log; empty if it came to none.
    package var relay: String
    /// TLS version and cipher, empty in clear; behind them how that was decided, where somebody demanded something.
    package var tls: String
    /// The reply as one line, cut to ``replyLimit`` octets; behind it what was done to the content for this host.
    package var reply: String
    /// The index of the first recipient that it is about.
    package var recipient: UInt32
    /// How many recipients it is about.
    package var count: UInt32

    /// The records that an envelope keeps.
    package static let limit = 16
    /// Octets of a reply that are kept.
    package static let replyLimit = 256
    /// And of what is said of TLS.
    package static let tlsLimit = 256

    /// As it is read back.
    package init(
        time: Timestamp, result: Outcome.Result, relay: String, tls: String, reply: String, recipient: UInt32,
        count: UInt32
    ) {
        self.time = time
        self.result = result
        self.relay = relay
        self.tls = tls
        self.reply = reply
        self.recipient = recipient
        self.count = count
    }

    init(_ outcome: Outcome, recipient: Int, at time: Timestamp) {
        let note = outcome.conversion.map { " (converted: \($0.rawValue))" } ?? ""
        let reply = outcome.reply.description.cut(toOctets: Self.replyLimit - note.utf8.count) + note
        let tls = [outcome.tls?.description, outcome.security].compactMap(\.self).joined(separator: "; ")
        self.init(
            time: time, result: outcome.result, relay: outcome.relay ?? "", tls: tls.cut(toOctets: Self.tlsLimit),
            reply: reply, recipient: UInt32(recipient), count: 1)
    }

    /// Whether both say the same of the same recipients, but for the time.
    package func repeats(_ other: AttemptRecord) -> Bool {
        var copy = self
        copy.time = other.time
        return copy == other
    }
}
