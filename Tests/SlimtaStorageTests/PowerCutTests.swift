// The heart of the matter: the power is cut after every single operation of a script, the disk keeps any part of what was
// not synced, and nothing that was acknowledged may be lost, changed, or there twice.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaStorage

/// What callers were promised.
struct Promises: Sendable {
    struct Entry: Sendable {
        var envelope: Envelope
        var text: String
        var spooled: [UInt8]?
        var isAcknowledged = false
        /// All that it was ever told to be, in order; the first is how it was accepted.
        var states: [EnvelopeState]
        /// The newest state that was acknowledged.
        var state = 0
        var isRemovalBegun = false
        var isRemoved = false
    }

    var entries: [QueueID: Entry] = [:]
    /// What messages have left behind.
    var receipts: [Receipt.Digest: PromisedReceipt] = [:]
    /// A bounce and what it tells of: one of them is there, not both.
    var bounces: [(original: QueueID, bounce: QueueID)] = []

    /// What an ending is to say: what was pending ends with `fate`.
    mutating func end(_ id: QueueID, _ fate: RecipientState.Fate) -> Ending {
        entries[id]!.isRemovalBegun = true
        var state = entries[id]!.states.last!
        for index in state.recipients.indices where state.recipients[index].fate == .pending {
            state.recipients[index].fate = fate
        }
        var ending = Ending(of: state)
        if ending.removed > 0 { ending.by = "root" }
        return ending
    }

    /// The fewest and the most recipients that can have been accepted, and that can have ended.
    func bounds(_ kind: Ledger.Kind) -> (accepted: ClosedRange<UInt64>, ended: ClosedRange<UInt64>) {
        var accepted: (UInt64, UInt64) = (0, 0)
        var ended: (UInt64, UInt64) = (0, 0)
        for entry in entries.values where (entry.envelope.sender == nil) == (kind == .notice) {
            let count = UInt64(entry.envelope.recipients.count)
            accepted.1 += count
            if entry.isAcknowledged { accepted.0 += count }
            ended.1 += entry.isRemovalBegun ? count : Fates(entry.states.last!).sum
            ended.0 += entry.isRemoved ? count : Fates(entry.states[entry.state]).sum
        }
        return (accepted.0...accepted.1, ended.0...ended.1)
    }
}

/// Runs a script on a simulated disk and keeps what the disk was after every operation.
final class PowerCutScript: Sendable {
    struct Moment: Sendable {
        var call: String
        var image: SimulatedDisk.Image
        var ledger: Promises
    }

    let ledger = Mutex(Promises())
    let moments = Mutex<[Moment]>([])
    let disk = SimulatedDisk()
    let options: StorageOptions

    init(_ options: StorageOptions) { self.options = options }

    func run(_ operations: Int, seed: UInt64) async throws {
        disk.observer.withLock {
            $0 = { call, image in
                let ledger = self.ledger.withLock { $0 }
                self.moments.withLock { $0.append(Moment(call: call, image: image, ledger: ledger)) }
            }
        }
        var random = SeededGenerator(seed: seed)
        if options.reserveSize > 0 { fillDisk() }
        let storage = JournaledStorage(on: disk, options)
        _ = try storage.recover()
        var pending: [Task<Void, any Error>] = []
        for number in 0..<operations {
            try await step(number, storage, &random, &pending)
            // Most commits are waited for one by one, some come together.
            if pending.count > 3 || Int.random(in: 0..<3, using: &random) > 0 { try await settle(&pending) }
        }
        try await settle(&pending)
        await storage.close()
        disk.observer.withLock { $0 = nil }
    }

    /// While the reserve is there, every other sealed file finds no room: checkpoints have to give it up.
    private func fillDisk() {
        let state = Mutex((isReserved: false, count: 0))
        disk.fault.withLock {
            $0 = { call, path in
                state.withLock { state in
                    if path == "/q/reserve" { state.isReserved = call != "unlink" }
                    guard call == "open", path.hasSuffix(".gdbm.tmp"), state.isReserved else { return nil }
                    state.count += 1
                    return state.count % 2 == 0 ? ENOSPC : nil
                }
            }
        }
    }

    private func settle(_ pending: inout [Task<Void, any Error>]) async throws {
        for task in pending { try await task.value }
        pending = []
    }

