// How receipts stand in their tables beside their records: keys and owners, and how envelopes ended. Who writes rows encodes
// by it, who reads them decodes.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

extension Receipt.Digest {
    /// As `receipt.key` and `receipt_part.key` have it: the octets of the digest.
    var octets: [UInt8] { [a, b, c, d].flatMap { word in withUnsafeBytes(of: word.bigEndian) { Array($0) } } }
}

extension Receipt.Owner {
    /// As `receipt.owner` has it: the octets.
    var octets: [UInt8] { [high, low].flatMap { word in withUnsafeBytes(of: word.bigEndian) { Array($0) } } }
}

/// `receipt_part.ended`: delivered, bounced, expired, removed (4 octets each); then of each recipient, if it was said, its fate
/// (1 octet), the length of its last reply (4), that. Numbers are little-endian, as in all records.
enum EndedCodec {
    static func encode(_ ending: Ending, into output: OutputBuffer) {
        for count in [ending.delivered, ending.bounced, ending.expired, ending.removed] { output.append(count) }
        for recipient in ending.recipients {
            let reply = recipient.reply.cut(toOctets: Receipt.replyLimit)
            output.append(recipient.fate.rawValue)
            output.append(UInt32(reply.utf8.count))
            output.append(reply)
        }
    }

    /// - Parameter id: of the envelope: the row has it.
    static func decode(_ octets: UnsafeRawBufferPointer, of id: QueueID) throws(FormatError) -> Ending {
        var cursor = InputCursor(octets)
        var ending = Ending(
            id: id, delivered: try cursor.number(), bounced: try cursor.number(), expired: try cursor.number(),
            removed: try cursor.number())
        while !cursor.isAtEnd {
            guard let fate = RecipientState.Fate(rawValue: try cursor.number()) else { throw FormatError("fate") }
            let length: UInt32 = try cursor.number()
            let reply = try cursor.octets(Int(length))
            ending.recipients.append(RecipientState(fate: fate, reply: String(decoding: reply, as: UTF8.self)))
        }
        return ending
    }
}
