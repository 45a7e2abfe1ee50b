// The content of a submission. An edge collects it, policies read its header and mend it where it has to be, the storage keeps
// it, a relay sends it. Else its octets stay as they came: fields are prepended (Envelope).

package import NIOCore

/// The content of a submission: header and body, as the client sent them (with dot-stuffing undone).
///
/// The first octets are in memory: all of a small message, and of a large one at least the whole header. What a large
/// message has beyond is in a file of the storage.
package struct Message: Sendable {
    /// The beginning, or all of it. The reader index is the first octet.
    package var head: ByteBuffer
    /// What comes behind `head`; nil if that was all.
    package var rest: (any SpooledBody)?

    /// A message whose header is in `head`. Without `rest` that is all of it.
    package init(head: ByteBuffer, rest: (any SpooledBody)? = nil) {
        self.head = head
        self.rest = rest
    }

    /// The size in octets.
    package var size: Int { head.readableBytes + Int(rest?.reference.length ?? 0) }
}

/// The rest of a large message, in a file of the storage. An object: messages are handed on by every part, and few have
/// one.
package protocol SpooledBody: AnyObject, Sendable {
    /// What a stored record says of the file.
    var reference: SpoolReference { get }
    /// A new reader at the first octet.
    func makeReader() -> any SpoolReader
}

/// What the queue's records say of a spooled body.
package struct SpoolReference: Hashable, Sendable {
    /// The name of the file: the id of the first envelope that had it.
    package let id: QueueID
    /// Its length in octets.
    package let length: Int64
    /// The CRC32C of all its octets.
    package let crc32c: UInt32

    /// What is known of a file when it is durable.
    package init(id: QueueID, length: Int64, crc32c: UInt32) {
        self.id = id
        self.length = length
        self.crc32c = crc32c
    }
}

/// Reads a spooled body from beginning to end, on threads of the storage.
package protocol SpoolReader: AnyObject, Sendable {
    /// The next octets, at most `limit`; nil at the end. Throws a `StorageError` if the file is not what was stored.
    func next(_ limit: Int) async throws -> ByteBuffer?
}
