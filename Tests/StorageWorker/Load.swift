// Random load for the power cut rig: many clients at once accept, change, replace and remove, and write down each
// promise that the storage made.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaStorage
import Synchronization

/// `storage-worker work`.
struct Load {
    private static let clients = 24
    /// Groups that a client leaves queued at most.
    private static let liveGroups = 12

    let directory: String
    let seed: UInt64
    private let marks: Marks
    private let numbers = Numbers()

    init(directory: String, seed: UInt64, marks: String) throws {
        self.directory = directory
        self.seed = seed
        self.marks = try Marks(marks)
    }

    /// Works for a while on a new queue. What a seed decides is who does what, not how it interleaves. One seed in two
    /// leaves without closing: the other half of the runs has a whole last checkpoint.
    func run(seconds: Double) async throws {
        let storage = try JournaledStorage.open(directory: directory, owner: nil, options: .small) { event in
            complain("\(event)")
        }
        _ = try storage.recover()
        let end = ContinuousClock.now + .seconds(seconds)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            for client in 0..<Self.clients {
                tasks.addTask { try await work(storage, Generator(seed: seed &* 1000 &+ UInt64(client)), until: end) }
            }
            tasks.addTask {
                while ContinuousClock.now < end {
                    try await Task.sleep(for: .milliseconds(200))
                    try await storage.checkpoint()
                }
            }
            try await tasks.waitForAll()
        }
        if seed.isMultiple(of: 2) { await storage.close() }
    }

    /// One client: what it has queued is its own.
    private func work(_ storage: JournaledStorage, _ generator: Generator, until end: ContinuousClock.Instant)
        async throws
    {
        var generator = generator
        var live: [(group: Group, ids: [QueueID])] = []
        while ContinuousClock.now < end {
            let choice = Int.random(in: 0..<100, using: &generator)
            if live.isEmpty || (choice < 50 && live.count < Self.liveGroups) {
                live.append(try await accept(storage, [], &generator))
                continue
            }
            let index = Int.random(in: 0..<live.count, using: &generator)
            let (group, ids) = live[index]
            if choice < 60 {
                try await change(storage, group, ids, &generator)
            } else if choice < 70 {
                live[index] = try await accept(storage, [live[index]], &generator)
            } else {
                live.remove(at: index)
                try marks.write("r", group.numbers)
                try await storage.commit(QueueCommit(ended: ids.map { Ending(id: $0, delivered: 1) }))
                try marks.write("X", group.numbers)
                if choice < 80, let number = group.receiptNumber {
                    try marks.write("r", [number])
                    try await storage.commit(QueueCommit(forgotten: [Group.receiptKey(group.first)]))
                    try marks.write("X", [number])
                }
            }
        }
    }

    /// Stores a new group, in place of others (a bounce does that).
    private func accept(
        _ storage: JournaledStorage, _ replaced: [(group: Group, ids: [QueueID])], _ generator: inout Generator
    ) async throws -> (Group, [QueueID]) {
        let isLarge = Int.random(in: 0..<60, using: &generator) == 0
        let count = Int.random(in: 1...3, using: &generator)
        let group = Group(
            first: numbers.take(count), count: count,
            head: Int.random(in: 1...(Bool.random(using: &generator) ? 600 : 9000), using: &generator),
            rest: isLarge ? Int.random(in: 1...600_000, using: &generator) : 0,
            replaced: replaced.first?.group.first ?? 0)
        let envelopes = group.envelopes()
        var message = Message(head: group.content(.head))
        if isLarge { message.rest = try await spool(storage, group, envelopes[0].id) }
        for old in replaced { try marks.write("r", old.group.numbers) }
        let receipt = group.receipt(of: envelopes)
        try await storage.commit(
            QueueCommit(
                accepted: envelopes.map { .init($0, due: Timestamp(milliseconds: 0)) }, message: message,
                ended: replaced.flatMap(\.ids).map { Ending(id: $0, bounced: 1) }, receipts: receipt.map { [$0] } ?? [])
        )
        try marks.write("A", Array(group.numbers) + (group.receiptNumber.map { [$0] } ?? []))
        for old in replaced { try marks.write("X", old.group.numbers) }
        return (group, envelopes.map(\.id))
    }

    private func spool(_ storage: JournaledStorage, _ group: Group, _ id: QueueID) async throws -> any SpooledBody {
        let writer = storage.beginSpool(id)
        var content = group.content(.rest)
        while let piece = content.readSlice(length: min(50_000, content.readableBytes)), piece.readableBytes > 0 {
            let error = await withCheckedContinuation { continuation in
                writer.append(piece) { continuation.resume(returning: $0) }
            }
            if let error { throw error }
        }
        return try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
    }

    /// A new state for each envelope of a group, and a look at one of them.
    private func change(_ storage: JournaledStorage, _ group: Group, _ ids: [QueueID], _ generator: inout Generator)
        async throws
    {
        let envelopes = group.envelopes()
        try await storage.commit(
            QueueCommit(
                states: zip(ids, envelopes).map { id, envelope in
                    EnvelopeState(
                        id: id, attempts: UInt32.random(in: 1...9, using: &generator),
                        due: Timestamp(milliseconds: 1),
                        recipients: envelope.recipients.map { _ in RecipientState(reply: "451 4.3.0 later") })
                }))
        guard try await group.matches(storage.load(ids[0]), number: group.first) else {
            throw Damaged(description: "group \(group.first) is not what was stored")
        }
    }
}

/// What was read back is not what was stored.
struct Damaged: Error, CustomStringConvertible {
    let description: String
}

/// Numbers of envelopes: none is used twice.
private final class Numbers: Sendable {
    private let next = Mutex(1)

    func take(_ count: Int) -> Int {
        next.withLock { next in
            defer { next += count }
            return next
        }
    }
}

/// The rig's file of promises: one line for each envelope and each receipt, written at once.
private final class Marks: Sendable {
    private let descriptor: Int32

    init(_ path: String) throws {
        descriptor = open(path, O_WRONLY)
        if descriptor < 0 { throw CallFailed("open \(path)") }
    }

    func write(_ letter: String, _ numbers: some Sequence<Int>) throws {
        var lines = numbers.map { "\(letter) \($0)\n" }.joined()
        let isWritten = lines.withUTF8 { Glibc.write(descriptor, $0.baseAddress, $0.count) == $0.count }
        if !isWritten { throw CallFailed("write marks") }
    }
}
