// Envelopes and small helpers for the suite.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization

/// The queue under test: a place, and the storage that is open there.
struct Bench {
    let place: any StoragePlace
    let storage: any QueueBackend
    let events: Told

    /// What the storage has told.
    final class Told: Sendable {
        private let all = Mutex<[QueueEvent]>([])

        @Sendable func note(_ events: [QueueEvent]) { all.withLock { $0 += events } }

        var events: [QueueEvent] { all.withLock { $0 } }

        /// How often an envelope was told of.
        func count(_ id: QueueID) -> Int {
            events.reduce(0) { count, event in
                guard case .acquired(let summaries) = event else { return count }
                return count + summaries.filter { $0.id == id }.count
            }
        }

        /// What is ours to deliver, by all that was told.
        var ours: [QueueID: QueuedSummary] {
            var ours: [QueueID: QueuedSummary] = [:]
            for event in events {
                switch event {
                case .acquired(let summaries): for summary in summaries { ours[summary.id] = summary }
                case .withdrawn(let ids): for id in ids { ours[id] = nil }
                case .releasing(let buckets): ours = ours.filter { !buckets.contains($0.key) }
                case .command, .sites: break
                }
            }
            return ours
        }
    }

    init(_ place: any StoragePlace) async throws {
        try await self.init(place, try await place.open())
    }

    init(_ place: any StoragePlace, _ storage: any QueueBackend) async throws {
        self.place = place
        self.storage = storage
        events = Told()
        try await storage.start(events.note)
    }

    /// The queue after an end with `close`, or without.
    func reopened(afterCrash: Bool) async throws -> Bench {
        if afterCrash { await place.crash(storage) } else { await storage.close() }
        return try await Bench(place)
    }

    /// An envelope with an id of the storage's.
    func envelope(
        to recipients: [String] = ["b@example.org"], sender: String? = "a@example.com", at milliseconds: Int64 = 0,
        beside sibling: QueueID? = nil
    ) -> Envelope {
        let time = Timestamp(milliseconds: 1_700_000_000_000 + milliseconds)
        return Envelope(
            id: storage.newID(at: time, beside: sibling), sender: sender.flatMap { Mailbox(parsing: $0) },
            recipients: recipients.compactMap { Mailbox(parsing: $0) }, received: time, body: .eightBitMIME,
            smtpUTF8: true,
            client: ClientInfo(
                address: "192.0.2.1", name: "client.example", protocolWord: "ESMTPSA",
                tls: TLSDescription(version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384"), login: "user",
                edge: "submission"),
            prependedFields: ByteBuffer(string: "Received: from here\r\n"))
    }

    /// Stores an envelope, or several of one message.
    @discardableResult
    func accept(_ envelopes: Envelope..., text: String = "Subject: x\r\n\r\nbody\r\n") async throws -> Envelope {
        try await storage.commit(Self.acceptance(envelopes, text))
        return envelopes[0]
    }

    static func acceptance(_ envelopes: [Envelope], _ text: String = "Subject: x\r\n\r\nbody\r\n") -> QueueCommit {
        QueueCommit(accepted: envelopes.map { .init($0, due: due) }, message: Message(head: ByteBuffer(string: text)))
    }

    static let due = Timestamp(milliseconds: 1_700_000_100_000)

    /// All ids that pages of `count` have.
    func walk(by count: Int) async throws -> [QueueID] {
        var ids: [QueueID] = []
        var place: QueueID?
        repeat {
            let page = try await storage.page(after: place, count: count)
            ids += page.envelopes.map(\.envelope.id)
            if let next = page.next { try demand(place.map { $0 < next } ?? true, "a page goes on behind the last") }
            place = page.next
        } while place != nil
        return ids
    }
}

/// What the storage answered, in the order in which it did.
final class Answers: Sendable {
    private let state = Mutex<
        (results: [(Int, Result<Void, StorageError>)], waiting: CheckedContinuation<Void, Never>?)
    >(
        ([], nil))
    private let count: Int

    /// - Parameter count: how many there will be.
    init(_ count: Int) { self.count = count }

    func note(_ number: Int) -> @Sendable (Result<Void, StorageError>) -> Void {
        { result in
            let waiting = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
                state.results.append((number, result))
                guard state.results.count == self.count else { return nil }
                defer { state.waiting = nil }
                return state.waiting
            }
            waiting?.resume()
        }
    }

    var all: [(number: Int, result: Result<Void, StorageError>)] {
        get async {
            await withCheckedContinuation { continuation in
                let isDone = state.withLock { state in
                    if state.results.count < count { state.waiting = continuation }
                    return state.results.count == count
                }
                if isDone { continuation.resume() }
            }
            return soFar
        }
    }

    var soFar: [(number: Int, result: Result<Void, StorageError>)] { state.withLock { $0.results } }
}

extension Result<Void, StorageError> {
    /// Why it was not done; nil: it was.
    var failure: StorageError? {
        switch self {
        case .success: nil
        case .failure(let error): error
        }
    }
}

extension Message {
    /// All its octets.
    func content() async throws -> ByteBuffer {
        var all = head
        guard let reader = rest?.makeReader() else { return all }
        while var next = try await reader.next(10_000) { all.writeBuffer(&next) }
        return all
    }
}
