// The queue's driver with the real storage, and a relay whose hosts do what the test says.

import Foundation
import Logging
import NIOCore
import SlimtaMail
import SlimtaStorage
import Synchronization
import Testing

@testable import SlimtaQueue

/// Hosts that answer, or do not. Counts attempts.
private final class TestRelay: Relay {
    struct State {
        var dead: Set<String> = []
        var attempts: [String: Int] = [:]
        var delivered: [QueueID] = []
        var atOnce: [String: Int] = [:]
        var mostAtOnce: [String: Int] = [:]
    }

    let state: Mutex<State>

    init(dead: Set<String> = []) { state = Mutex(State(dead: dead)) }

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        let domain = delivery.envelope.recipients[delivery.recipients[0]].foldedDomain
        let isDead = state.withLock { state in
            state.attempts[domain, default: 0] += 1
            state.atOnce[domain, default: 0] += 1
            state.mostAtOnce[domain] = max(state.mostAtOnce[domain] ?? 0, state.atOnce[domain] ?? 0)
            return state.dead.contains(domain)
        }
        try? await Task.sleep(for: .milliseconds(1))
        state.withLock { state in
            state.atOnce[domain, default: 0] -= 1
            if !isDead { state.delivered.append(delivery.envelope.id) }
        }
        let outcome =
            isDead
            ? Outcome(.temporary, Reply(451, .init(4, 4, 1), "connection refused"), isHostFailure: true)
            : Outcome(.delivered, Reply(250, .init(2, 0, 0), "ok"), isRemote: true)
        return delivery.recipients.map { _ in outcome }
    }

    func attempts(_ domain: String) -> Int { state.withLock { $0.attempts[domain] ?? 0 } }
    var delivered: [QueueID] { state.withLock { $0.delivered } }
}

/// Clocks that are set by hand; time passes all the same.
private final class TestClock: Sendable {
    private let offsets = Mutex((wall: Duration.zero, slept: Duration.zero))
    private let start = ContinuousClock.now
    private let begin = Timestamp.now()

    /// The system's clock is set.
    func set(forward: Duration) { offsets.withLock { $0.wall += forward } }

    /// The machine is suspended.
    func sleep(_ duration: Duration) {
        offsets.withLock {
            $0.wall += duration
            $0.slept += duration
        }
    }

    /// A queue's clock, which begins now.
    var clock: QueueClock {
        let first = self.wall
        let started = self.running
        return QueueClock { ClockReading(wall: self.wall, now: first + (self.running - started)) }
    }

    private var running: Duration { ContinuousClock.now - start + offsets.withLock { $0.slept } }
    var wall: Timestamp { begin + (ContinuousClock.now - start) + offsets.withLock { $0.wall } }
}

/// A queue in a folder of its own.
private final class World {
    let clock = TestClock()
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("queue-\(UUID().uuidString)").path
    let relay: TestRelay
    private(set) var storage: JournaledStorage
    private(set) var queue: Queue

    private let warn: Duration?

    init(dead: Set<String> = [], warn: Duration? = nil) throws {
        relay = TestRelay(dead: dead)
        self.warn = warn
        (storage, queue) = try Self.open(path, relay, clock, warn)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    private static func open(
        _ path: String, _ relay: TestRelay, _ clock: TestClock, _ warn: Duration?
    ) throws -> (JournaledStorage, Queue) {
        let storage = try JournaledStorage.open(
            directory: path, owner: nil, options: StorageOptions(), report: { _ in })
        let queue = Queue(
            storage: storage, relay: relay,
            configuration: .init(
                schedule: RetrySchedule(intervals: [.seconds(1)], expire: .seconds(3600), warn: warn),
                limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: true, hostname: "queue.test"),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, clock: clock.clock)
        queue.receive([.acquired(try storage.recover())])
        return (storage, queue)
    }

    func reopen() async throws {
        await storage.close()
        (storage, queue) = try Self.open(path, relay, clock, warn)
    }

    /// Accepts a message; its id, when it is durable.
    @discardableResult
    func accept(to recipient: String) async throws -> QueueID {
        try await accept(to: recipient, 1)[0]
    }

    @discardableResult
    func accept(
        to recipient: String, _ count: Int, heldBy rule: String? = nil, in wait: Duration? = nil,
        notify: NotifyConditions = .usual
    ) async throws -> [QueueID] {
        let now = clock.wall
        let due = wait.map { now + $0 }
        let envelopes = (0..<count).map { _ in
            var envelope = Envelope(
                id: QueueID(at: due ?? now), sender: Mailbox(parsing: "sender@client.test"),
                recipients: [Mailbox(parsing: recipient)!], received: now,
                client: ClientInfo(address: "", name: "c", protocolWord: "ESMTP"))
            envelope.setNotifications(notify, of: envelope.recipients[0])
            return envelope
        }
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            queue.accept(
                envelopes, Message(head: ByteBuffer(string: "Subject: x\r\n\r\nbody\r\n")), heldReason: rule, due: due
            ) {
                continuation.resume(with: $0.mapError { $0 as any Error })
            }
        }
        return envelopes.map(\.id)
    }

