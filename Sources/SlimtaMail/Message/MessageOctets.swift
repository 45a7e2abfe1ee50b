// A message read from its beginning to its end, whatever is in memory of it: for who converts it or looks through it.

package import NIOCore

/// The octets of a message, a part at a time.
package struct MessageOctets: Sendable {
    /// The last one is next.
    private var inMemory: [ByteBuffer]
    private let rest: (any SpoolReader)?

    /// Those of `message`, and of the fields that were put before it.
    package init(of message: Message, behind fields: ByteBuffer = ByteBuffer()) {
        inMemory = [message.head, fields].filter { $0.readableBytes > 0 }
        rest = message.rest?.makeReader()
    }

    /// The next of them; nil at the end. Throws where the storage does not give them, or where the task is cancelled.
    package mutating func next() async throws -> ByteBuffer? {
        try Task.checkCancellation()
        if let part = inMemory.popLast() { return part }
        return try await rest?.next(65_536)
    }
}