    private func step(
        _ number: Int, _ storage: JournaledStorage, _ random: inout SeededGenerator,
        _ pending: inout [Task<Void, any Error>]
    ) async throws {
        let open = ledger.withLock { ledger in
            ledger.entries.values.filter { $0.isAcknowledged && !$0.isRemovalBegun }.map(\.envelope.id).sorted()
        }
        switch Int.random(in: 0..<20, using: &random) {
        case 0..<7: accept(number, 1, nil, storage, &random, &pending)
        case 7: accept(number, 3, nil, storage, &random, &pending)
        case 8:
            let octets = (0..<3000).map { _ in UInt8.random(in: 0...255, using: &random) }
            let id = QueueID(at: Timestamp(milliseconds: Int64(number)))
            accept(number, 2, try await spool(id, octets, storage), storage, &random, &pending, spooled: octets)
        case 9..<13:
            guard let id = open.randomElement(using: &random) else { return }
            try await settle(&pending)
            changeState(id, number, storage, &pending)
        case 13..<17:
            guard let id = open.randomElement(using: &random) else { return }
            try await settle(&pending)
            remove(id, storage, &pending)
        case 17:
            guard let id = open.randomElement(using: &random) else { return }
            try await settle(&pending)
            bounce(id, number, storage, &pending)
        case 18:
            try await settle(&pending)
            // On a full disk whose reserve is spent it may fail; then all stays in the journal.
            do {
                try await storage.checkpoint()
            } catch {
                if options.reserveSize == 0 || error != .full { throw error }
            }
        default: try await Task.sleep(for: .milliseconds(4))  // long enough for a marker
        }
        if number % 7 == 6 { forget(storage, &pending) }
    }

    private func forget(_ storage: JournaledStorage, _ pending: inout [Task<Void, any Error>]) {
        guard let key = ledger.withLock({ $0.receiptToForget }) else { return }
        ledger.withLock { $0.receipts[key]!.isForgetBegun = true }
        commit(QueueCommit(forgotten: [key]), storage, &pending) { $0.receipts[key]!.isForgotten = true }
    }

    private func spool(_ id: QueueID, _ octets: [UInt8], _ storage: JournaledStorage) async throws -> any SpooledBody {
        let writer = storage.beginSpool(id)
        writer.append(ByteBuffer(bytes: octets)) { _ in }
        return try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
    }

    private func commit(
        _ commit: QueueCommit, _ storage: JournaledStorage, _ pending: inout [Task<Void, any Error>],
        _ acknowledged: @escaping @Sendable (inout Promises) -> Void
    ) {
        // The order of the calls is part of the script, so they are made here and only waited for in the task.
        let (stream, continuation) = AsyncThrowingStream<Void, any Error>.makeStream()
        storage.commit(commit) { result in
            if case .success = result { self.ledger.withLock { acknowledged(&$0) } }
            continuation.finish(throwing: result.failure)
        }
        pending.append(Task { for try await _ in stream {} })
    }

    private func accept(
        _ number: Int, _ count: Int, _ rest: (any SpooledBody)?, _ storage: JournaledStorage,
        _ random: inout SeededGenerator, _ pending: inout [Task<Void, any Error>], spooled: [UInt8]? = nil
    ) {
        let envelopes = (0..<count).map { part in
            makeEnvelope(
                QueueID(high: UInt64(number) << 16, low: random.next()),
                to: (0...part).map { "r\($0)@d\(part).example" })
        }
        let text = String(repeating: "\(number) ", count: Int.random(in: 1..<1500, using: &random))
        ledger.withLock { ledger in
            for envelope in envelopes {
                ledger.entries[envelope.id] = Promises.Entry(
                    envelope: envelope, text: text, spooled: spooled,
                    states: [EnvelopeState(of: envelope, due: someDue)])
            }
        }
        let ids = envelopes.map(\.id)
        let receipt = number % 2 == 0 ? makeReceipt(number, of: envelopes, expires: nil) : nil
        if let receipt { ledger.withLock { $0.receipts[receipt.key] = PromisedReceipt(ids: ids) } }
        commit(
            QueueCommit(
                accepted: envelopes.map { .init($0, due: someDue) },
                message: Message(head: ByteBuffer(string: text), rest: rest), receipts: receipt.map { [$0] } ?? []),
            storage, &pending
        ) { ledger in
            for id in ids { ledger.entries[id]!.isAcknowledged = true }
        }
    }

    private func changeState(
        _ id: QueueID, _ number: Int, _ storage: JournaledStorage, _ pending: inout [Task<Void, any Error>]
    ) {
        let (state, place) = ledger.withLock { ledger in
            var state = ledger.entries[id]!.states.last!
            state.attempts += 1
            state.due = Timestamp(milliseconds: Int64(number))
            state.recipients[0] = RecipientState(fate: .pending, reply: "450 4.2.1 later \(number)", relay: "mx")
            // Of several recipients all but the first come to an end, one after the other.
            if state.recipients.count > Int(state.attempts) {
                state.recipients[Int(state.attempts)].fate = number % 2 == 0 ? .delivered : .removed
            }
            ledger.entries[id]!.states.append(state)
            return (state, ledger.entries[id]!.states.count - 1)
        }
        commit(QueueCommit(states: [state]), storage, &pending) { ledger in
            ledger.entries[id]!.state = max(place, ledger.entries[id]!.state)
        }
    }

