// The load of the storage's benchmark: always the same number of messages in flight, from a thread of its own, as an
// edge's event loop does it.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaStorage
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

    private let storage: JournaledStorage
    private let inFlight: Int
    private let removes: Bool

    init(_ storage: JournaledStorage, inFlight: Int, removes: Bool) {
        self.storage = storage
        self.inFlight = inFlight
        self.removes = removes
    }

    func run(seconds: Double) async throws -> Result {
        // Not on a thread of tasks: it blocks.
        let outcome = await withCheckedContinuation { continuation in
            let job = Job { continuation.resume(returning: Swift.Result { try loop(seconds) }) }
            var thread = pthread_t()
            let result = pthread_create(
                &thread, nil,
                { job in
                    Unmanaged<Job>.fromOpaque(job!).takeRetainedValue().run()
                    return nil
                }, Unmanaged.passRetained(job).toOpaque())
            precondition(result == 0, "no thread")
            pthread_detach(thread)
        }
        return try outcome.get()
    }

    private func loop(_ seconds: Double) throws -> Result {
        let done = Completions()
        let head = Group(first: 1, count: 1, head: Bench.size, rest: 0, replaced: 0).content(.head)
        let pattern = Group(first: 1, count: 1, head: 0, rest: 0, replaced: 0).envelopes()[0]
        var ids = [QueueID](repeating: pattern.id, count: inFlight)
        var begun = [ContinuousClock.Instant](repeating: .now, count: inFlight)
        var result = Result()
        result.latencies.reserveCapacity(1 << 22)
        let (begin, processor) = (ContinuousClock.now, processorTime())
        let end = begin + .seconds(seconds)

        func accept(_ slot: Int) {
            var envelope = pattern
            envelope.id = QueueID(at: .now())
            ids[slot] = envelope.id
            begun[slot] = .now
            storage.commit(
                QueueCommit(accepted: [(envelope, Timestamp(milliseconds: 0))], message: Message(head: head))
            ) { done.add(slot, $0) }
        }
        func remove(_ id: QueueID) {
            storage.commit(QueueCommit(removed: [Removal(id: id, delivered: 1)])) { done.check($0) }
        }

        for slot in 0..<inFlight { accept(slot) }
        var left = inFlight
        while left > 0 {
            let slots = try done.wait()
            let now = ContinuousClock.now
            for slot in slots {
                let id = ids[slot]
                result.latencies.append(UInt32(clamping: Int((now - begun[slot]).seconds * 1e6)))
                result.count += 1
                if now < end { accept(slot) } else { left -= 1 }
                if removes { remove(id) }
            }
        }
        let elapsed = (ContinuousClock.now - begin).seconds
        result.rate = Double(result.count) / elapsed
        result.cost = (processorTime() - processor) * 1e6 / Double(result.count)
        result.latencies.sort()
        return result
    }

    /// Seconds of CPU that this process has used.
    private func processorTime() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private final class Job: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
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

    /// A removal has ended: nobody waits for it.
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
