// The load of the storage's benchmark: always the same number of messages in flight.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization

/// A closed loop: as soon as a message is durable, the next one is committed and the one before is removed.
struct ClosedLoop {
    struct Result: Sendable {
        var count = 0
        /// Messages a second.
        var rate = 0.0
        /// CPU of the whole process, this loop included, in microseconds a message.
        var cost = 0.0
        /// Microseconds from commit to completion, sorted.
        var latencies: [UInt32] = []

        /// A quantile, in microseconds.
        func latency(_ part: Double) -> UInt32 {
            latencies.isEmpty ? 0 : latencies[Int(Double(latencies.count - 1) * part)]
        }
    }

    private let storage: any QueueStorage
    private let inFlight: Int
    private let removes: Bool
    private let isHandedOver: Bool
    private let asksForIDs: Bool

    /// `isHandedOver`: the next message is committed by another thread, as an edge's event loop does it; otherwise by the
    /// completion of the one before, which is the storage alone. `asksForIDs`: the storage makes them, as it does for an edge;
    /// otherwise the loop.
    init(
        _ storage: any QueueStorage, inFlight: Int, removes: Bool, isHandedOver: Bool = false, asksForIDs: Bool = false
    ) {
        self.storage = storage
        self.inFlight = inFlight
        self.removes = removes
        self.isHandedOver = isHandedOver
        self.asksForIDs = asksForIDs
    }

    /// Runs for some time.
    func run(seconds: Double) async throws -> Result {
        let limit = Int64(seconds * 1e9)
        return try await run { _, elapsed in elapsed < limit }
    }

    /// Runs until so much has been committed.
    func run(octets: Int) async throws -> Result {
        try await run { count, _ in count < octets / Bench.size }
    }

    /// `goesOn`: whether another message is to be committed, by how many there were and for how many nanoseconds.
    private func run(while goesOn: @escaping @Sendable (Int, Int64) -> Bool) async throws -> Result {
        let turns = Turns(storage, inFlight: inFlight, removes: removes, asksForIDs: asksForIDs, goesOn)
        let outcome = await withCheckedContinuation { continuation in
            if isHandedOver {
                startThread { continuation.resume(returning: Swift.Result { try turns.runHere() }) }
            } else {
                turns.runInCompletions { continuation.resume(returning: $0) }
            }
        }
        return try outcome.get()
    }

    /// Not a thread of tasks: it blocks.
    private func startThread(_ run: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { job in
                Unmanaged<Job>.fromOpaque(job!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(Job(run)).toOpaque())
        precondition(result == 0, "no thread")
        pthread_detach(thread)
    }

    private final class Job: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}

/// What a closed loop has in flight, and what it has seen.
///
/// `@unchecked Sendable`: one thread runs it, the storage's writer or one of its own.
private final class Turns: @unchecked Sendable {
    typealias Outcome = Swift.Result<Void, StorageError>

    /// One message in flight. What it commits is made once, but for the id: it is the storage's time that is measured.
    private struct Slot {
        var acceptance: QueueCommit
        var ending: QueueCommit
        /// Monotonic nanoseconds.
        var begun: Int64 = 0
        /// Called when the message is durable.
        var completion: @Sendable (Outcome) -> Void = { _ in }
    }

    private let storage: any QueueStorage
    private let removes: Bool
    private let asksForIDs: Bool
    private let goesOn: (Int, Int64) -> Bool
    @exclusivity(unchecked) private var slots: [Slot]
    /// The ids of one run begin alike.
    private let first: QueueID
    @exclusivity(unchecked) private var random: Generator
    @exclusivity(unchecked) private var left: Int
    @exclusivity(unchecked) private var result = ClosedLoop.Result()
    private var begin: Int64 = 0
    private var processor = processorTime()
    private let done = Completions()
    private let check: @Sendable (Outcome) -> Void

    init(
        _ storage: any QueueStorage, inFlight: Int, removes: Bool, asksForIDs: Bool,
        _ goesOn: @escaping (Int, Int64) -> Bool
    ) {
        self.storage = storage
        self.removes = removes
        self.asksForIDs = asksForIDs
        self.goesOn = goesOn
        let first = QueueID(at: .now())
        self.first = first
        let group = Group(first: 1, count: 1, head: Bench.size, rest: 0, replaced: 0)
        slots = (0..<inFlight).map { _ in
            Slot(
                acceptance: QueueCommit(
                    accepted: [.init(group.envelopes()[0], due: Timestamp(milliseconds: 0))],
                    message: Message(head: group.content(.head))),
                ending: QueueCommit(ended: [Ending(id: first, delivered: 1)]))
        }
        check = { [done] in done.check($0) }
        random = Generator(seed: first.low)
        left = inFlight
        result.latencies.reserveCapacity(1 << 22)
    }

