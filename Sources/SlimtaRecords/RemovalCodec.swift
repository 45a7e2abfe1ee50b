// How the end of an envelope is written down.

import SlimtaMail
package import SlimtaQueue

/// The end of an envelope: id (16), delivered, bounced, expired, removed (4 each), its recipients (4; as the index knows
/// them, 0: it was not queued), the name of who removed them.
package enum EndingCodec {
    /// Appends `ending` as a field; `recipients` are those that the envelope had, nil if it was not queued.
    package static func encode(
        _ ending: Ending, _ recipients: RecipientCount?, tag: UInt8, into output: OutputBuffer
    ) {
        let start = output.begin(tag)
        output.append(ending.id.high)
        output.append(ending.id.low)
        output.append(ending.delivered)
        output.append(ending.bounced)
        output.append(ending.expired)
        output.append(ending.removed)
        output.append(recipients?.raw ?? 0)
        if let by = ending.by { output.append(by) }
        output.end(start)
    }

    /// `recipients` is nil of what was not queued when this was written, and in what version 1 wrote.
    package static func decode(_ field: Field) throws(FormatError) -> (Ending, recipients: RecipientCount?) {
        var cursor = field.cursor
        let id = QueueID(high: try cursor.number(), low: try cursor.number())
        var ending = Ending(
            id: id, delivered: try cursor.number(), bounced: try cursor.number(), expired: try cursor.number(),
            removed: try cursor.number())
        let raw: UInt32 = cursor.isAtEnd ? 0 : try cursor.number()
        if !cursor.isAtEnd { ending.by = String(decoding: cursor.rest, as: UTF8.self) }
        return (ending, raw == 0 ? nil : RecipientCount(raw: raw))
    }
}
