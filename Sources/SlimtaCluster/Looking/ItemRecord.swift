// How an envelope and its state stand in a row of slimtad.item. Who writes rows encodes by it, who reads them decodes.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// `item.envelope` and `item.state`: what the codecs write, without the tag and the length before it.
enum ItemRecord {
    private static let head = 5

    /// Calls `use` with what `item.envelope` has; what was in `output` is gone.
    static func withOctets<Result>(
        of envelope: Envelope, due: Timestamp, in output: OutputBuffer, _ use: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        output.removeAll()
        EnvelopeCodec.encode(envelope, due: due, tag: 0, into: output)
        return use(UnsafeRawBufferPointer(rebasing: output.octets.dropFirst(head)))
    }

    /// Calls `use` with what `item.state` has; what was in `output` is gone.
    static func withOctets<Result>(
        of state: EnvelopeState, in output: OutputBuffer, _ use: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        output.removeAll()
        StateCodec.encode(state, tag: 0, into: output)
        return use(UnsafeRawBufferPointer(rebasing: output.octets.dropFirst(head)))
    }
}

extension PostgresRows {
    /// The envelope and its state, which stand in these columns. Throws if they are not those of one envelope, `id`.
    func record(
        _ row: Int, of id: QueueID, envelope: Int, state: Int
    ) throws(FormatError) -> QueuedEnvelope {
        let (found, due) = try withOctets(row, envelope) { octets throws(FormatError) in
            try EnvelopeCodec.decode(octets)
        }
        guard found.id == id else { throw FormatError("envelope: it is another one's") }
        guard let known = try self.state(row, of: id, state) else {
            return QueuedEnvelope(envelope: found, state: EnvelopeState(of: found, due: due))
        }
        guard known.recipients.count == found.recipients.count else {
            throw FormatError("state: it has other recipients")
        }
        return QueuedEnvelope(envelope: found, state: known)
    }

    /// The state that stands in this column; nil: it is as it was accepted.
    func state(_ row: Int, of id: QueueID, _ column: Int) throws(FormatError) -> EnvelopeState? {
        if isNull(row, column) { return nil }
        let state = try withOctets(row, column) { octets throws(FormatError) in try StateCodec.decode(octets) }
        guard state.id == id else { throw FormatError("state: it is another envelope's") }
        return state
    }

    /// The reference that stands in three columns, from this one on; nil: there is none.
    func rest(_ row: Int, _ column: Int) -> SpoolReference? {
        if isNull(row, column) || isNull(row, column + 1) || isNull(row, column + 2) { return nil }
        return SpoolReference(
            id: id(row, column), length: int(row, column + 1),
            crc32c: UInt32(truncatingIfNeeded: int(row, column + 2)))
    }
}
