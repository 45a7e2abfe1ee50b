// The storage in PostgreSQL alone: Tests/Benchmarks/cluster.py measures with it, cluster_million.py fills a queue with it.

import Glibc
import NIOCore
import SlimtaCluster
import SlimtaMail
import SlimtaQueue
import Synchronization

/// `storage-worker cluster CONNECTION ...`: one node, whose queue is where libpq finds it by these words.
struct ClusterBench {
    let connection: String

    /// Makes the tables, if they are not there.
    func initialise() throws { _ = try ClusterDatabase(PostgresOptions(connection: connection)).initialise() }

    /// Prints what a closed loop comes to: messages a second, the median and the 99th percentile in microseconds, microseconds
    /// of the processor a message.
    func load(inFlight: Int, seconds: Double, removes: Bool, isHandedOver: Bool) async throws {
        try await onNode { storage, _ in
            let loop = ClosedLoop(
                storage, inFlight: inFlight, removes: removes, isHandedOver: isHandedOver, asksForIDs: true)
            _ = try await loop.run(seconds: seconds / 5)
            let result = try await loop.run(seconds: seconds)
            say("\(result.rate) \(result.latency(0.5)) \(result.latency(0.99)) \(result.cost)")
        }
    }

    /// Accepts messages of so many octets, each of which is then deferred until some time from now.
    func fill(count: Int, octets: Int, due: Duration) async throws {
        try await onNode { storage, _ in
            let content = Group(first: 1, count: 1, head: octets, rest: 0, replaced: 0).content(.head)
            let due = Timestamp.now() + due
            try await inParallel(count) { number in
                let envelope = Self.envelope(number, storage)
                try await storage.commit(
                    QueueCommit(accepted: [.init(envelope, due: envelope.received)], message: Message(head: content)))
                try await storage.commit(QueueCommit(states: [Self.deferred(envelope.id, attempts: 1, due: due)]))
            }
        }
    }

    /// Defers all that is queued once more, and prints how many that were a second.
    func deferAll(due: Duration) async throws {
        try await onNode { storage, queued in
            let due = Timestamp.now() + due
            let begin = ContinuousClock.now
            try await inParallel(queued.count) { number in
                let state = Self.deferred(queued[number].id, attempts: queued[number].attempts + 1, due: due)
                try await storage.commit(QueueCommit(states: [state]))
            }
            say("\(Double(queued.count) / (ContinuousClock.now - begin).seconds)")
        }
    }

    /// Keeps house without a pause, until it is killed: a content table is closed at once, and emptied a second later.
    func keepHouse() async throws {
        try await onNode { options in
            options.housekeeping = .milliseconds(200)
            options.ringPeriod = .milliseconds(100)
            options.ringHold = .seconds(1)
        } body: { _, _ in
            while true { try await Task.sleep(for: .seconds(60)) }
        }
    }

    private static func envelope(_ number: Int, _ storage: ClusterStorage) -> Envelope {
        let received = Timestamp.now()
        let id = storage.newID(at: received)
        let field = """
            Received: from client.example.net (client.example.net [192.0.2.\(number % 250)])\r
            \tby mail.example.org with ESMTPSA id \(id); Tue, 1 Dec 2026 00:00:00 +0000\r

            """
        return Envelope(
            id: id, sender: Mailbox(localPart: "sender\(number)", domain: "example.org"),
            recipients: [Mailbox(localPart: "recipient\(number)", domain: "d\(number % 1000).example.net")],
            received: received,
            client: ClientInfo(address: "192.0.2.1", name: "client.example.net", protocolWord: "ESMTPSA"),
            prependedFields: ByteBuffer(string: field))
    }

    private static func deferred(_ id: QueueID, attempts: UInt32, due: Timestamp) -> EnvelopeState {
        let (reply, relay) = ("452 4.2.2 The mailbox is full", "mx.example.net[192.0.2.9]:25")
        let attempt = AttemptRecord(
            time: .now(), result: .temporary, relay: relay, tls: "TLSv1.3 TLS_AES_256_GCM_SHA384", reply: reply,
            recipient: 0, count: 1)
        return EnvelopeState(
            id: id, attempts: attempts, due: due, recipients: [RecipientState(reply: reply, relay: relay)],
            history: Array(repeating: attempt, count: Int(min(attempts, 16))))
    }

    /// Calls `body` with each number below `count`, some hundred at a time.
    private func inParallel(_ count: Int, _ body: @escaping @Sendable (Int) async throws -> Void) async throws {
        let numbers = Counter()
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            for _ in 0..<500 {
                tasks.addTask {
                    while true {
                        let number = numbers.take()
                        if number >= count { return }
                        try await body(number)
                    }
                }
            }
            try await tasks.waitForAll()
        }
    }

    /// `body` is given what is queued.
    private func onNode(
        _ change: (inout ClusterOptions) -> Void = { _ in },
        body: (ClusterStorage, [QueuedSummary]) async throws -> Void
    ) async throws {
        var options = ClusterOptions(
            database: PostgresOptions(connection: connection), node: "storage-worker", machine: "storage-worker")
        options.needsStandby = false
        change(&options)
        let storage = ClusterStorage(options) { event in
            switch event {
            case .joined, .buckets: break
            default: complain("\(event)")
            }
        }
        let found = Found()
        try await storage.start { events in
            for case .acquired(let summaries) in events { found.queued.withLock { $0 += summaries } }
        }
        // The thread that it starts on tells of the database; who joins has its buckets a moment later.
        while storage.admission(of: 0) != .open {
            if storage.status().failure != nil { throw StorageError.away(storage.status().failure ?? "") }
            usleep(1000)
        }
        try await body(storage, found.queued.withLock { $0 })
        await storage.close()
    }
}

/// Numbers from 0 on: none is used twice.
private final class Counter: Sendable {
    private let next = Mutex(0)

    func take() -> Int {
        next.withLock { next in
            defer { next += 1 }
            return next
        }
    }
}

/// What a node was told of.
private final class Found: Sendable {
    let queued = Mutex<[QueuedSummary]>([])
}
