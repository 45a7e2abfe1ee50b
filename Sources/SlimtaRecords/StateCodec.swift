// How the state of an envelope is written down: octet for octet the same wherever it is stored.

import SlimtaMail
package import SlimtaQueue

/// The state of an envelope:
///
///     1 id  2 attempts  3 due  4 flags (1 held, 2 warned)  5 recipient, once for each, in order
///     6 what an attempt came to, oldest first (``AttemptCodec``)
///     7 why it is held: the rule's name; none if it is not held, or an operator holds it
///
/// A recipient is its fate (1 octet), the length of the reply (4), reply, relay.
package enum StateCodec {
    /// Appends `state` as a field.
    package static func encode(_ state: EnvelopeState, tag: UInt8, into output: OutputBuffer) {
        let start = output.begin(tag)
        output.field(1, state.id)
        output.field(2, state.attempts)
        output.field(3, state.due.milliseconds)
        output.field(4, UInt8((state.isHeld ? 1 : 0) | (state.isWarned ? 2 : 0)))
        for recipient in state.recipients {
            let field = output.begin(5)
            output.append(recipient.fate.rawValue)
            output.append(UInt32(recipient.reply.utf8.count))
            output.append(recipient.reply)
            output.append(recipient.relay)
            output.end(field)
        }
        AttemptCodec.encode(state.history, tag: 6, into: output)
        if let reason = state.heldReason {
            let field = output.begin(7)
            output.append(reason)
            output.end(field)
        }
        output.end(start)
    }

    /// Reads the value of what `encode` wrote.
    package static func decode(_ octets: UnsafeRawBufferPointer) throws(FormatError) -> EnvelopeState {
        var cursor = InputCursor(octets)
        var id: QueueID?
        var due: Timestamp?
        var state = EnvelopeState(id: QueueID(high: 0, low: 0), due: Timestamp(milliseconds: 0), recipients: [])
        while let field = try cursor.field() {
            switch field.tag {
            case 1: id = try field.id()
            case 2: state.attempts = try field.number()
            case 3: due = Timestamp(milliseconds: try field.number())
            case 4:
                let flags: UInt8 = try field.number()
                state.isHeld = flags & 1 != 0
                state.isWarned = flags & 2 != 0
            case 5:
                var recipient = field.cursor
                guard let fate = RecipientState.Fate(rawValue: try recipient.number()) else {
                    throw FormatError("fate")
                }
                let length: UInt32 = try recipient.number()
                let reply = try recipient.octets(Int(length))
                state.recipients.append(
                    RecipientState(
                        fate: fate, reply: String(decoding: reply, as: UTF8.self),
                        relay: String(decoding: recipient.rest, as: UTF8.self)))
            case 6: state.history.append(try AttemptCodec.decode(field, after: state.history.last))
            case 7: state.heldReason = field.text
            default: break  // from a newer version
            }
        }
        guard let id, let due else { throw FormatError("state") }
        state.id = id
        state.due = due
        return state
    }
}
