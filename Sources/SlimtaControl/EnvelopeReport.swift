// A queued envelope as JSON: what the daemon answers, and what commands make of the queue's files themselves.

import NIOCore
package import SlimtaMail
package import SlimtaNet
package import SlimtaQueue

extension JSON {
    /// An envelope as an item of a list: bounded, however many recipients it has.
    package static func item(
        _ envelope: Envelope, _ state: EnvelopeState, _ place: QueuePlace, now: Timestamp
    ) -> JSON {
        let pending = state.pending
        let shown = 10
        return .object([
            .init("id", .string("\(envelope.id)")), .init("state", .string(place.rawValue)),
            .init("received", .string(envelope.received.isoDate)), .init("age", .seconds(now - envelope.received)),
            .init("due", .string(state.due.isoDate)), .init("attempts", .count(state.attempts)),
            .init("sender", .string(envelope.sender?.text ?? "")), .init("login", .optional(envelope.client.login)),
            .init("recipients", .array(pending.prefix(shown).map { .string(envelope.recipients[$0].text) })),
            .init("pending", .count(pending.count)), .init("total", .count(envelope.recipients.count)),
            .init(
                "reason", .string(state.heldReason ?? pending.first.map { state.recipients[$0].reply } ?? "")),
        ])
    }

    /// All that is known of an envelope.
    package static func whole(_ stored: StoredEnvelope, _ place: QueuePlace, now: Timestamp) -> JSON {
        let (envelope, state) = (stored.envelope, stored.state)
        let client = envelope.client
        let size = stored.message.size + envelope.prependedFields.readableBytes
        return .object([
            .init("id", .string("\(envelope.id)")), .init("state", .string(place.rawValue)),
            .init("received", .string(envelope.received.isoDate)), .init("age", .seconds(now - envelope.received)),
            .init("due", .string(state.due.isoDate)), .init("attempts", .count(state.attempts)),
            .init("held", .bool(state.isHeld)), .init("held_by_rule", .optional(state.heldReason)),
            .init("warned", .bool(state.isWarned)),
            .init("sender", .string(envelope.sender?.text ?? "")), .init("size", .count(size)),
            .init("body", .string(envelope.body == .eightBitMIME ? "8BITMIME" : "7BIT")),
            .init("smtputf8", .bool(envelope.smtpUTF8)),
            .init(
                "client",
                .object([
                    .init("address", .string(client.address)), .init("name", .string(client.name)),
                    .init("protocol", .string(client.protocolWord)), .init("tls", .optional(client.tls?.description)),
                    .init("login", .optional(client.login)), .init("edge", .string(client.edge)),
                ])),
            .init("recipients", .array(zip(envelope.recipients, state.recipients).map(recipient))),
            .init("history", .array(state.history.map { attempt($0, of: envelope) })),
        ])
    }

    private static func recipient(_ mailbox: Mailbox, _ state: RecipientState) -> JSON {
        return .object([
            .init("address", .string(mailbox.text)), .init("fate", .string("\(state.fate)")),
            .init("reply", .string(state.reply)), .init("relay", .string(state.relay)),
        ])
    }

    private static func attempt(_ record: AttemptRecord, of envelope: Envelope) -> JSON {
        let result =
            switch record.result {
            case .delivered: "delivered"
            case .temporary: "deferred"
            case .permanent: "refused"
            }
        let first = Int(record.recipient)
        return .object([
            .init("time", .string(record.time.isoDate)), .init("result", .string(result)),
            .init("relay", .string(record.relay)), .init("tls", .string(record.tls)),
            .init("reply", .string(record.reply)),
            .init("recipient", .optional(first < envelope.recipients.count ? envelope.recipients[first].text : nil)),
            .init("recipients", .count(record.count)),
        ])
    }

    /// A duration in whole seconds.
    package static func seconds(_ duration: Duration) -> JSON { .number(duration.milliseconds / 1000) }
}
