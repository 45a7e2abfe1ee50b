// How the end of an envelope is written down, in the journal.

import SlimtaMail
import SlimtaQueue

/// The end of an envelope: id (16), delivered, bounced, expired, withdrawn (4 each), its recipients (4; as the index knows
/// them, 0: it was not queued), the name of who withdrew.
enum RemovalCodec {
    static func encode(_ removal: Removal, _ recipients: RecipientCount?, into output: OutputBuffer) {
        let start = output.begin(RecordTag.removal)
        output.append(removal.id.high)
        output.append(removal.id.low)
        output.append(removal.delivered)
        output.append(removal.bounced)
        output.append(removal.expired)
        output.append(removal.withdrawn)
        output.append(recipients?.raw ?? 0)
        if let by = removal.by { output.append(by) }
        output.end(start)
    }

    /// `recipients` is nil of what was not queued when this was written, and in what version 1 wrote.
    static func decode(_ field: Field) throws(FormatError) -> (Removal, recipients: RecipientCount?) {
        var cursor = field.cursor
        let id = QueueID(high: try cursor.number(), low: try cursor.number())
        var removal = Removal(
            id: id, delivered: try cursor.number(), bounced: try cursor.number(), expired: try cursor.number(),
            withdrawn: try cursor.number())
        let raw: UInt32 = cursor.isAtEnd ? 0 : try cursor.number()
        if !cursor.isAtEnd { removal.by = String(decoding: cursor.rest, as: UTF8.self) }
        return (removal, raw == 0 ? nil : RecipientCount(raw: raw))
    }
}