    private func remove(_ id: QueueID, _ storage: JournaledStorage, _ pending: inout [Task<Void, any Error>]) {
        let ending = ledger.withLock { $0.end(id, .delivered) }
        commit(QueueCommit(ended: [ending]), storage, &pending) { ledger in
            ledger.entries[id]!.isRemoved = true
        }
    }

    private func bounce(
        _ id: QueueID, _ number: Int, _ storage: JournaledStorage, _ pending: inout [Task<Void, any Error>]
    ) {
        let bounce = makeEnvelope(QueueID(high: UInt64(number) << 16 | 1, low: id.low), sender: nil)
        let ending = ledger.withLock { ledger in
            let ending = ledger.end(id, .bounced)
            ledger.entries[bounce.id] = Promises.Entry(
                envelope: bounce, text: "bounce", states: [EnvelopeState(of: bounce, due: someDue)])
            ledger.bounces.append((id, bounce.id))
            return ending
        }
        commit(
            QueueCommit(
                accepted: [.init(bounce, due: someDue)], message: makeMessage("bounce"), ended: [ending]),
            storage, &pending
        ) { ledger in
            ledger.entries[id]!.isRemoved = true
            ledger.entries[bounce.id]!.isAcknowledged = true
        }
    }
}

extension Result {
    var failure: Failure? {
        switch self {
        case .success: nil
        case .failure(let error): error
        }
    }
}

/// Compares what a recovered storage says with what callers were promised; what is wrong.
func audit(_ disk: SimulatedDisk, _ ledger: Promises, _ options: StorageOptions) throws -> [String] {
    let events = Events()
    let core = StorageCore(disk, directory: "/q", options: options, report: events.report)
    let recovery = Recovery(core)
    try recovery.run()
    var wrong: [String] = []
    for event in events.all {
        switch event {
        case .tornTail, .superblockRepaired: break
        case .damaged, .missing, .resurrected, .journalFailed, .journalRecovered, .checkpointFailed, .diskFull,
            .diskRoom, .leftover, .receiptsForgotten:
            wrong.append("\(event)")
        }
    }
    var found: [QueueID: QueuedSummary] = [:]
    recovery.forEach { summary in
        if found[summary.id] != nil { wrong.append("\(summary.id) twice") }
        found[summary.id] = summary
    }
    let reader = ContentReader(core, windowSize: 16 << 10)
    let storage = SpoolStorage(core: core, pool: BlockingPool("storage-io"), delete: { _ in })
    for (id, entry) in ledger.entries {
        guard let summary = found.removeValue(forKey: id) else {
            if entry.isAcknowledged && !entry.isRemovalBegun { wrong.append("\(id) is lost") }
            continue
        }
        if entry.isRemoved { wrong.append("\(id) is back") }
        let stored = try reader.load(id) { StoredSpool(reference: $0, storage: storage, of: id) }
        if stored.envelope != entry.envelope { wrong.append("\(id) has another envelope") }
        if stored.text != entry.text { wrong.append("\(id) has another text") }
        if !entry.states[entry.state...].contains(stored.state) { wrong.append("\(id) has another state") }
        if summary.due != stored.state.due || summary.attempts != stored.state.attempts
            || summary.destination != entry.envelope.recipients[0].foldedDomain
        {
            wrong.append("\(id) has another summary")
        }
        if let spooled = entry.spooled {
            guard let reference = stored.message.rest?.reference else {
                wrong.append("\(id) has no rest")
                continue
            }
            let read = FileSpoolReader(reference, storage).read(1 << 20)
            if (try? read.get()).map({ Array($0?.readableBytesView ?? ByteBuffer().readableBytesView) }) != spooled {
                wrong.append("\(id) has another rest: \(read)")
            }
        }
    }
    let balance = core.index.withLock { $0.balance }
    if !balance.isBalanced { wrong.append("the ledger does not balance: \(balance)") }
    for kind in Ledger.Kind.allCases {
        let (account, bounds) = (balance[kind], ledger.bounds(kind))
        let ended = account.delivered + account.bounced + account.expired + account.removed
        if !bounds.accepted.contains(account.accepted) || !bounds.ended.contains(ended) || account.lost > 0
            || account.repeated > 0
        {
            wrong.append("\(kind): \(account), but \(bounds)")
        }
    }
    for id in found.keys { wrong.append("\(id) was never committed") }
    wrong += ledger.auditReceipts(core)
    for (original, bounce) in ledger.bounces {
        // Later the bounce may be gone too, by its own ending.
        if ledger.entries[bounce]!.isRemovalBegun { continue }
        let isThere = core.index.withLock { index in [original, bounce].map { index.entry($0) != nil } }
        if isThere[0] == isThere[1] { wrong.append("\(original) and its bounce \(bounce): \(isThere)") }
    }
    return wrong
}

