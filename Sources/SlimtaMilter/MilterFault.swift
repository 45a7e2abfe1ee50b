// What can be wrong with a milter: what it said, and that it said nothing. Values for logs and for `on_failure`
// (MilterFailurePolicy.swift).

internal import SlimtaMail

/// What is wrong with octets of a milter.
package enum MilterFault: Error, Hashable, Sendable, CustomStringConvertible {
    /// A packet without a letter.
    case emptyPacket
    /// A packet of this length.
    case packetTooLong(UInt32)
    /// A letter that is no reply.
    case unknownReply(UInt8)
    /// Data behind the letter of a reply that has none.
    case dataBehind(UInt8)
    /// A reply whose data end too early, or go on behind their end.
    case malformed(UInt8)
    /// A reply that cannot be given to this event.
    case outOfTurn(UInt8, MilterStep)
    /// Octets where no reply was owed.
    case unasked
    /// The first answer is none to an offer.
    case noNegotiation(UInt8)
    /// An answer to the offer that is too short or has no end.
    case malformedNegotiation
    /// A version that we did not offer, or that is older than any.
    case version(UInt32)
    /// Actions that we did not offer.
    case actions(UInt32)
    /// Bits of the protocol that we did not offer.
    case protocolBits(UInt32)
    /// The name of a field has an octet that no name has, or none at all.
    case fieldName
    /// The value of a field has CR or NUL, a line end without a blank behind it, or a line that is too long.
    case fieldValue
    /// An address that is none.
    case address(String)
    /// A parameter that a recipient cannot be added with.
    case parameter(String)
    /// A new body in several pieces with other edits between them.
    case bodyInPieces
    /// More edits, or a longer new body, than a message can have.
    case tooMuch

    /// In words, for logs.
    package var description: String {
        switch self {
        case .emptyPacket: "sent a packet without a command"
        case .packetTooLong(let length): "sent a packet of \(length) octets"
        case .unknownReply(let letter): "sent \(shown(letter)), which is no reply"
        case .dataBehind(let letter): "sent data behind \(shown(letter)), which has none"
        case .malformed(let letter): "sent a malformed \(shown(letter))"
        case .outOfTurn(let letter, let step): "sent \(shown(letter)) in reply to \(step)"
        case .unasked: "sent a reply that it did not owe"
        case .noNegotiation(let letter): "sent \(shown(letter)) in reply to what we offer"
        case .malformedNegotiation: "sent a malformed answer to what we offer"
        case .version(let version): "speaks version \(version) of the protocol"
        case .actions(let bits): "wants actions that there are not (0x\(String(bits, radix: 16)))"
        case .protocolBits(let bits): "wants a protocol that there is not (0x\(String(bits, radix: 16)))"
        case .fieldName: "gave a field a name that is none"
        case .fieldValue: "gave a field a value that it cannot have"
        case .address(let text): "named an address that is none: \(text.cut(toOctets: 300).visible)"
        case .parameter(let text): "added a recipient with \(text.cut(toOctets: 300).visible)"
        case .bodyInPieces: "replaced the body in pieces"
        case .tooMuch: "sent more edits than a message can have"
        }
    }

    private func shown(_ letter: UInt8) -> String { "\"\(Unicode.Scalar(letter).visible)\"" }
}

/// Why a milter has no part in a message any longer.
package struct MilterFailure: Hashable, Sendable, CustomStringConvertible {
    /// What happened.
    package enum Cause: Hashable, Sendable {
        /// It is not reached, with the system's word for it.
        case unreachable(String)
        /// It said what it must not say.
        case fault(MilterFault)
        /// It closed the connection.
        case closed
        /// The connection broke, with the system's word for it.
        case broken(String)
        /// It took too long.
        case timedOut
    }

    /// What happened.
    package let cause: Cause
    /// What we were at; nil: at nothing, or not that far.
    package let step: MilterStep?

    /// In words, for logs: what the milter did.
    package var description: String {
        let place = step.map { " at \($0)" } ?? ""
        return switch cause {
        case .unreachable(let word): "cannot be reached: \(word)"
        case .fault(let fault): fault.description
        case .closed: "closed the connection\(place)"
        case .broken(let word): "broke the connection\(place): \(word)"
        case .timedOut: "did not answer in time\(place)"
        }
    }
}