    /// Returns when all is done.
    func runHere() throws -> ClosedLoop.Result {
        start { [done] slot in { done.add(slot, $0) } }
        while left > 0 {
            for slot in try done.wait() { ended(slot) }
        }
        return finished()
    }

    /// Returns at once; `completion` is called once, by the storage.
    func runInCompletions(_ completion: @escaping @Sendable (Swift.Result<ClosedLoop.Result, any Error>) -> Void) {
        // A commit of nothing: what its completion does is done by the thread that calls all others.
        storage.commit(QueueCommit()) { _ in
            self.start { slot in { self.goOn(slot, $0, completion) } }
        }
    }

    private func goOn(
        _ slot: Int, _ outcome: Outcome,
        _ completion: @escaping @Sendable (Swift.Result<ClosedLoop.Result, any Error>) -> Void
    ) {
        if left < 0 { return }
        if case .failure(let error) = outcome {
            left = -1
            completion(.failure(error))
            return
        }
        ended(slot)
        if left == 0 { completion(.success(finished())) }
    }

    /// `completion`: makes what is called when a slot's message is durable.
    private func start(_ completion: (Int) -> @Sendable (Outcome) -> Void) {
        for slot in slots.indices { slots[slot].completion = completion(slot) }
        (begin, processor) = (Self.now(), processorTime())
        for slot in slots.indices { accept(slot, begin) }
    }

    /// The message of a slot is durable: the next one.
    private func ended(_ slot: Int) {
        let now = Self.now()
        slots[slot].ending.ended[0].id = slots[slot].acceptance.accepted[0].envelope.id
        result.latencies.append(UInt32(clamping: (now - slots[slot].begun) / 1000))
        result.count += 1
        if goesOn(result.count, now - begin) { accept(slot, now) } else { left -= 1 }
        if removes { commit(&slots[slot].ending, check) }
    }

    private func accept(_ slot: Int, _ now: Int64) {
        slots[slot].acceptance.accepted[0].envelope.id =
            asksForIDs ? storage.newID(at: .now()) : QueueID(high: first.high, low: random.next())
        slots[slot].begun = now
        commit(&slots[slot].acceptance, slots[slot].completion)
    }

    /// `commit` is not changed, but what nobody else can change need not be copied.
    private func commit(_ commit: inout QueueCommit, _ completion: @escaping @Sendable (Outcome) -> Void) {
        storage.commit(commit, completion: completion)
    }

    /// Monotonic nanoseconds.
    private static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    private func finished() -> ClosedLoop.Result {
        let elapsed = Double(Self.now() - begin) / 1e9
        result.rate = Double(result.count) / elapsed
        result.cost = (processorTime() - processor) * 1e6 / Double(result.count)
        result.latencies.sort()
        for slot in slots.indices { slots[slot].completion = { _ in } }  // They hold us.
        return result
    }
}

/// Completions on their way from the storage's thread to the loop's.
///
/// `@unchecked Sendable`: the semaphore is the system's, made for threads; the rest is behind the lock.
private final class Completions: @unchecked Sendable {
    private struct State {
        var slots: [Int] = []
        var isAwaited = false
        var error: StorageError?
    }

    private let state = Mutex(State())
    private let semaphore: UnsafeMutablePointer<sem_t>

    init() {
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, 0)
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func add(_ slot: Int, _ result: Result<Void, StorageError>) {
        let wakes = state.withLock { state in
            if case .failure(let error) = result { state.error = error }
            state.slots.append(slot)
            defer { state.isAwaited = false }
            return state.isAwaited
        }
        if wakes { sem_post(semaphore) }
    }

    /// An ending has ended: nobody waits for it.
    func check(_ result: Result<Void, StorageError>) {
        if case .failure(let error) = result { state.withLock { $0.error = error } }
    }

    /// At least one slot.
    func wait() throws -> [Int] {
        while true {
            let (slots, error) = state.withLock { state in
                defer { state.slots = [] }
                state.isAwaited = state.slots.isEmpty
                return (state.slots, state.error)
            }
            if let error { throw error }
            if !slots.isEmpty { return slots }
            sem_wait(semaphore)
        }
    }
}
