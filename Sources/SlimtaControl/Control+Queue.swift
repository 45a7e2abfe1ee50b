// The queue over the control socket: pages of it, one message, and what operators do to it. A request's work is bounded:
// who wants more asks again where the last answer ended.

import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import Synchronization

extension Control {
    /// Envelopes that one request looks at.
    private static let reach = 4096

    // MARK: looking

    func list(_ query: [HTTPTarget.Parameter]) async throws(Refusal) -> HTTPResponse {
        try allow(QueueFilter.names + ["limit", "after", "until"], query)
        let walk = try Walk(query)
        var items: [JSON] = []
        let (unreadable, next) = try await self.walk(walk) { items.append(.item($0.envelope, $0.state, $1, now: $2)) }
        return HTTPResponse(
            .object([
                .init("messages", .array(items)), .init("unreadable", .array(unreadable)),
                .init("next", .optional(next.map { "\($0)" })),
            ]))
    }

    func count(_ query: [HTTPTarget.Parameter]) async throws(Refusal) -> HTTPResponse {
        try allow(QueueFilter.names + ["after", "until"], query)
        var walk = try Walk(query)
        if walk.filter.isEmpty {
            let count: Int
            do throws(StorageError) { count = try await storage.count() } catch { throw Refusal(error) }
            return HTTPResponse(.object([.init("count", .count(count)), .init("next", .null)]))
        }
        walk.limit = Self.reach
        var count = 0
        let (_, next) = try await self.walk(walk) { _, _, _ in count += 1 }
        return HTTPResponse(
            .object([.init("count", .count(count)), .init("next", .optional(next.map { "\($0)" }))]))
    }

    func show(_ text: String, _ query: [HTTPTarget.Parameter]) async throws(Refusal) -> HTTPResponse {
        try allow(["content"], query)
        guard let id = QueueID(text) else { throw Refusal(400, "\"\(text)\" is not a queue id: 32 hexadecimal digits") }
        let stored: StoredEnvelope
        do throws(StorageError) { stored = try await storage.look(at: id) } catch { throw Refusal(error, id) }
        guard query.isEmpty else {
            return HTTPResponse(200, [("Content-Type", "message/rfc822")], .stream(Content(stored).next))
        }
        let now = Timestamp.now()
        return HTTPResponse(
            .whole(stored, place(id, stored.state, now), now: now))
    }

    func place(_ id: QueueID, _ state: EnvelopeState, _ now: Timestamp) -> QueuePlace {
        queue.isActive(id) ? .active : QueuePlace(of: state, now: now)
    }

    /// Calls `body` for the envelopes that a walk means, until it has its limit or has looked at enough. Returns those that
    /// could not be read, and where to go on.
    func walk(
        _ walk: Walk, _ body: (QueuedEnvelope, QueuePlace, Timestamp) -> Void
    ) async throws(Refusal) -> (unreadable: [JSON], next: QueueID?) {
        let now = Timestamp.now()
        var unreadable: [JSON] = []
        var found = 0
        var seen = 0
        var place = walk.after
        while true {
            let size = min(storage.pageSize, walk.filter.isEmpty ? max(walk.limit - found, 1) : Self.reach)
            let page: QueuedPage
            do throws(StorageError) { page = try await storage.page(after: place, count: size) } catch {
                throw Refusal(error)
            }
            for queued in page.envelopes {
                if let until = walk.until, queued.envelope.id > until { return (unreadable, nil) }
                let place = self.place(queued.envelope.id, queued.state, now)
                guard walk.filter.matches(queued.envelope, queued.state, place, now: now) else { continue }
                body(queued, place, now)
                found += 1
                if found == walk.limit { return (unreadable, queued.envelope.id) }
            }
            unreadable += page.unreadable.map {
                .object([.init("id", .string("\($0.id)")), .init("error", .string($0.reason))])
            }
            place = page.next
            seen += size
            if place == nil || seen >= Self.reach { return (unreadable, place) }
        }
    }
}

/// A message as it would be sent, a piece at a time.
private final class Content: Sendable {
    private let reader: (any SpoolReader)?
    private let first: Mutex<[ByteBuffer]>

    init(_ stored: StoredEnvelope) {
        reader = stored.message.rest?.makeReader()
        first = Mutex([stored.message.head, stored.envelope.prependedFields])
    }

    @Sendable func next() async throws -> ByteBuffer? {
        while let buffer = first.withLock({ $0.popLast() }) {
            if buffer.readableBytes > 0 { return buffer }
        }
        return try await reader?.next(64 << 10)
    }
}
