// Where filters that belong to a session see its message: a place in PolicyChain, behind all policies that change the message for
// its own sake, and before those that split it or add our Received.

internal import NIOCore
internal import SlimtaMail
internal import SlimtaQueue

extension PolicyMail {
    /// Octets of a message that stay in memory when a filter has made it anew: as many as edges keep of what comes in.
    private static let headLimit = 256 << 10

    /// Shows the message to the filters of its session, and takes what they make of it: whether they have changed it.
    mutating func pass(_ filter: any MessageFilter, _ context: PolicyContext) async throws(PolicyRefusal) -> Bool {
        guard let envelope = envelopes.first, envelopes.count == 1 else { return false }
        var shown = self
        shown.unite()
        let message = FilteredMessage(
            id: envelope.id, message: shown.message, sender: envelope.sender, recipients: envelope.recipients)
        switch await filter.filter(message) {
        case .unchanged: return false
        case .changed(var filtered):
            // Looked at before some of it goes to a file. What is in one already is as the client sent it.
            let hasEightBit = filtered.message.head.withUnsafeReadableBytes(\.hasEightBit)
            filtered.message = try await Self.spooled(filtered.message, beside: envelope.id, context)
            shown.take(filtered, hasEightBit: hasEightBit)
            self = shown
            return true
        case .refused(let reply, let name): throw PolicyRefusal(reply, filter: name)
        case .discarded(let name):
            discardedBy = name
            return false
        }
    }

    /// The message with what is too much for memory in a new file.
    private static func spooled(
        _ message: Message, beside id: QueueID, _ context: PolicyContext
    ) async throws(PolicyRefusal) -> Message {
        guard message.rest == nil, message.head.readableBytes > headLimit, let beginSpool = context.beginSpool else {
            return message
        }
        // The whole header stays.
        let count = max(HeaderBlock(scanning: message.head).end, headLimit)
        var rest = message.head
        guard let head = rest.readSlice(length: count), rest.readableBytes > 0 else { return message }
        // A name of its own: what the client sent may be in a file of the envelope's name.
        let writer = beginSpool(context.newID(context.now, id))
        let result: Result<any SpooledBody, StorageError> = await withCheckedContinuation { continuation in
            writer.append(rest) { _ in }
            writer.finish { continuation.resume(returning: $0) }
        }
        do throws(StorageError) {
            return Message(head: ByteBuffer(head.readableBytesView), rest: try result.get())
        } catch {
            throw PolicyRefusal(Reply(storing: error))
        }
    }
}
