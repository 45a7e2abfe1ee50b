// Envelopes that are carried into the database, as columns of one statement: with all that they have been through.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// Rows of `item`, as `MoveStatements.carriedIn` has them.
struct MovedColumns {
    private var numbers = PostgresColumn(.int4)
    private var ids = PostgresColumn(.uuid)
    private var messages = PostgresColumn(.uuid)
    private var parts = PostgresColumn(.int4)
    private var octets = PostgresColumn(.int8)
    private var rests = PostgresColumn(.uuid)
    private var restOctets = PostgresColumn(.int8)
    private var restSums = PostgresColumn(.int8)
    private var received = PostgresColumn(.int8)
    private var due = PostgresColumn(.int8)
    private var tried = PostgresColumn(.int8)
    private var attempts = PostgresColumn(.int4)
    private var flags = PostgresColumn(.int4)
    private var destinations = PostgresColumn(.text)
    private var pending = PostgresColumn(.int4)
    private var recipients = PostgresColumn(.int4)
    private var fates = Array(repeating: PostgresColumn(.int4), count: 4)
    private var envelopes = PostgresColumn(.bytea)
    private var states = PostgresColumn(.bytea)
    private let output = OutputBuffer(capacity: OutputBuffer.page)

    /// - Parameters:
    ///   - message: whose content it has.
    ///   - bucket: the one that it is to be in.
    mutating func add(_ stored: StoredEnvelope, message: QueueID, part: Int, bucket: Int32) {
        let (envelope, state) = (stored.envelope, stored.state)
        numbers.append(bucket)
        ids.append(envelope.id)
        messages.append(message)
        parts.append(Int32(part))
        octets.append(Int64(stored.message.size))
        if let reference = stored.message.rest?.reference {
            rests.append(reference.id)
            restOctets.append(reference.length)
            restSums.append(Int64(reference.crc32c))
        } else {
            rests.appendNull()
            restOctets.appendNull()
            restSums.appendNull()
        }
        received.append(envelope.received.milliseconds)
        due.append(state.due.milliseconds)
        if let last = state.history.last { tried.append(last.time.milliseconds) } else { tried.appendNull() }
        attempts.append(Int32(clamping: state.attempts))
        flags.append(Self.flags(envelope, state).rawValue)
        let domain = envelope.recipients.first?.foldedDomain ?? ""
        // A text of PostgreSQL's has no NUL.
        destinations.append(domain.utf8.contains(0) ? "" : domain)
        pending.append(state.pending.first.map { Int32(clamping: $0) } ?? -1)
        recipients.append(Int32(clamping: envelope.recipients.count))
        let ended = Fates(state)
        for (place, count) in [ended.delivered, ended.bounced, ended.expired, ended.removed].enumerated() {
            fates[place].append(Int32(clamping: count))
        }
        ItemRecord.withOctets(of: envelope, due: state.due, in: output) { envelopes.append($0) }
        if state == EnvelopeState(of: envelope, due: state.due) { return states.appendNull() }
        ItemRecord.withOctets(of: state, in: output) { states.append($0) }
    }

    private static func flags(_ envelope: Envelope, _ state: EnvelopeState) -> ItemFlags {
        var flags: ItemFlags = []
        if state.isHeld { flags.insert(.held) }
        if state.isWarned { flags.insert(.warned) }
        if envelope.sender == nil { flags.insert(.notice) }
        return flags
    }

    func values(base: Int32) -> [PostgresValue] {
        [.int4(base)]
            + ([
                numbers, ids, messages, parts, octets, rests, restOctets, restSums, received, due, tried, attempts,
                flags, destinations, pending, recipients,
            ] + fates + [envelopes, states]).map(\.value)
    }
}