    // What operators do, with one envelope.

    func hold(_ id: QueueID) async throws { try check(await queue.hold([id], by: "root")) }
    func release(_ id: QueueID) async throws { try check(await queue.release([id], by: "root")) }
    func remove(_ id: QueueID) async throws { try check(await queue.remove([id], by: "root")) }
    func flush(_ id: QueueID) async throws { try check(await queue.flush([id], by: "root")) }

    private func check(_ failed: [QueueOperationFailure]) throws { if let first = failed.first { throw first.error } }

    /// Runs the queue until `isDone`; false if that takes more than a minute.
    func run(until isDone: @escaping @Sendable (Queue) -> Bool) async -> Bool {
        let queue = queue
        return await withTaskGroup(of: Bool?.self) { group in
            group.addTask {
                await queue.run()
                return nil
            }
            group.addTask {
                for _ in 0..<6000 {
                    if isDone(queue) { return true }
                    try? await Task.sleep(for: .milliseconds(10))
                }
                return false
            }
            var result = false
            for await one in group {
                if let one {
                    result = one
                    queue.drain()
                }
            }
            return result
        }
    }
}

@Suite struct QueueDriverTests {
    /// What a rule holds is not attempted, neither now nor after a restart, until an operator releases it.
    @Test func whatARuleHoldsWaitsForAnOperator() async throws {
        let world = try World()
        let held = try await world.accept(to: "x@well.test", 2, heldBy: "much at night")
        let first = try await world.accept(to: "x@well.test")
        #expect(await world.run { $0.count == 2 } && world.relay.delivered == [first])
        try await world.reopen()
        let second = try await world.accept(to: "x@well.test")
        #expect(await world.run { $0.count == 2 } && world.relay.delivered == [first, second])
        let states = await world.storage.states(held)
        #expect(try states.map { try $0.get().heldReason } == ["much at night", "much at night"])
        try await world.reopen()
        try await world.release(held[0])
        #expect(await world.run { $0.count == 1 } && world.relay.delivered == [first, second, held[0]])
        #expect(try await world.storage.states([held[1]])[0].get().isHeld)
    }

    /// What is to be sent later is not attempted before, also after a restart, and is as old as that.
    @Test func whatIsToBeSentLaterWaits() async throws {
        let world = try World()
        // Longer than mail is tried, and than the longest wait between attempts.
        let later = try await world.accept(to: "x@well.test", 1, in: .seconds(7200))[0]
        let dead = try await world.accept(to: "x@dead.test", 1, in: .seconds(7200))[0]
        let first = try await world.accept(to: "x@well.test")
        #expect(await world.run { $0.count == 2 } && world.relay.delivered == [first])
        try await world.reopen()
        world.clock.sleep(.seconds(7100))
        let second = try await world.accept(to: "x@well.test")
        #expect(await world.run { $0.count == 2 } && world.relay.delivered == [first, second])
        world.relay.state.withLock { $0.dead = ["dead.test"] }
        // The driver goes on after a drain only as a new one.
        try await world.reopen()
        world.clock.sleep(.seconds(110))
        let relay = world.relay
        #expect(await world.run { $0.count == 1 && relay.attempts("dead.test") > 0 && $0.attemptsInFlight == 0 })
        #expect(relay.delivered == [first, second, later])
        // Its time has only begun.
        #expect(try await world.storage.states([dead])[0].get().recipients[0].fate == .pending)
        await world.storage.close()
    }

