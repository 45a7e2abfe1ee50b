// How records refer to the rest of a large message.

package import SlimtaMail

/// Where the rest of a large message is: id (16), length (8), CRC32C (4).
package enum SpoolCodec {
    /// Appends `reference` as a field.
    package static func encode(_ reference: SpoolReference, tag: UInt8, into output: OutputBuffer) {
        let start = output.begin(tag)
        output.append(reference.id.high)
        output.append(reference.id.low)
        output.append(reference.length)
        output.append(reference.crc32c)
        output.end(start)
    }

    /// Reads what `encode` wrote.
    package static func decode(_ field: Field) throws(FormatError) -> SpoolReference {
        var cursor = field.cursor
        let id = QueueID(high: try cursor.number(), low: try cursor.number())
        let length: Int64 = try cursor.number()
        guard length >= 0 else { throw FormatError("spool length") }
        return SpoolReference(id: id, length: length, crc32c: try cursor.number())
    }
}
