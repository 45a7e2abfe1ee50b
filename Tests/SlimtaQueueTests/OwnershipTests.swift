// What the queue does with what its storage tells: envelopes that become ours while it runs, buckets that are handed over,
// outcomes that another node does not want, doubts, and a storage that is away. With the storage in memory.

import SlimtaMail
import StorageKit
import Synchronization
import Testing

@testable import SlimtaQueue

/// All buckets that there are.
private let all = QueueBuckets(numbers: Set(0..<16))

@Suite struct OwnershipTests {
    let database = MemoryDatabase()

    @Test func whatIsAcquiredWhileItRunsIsDelivered() async throws {
        let first = try await Node(database, "first", delivers: false)
        let second = try await Node(database, "second")
        var ids: Set<QueueID> = []
        for _ in 0..<20 { ids.insert(try await first.accept(to: "x@x.test")) }
        let held = try await first.accept(to: "x@x.test")
        #expect(await first.queue.hold([held], by: "root").isEmpty)
        #expect(second.queue.count == 0)
        database.move(all, to: "second")
        try await eventually("the other node delivers all but what is held") {
            second.queue.count == 1 && second.relay.attempted == ids
        }
        #expect(first.queue.count == 0 && first.relay.attempted.isEmpty)
        #expect(second.queue.snapshot().held == 1)
        #expect(await first.queue.release([held], by: "root") == [.init(id: held, error: .notFound)])
        #expect(await second.queue.release([held], by: "root").isEmpty)
        try await eventually("what was held is delivered") { second.queue.count == 0 }
        await first.end()
        await second.end()
    }

    @Test func whatIsInFlightIsNotHandedOver() async throws {
        let first = try await Node(database, "first")
        let second = try await Node(database, "second")
        let slow = try await first.accept(to: "x@slow.test")
        try await eventually("an attempt is under way") { first.relay.attempts(slow) == 1 }
        database.move(all, to: "second")
        try await eventually("new mail is not ours any more") { first.storage.admission(of: 1) == .open }
        // It is stored, and for the next owner to deliver.
        let late = first.envelope(to: "y@x.test", in: slow.bucket)
        #expect(await first.outcome(of: late) == nil)
        try await Task.sleep(for: .milliseconds(100))
        #expect(second.queue.count == 0 && first.queue.count <= 1)
        first.relay.open()
        try await eventually("the other node has what is left") { second.relay.attempted == [late.id] }
        try await eventually("and all is delivered") { first.queue.count == 0 && second.queue.count == 0 }
        let ledger = try await second.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.delivered == 2)
        #expect(first.relay.attempts(slow) == 1 && second.relay.attempts(slow) == 0)
        await first.end()
        await second.end()
    }

    /// A node that is taken for dead delivers what is in flight, and so does its heir: that is all that may happen twice.
    @Test(arguments: [false, true]) func anOutcomeThatIsLost(isTold: Bool) async throws {
        let first = try await Node(database, "first")
        let second = try await Node(database, "second")
        let slow = try await first.accept(to: "x@slow.test")
        try await eventually("an attempt is under way") { first.relay.attempts(slow) == 1 }
        database.fence("first", heir: "second", isTold: isTold)
        try await eventually("the heir tries as well") { second.relay.attempts(slow) == 1 }
        if isTold { try await eventually("it is forgotten at once") { first.queue.count == 0 } }
        first.relay.open()
        try await eventually("its outcome is not wanted, and it is forgotten") {
            first.queue.count == 0 && first.queue.attemptsInFlight == 0
        }
        #expect(second.queue.count == 1)
        second.relay.open()
        try await eventually("what the heir says counts") { second.queue.count == 0 }
        let ledger = try await second.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.delivered == 1)
        // Nothing that could not be recorded keeps other mail back: only that the node has nothing any more.
        #expect(first.queue.state.withLock { $0.unrecorded } == 0)
        await first.end()
        await second.end()
    }

    @Test func commandsAboutWhatIsLost() async throws {
        let first = try await Node(database, "first", delivers: false)
        let second = try await Node(database, "second", delivers: false)
        var ids: [QueueID] = []
        for _ in 0..<20 { ids.append(try await first.accept(to: "x@x.test")) }
        // Nobody has told the first node.
        let bucket = ids[0].bucket
        database.steal(QueueBuckets(numbers: [bucket]), for: "second")
        let lost = ids.filter { $0.bucket == bucket }
        let failed = await first.queue.hold(ids, by: "root")
        #expect(failed == lost.map { .init(id: $0, error: .storage(.lost)) })
        #expect(first.queue.count == ids.count - lost.count)
        #expect(first.queue.snapshot().held == ids.count - lost.count)
        try await eventually("the other node has them, as they were") { second.queue.count == lost.count }
        #expect(second.queue.snapshot().held == 0)
        await first.end()
        await second.end()
    }

    @Test(arguments: [false, true]) func newMailInDoubt(cameThrough: Bool) async throws {
        let node = try await Node(database, "node")
        database.doubtNext("node", cameThrough: cameThrough)
        #expect(await node.outcome(of: node.envelope(to: "x@x.test")) == .doubtful)
        try await Task.sleep(for: .milliseconds(50))
        #expect(node.queue.count == 0 && node.relay.attempted.isEmpty)
        #expect(try await node.storage.ledger().submitted.accepted == 0)
        await node.end()
    }

    @Test(arguments: [false, true]) func outcomesInDoubtAreRecordedAgain(cameThrough: Bool) async throws {
        let node = try await Node(database, "node")
        let slow = try await node.accept(to: "x@slow.test")
        try await eventually("an attempt is under way") { node.relay.attempts(slow) == 1 }
        database.doubtNext("node", cameThrough: cameThrough)
        node.relay.open()
        try await eventually("nothing begins while an outcome is not recorded") {
            node.queue.state.withLock { $0.unrecorded } == 1
        }
        try await eventually("it is recorded in the end") { node.queue.count == 0 }
        let ledger = try await node.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.delivered == 1)
        #expect(node.relay.attempts(slow) == 1)
        await node.end()
    }

    @Test(arguments: [false, true]) func commandsInDoubtAreRecordedAgain(cameThrough: Bool) async throws {
        let node = try await Node(database, "node", delivers: false)
        let id = try await node.accept(to: "x@x.test")
        database.doubtNext("node", cameThrough: cameThrough)
        #expect(await node.queue.remove([id], by: "root").isEmpty)
        #expect(node.queue.count == 0)
        let ledger = try await node.storage.ledger()
        #expect(ledger.isBalanced && ledger.removedBy == ["root": 1])
        await node.end()
    }

    @Test func nothingBeginsWhileTheStorageIsAway() async throws {
        let node = try await Node(database, "node", delivers: false)
        let id = try await node.accept(to: "x@x.test")
        database.setAway("node", "no route")
        #expect(await node.outcome(of: node.envelope(to: "x@x.test")) == .away("no route"))
        #expect(await node.queue.hold([id], by: "root") == [.init(id: id, error: .storage(.away("no route")))])
        #expect(node.queue.snapshot().held == 0)
        node.queue.reconfigure(
            .init(
                schedule: RetrySchedule(intervals: [.seconds(1)], expire: .seconds(3600), warn: nil),
                limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: true, hostname: "queue.test"),
            relay: node.relay, movesMail: false)
        try await Task.sleep(for: .milliseconds(100))
        #expect(node.relay.attempted.isEmpty && node.queue.attemptsInFlight == 0)
        database.setAway("node", nil)
        try await eventually("it goes on by itself") { node.queue.count == 0 }
        #expect(node.relay.attempted == [id])
        await node.end()
    }
}

