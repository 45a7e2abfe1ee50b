// What a session of the client knows of its AUTH. A part of SMTPClientMachine's state.

import SlimtaMail
import SlimtaSASL

/// An AUTH that is under way, or is to be.
struct SMTPLogin: Sendable {
    /// By what an exchange can be bound to the TLS session.
    var bindings: [ChannelBinding: [UInt8]] = [:]
    var sasl: SASLClient?
    /// The initial response, if it was too long for the line with AUTH: the server is to ask for it.
    var initial: [UInt8]?
    /// What is to be computed.
    var computation: SMTPLoginComputation?
}

/// A response to a challenge that takes its time.
package struct SMTPLoginComputation: Sendable {
    private(set) var sasl: SASLClient
    private let challenge: [UInt8]
    private(set) var response: [UInt8]?

    init(sasl: SASLClient, challenge: [UInt8]) {
        self.sasl = sasl
        self.challenge = challenge
    }

    /// Computes it.
    package mutating func run() { response = sasl.respond(to: challenge) }
}