    /// A clock that is set back keeps nothing waiting for longer than it was to wait.
    @Test func whatIsToBeSentLaterAndAClockThatIsSetBack() async throws {
        let world = try World()
        let later = try await world.accept(to: "x@well.test", 1, in: .seconds(60))[0]
        world.clock.set(forward: .seconds(-86_400))
        try await world.reopen()
        world.clock.sleep(.seconds(70))
        #expect(await world.run { $0.count == 0 } && world.relay.delivered == [later])
        await world.storage.close()
    }

    /// Nobody wants to be told of a delay: what waits for a dead host is not seen to for that again and again, but probed.
    @Test func nobodyIsToBeWarned() async throws {
        let world = try World(dead: ["dead.test"], warn: .seconds(600))
        try await world.accept(to: "x@dead.test", 1, notify: [])
        let (relay, clock) = (world.relay, world.clock)
        let isLate = Mutex(false)
        let isDelivered = await world.run { queue in
            isLate.withLock { isLate in
                guard !isLate, queue.snapshot().backedOffCount == 1, queue.attemptsInFlight == 0 else { return }
                isLate = true
                relay.state.withLock { $0.dead = [] }
                clock.sleep(.seconds(1200))
                queue.look()
            }
            return queue.count == 0
        }
        #expect(isDelivered && relay.delivered.count == 1)
        await world.storage.close()
    }

    @Test func manyToADeadDomainDoNotDelayOne() async throws {
        let world = try World(dead: ["dead.test"])
        for _ in 0..<20 { _ = try await world.accept(to: "x@dead.test", 500) }
        let well = try await world.accept(to: "x@well.test")
        let relay = world.relay
        #expect(await world.run { _ in relay.delivered == [well] })
        // They were in line before it; five attempts found out, and a probe may have been made since.
        #expect(relay.attempts("dead.test") <= 20)
        #expect(world.queue.count == 10_000)
        let snapshot = world.queue.snapshot()
        #expect(snapshot.destinations.map(\.name) == ["dead.test"])
        #expect(snapshot.destinations[0].depth == 10_000)
        #expect(snapshot.destinations[0].backOff != nil)
        #expect(world.relay.state.withLock { $0.mostAtOnce["dead.test"] ?? 0 } <= 5)
        await world.storage.close()
    }

