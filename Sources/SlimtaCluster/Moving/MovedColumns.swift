// Envelopes that are carried into the database, as columns of one statement: with all that they have been through.

import SlimtaMail
import SlimtaQueue

/// Rows of `item`, as `MoveStatements.carriedIn` has them.
struct MovedColumns {
    private var items = ItemColumns()
    private var states = StateColumns()

    /// - Parameters:
    ///   - message: whose content it has.
    ///   - bucket: the one that it is to be in.
    mutating func add(_ stored: StoredEnvelope, message: QueueID, part: Int, bucket: Int32) {
        let (envelope, state) = (stored.envelope, stored.state)
        items.add(
            envelope, due: state.due, stored.message, of: message, part: part, bucket: bucket, ItemFlags(state))
        states.add(
            state, bucket: bucket, isUntouched: state == EnvelopeState(of: envelope, due: state.due))
    }

    func values(base: Int32) -> [PostgresValue] {
        let first = [
            items.buckets, items.ids, items.messages, items.parts, items.octets, items.rests, items.restOctets,
            items.restSums, items.received, items.due, states.tried, states.attempts, items.flags, items.destinations,
            states.pending, items.recipients,
        ]
        return [.int4(base)] + (first + states.fates + [items.envelopes, states.records]).map(\.value)
    }
}
