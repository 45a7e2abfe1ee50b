// The content of a message while it comes in: the first part in memory, the rest of a large one in a file of the storage.
// Used by SMTPEdgeHandler, on its event loop.

internal import NIOCore
internal import SlimtaMIME
internal import SlimtaMail
internal import SlimtaQueue
internal import SlimtaRules

/// Collects one message. Memory stays below a bound however large the message is.
final class MessageCollector {
    /// How much of a message is kept in memory: all of most messages, and room for any sane header.
    static let headLimit = 256 * 1024
    /// How many octets may be on their way to the file before reading stops.
    private static let backlogLimit = 512 * 1024

    /// The envelope's id: the file is named after it.
    let id: QueueID
    /// What of it is in memory: all of it, or as much as there is room for.
    private(set) var head = ByteBuffer()
    private var spooled = 0
    private var spool: (any SpoolWriter)?
    private var backlog = 0
    private var failure: StorageError?
    private let eventLoop: any EventLoop
    private let makeSpool: (QueueID, ByteBuffer) -> any SpoolWriter
    private let readsContent: Bool
    /// Of a message that is not all in memory.
    private var contentReader: ContentFactsReader?
    /// Called when ``isBackedUp`` has become false.
    private let drained: () -> Void

    /// - Parameter readsContent: whether ``content`` is asked for.
    init(
        id: QueueID, eventLoop: any EventLoop, readsContent: Bool,
        makeSpool: @escaping (QueueID, ByteBuffer) -> any SpoolWriter, drained: @escaping () -> Void
    ) {
        self.id = id
        self.readsContent = readsContent
        self.eventLoop = eventLoop
        self.makeSpool = makeSpool
        self.drained = drained
    }

    /// How many octets have come.
    var size: Int { head.readableBytes + spooled }

    /// Whether the disk is slower than the client: read no more for now.
    var isBackedUp: Bool { backlog > Self.backlogLimit }

    /// What the whole message is made of; nil: nobody was to ask.
    var content: ContentFact? {
        guard readsContent else { return nil }
        guard var reader = contentReader else { return ContentFact(of: head) }
        return ContentFact(reader.finish())
    }

    func append(_ content: ByteBuffer) {
        var content = content
        if spool == nil {
            if head.readableBytes == 0, content.readableBytes <= Self.headLimit {
                head = content
                return
            }
            let room = Self.headLimit - head.readableBytes
            if var part = content.readSlice(length: min(room, content.readableBytes)) { head.writeBuffer(&part) }
            guard content.readableBytes > 0 else { return }
            spool = makeSpool(id, head)
            if readsContent {
                contentReader = ContentFactsReader()
                contentReader?.read(head)
            }
        }
        contentReader?.read(content)
        let count = content.readableBytes
        spooled += count
        guard failure == nil, let spool else { return }
        backlog += count
        let this = NIOLoopBound(self, eventLoop: eventLoop)
        spool.append(content) { [eventLoop] error in
            eventLoop.execute { this.value.written(count, error) }
        }
    }

    private func written(_ count: Int, _ error: StorageError?) {
        let wasBackedUp = isBackedUp
        backlog -= count
        failure = failure ?? error
        if wasBackedUp, !isBackedUp { drained() }
    }

    /// The whole message; of a large one, when its file is durable. `completion` is called on the event loop.
    func finish(_ completion: @escaping (Result<Message, StorageError>) -> Void) {
        if let failure { return completion(.failure(failure)) }
        guard let spool else { return completion(.success(Message(head: head))) }
        let bound = NIOLoopBound((completion, head), eventLoop: eventLoop)
        spool.finish { [eventLoop] result in
            eventLoop.execute {
                let (completion, head) = bound.value
                completion(result.map { Message(head: head, rest: $0) })
            }
        }
    }

    /// Nothing is to be kept.
    func abandon() {
        spool?.abandon()
        spool = nil
    }
}
