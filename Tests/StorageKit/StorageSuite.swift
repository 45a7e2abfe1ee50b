// What every storage owes the queue, as functions of a place to keep one in. Run by SlimtaStorageTests for the journal and
// for MemoryStorage; whoever writes a storage runs it too.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization

/// One thing that storages owe.
package struct StorageCheck: Sendable, CustomStringConvertible {
    package let description: String
    /// On a place where nothing is yet. Throws a ``Breach``, or what the storage threw and should not have.
    package let run: @Sendable (any StoragePlace) async throws -> Void

    /// Whether it submits with keys of clients.
    package var usesKeys: Bool { (ReceiptChecks.all + DepartureChecks.all).contains { $0.description == description } }
}

/// What storages owe.
package enum StorageSuite {
    /// Each is to be run on a place of its own.
    package static let checks: [StorageCheck] =
        [
            StorageCheck(description: "ids", run: ids),
            StorageCheck(description: "what was accepted is read back", run: readBack),
            StorageCheck(description: "order", run: order),
            StorageCheck(description: "all of a commit or nothing", run: atomicity),
            StorageCheck(description: "states are absolute", run: absoluteStates),
            StorageCheck(description: "held from the start", run: heldFromTheStart),
            StorageCheck(description: "what is not there", run: notFound),
            StorageCheck(description: "pages", run: pages),
            StorageCheck(description: "large messages", run: spool),
            StorageCheck(description: "the ledger", run: ledger),
            StorageCheck(description: "the audit", run: audit),
            StorageCheck(description: "status", run: status),
            StorageCheck(description: "nothing after close", run: closed),
            StorageCheck(description: "restart after close", run: { try await restart($0, afterCrash: false) }),
            StorageCheck(description: "restart after a crash", run: { try await restart($0, afterCrash: true) }),
        ] + ReceiptChecks.all + DepartureChecks.all

    static func ids(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let time = Timestamp(milliseconds: 1_700_000_000_123)
        let first = bench.storage.newID(at: time)
        var all: Set<QueueID> = [first]
        for _ in 0..<100 {
            for id in [bench.storage.newID(at: time), bench.storage.newID(at: time, beside: first)] {
                try demand(id.time == time, "an id begins with the time")
                try demand(all.insert(id).inserted, "no id comes twice")
            }
        }
        try demand(bench.storage.newID(at: time + .milliseconds(1)) > first, "ids are in the order of time")
        try demand(bench.storage.admission(of: 1000) == .open, "new mail is taken")
        await bench.storage.close()
    }

    static func readBack(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let first = bench.envelope(to: ["b@example.org", "c@Example.NET"])
        let second = bench.envelope(to: ["ü@example.com"], beside: first.id)
        let notice = bench.envelope(sender: nil, at: 1)
        try await bench.accept(first, second, text: "the one\r\n")
        try await bench.accept(notice, text: "the other\r\n")
        for (envelope, text) in [(first, "the one\r\n"), (second, "the one\r\n"), (notice, "the other\r\n")] {
            let stored = try await bench.storage.load(envelope.id)
            try demand(stored.envelope == envelope, "an envelope is read back as it was")
            try demand(stored.state == EnvelopeState(of: envelope, due: Bench.due), "its state is that of a new one")
            try demand(String(buffer: stored.message.head) == text && !stored.isRemains, "its message is read back")
        }
        let states = await bench.storage.states([notice.id, first.id])
        try demand(
            states == [notice, first].map { .success(EnvelopeState(of: $0, due: Bench.due)) },
            "states come in the order in which they were asked for")
        try demand(bench.events.ours.isEmpty, "what the queue has just accepted it is not told of")
        await bench.storage.close()
    }

    static func order(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let envelopes = [bench.envelope(), bench.envelope(at: 1)]
        let answers = Answers(2 * 102)
        for (index, envelope) in envelopes.enumerated() {
            bench.storage.commit(Bench.acceptance([envelope]), completion: answers.note(index * 102))
        }
        for attempt in 1...100 {
            for (index, envelope) in envelopes.enumerated() {
                var state = EnvelopeState(of: envelope, due: Bench.due)
                state.attempts = UInt32(attempt)
                bench.storage.commit(QueueCommit(states: [state]), completion: answers.note(index * 102 + attempt))
            }
        }
        // Of the second nothing may be left, whatever was said of it before.
        bench.storage.commit(QueueCommit(), completion: answers.note(101))
        bench.storage.commit(
            QueueCommit(ended: [Ending(id: envelopes[1].id, delivered: 1)]), completion: answers.note(203))
        let all = await answers.all
        try demand(all.allSatisfy { $0.result.failure == nil }, "commits come through")
        for index in envelopes.indices {
            let numbers = all.map(\.number).filter { $0 / 102 == index && $0 != 101 }
            try demand(numbers == numbers.sorted(), "commits about one envelope complete in order")
        }
        let states = await bench.storage.states(envelopes.map(\.id))
        try demand(try states[0].get().attempts == 100, "the last state that was committed is the state")
        try demand(states[1] == .failure(.notFound), "what was removed last is gone")
        await bench.storage.close()
    }

    /// Chains of commits, each of which puts an envelope in the place of another: whatever is cut off, one is there.
    static func atomicity(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let count = Mutex(0)
        var chains: [Chain] = []
        for number in 0..<20 {
            let first = try await bench.accept(bench.envelope(at: Int64(number)))
            chains.append(Chain(bench, first, number) { count.withLock { $0 += 1 } })
        }
        for chain in chains { chain.goOn() }
        // Some of it is under way, and is never heard of.
        for _ in 0..<2000 where count.withLock({ $0 }) < 300 { try? await Task.sleep(for: .milliseconds(1)) }
        let acknowledged = chains.map(\.acknowledged)
        let again = try await bench.reopened(afterCrash: true)
        let found = Set(try await again.walk(by: 64))
        try demand(found == Set(again.events.ours.keys), "what is queued is ours to deliver")
        for (chain, acknowledged) in zip(chains, acknowledged) {
            let ids = chain.ids
            let places = ids.indices.filter { found.contains(ids[$0]) }
            try demand(places.count == 1, "a commit with a new envelope and an end is one: \(places)")
            try demand(places[0] >= acknowledged, "what was acknowledged has happened")
        }
        try demand(try await again.storage.ledger().isBalanced, "the ledger is balanced after a crash")
        await again.storage.close()
    }

    /// Each link is an envelope in the place of the one before it.
    private final class Chain: Sendable {
        private let bench: Bench
        private let number: Int
        private let state: Mutex<(ids: [QueueID], acknowledged: Int)>
        private let done: @Sendable () -> Void

        init(_ bench: Bench, _ first: Envelope, _ number: Int, _ done: @escaping @Sendable () -> Void) {
            self.bench = bench
            self.number = number
            self.done = done
            state = Mutex(([first.id], 0))
        }

        var ids: [QueueID] { state.withLock { $0.ids } }
        /// Links that the storage has said are there.
        var acknowledged: Int { state.withLock { $0.acknowledged } }

        /// Commits the next link, and further ones until the storage refuses.
        func goOn() {
            let last = state.withLock { $0.ids[$0.ids.count - 1] }
            let next = bench.envelope(at: Int64(number), beside: last)
            state.withLock { $0.ids.append(next.id) }
            var commit = Bench.acceptance([next])
            commit.ended = [Ending(id: last, delivered: 1)]
            bench.storage.commit(commit) { result in
                guard result.failure == nil else { return }
                self.state.withLock { $0.acknowledged += 1 }
                self.done()
                self.goOn()
            }
        }
    }

    static func absoluteStates(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let envelope = try await bench.accept(bench.envelope(to: ["a@x.test", "b@y.test"]))
        var state = EnvelopeState(of: envelope, due: Bench.due + .seconds(5))
        state.attempts = 7
        (state.isHeld, state.isWarned) = (true, true)
        state.recipients[0] = RecipientState(fate: .delivered, reply: "250 2.0.0 ok", relay: "mx[192.0.2.7]:25")
        state.recipients[1].reply = "451 4.4.1 later"
        state.history = [
            AttemptRecord(
                time: Bench.due, result: .temporary, relay: "mx", tls: "TLSv1.3", reply: "451", recipient: 1, count: 1)
        ]
        var earlier = state
        earlier.attempts = 3
        earlier.history = []
        for next in [state, state, earlier, state] {
            try await bench.storage.commit(QueueCommit(states: [next]))
            try demand(try await bench.storage.load(envelope.id).state == next, "the last state is the truth")
            try demand(try await bench.storage.states([envelope.id])[0].get() == next, "states tells it as load does")
        }
        let again = try await bench.reopened(afterCrash: true)
        try demand(try await again.storage.load(envelope.id).state == state, "it is the truth after a restart")
        let summary = again.events.ours[envelope.id]
        try demand(
            summary.map {
                $0.due == state.due && $0.attempts == 7 && $0.isHeld && $0.isWarned && $0.destination == "y.test"
                    && $0.received == envelope.received
            } ?? false,
            "the summary is that of the state, by the first pending recipient: \(String(describing: summary))"
        )
        await again.storage.close()
    }

    /// What is accepted with a state of its own has that state, before and after a restart, and until it is released.
    static func heldFromTheStart(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let first = bench.envelope()
        let second = bench.envelope(beside: first.id)
        let free = try await bench.accept(bench.envelope(at: 1))
        var commit = Bench.acceptance([first, second])
        commit.states = [first, second].map { envelope in
            var state = EnvelopeState(of: envelope, due: Bench.due)
            state.hold(because: "much at night")
            return state
        }
        try await bench.storage.commit(commit)
        for envelope in [first, second] {
            let stored = try await bench.storage.load(envelope.id)
            try demand(stored.state.isHeld && stored.state.heldReason == "much at night", "it is held, with the reason")
            try demand(stored.envelope == envelope, "the envelope is as it was accepted")
        }
        let again = try await bench.reopened(afterCrash: true)
        try demand(
            again.events.ours.filter(\.value.isHeld).map(\.key).sorted() == [first.id, second.id].sorted()
                && again.events.ours[free.id] != nil, "both are held after a crash, and nothing else")
        let loaded = try await again.storage.load(second.id)
        try demand(loaded.state.heldReason == "much at night", "the reason is known after a crash")
        var state = loaded.state
        state.release(at: Bench.due)
        try await again.storage.commit(QueueCommit(states: [state]))
        let last = try await again.reopened(afterCrash: false)
        try demand(last.events.ours[second.id]?.isHeld == false, "what was released is not held any more")
        try demand(last.events.ours[first.id]?.isHeld == true, "the other one is")
        let states = await last.storage.states([second.id])
        try demand(try states[0].get().heldReason == nil, "the reason has gone with the hold")
        try demand(try await last.storage.ledger().isBalanced, "the ledger is balanced")
        await last.storage.close()
    }

    static func notFound(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let ended = try await bench.accept(bench.envelope())
        let ending = QueueCommit(ended: [Ending(id: ended.id, delivered: 1)])
        try await bench.storage.commit(ending)
        let never = bench.envelope()
        for id in [ended.id, never.id] {
            try demand(await bench.failure(of: id) == .notFound, "what is not queued is not found")
            try demand(await bench.storage.remains(of: id) == nil, "nothing remains of it")
            let state = EnvelopeState(id: id, due: Bench.due, recipients: [RecipientState()])
            try await bench.storage.commit(QueueCommit(states: [state]))
            try demand(await bench.storage.states([id]) == [.failure(.notFound)], "a state does not bring it back")
        }
        let before = try await bench.storage.ledger()
        try await bench.storage.commit(ending)
        try demand(try await bench.storage.ledger() == before, "what has ended ends once")
        try demand(try await bench.walk(by: 10).isEmpty, "pages do not have it")
        let gone = bench.envelope()
        let commit = QueueCommit(
            accepted: [.init(gone, due: Bench.due)], message: Message(head: ByteBuffer()),
            ended: [EnvelopeState(of: gone, due: Bench.due).removed(by: "filter")])
        try await bench.storage.commit(commit)
        let ledger = try await bench.storage.ledger()
        try demand(await bench.failure(of: gone.id) == .notFound, "what ends in its own commit is not queued")
        try demand(ledger.isBalanced && ledger.removedBy["filter"] == 1, "and is counted")
        let again = try await bench.reopened(afterCrash: true)
        try demand(await again.failure(of: gone.id) == .notFound, "nor is it behind a crash")
        try demand(try await again.storage.ledger().removedBy["filter"] == 1, "and counted once")
        await again.storage.close()
    }

    static func pages(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        try demand(try await bench.storage.page(after: nil, count: 5).next == nil, "an empty queue has one page")
        var ids: [QueueID] = []
        for number in 0..<60 {
            ids.append(try await bench.accept(bench.envelope(at: Int64(number * 37 % 60))).id)
        }
        ids.sort()
        for count in [1, 7, 60, 100] {
            try demand(try await bench.walk(by: count) == ids, "pages of \(count) have all, once, in the order of ids")
        }
        // While somebody walks, mail comes and goes.
        var found: [QueueID] = []
        var place: QueueID?
        var gone: Set<QueueID> = []
        repeat {
            let page = try await bench.storage.page(after: place, count: 7)
            try demand(page.envelopes.count <= 7 && page.unreadable.isEmpty, "a page has at most what was asked for")
            found += page.envelopes.map(\.envelope.id)
            try demand(found.count <= 200, "a walk ends")
            place = page.next
            for id in [ids[min(59, found.count / 2)], ids[min(59, found.count + 3)]] where gone.insert(id).inserted {
                try await bench.storage.commit(QueueCommit(ended: [Ending(id: id, delivered: 1)]))
            }
            try await bench.accept(bench.envelope(at: Int64(found.count)))
        } while place != nil
        try demand(zip(found, found.dropFirst()).allSatisfy { $0 < $1 }, "nothing comes twice, nor out of order")
        try demand(Set(found).isSuperset(of: Set(ids).subtracting(gone)), "what stays is not missed")
        await bench.storage.close()
    }

    static func spool(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let octets = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }
        let first = bench.envelope()
        let dropped = bench.storage.beginSpool(bench.envelope().id)
        _ = await dropped.appended(ByteBuffer(bytes: [1, 2, 3]))
        dropped.abandon()
        let writer = bench.storage.beginSpool(first.id)
        let answers = Answers(3)
        for number in 0..<3 {
            writer.append(ByteBuffer(bytes: octets[number * 100_000..<(number + 1) * 100_000])) { error in
                answers.note(number)(error.map { .failure($0) } ?? .success(()))
            }
        }
        let appended = await answers.all
        try demand(appended.map(\.number) == [0, 1, 2], "what is appended leaves memory in order")
        try demand(appended.allSatisfy { $0.result.failure == nil }, "it can be appended")
        let body = try await writer.finished().get()
        try demand(body.reference.length == 300_000, "the body is as long as what was appended")
        let second = bench.envelope(beside: first.id)
        try await bench.storage.commit(
            QueueCommit(
                accepted: [.init(first, due: Bench.due), .init(second, due: Bench.due)],
                message: Message(head: ByteBuffer(string: "head"), rest: body)))
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            let stored = try await bench.storage.load(second.id)
            let content = try await stored.message.content()
            try demand(stored.message.size == 300_004, "the size is that of head and rest")
            try demand(Array(content.readableBytesView) == Array("head".utf8) + octets, "all octets are read back")
            // The first one's end leaves it to the other.
            try await bench.storage.commit(QueueCommit(ended: [Ending(id: first.id, delivered: 1)]))
        }
        try await bench.storage.commit(QueueCommit(ended: [Ending(id: second.id, delivered: 1)]))
        try demand(await bench.failure(of: second.id) == .notFound, "it ends with its last envelope")
        await bench.storage.close()
    }

    static func ledger(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let since = try await bench.storage.ledger().since
        let mail = try await bench.accept(bench.envelope(to: ["a@x.test", "b@x.test", "c@y.test", "d@z.test"]))
        let notice = try await bench.accept(bench.envelope(sender: nil))
        let removed = try await bench.accept(bench.envelope(to: ["a@x.test", "b@x.test"]))
        var state = EnvelopeState(of: mail, due: Bench.due)
        state.recipients[1].fate = .delivered
        state.recipients[2].fate = .bounced
        try await bench.storage.commit(QueueCommit(states: [state]))
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            let ledger = try await bench.storage.ledger()
            try demand(ledger.isBalanced && ledger.since == since, "the ledger goes on over restarts")
            let submitted = ledger.submitted
            try demand(
                submitted.accepted == 6 && submitted.queued == 4 && submitted.delivered == 1 && submitted.bounced == 1,
                "recipients that have ended are counted though their envelope has not: \(submitted)")
            try demand(ledger.notices.accepted == 1 && ledger.notices.queued == 1, "notices have their own account")
        }
        state.recipients[0].fate = .expired
        state.recipients[3].fate = .delivered
        var ending = Ending(id: removed.id, removed: 2)
        ending.by = "root"
        try await bench.storage.commit(
            QueueCommit(ended: [Ending(of: state), ending, Ending(id: notice.id, bounced: 1)]))
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            let ledger = try await bench.storage.ledger()
            let submitted = ledger.submitted
            try demand(
                submitted.delivered == 2 && submitted.bounced == 1 && submitted.expired == 1
                    && submitted.removed == 2 && submitted.queued == 0 && ledger.notices.bounced == 1,
                "each recipient has ended as its ending said: \(ledger)")
            try demand(ledger.removedBy == ["root": 2] && ledger.isBalanced, "and who removed them is known")
        }
        let short = try await bench.accept(bench.envelope(to: ["a@x.test", "b@x.test"]))
        try await bench.storage.commit(QueueCommit(ended: [Ending(id: short.id, delivered: 1)]))
        try demand(
            try await bench.storage.ledger().mismatched == 1,
            "an ending that does not say of all how they ended is noted")
        await bench.storage.close()
    }

    static func audit(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        for number in 0..<20 { try await bench.accept(bench.envelope(at: Int64(number)), text: "twelve octets") }
        let ended = try await bench.accept(bench.envelope(at: 20))
        try await bench.storage.commit(QueueCommit(ended: [Ending(id: ended.id, delivered: 1)]))
        let audit = try await bench.storage.audit()
        try demand(audit.isClean, "nothing is wrong: \(audit.findings)")
        try demand(audit.envelopes == 20 && audit.octets >= 20 * 13, "all that is queued was read")
        try demand(audit.ledger == (try await bench.storage.ledger()), "the storage tells the same as the counters")
        try demand(try await bench.storage.acknowledgeLosses().isEmpty, "nothing is lost")
        await bench.storage.close()
    }

    static func status(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        try demand(try await bench.storage.count() == 0, "nothing is queued at first")
        let envelope = try await bench.accept(bench.envelope())
        let status = bench.storage.status()
        try demand(status.failure == nil && !status.isFull, "status tells that it works")
        try demand(try await bench.storage.count() == 1, "what is queued is counted")
        try await bench.storage.commit(QueueCommit(ended: [Ending(id: envelope.id, delivered: 1)]))
        try demand(try await bench.storage.count() == 0, "and that it has left")
        await bench.storage.close()
        try demand(bench.storage.status().failure != nil, "a storage that is closed says so")
    }

    static func closed(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let envelope = try await bench.accept(bench.envelope())
        let answers = Answers(50)
        for number in 0..<50 {
            var state = EnvelopeState(of: envelope, due: Bench.due)
            state.attempts = UInt32(number + 1)
            bench.storage.commit(QueueCommit(states: [state]), completion: answers.note(number))
        }
        await bench.storage.close()
        try demand(answers.soFar.count == 50, "close waits for what was committed before")
        try demand(answers.soFar.allSatisfy { $0.result.failure == nil }, "and that comes through")
        let late = Answers(1)
        bench.storage.commit(Bench.acceptance([envelope]), completion: late.note(0))
        try demand(await late.all[0].result.failure == .closed, "no commit comes through after close")
        try demand(await bench.failure(of: envelope.id) == .closed, "nor is anything read")
        try demand(await bench.storage.states([envelope.id]) == [.failure(.closed)], "nor its state")
        let writer = bench.storage.beginSpool(envelope.id)
        try demand(await writer.appended(ByteBuffer(bytes: [1])) == .closed, "nor does a large message begin")
        do throws(StorageError) {
            _ = try await bench.storage.page(after: nil, count: 1)
            throw .failed("a page was read")
        } catch {
            try demand(error == .closed, "nor is a page read: \(error)")
        }
        await bench.storage.close()
        let again = try await Bench(place)
        try demand(try await again.storage.states([envelope.id])[0].get().attempts == 50, "all of it is there")
        await again.storage.close()
    }

    static func restart(_ place: any StoragePlace, afterCrash: Bool) async throws {
        var bench = try await Bench(place)
        try demand(bench.events.ours.isEmpty, "a new queue is empty")
        var expected: [QueueID: QueuedSummary] = [:]
        for round in 0..<3 {
            for number in 0..<40 {
                let envelope = try await bench.accept(bench.envelope(to: ["r@D\(number).test"], at: Int64(number)))
                var state = EnvelopeState(of: envelope, due: Bench.due)
                if number % 3 == 0 {
                    state.due = Bench.due + .seconds(number)
                    (state.attempts, state.isHeld) = (UInt32(round), number % 2 == 0)
                    try await bench.storage.commit(QueueCommit(states: [state]))
                }
                if number % 5 == 0 {
                    try await bench.storage.commit(QueueCommit(ended: [Ending(id: envelope.id, expired: 1)]))
                } else {
                    expected[envelope.id] = QueuedSummary(
                        of: StoredEnvelope(envelope: envelope, state: state, message: Message(head: ByteBuffer())))
                }
            }
            // What was there before leaves as what is new does.
            if let id = expected.keys.sorted().first {
                expected[id] = nil
                try await bench.storage.commit(QueueCommit(ended: [Ending(id: id, delivered: 1)]))
            }
            bench = try await bench.reopened(afterCrash: afterCrash)
            try demand(bench.events.ours == expected, "a restart finds what was acknowledged, no more and no less")
            try demand(try await bench.walk(by: 50) == expected.keys.sorted(), "pages have it as well")
        }
        await bench.storage.close()
    }
}

extension Bench {
    /// Why an envelope cannot be loaded; nil: it can.
    func failure(of id: QueueID) async -> StorageError? {
        do throws(StorageError) {
            _ = try await storage.load(id)
            return nil
        } catch {
            return error
        }
    }
}

extension SpoolWriter {
    func appended(_ bytes: ByteBuffer) async -> StorageError? {
        await withCheckedContinuation { continuation in append(bytes) { continuation.resume(returning: $0) } }
    }

    func finished() async -> Result<any SpooledBody, StorageError> {
        await withCheckedContinuation { continuation in finish { continuation.resume(returning: $0) } }
    }
}
