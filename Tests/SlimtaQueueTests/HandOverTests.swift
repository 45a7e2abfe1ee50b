// Buckets that change hands while there is much to do: each goes when nothing of it is under way, whatever else leaves with it,
// and of two nodes one delivers what is in it.

import SlimtaMail
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaQueue

/// What a bucket leaves with.
struct Departure: CustomTestStringConvertible {
    /// How often it is asked for before it goes.
    let askings: Int
    /// An attempt is under way for something in it.
    let isInFlight: Bool
    /// A commit with something new in it.
    let isComing: Bool
    /// It becomes ours again, while others are still leaving.
    let comesBack: Bool

    static let all = [1, 2, 3].flatMap { askings in
        (0..<8).map {
            Departure(askings: askings, isInFlight: $0 & 1 > 0, isComing: $0 & 2 > 0, comesBack: $0 & 4 > 0)
        }
    }

    var testDescription: String {
        "asked for \(askings) times\(isInFlight ? ", in flight" : "")\(isComing ? ", a commit" : "")"
            + (comesBack ? ", comes back" : "")
    }
}

extension SeededGenerator {
    fileprivate mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
}

@Suite struct LeavingTests {
    private func summary(_ bucket: UInt16, _ number: UInt64 = 0) -> QueuedSummary {
        QueuedSummary(
            id: QueueID(high: UInt64(epoch.milliseconds) << 16 | UInt64(bucket), low: number), received: epoch,
            due: epoch, attempts: 0, isHeld: false, destination: "x.test")
    }

    @Test(arguments: Departure.all) func aBucketGoesByItself(_ departure: Departure) {
        // Of 1 it is as the departure says; something of 2 is in flight all the time; 3 is empty.
        for commitEndsFirst in [false, true] {
            var queue = machine([summary(2)])
            if departure.isInFlight { queue.added(summary(1)) }
            #expect(queue.takeDue(now: epoch).count == (departure.isInFlight ? 2 : 1))
            queue.added(summary(1, 1))
            let new = summary(1, 2)
            if departure.isComing { queue.arriving([new.id]) }
            for asking in 0..<departure.askings {
                queue.releasing(QueueBuckets(numbers: asking.isMultiple(of: 2) ? [1, 2] : [1, 2, 3]))
                while queue.withdrawLeaving(atMost: 1) {}
            }
            var gone: [QueueBuckets] = []
            func take() { if let buckets = queue.takeReleased() { gone.append(buckets) } }
            func endCommit() {
                if !departure.isComing { return }
                #expect(queue.added(new, acceptedAt: epoch) == false, "it is the next owner's")
                queue.arrived([new.id])
            }
            func endAttempt() { if departure.isInFlight { _ = queue.done(summary(1).id) } }
            let free: Set<UInt16> = departure.askings > 1 ? [3] : []
            let isKept = departure.isComing || departure.isInFlight
            take()
            let first = isKept ? free : free.union([1])
            #expect(gone == (first.isEmpty ? [] : [QueueBuckets(numbers: first)]))
            #expect(queue.count == (departure.isInFlight ? 2 : 1), "what waited has gone")
            commitEndsFirst ? endCommit() : endAttempt()
            if departure.isComing && departure.isInFlight {
                take()
                #expect(!gone.contains { $0.numbers.contains(1) })
            }
            commitEndsFirst ? endAttempt() : endCommit()
            take()
            #expect(gone.filter { $0.numbers.contains(1) }.count == 1, "it goes once")
            #expect(queue.hasReleased == false && queue.isLeaving(new.id) == false)
            #expect(queue.isLeaving(summary(2).id) == true)
            if departure.comesBack {
                #expect(queue.added(new, acceptedAt: epoch) == true)
                #expect(queue.takeDue(now: epoch).map(\.id) == [new.id])
                // It may be asked for again at once.
                queue.releasing(QueueBuckets(numbers: [1]))
                while queue.withdrawLeaving() {}
                take()
                #expect(queue.isLeaving(new.id) == true)
                _ = queue.done(new.id)
                take()
                #expect(gone.last == QueueBuckets(numbers: [1]))
            }
            _ = queue.done(summary(2).id)
            take()
            #expect(gone.last == QueueBuckets(numbers: [2]) && queue.count == 0)
        }
    }