/// The scheduler gives buckets up: from every place that an entry can be in.
@Suite struct ReleaseTests {
    private typealias Place = QueueEntry.Place

    private let start = Timestamp(milliseconds: 1_700_000_000_000)
    private let failure = Outcome(.temporary, Reply(451, .init(4, 4, 1), "refused"), isHostFailure: true)

    /// A machine with one entry in a place, and another that stays.
    private func withEntry(
        in place: Place, _ body: (inout QueueMachine, _ leaving: QueueID, _ staying: QueueID) throws -> Void
    ) rethrows {
        var machine = QueueMachine(
            limits: .init(attempts: 50, attemptsPerDestination: 20),
            schedule: RetrySchedule(intervals: [.seconds(60)], expire: .seconds(3600), warn: .seconds(600)))
        let id = QueueID(at: start, bucket: 1)
        let staying = QueueID(at: start, bucket: 2)
        func add(_ id: QueueID, _ destination: String) {
            machine.added(
                QueuedSummary(
                    id: id, received: start, due: start, attempts: 0, isHeld: false, destination: destination),
                acceptedAt: start)
        }
        add(id, "x.test")
        add(staying, "y.test")
        machine.held(staying)
        var now = start
        if place != .new { #expect(machine.takeDue(now: now).map(\.id) == [id]) }
        func attempted(_ now: Timestamp) {
            _ = machine.attempted(
                id, next: now, destination: "x.test", isWarned: false, report: .unreachable(failure), now: now)
        }
        switch place {
        case .free: _ = machine.ended(id, now: now)
        case .new, .inFlight: break
        case .retry:
            _ = machine.attempted(
                id, next: now + .seconds(60), destination: "x.test", isWarned: false, report: .answered, now: now)
        case .held: machine.held(id)
        case .busy:
            machine.postponed(id, until: now)
            _ = try? machine.claim(id)
        case .parked, .probe, .resolving:
            // Until nothing is left of what is reasonable.
            for _ in 0..<20 where machine.snapshot(top: 1).backedOffCount == 0 {
                attempted(now)
                _ = machine.takeDue(now: now)
            }
            if machine.entries[machine.entries.slot(of: id)!].place != .parked { attempted(now) }
            _ = machine.takeDue(now: now)
            if place == .probe {
                now = now + .seconds(400)
                _ = machine.takeDue(now: now)
            }
            if place == .resolving {
                for second in stride(from: 400, through: 7200, by: 100) {
                    now = start + .seconds(second)
                    for taken in machine.takeDue(now: now) where taken.failure == nil { attempted(now) }
                    if machine.entries[machine.entries.slot(of: id)!].place == .resolving { break }
                }
            }
        }
        if let slot = machine.entries.slot(of: id) { #expect(machine.entries[slot].place == place) }
        try body(&machine, id, staying)
    }

    @Test(arguments: [QueueEntry.Place.free, .new, .retry, .parked, .held].map(\.rawValue))
    func whatWaitsLeavesAtOnce(place: UInt8) throws {
        withEntry(in: Place(rawValue: place)!) { machine, id, staying in
            machine.releasing(QueueBuckets(numbers: [id.bucket]))
            #expect(machine.takeReleased() == nil)
            while machine.withdrawLeaving(atMost: 1) {}
            #expect(machine.takeReleased() == QueueBuckets(numbers: [id.bucket]))
            #expect(machine.takeReleased() == nil)
            #expect(machine.entries.slot(of: id) == nil && machine.count == 1)
            #expect(machine.entries.slot(of: staying) != nil)
            #expect(machine.heldCount == 1 && machine.inFlight == 0)
        }
    }

    /// The ways in which what is under way can end.
    private enum End: CaseIterable { case attempted, postponed, held, removed, unclaimed, released }

    @Test(arguments: [QueueEntry.Place.inFlight, .probe, .resolving, .busy].map(\.rawValue))
    func whatIsUnderWayLeavesWhenItEnds(place: UInt8) throws {
        for end in End.allCases {
            withEntry(in: Place(rawValue: place)!) { machine, id, _ in
                machine.releasing(QueueBuckets(numbers: [id.bucket]))
                while machine.withdrawLeaving(atMost: 1) {}
                #expect(machine.takeReleased() == nil)
                #expect(machine.count == 2)
                #expect(machine.isLeaving(id) == true)
                let now = start + .seconds(8000)
                switch end {
                case .attempted:
                    _ = machine.attempted(
                        id, next: now, destination: "z.test", isWarned: false, report: .answered, now: now)
                case .postponed: machine.postponed(id, until: now)
                case .held: machine.held(id)
                case .removed: _ = machine.ended(id, now: now)
                // Only commands end so.
                case .unclaimed: if place == Place.busy.rawValue { machine.unclaimed(id, isHeld: true) } else { return }
                case .released: if place == Place.busy.rawValue { machine.released(id, now: now) } else { return }
                }
                #expect(machine.takeReleased() == QueueBuckets(numbers: [id.bucket]), "\(end)")
                #expect(machine.entries.slot(of: id) == nil && machine.count == 1)
                #expect(machine.heldCount == 1 && machine.inFlight == 0)
                #expect(machine.takeDue(now: now) == [])
            }
        }
    }

    @Test func whatComesMeanwhileIsNotOurs() {
        withEntry(in: .inFlight) { machine, id, _ in
            let buckets = QueueBuckets(numbers: [id.bucket])
            machine.releasing(buckets)
            let late = QueuedSummary(
                id: QueueID(at: start, bucket: id.bucket), received: start, due: start, attempts: 0, isHeld: false,
                destination: "x.test")
            machine.added(late, acceptedAt: start)
            #expect(machine.count == 2)
            while machine.withdrawLeaving() {}
            _ = machine.ended(id, now: start)
            #expect(machine.takeReleased() == buckets)
            // Then it may come back.
            machine.added(late, acceptedAt: start)
            #expect(machine.count == 2 && machine.takeDue(now: start).map(\.id) == [late.id])
        }
    }

    /// A bucket is told in pages, and what one of them brought is in the next one as well, or was accepted here before.
    @Test(arguments: [Place.new, .retry, .parked, .inFlight, .probe, .resolving, .held, .busy].map(\.rawValue))
    func whatIsToldAgainIsLeftAlone(place: UInt8) {
        withEntry(in: Place(rawValue: place)!) { machine, id, _ in
            let slot = machine.entries.slot(of: id)!
            let (due, inFlight) = (machine.entries[slot].due, machine.inFlight)
            let isAdded = machine.added(
                QueuedSummary(
                    id: id, received: start, due: start + .seconds(1), attempts: 3, isHeld: false,
                    destination: "z.test"))
            #expect(!isAdded)
            #expect(machine.entries.slot(of: id) == slot && machine.count == 2)
            #expect(machine.entries[slot].place.rawValue == place && machine.entries[slot].due == due)
            #expect(machine.inFlight == inFlight && machine.heldCount == (place == Place.held.rawValue ? 2 : 1))
        }
    }
}