    @Test func whatWaitsGoesWhenTheHostAnswers() async throws {
        let world = try World(dead: ["x.test"])
        let ids = try await world.accept(to: "x@x.test", 300)
        let relay = world.relay
        #expect(await world.run { $0.snapshot().backedOffCount == 1 })
        #expect(relay.attempts("x.test") <= 20)
        // The driver goes on after a drain only as a new one, which knows nothing of the back-off.
        try await world.reopen()
        #expect(world.queue.count == 300)
        #expect(world.queue.snapshot().backedOffCount == 0)
        let before = relay.attempts("x.test")
        let queue = world.queue
        #expect(
            await world.run { _ in
                if queue.snapshot().backedOffCount == 1 { relay.state.withLock { $0.dead = [] } }
                return queue.count == 0
            })
        #expect(Set(relay.delivered) == Set(ids))
        #expect(relay.delivered.count == 300)
        // Each once, but for those that found out.
        #expect(relay.attempts("x.test") - before <= 330)
        #expect(relay.state.withLock { $0.mostAtOnce["x.test"] ?? 0 } <= 20)
        await world.storage.close()
    }

    @Test func heldAcrossARestart() async throws {
        let world = try World()
        let held = try await world.accept(to: "x@x.test")
        let other = try await world.accept(to: "y@x.test")
        try await world.hold(held)
        try await world.hold(held)
        #expect(world.queue.snapshot().held == 1)
        try await world.reopen()
        #expect(world.queue.snapshot().held == 1)
        #expect(await world.run { $0.count == 1 })
        #expect(world.relay.delivered == [other])
        try await world.reopen()
        await #expect(throws: QueueOperationError.held) { try await world.flush(held) }
        try await world.release(held)
        #expect(await world.run { $0.count == 0 })
        #expect(world.relay.delivered == [other, held])
        await #expect(throws: QueueOperationError.notFound) { try await world.hold(held) }
        await world.storage.close()
    }

    @Test func manyAtOnce() async throws {
        let world = try World()
        let ids = try await world.accept(to: "x@x.test", 300)
        try await world.hold(ids[3])
        try await world.remove(ids[4])
        let gone = QueueOperationFailure(id: ids[4], error: .notFound)
        #expect(await world.queue.hold(Array(ids.prefix(200)), by: "root") == [gone])
        #expect(world.queue.snapshot().held == 199)
        try await world.reopen()
        #expect(world.queue.snapshot().held == 199)
        // Those that are held fail, and the others are not kept from it.
        let failed = await world.queue.flush(Array(ids.suffix(150)), by: "root")
        #expect(failed == ids[150..<200].map { QueueOperationFailure(id: $0, error: .held) })
        #expect(await world.queue.remove(Array(ids[100..<150]), by: "root").isEmpty)
        #expect(await world.queue.release(ids, by: "root").map(\.id) == [ids[4]] + ids[100..<150])
        #expect(await world.run { $0.count == 0 })
        #expect(Set(world.relay.delivered) == Set(ids[..<100] + ids[150...]).subtracting([ids[4]]))
        #expect(world.relay.delivered.count == 249)
        #expect(world.storage.ledger().submitted.removed == 51)
        #expect(world.storage.ledger().unaccounted == 0)
        await world.storage.close()
    }

    @Test func removedAndBounced() async throws {
        let world = try World()
        let removed = try await world.accept(to: "x@x.test")
        let bounced = try await world.accept(to: "y@x.test")
        try await world.remove(removed)
        #expect(world.queue.count == 1)
        await #expect(throws: QueueOperationError.notFound) { try await world.remove(removed) }
        try await world.queue.bounce(bounced, by: "root")
        // The notice to the sender is in its place.
        #expect(world.queue.count == 1)
        try await world.reopen()
        #expect(world.queue.snapshot().destinations.map(\.name) == ["client.test"])
        await #expect(throws: StorageError.notFound) { try await world.storage.load(bounced) }
        #expect(await world.run { $0.count == 0 })
        #expect(world.relay.attempts("x.test") == 0)
        #expect(world.relay.attempts("client.test") == 1)
        await world.storage.close()
    }

    @Test func flushed() async throws {
        let world = try World(dead: ["x.test"])
        let ids = try await world.accept(to: "x@x.test", 50)
        #expect(await world.run { $0.snapshot().backedOffCount == 1 })
        world.relay.state.withLock { $0.dead = [] }
        #expect(await world.queue.flush(destination: "X.test") == 50)
        #expect(world.queue.snapshot().backedOffCount == 0)
        try await world.flush(ids[7])
        #expect(await world.queue.flushAll() == 50)
        await #expect(throws: QueueOperationError.notFound) { try await world.flush(QueueID(at: .now())) }
        await world.storage.close()
    }

    @Test func aFailureOfTheStorageChangesNothing() async throws {
        let world = try World()
        let id = try await world.accept(to: "x@x.test")
        await world.storage.close()
        await #expect(throws: QueueOperationError.storage(.closed)) { try await world.hold(id) }
        await #expect(throws: QueueOperationError.storage(.closed)) { try await world.remove(id) }
        let snapshot = world.queue.snapshot()
        #expect(snapshot.depth == 1 && snapshot.held == 0)
        try await world.flush(id)
    }
}

/// Somebody sets the clock, or the machine sleeps, while mail waits.
@Suite struct QueueClockTests {
    /// A message that was tried once, and waits.
    private func deferred() async throws -> (World, QueueID) {
        let world = try World(dead: ["x.test"])
        let id = try await world.accept(to: "x@x.test")
        let relay = world.relay
        let queue = world.queue
        #expect(await world.run { _ in relay.attempts("x.test") >= 1 && queue.attemptsInFlight == 0 })
        return (world, id)
    }

    /// As after a drain, with the clock as it has come to be; recovered by a queue that begins now.
    private func restarted(_ world: World) async throws {
        try await world.reopen()
        world.relay.state.withLock { $0.dead = [] }
    }