    /// Everything in any order, beside a plain account of it.
    @Test(arguments: 1...8 as ClosedRange<UInt64>) func random(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var queue = machine(attempts: 12, perDestination: 12, [])
        var waiting: Set<QueueID> = []
        var flying: Set<QueueID> = []
        var coming: [QueueID] = []
        var leaving: Set<UInt16> = []
        var counts = (released: 0, kept: 0, dropped: 0)
        for step in 1...8000 as ClosedRange<UInt64> {
            switch random.below(10) {
            case 0...1:
                let id = summary(UInt16(random.below(6)), step).id
                queue.arriving([id])
                coming.append(id)
            case 2...4:
                guard !coming.isEmpty else { continue }
                let id = coming.remove(at: random.below(coming.count))
                let isAdded = random.below(4) > 0 && queue.added(summary(id.bucket, id.low), acceptedAt: epoch)
                if isAdded { waiting.insert(id) } else if leaving.contains(id.bucket) { counts.dropped += 1 }
                #expect(!isAdded || !leaving.contains(id.bucket))
                queue.arrived([id])
            case 5:
                for taken in queue.takeDue(now: epoch, atMost: 3) {
                    #expect(waiting.remove(taken.id) != nil && !leaving.contains(taken.id.bucket))
                    flying.insert(taken.id)
                }
            case 6...7:
                guard let id = flying.sorted().first else { continue }
                flying.remove(id)
                if random.below(2) == 0 {
                    _ = queue.done(id)
                } else {
                    _ = queue.retry(id, at: epoch)
                    if !leaving.contains(id.bucket) { waiting.insert(id) }
                }
            case 8:
                guard random.below(3) == 0 else { continue }
                let buckets = Set((0..<1 + random.below(3)).map { _ in UInt16(random.below(6)) })
                queue.releasing(QueueBuckets(numbers: buckets))
                leaving.formUnion(buckets)
                while queue.withdrawLeaving(atMost: 4) {}
                waiting = waiting.filter { !leaving.contains($0.bucket) }
            default:
                let kept = Set((flying + coming).map(\.bucket))
                let gone = leaving.subtracting(kept)
                #expect((queue.takeReleased()?.numbers ?? []) == gone)
                counts.released += gone.count
                counts.kept += leaving.count - gone.count
                leaving.formIntersection(kept)
            }
            #expect(queue.count == waiting.count + flying.count && queue.inFlight == flying.count)
        }
        #expect(counts.released > 30 && counts.kept > 30 && counts.dropped > 20, "\(counts)")
    }
}

