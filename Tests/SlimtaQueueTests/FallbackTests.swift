// A queue whose home is away: what goes on, what waits, and what is told; with a home in memory and a journal beside it.

import Foundation
import Logging
import NIOCore
import SlimtaMail
import SlimtaStorage
import StorageKit
import Synchronization
import Testing

@testable import SlimtaQueue

/// A node with a journal beside its home.
private final class FallbackNode: Sendable {
    let database: MemoryDatabase
    let storage: FallbackStorage
    let queue: Queue
    let relay = GatedRelay()
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("slimta-\(UUID())").path
    private let running: Task<Void, Never>

    init() async throws {
        database = MemoryDatabase()
        storage = FallbackStorage(
            home: MemoryStorage(database, name: "node"),
            local: try JournaledStorage.open(
                directory: folder, owner: nil, options: StorageOptions(), report: { _ in }))
        queue = Queue(
            storage: storage, relay: relay,
            configuration: .init(
                schedule: RetrySchedule(intervals: [.seconds(1)], expire: .seconds(3600), warn: nil),
                limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: true, hostname: "queue.test"),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await storage.start { [queue] in queue.receive($0) }
        running = Task { [queue] in await queue.run() }
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func envelope(to recipient: String) -> Envelope {
        let now = Timestamp.now()
        return Envelope(
            id: storage.newID(at: now), sender: Mailbox(parsing: "sender@client.test"),
            recipients: [Mailbox(parsing: recipient)!], received: now,
            client: ClientInfo(address: "", name: "c", protocolWord: "ESMTP"))
    }

    func outcome(of envelope: Envelope, _ receipt: Receipt? = nil) async -> StorageError? {
        let message = Message(head: ByteBuffer(string: "Subject: x\r\n\r\nbody\r\n"))
        let result: Result<Void, StorageError> = await withCheckedContinuation { continuation in
            queue.accept([envelope], message, receipt: receipt) { continuation.resume(returning: $0) }
        }
        if case .failure(let error) = result { return error }
        return nil
    }

    func accept(to recipient: String) async throws -> QueueID {
        let envelope = envelope(to: recipient)
        #expect(await outcome(of: envelope) == nil)
        return envelope.id
    }

    func setAway(_ reason: String?) { database.setAway("node", reason) }

    func end() async {
        queue.drain()
        relay.open()
        await running.value
        await storage.close()
    }
}

@Suite struct FallbackTests {
    /// Mail goes on while home is away, and home's waits: what was in flight is recorded when it is back, and made once.
    @Test func mailGoesOn() async throws {
        let node = try await FallbackNode()
        let flying = try await node.accept(to: "x@slow.test")
        try await eventually("an attempt is under way") { node.relay.attempts(flying) == 1 }
        node.setAway("no route")
        #expect(node.storage.admission(of: 1000) == .open && node.storage.awayMembers == .home)
        node.relay.open()
        try await eventually("its outcome waits") { node.queue.state.withLock { $0.stuckMembers } == .home }
        var locals: [QueueID] = []
        for number in 0..<20 { locals.append(try await node.accept(to: "x@d\(number % 3).test")) }
        #expect(locals.allSatisfy(FallbackStorage.isLocal) && !FallbackStorage.isLocal(flying))
        let bounced = try await node.accept(to: "bounce@x.test")
        try await eventually("new mail is delivered, and its notices") {
            node.queue.count == 1
        }
        #expect(locals.allSatisfy { node.relay.attempts($0) == 1 } && node.relay.attempts(bounced) == 1)
        // 20, the one that bounced, and the notice of it.
        #expect(node.relay.attempted.count == 23)
        let status = node.storage.status()
        #expect(status.failure == nil && status.away.count == 1 && status.away[0].contains("no route"))
        node.setAway(nil)
        try await eventually("what waited is recorded") { node.queue.count == 0 }
        #expect(node.relay.attempts(flying) == 1)
        #expect(!FallbackStorage.isLocal(try await node.accept(to: "x@x.test")))
        try await eventually("home takes mail again") { node.queue.count == 0 }
        let ledger = try await node.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.delivered == 22 && ledger.submitted.bounced == 1)
        #expect(ledger.notices.accepted == 1 && ledger.notices.queued == 0)
        #expect(try await node.storage.audit().isClean)
        await node.end()
    }

    /// What is in home and due is not attempted while home is away, also if its content is in memory, and is when it is back.
    @Test func nothingBeginsAtHome() async throws {
        let node = try await FallbackNode()
        // All places of the destination are taken.
        for _ in 0..<5 { _ = try await node.accept(to: "x@slow.test") }
        try await eventually("attempts are under way") { node.queue.attemptsInFlight == 5 }
        let waiting = try await node.accept(to: "y@slow.test")
        node.setAway("no route")
        let local = try await node.accept(to: "z@slow.test")
        node.relay.open()
        try await eventually("the local one is delivered") { node.relay.attempts(local) == 1 }
        try await eventually("outcomes wait") { node.queue.state.withLock { $0.unrecorded } == 5 }
        try await eventually("the local one has left") { node.queue.count == 6 }
        #expect(node.relay.attempts(waiting) == 0)
        node.setAway(nil)
        for _ in 0..<12_000 where node.queue.count > 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(node.queue.count == 0 && node.relay.attempts(waiting) == 1)
        await node.end()
    }

    /// All that home had goes to another node: what is local is in no bucket, and stays.
    @Test(arguments: [1, 16, 255, 256, 4096]) func homeHandsAllOver(buckets: Int) async throws {
        let node = try await FallbackNode()
        node.setAway("no route")
        var locals: [QueueID] = []
        for _ in 0..<7 { locals.append(try await node.accept(to: "x@slow.test")) }
        try await eventually("all places of the destination are taken") { node.queue.attemptsInFlight == 5 }
        node.queue.receive([.releasing(QueueBuckets(numbers: Set(0..<UInt16(buckets)), of: buckets))])
        let passes = node.queue.passes
        node.queue.look()
        try await eventually("the queue looks") { node.queue.passes > passes }
        #expect(node.queue.state.withLock { !$0.machine.hasReleased && $0.machine.takeReleased() == nil })
        locals.append(try await node.accept(to: "y@slow.test"))
        node.relay.open()
        try await eventually("all are delivered") { node.queue.count == 0 }
        for id in locals { #expect(node.relay.attempts(id) == 1) }
        node.setAway(nil)
        await node.end()
    }

    /// What is commanded for both is done where it can be.
    @Test func commands() async throws {
        let node = try await FallbackNode()
        let home = try await node.accept(to: "x@slow1.test")
        try await eventually("it is attempted") { node.relay.attempts(home) == 1 }
        node.setAway("no route")
        let local = try await node.accept(to: "x@slow2.test")
        try await eventually("it is attempted") { node.relay.attempts(local) == 1 }
        let other = try await node.accept(to: "x@slow2.test")
        let held = try await node.accept(to: "x@slow2.test")
        try await eventually("all are") { node.queue.attemptsInFlight == 4 }
        let busy = await node.queue.hold([home, local, other], by: "root")
        #expect(busy.count == 3)
        // By itself a storage does what is absolute, whatever the other says.
        let states = await node.storage.states([local, home, held])
        #expect(states[1] == .failure(.away("no route")))
        var state = try states[0].get()
        state.attempts = 9
        var gone = state
        gone.id = home
        await #expect(throws: StorageError.away("no route")) {
            try await node.storage.commit(QueueCommit(states: [state, gone]))
        }
        #expect(try await node.storage.states([local])[0].get().attempts == 9)
        await #expect(throws: StorageError.away("no route")) { try await node.storage.page(after: nil, count: 10) }
        node.setAway(nil)
        try await node.storage.commit(QueueCommit(states: [state, gone]))
        #expect(try await node.storage.states([home])[0].get().attempts == 9)
        await node.end()
    }

    /// A key that a client chose may be in home: what comes with one waits. One that is made of an id cannot be.
    @Test func keys() async throws {
        let node = try await FallbackNode()
        func receipt(_ number: UInt64, _ id: QueueID) -> Receipt {
            let key = Receipt.Digest(number, 0, 0, 0)
            return Receipt(key: key, owner: .init(key), fingerprint: key, id: id, expires: nil)
        }
        let first = node.envelope(to: "x@x.test")
        #expect(await node.outcome(of: first, receipt(1, first.id)) == nil)
        node.setAway("no route")
        await #expect(throws: StorageError.away("no route")) { try await node.storage.receipt(for: .init(1, 0, 0, 0)) }
        let again = node.envelope(to: "x@x.test")
        let refused = await node.outcome(of: again, receipt(1, again.id))
        if case .away = refused {} else { Issue.record("taken twice: \(String(describing: refused))") }
        let own = node.envelope(to: "x@x.test")
        var ownReceipt = receipt(2, own.id)
        ownReceipt.reach = .itself
        #expect(await node.outcome(of: own, ownReceipt) == nil)
        #expect(try await node.storage.receipt(of: own.id)?.id == own.id)
        node.setAway(nil)
        #expect(try await node.storage.receipt(for: .init(1, 0, 0, 0))?.id == first.id)
        #expect(try await node.storage.receipt(for: .init(2, 0, 0, 0))?.id == own.id)
        try await node.storage.commit(QueueCommit(forgotten: [.init(1, 0, 0, 0), .init(2, 0, 0, 0)]))
        for number in [UInt64(1), 2] {
            #expect(try await node.storage.receipt(for: .init(number, 0, 0, 0)) == nil)
        }
        await node.end()
    }

    /// What the journal has it has behind a restart, and whatever home says then.
    @Test func restart() async throws {
        let database = MemoryDatabase()
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("slimta-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        func open() throws -> FallbackStorage {
            FallbackStorage(
                home: MemoryStorage(database, name: "node"),
                local: try JournaledStorage.open(
                    directory: folder, owner: nil, options: StorageOptions(), report: { _ in }))
        }
        var storage = try open()
        try await storage.start { _ in }
        database.setAway("node", "no route")
        let now = Timestamp.now()
        let envelope = Envelope(
            id: storage.newID(at: now), sender: nil, recipients: [Mailbox(parsing: "x@x.test")!], received: now,
            client: ClientInfo(address: "", name: "c", protocolWord: "ESMTP"))
        try await storage.commit(
            QueueCommit(accepted: [.init(envelope, due: now)], message: Message(head: ByteBuffer(string: "x"))))
        await storage.close()
        storage = try open()
        let found = Found()
        try await storage.start { found.note($0) }
        #expect(try await storage.countLocal() == 1)
        #expect(found.ids == [envelope.id])
        await storage.close()
    }
}

private final class Found: Sendable {
    private let all = Mutex<[QueueID]>([])

    func note(_ events: [QueueEvent]) {
        for event in events { if case .acquired(let found) = event { all.withLock { $0 += found.map(\.id) } } }
    }

    var ids: [QueueID] { all.withLock { $0 } }
}