    /// While it runs: what waits and what is new are delivered as if nothing had happened.
    @Test(arguments: [-7200, 6 * 86_400, -5 * 365 * 86_400]) func theClockIsSetWhileMailWaits(seconds: Int) async throws
    {
        let world = try World(dead: ["x.test"])
        let old = try await world.accept(to: "x@x.test")
        let (relay, clock, queue) = (world.relay, world.clock, world.queue)
        let isSet = Mutex(false)
        let isDone = await world.run { _ in
            if !isSet.withLock({ $0 }), relay.attempts("x.test") >= 1, queue.attemptsInFlight == 0 {
                clock.set(forward: .seconds(seconds))
                isSet.withLock { $0 = true }
            }
            // Not at once: what would expire has the time to.
            if relay.attempts("x.test") >= 3 { relay.state.withLock { $0.dead = [] } }
            return relay.delivered.count == 1
        }
        #expect(isDone && relay.delivered == [old])
        try await world.reopen()
        let new = try await world.accept(to: "x@x.test")
        #expect(await world.run { $0.count == 0 })
        #expect(relay.delivered == [old, new])
        #expect(world.storage.ledger().submitted.expired == 0)
        await world.storage.close()
    }

    @Test func newMailAfterTheClockWasSet() async throws {
        let world = try World(dead: ["x.test"])
        let (relay, queue) = (world.relay, world.queue)
        world.clock.set(forward: .seconds(-7200))
        // Two hours in the past of the queue's time, and its own age all the same: not expired at its first failure.
        try await world.accept(to: "x@x.test")
        #expect(
            await world.run { _ in
                if relay.attempts("x.test") >= 2 { relay.state.withLock { $0.dead = [] } }
                return queue.count == 0
            })
        #expect(relay.delivered.count == 1)
        #expect(world.storage.ledger().submitted.expired == 0)
        await world.storage.close()
    }

    /// Six days of sleep, and the host is well again: one more attempt before anything ends.
    @Test func theMachineSleepsOverTheEnd() async throws {
        let world = try World(dead: ["x.test"])
        let ids = try await world.accept(to: "x@x.test", 20)
        let (relay, queue, clock) = (world.relay, world.queue, world.clock)
        let isAwake = Mutex(false)
        #expect(
            await world.run { _ in
                if !isAwake.withLock({ $0 }), queue.snapshot().backedOffCount == 1, queue.attemptsInFlight == 0 {
                    relay.state.withLock { $0.dead = [] }
                    clock.sleep(.seconds(6 * 86_400))
                    queue.look()
                    isAwake.withLock { $0 = true }
                }
                return queue.count == 0
            })
        #expect(Set(relay.delivered) == Set(ids))
        #expect(world.storage.ledger().submitted.expired == 0)
        await world.storage.close()
    }

    /// It ends all the same where the host stays dead: each was tried after its end, or its host was.
    @Test func whatStaysDeadExpires() async throws {
        let world = try World(dead: ["x.test"])
        try await world.accept(to: "x@x.test", 20)
        let (relay, queue, clock) = (world.relay, world.queue, world.clock)
        let before = Mutex(0)
        #expect(
            await world.run { _ in
                if before.withLock({ $0 }) == 0, queue.snapshot().backedOffCount == 1, queue.attemptsInFlight == 0 {
                    before.withLock { $0 = relay.attempts("x.test") }
                    clock.sleep(.seconds(6 * 86_400))
                    queue.look()
                }
                return !queue.snapshot().destinations.contains { $0.name == "x.test" }
            })
        #expect(relay.attempts("x.test") > before.withLock { $0 })
        #expect(world.storage.ledger().submitted.expired == 20)
        await world.storage.close()
    }

    /// The clock was set back between two runs: what is due in three hours by it is due.
    @Test(arguments: [-3 * 3600, -4 * 365 * 86_400]) func theClockIsSetBackAcrossARestart(seconds: Int) async throws {
        let (world, id) = try await deferred()
        world.clock.set(forward: .seconds(seconds))
        try await restarted(world)
        #expect(await world.run { $0.count == 0 })
        #expect(world.relay.delivered == [id])
        await world.storage.close()
    }

    @Test func theClockIsSetForwardAcrossARestart() async throws {
        let (world, id) = try await deferred()
        world.clock.set(forward: .seconds(6 * 86_400))
        try await restarted(world)
        #expect(await world.run { $0.count == 0 })
        #expect(world.relay.delivered == [id])
        #expect(world.storage.ledger().submitted.expired == 0)
        await world.storage.close()
    }

    /// A day between two runs is no clock that was set: what waits for its next attempt waits for the rest of that.
    @Test func aDueTimeAcrossARestart() async throws {
        let (world, _) = try await deferred()
        try await world.reopen()
        let next = world.queue.snapshot().nextDue
        #expect(next.map { $0 - world.clock.wall <= .seconds(1) } ?? false)
        await world.storage.close()
    }
}