@Suite(.timeLimit(.minutes(4))) struct HandOverTests {
    let database = MemoryDatabase()

    @Test(arguments: Departure.all)
    func oneNodeDelivers(_ departure: Departure) async throws {
        let first = try await Node(database, "first")
        let second = try await Node(database, "second")
        // In two buckets: the other one leaves as well, and does not come to its end.
        let (bucket, other) = (3 as UInt16, 5 as UInt16)
        let others = try await first.accept(to: "x@slower.test", in: other)
        let slow = departure.isInFlight ? try await first.accept(to: "x@slow.test", in: bucket) : nil
        try await eventually("attempts are under way") {
            first.relay.attempted.count == (departure.isInFlight ? 2 : 1)
        }
        let new = first.envelope(to: "x@x.test", in: bucket)
        var commit: Task<StorageError?, Never>?
        if departure.isComing {
            first.gate.shut()
            commit = Task { await first.outcome(of: new) }
            try await eventually("it is durable, and the queue does not know") { first.gate.kept == 1 }
        }
        for _ in 0..<departure.askings { database.move(QueueBuckets(numbers: [bucket, other]), to: "second") }
        try await first.settled()
        func isGone() -> Bool { first.gate.released.contains { $0.numbers.contains(bucket) } }
        #expect(isGone() == !(departure.isComing || departure.isInFlight))
        first.gate.open()
        #expect(await commit?.value == nil)
        if departure.isInFlight {
            try await first.settled()
            #expect(!isGone())
            first.relay.open("slow.test")
        }
        try await eventually("it goes though the other does not") { isGone() }
        if departure.isComing {
            try await eventually("what came meanwhile is the next owner's") { second.relay.attempts(new.id) == 1 }
        }
        try await first.settled()
        if departure.comesBack {
            let late = try await second.accept(to: "x@x.test", in: bucket, due: .now() + .seconds(3600))
            #expect(!first.knows(late))
            database.move(QueueBuckets(numbers: [bucket]), to: "first")
            try await eventually("it is back, with what is in it") { first.knows(late) && !second.knows(late) }
        }
        #expect(!first.gate.released.contains { $0.numbers.contains(other) })
        if departure.isComing || departure.isInFlight {
            #expect(first.gate.released.filter { $0.numbers.contains(bucket) }.count == 1)
        }
        first.relay.open()
        try await eventually("the other goes as well") {
            first.gate.released.contains(QueueBuckets(numbers: [other]))
        }
        try await eventually("and all that is due is delivered") {
            first.queue.count == (departure.comesBack ? 1 : 0) && second.queue.count == 0
        }
        for id in [others, slow].compactMap(\.self) {
            #expect(first.relay.attempts(id) == 1 && second.relay.attempts(id) == 0)
        }
        if departure.isComing { #expect(first.relay.attempts(new.id) == 0 && second.relay.attempts(new.id) == 1) }
        let ledger = try await second.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.delivered == 1 + (slow == nil ? 0 : 1) + (commit == nil ? 0 : 1))
        await first.end()
        await second.end()
    }

    /// A bucket may go at any moment that the queue reads its clock: with a notice in it that was committed with the end of
    /// what it tells of.
    @Test(arguments: [false, true]) func aNoticeIsDeliveredByOneNode(byOperator: Bool) async throws {
        let first = Mutex<Node?>(nil)
        let clock = QueueClock()
        let watched = QueueClock {
            // As `run` would do at this moment.
            if let queue = first.withLock({ $0?.queue }) { queue.state.withLock { queue.handOver(&$0) } }
            return clock.read()
        }
        let node = try await Node(database, "first", delivers: !byOperator, clock: watched)
        let second = try await Node(database, "second")
        let id = try await node.accept(to: "bounce@slow.test")
        if !byOperator { try await eventually("an attempt is under way") { node.relay.attempts(id) == 1 } }
        node.gate.shut()
        let command = byOperator ? Task { try await node.queue.bounce(id, by: "root") } : nil
        node.relay.open()
        try await eventually("the notice is durable, and the queue does not know") { node.gate.kept == 1 }
        database.move(QueueBuckets(numbers: [id.bucket]), to: "second")
        try await node.settled()
        #expect(node.gate.released.isEmpty && node.queue.count == 1)
        first.withLock { $0 = node }
        node.gate.open()
        try await command?.value
        try await eventually("the next owner delivers the notice") { second.relay.attempted.count == 1 }
        try await node.settled()
        try await eventually("and nobody has anything any more") { node.queue.count + second.queue.count == 0 }
        #expect(node.relay.attempted == (byOperator ? [] : [id]))
        let ledger = try await second.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.bounced == 1 && ledger.notices.delivered == 1)
        first.withLock { $0 = nil }
        await node.end()
        await second.end()
    }

    /// What does not come through keeps nothing back: new mail that is refused, and a notice of what is lost.
    @Test(arguments: [false, true]) func aCommitThatFails(isNotice: Bool) async throws {
        let first = try await Node(database, "first")
        let second = try await Node(database, "second")
        let bucket = 3 as UInt16
        let buckets = QueueBuckets(numbers: [bucket])
        let id = isNotice ? try await first.accept(to: "bounce@slow.test", in: bucket) : nil
        if let id { try await eventually("an attempt is under way") { first.relay.attempts(id) == 1 } }
        first.gate.shut()
        if isNotice { database.steal(buckets, for: "second") } else { database.setAway("first", "no route") }
        let refused = isNotice ? nil : Task { await first.outcome(of: first.envelope(to: "x@x.test", in: bucket)) }
        first.relay.open()
        try await eventually("it is refused, and the queue does not know") { first.gate.kept == 1 }
        database.setAway("first", nil)
        first.queue.receive([.releasing(buckets)])
        try await first.settled()
        #expect(first.gate.released.isEmpty)
        first.gate.open()
        if let refused { #expect(await refused.value == .away("no route")) }
        try await eventually("then it goes") { first.gate.released == [buckets] }
        #expect(first.queue.count == 0)
        await first.end()
        await second.end()
    }

    /// The last page of a bucket tells what came into it since the first one.
    @Test func whatIsToldAgainIsAttemptedOnce() async throws {
        let node = try await Node(database, "node")
        let slow = node.envelope(to: "x@slow.test")
        #expect(await node.outcome(of: slow) == nil)
        try await eventually("an attempt is under way") { node.relay.attempts(slow.id) == 1 }
        node.queue.receive([
            .acquired([
                QueuedSummary(
                    id: slow.id, received: slow.received, due: slow.received, attempts: 0, isHeld: false,
                    destination: "slow.test")
            ])
        ])
        try await node.settled()
        try await eventually("nothing else begins") { node.queue.attemptsInFlight == 1 }
        node.relay.open()
        try await eventually("it is delivered") { node.queue.count == 0 }
        #expect(node.relay.attempts(slow.id) == 1)
        await node.end()
    }
}