/// How many cuts are made: a short run, and with the 300 rounds of `make crash` more than 10,000.
private let wantedCuts = crashRounds.map { max(10_000, 40 * $0) } ?? 1000

/// Workloads that found something once come first, then random ones.
private struct Seeds {
    var recorded: [UInt64] = [365_693]
    mutating func next() -> UInt64 { recorded.popLast() ?? UInt64.random(in: 0..<1_000_000) }
}

@Suite struct PowerCutTests {
    /// Workloads differ in how the journal, the checkpoints and a disk without room meet.
    private func options(_ random: inout SeededGenerator) -> StorageOptions {
        var options = smallOptions()
        options.checkpointSegments = Int.random(in: 1...3, using: &random)
        options.generationLimit = Int.random(in: 2...4, using: &random)
        options.deltaLimit = Int.random(in: 1...3, using: &random)
        options.reserveSize = Bool.random(using: &random) ? 8192 : 0
        return options
    }

    @Test func nothingAcknowledgedIsLostWhereverThePowerIsCut() async throws {
        var cuts = 0
        var seeds = Seeds()
        while cuts < wantedCuts {
            let seed = seeds.next()
            print("power cut seed \(seed)")
            var random = SeededGenerator(seed: seed)
            let options = options(&random)
            let script = PowerCutScript(options)
            try await script.run(150, seed: seed)
            let moments = script.moments.withLock { $0 }
            #expect(moments.count > 300)
            for (number, moment) in moments.enumerated() {
                await Task.yield()
                let other: Cut = number % 3 == 0 ? .keep : number % 3 == 1 ? .pages : .sectors
                for cut in [Cut.drop, other] {
                    let disk = SimulatedDisk.afterCut(moment.image, cut, using: &random)
                    let wrong = try audit(disk, moment.ledger, options)
                    #expect(wrong.isEmpty, "seed \(seed), operation \(number) (\(moment.call)), \(cut)")
                    cuts += 1
                    if !wrong.isEmpty { return }
                }
            }
        }
        print("\(cuts) power cuts")
    }

    /// A rig that cannot fail proves nothing: with one of the syncs left out, it finds the loss.
    @Test(arguments: ["/q/journal/", "/q/queue/", "/q/queue", "/q/spool/tmp/", "/q/super"])
    func theRigFindsALeftOutSync(_ path: String) async throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        print("rig seed \(seed)")
        let options = smallOptions()
        let script = PowerCutScript(options)
        script.disk.lies.withLock { $0 = { $0 == path || path.hasSuffix("/") && $0.hasPrefix(path) } }
        try await script.run(100, seed: seed)
        var random = SeededGenerator(seed: seed)
        let moments = script.moments.withLock { $0 }
        let isFound = moments.reversed().contains { moment in
            // Without the names of generations even reading fails: that is found as well.
            let disk = SimulatedDisk.afterCut(moment.image, .drop, using: &random)
            return (try? audit(disk, moment.ledger, options).isEmpty) != true
        }
        #expect(isFound, "seed \(seed)")
    }

    /// What recovery makes of the disk is itself cut off, and gone on with.
    @Test func theStorageGoesOnAfterPowerCuts() async throws {
        var cuts = 0
        var seeds = Seeds()
        while cuts < wantedCuts {
            let seed = seeds.next()
            print("repeated power cut seed \(seed)")
            var random = SeededGenerator(seed: seed)
            let options = options(&random)
            let script = PowerCutScript(options)
            try await script.run(60, seed: seed)
            let moments = script.moments.withLock { $0 }
            for number in stride(from: Int.random(in: 0..<12, using: &random), to: moments.count, by: 12) {
                await Task.yield()
                let moment = moments[number]
                let disk = SimulatedDisk.afterCut(moment.image, .sectors, using: &random)
                let images = Mutex<[SimulatedDisk.Image]>([])
                disk.observer.withLock { $0 = { _, image in images.withLock { $0.append(image) } } }
                let storage = JournaledStorage(on: disk, options)
                _ = try storage.recover()
                try await storage.checkpoint()
                storage.halt()
                disk.observer.withLock { $0 = nil }
                var wrong = try audit(disk, moment.ledger, options)
                for image in images.withLock({ $0 }) {
                    let cut = Cut.allCases.randomElement(using: &random)!
                    wrong += try audit(SimulatedDisk.afterCut(image, cut, using: &random), moment.ledger, options)
                    cuts += 1
                }
                #expect(wrong.isEmpty, "seed \(seed), operation \(number)")
                if !wrong.isEmpty { return }
            }
        }
        print("\(cuts) power cuts in recoveries")
    }
}
