// A queue id as a field of a record, which most records begin with.

package import SlimtaMail

extension OutputBuffer {
    /// A field with an id: its two halves.
    package func field(_ tag: UInt8, _ id: QueueID) {
        let value = field(tag, size: 16)
        value.store(id.high)
        value.store(id.low, at: 8)
    }
}

extension Field {
    /// The id that is all of it.
    package func id() throws(FormatError) -> QueueID {
        guard value.count == 16 else { throw FormatError("id") }
        var cursor = cursor
        return QueueID(high: try cursor.number(), low: try cursor.number())
    }
}
