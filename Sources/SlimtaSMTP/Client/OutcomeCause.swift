// Where an outcome of a transaction came from: told by SMTPClientMachine beside the outcome itself, so that SlimtaRelay
// can decide whether another host is to be asked.

/// What a transaction was doing when a recipient's outcome was decided, and by what.
package struct OutcomeCause: Hashable, Sendable {
    /// What was waited for or done.
    package enum Stage: Hashable, Comparable, Sendable, CaseIterable {
        case mail, recipient, data
        /// The content was being sent: the server has not seen its end.
        case content
        /// The content was sent whole, and the reply to it waited for.
        case finalReply
    }

    /// What it was that came, or did not come.
    package enum Kind: Hashable, Sendable, CaseIterable {
        /// The server said so.
        case reply
        /// The server has enough recipients in this transaction (RFC 5321 section 4.5.3.1.10).
        case tooManyRecipients
        /// The connection ended.
        case lost
        /// The server said or took nothing in time.
        case timedOut
        /// The server does not keep to the protocol.
        case protocolError
        /// The server lacks an extension that the message needs, or takes no message of its size.
        case lacking
        /// The server lacks 8BITMIME (RFC 6152), and nothing else that the message as a whole needs.
        case lacksEightBit
        /// It is the message itself, or an address, that cannot be sent to anybody.
        case message
        /// We no longer want it.
        case cancelled
    }

    /// How far the session was.
    package var stage: Stage
    /// What happened there.
    package var kind: Kind

    /// `kind` happened at `stage`.
    package init(_ stage: Stage, _ kind: Kind) {
        self.stage = stage
        self.kind = kind
    }
}

extension SMTPClientMachine.End {
    /// What this is for an outcome.
    var kind: OutcomeCause.Kind {
        switch self {
        case .closed, .broken, .tlsFailed: .lost
        case .timedOut: .timedOut
        case .cancelled: .cancelled
        }
    }
}
