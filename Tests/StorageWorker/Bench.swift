// How fast the storage is alone, beside a raw append on the same disk in the same run: `make bench` prints this.

import Foundation
import Glibc
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaStorage
import Synchronization

/// `storage-worker bench`: a table; exit status 1 if a figure is below what is required.
struct Bench {
    /// What is required: a part of the raw rate, CPU a message in microseconds, messages a second.
    private static let share = 0.7, cost = 10.0, sustained = 20_000.0
    /// The rounds of which the medians are shown.
    private static let rounds = 11
    /// Octets of a message, and of a record of the raw append.
    static let size = 4096

    let directory: String
    /// Of each measurement.
    let seconds: Double

    func run() async throws {
        var isReached = true
        say(
            """
            The queue's storage alone: \(Self.size) octets a message, each removed again; medians of \(Self.rounds).
            raw: one write and fdatasync for as many records as are in flight, over zeros, measured beside it.
            thread: the next message comes from another thread, as from an edge's event loop; else from the completion.

            in flight         raw O_DIRECT   raw buffered   CPU us    storage/s   of raw   p50 us   p99 us   CPU us
            """)
        for (isHandedOver, inFlight) in [(false, 1), (false, 8), (false, 32), (true, 1), (true, 8), (true, 32)] {
            let row = try await measure(inFlight, isHandedOver)
            if !isHandedOver {
                isReached = isReached && row.share >= Self.share && (row.cost <= Self.cost || inFlight < 32)
            }
        }
        let rate = try await drainless()
        isReached = isReached && rate >= Self.sustained
        say("nothing delivered, 32 in flight, until all is in GDBM: \(Int(rate))/s")
        say(
            "required: \(Self.share) of raw, \(Self.cost) us at 32 in flight, \(Int(Self.sustained))/s: "
                + (isReached ? "yes" : "NO"))
        if !isReached { exit(1) }
    }

    private func measure(_ inFlight: Int, _ isHandedOver: Bool) async throws -> (share: Double, cost: Double) {
        var direct: [RawAppend.Result] = []
        var buffered: [Double] = []
        var shares: (ofDirect: [Double], ofBuffered: [Double]) = ([], [])
        var results: [ClosedLoop.Result] = []
        let past = try RawAppend("\(directory)/raw", isDirect: true)
        let through = try RawAppend("\(directory)/raw-buffered", isDirect: false)
        try await onNewQueue { storage in
            // A queue that has run for a while uses its segments again, as the raw append does its file.
            let warming = ClosedLoop(storage, inFlight: 32, removes: true)
            _ = try await warming.run(octets: 4 * StorageOptions().segmentSize)
            let loop = ClosedLoop(storage, inFlight: inFlight, removes: true, isHandedOver: isHandedOver)
            // What is compared is measured side by side, again and again: other work on the machine hits both.
            for _ in 0..<Self.rounds {
                let slice = seconds / Double(Self.rounds)
                let before = try past.run(batch: inFlight, seconds: slice / 2)
                buffered.append(try through.run(batch: inFlight, seconds: slice / 2).rate)
                let result = try await loop.run(seconds: slice)
                let after = try past.run(batch: inFlight, seconds: slice / 2)
                direct += [before, after]
                results.append(result)
                shares.ofDirect.append(result.rate / ((before.rate + after.rate) / 2))
                shares.ofBuffered.append(result.rate / buffered.last!)
            }
        }
        let share = min(median(shares.ofDirect), median(shares.ofBuffered))
        let cost = median(results.map(\.cost))
        say(
            right(inFlight, 9) + (isHandedOver ? " thread" : "       ")
                + right(median(direct.map(\.rate)), 13) + right(median(buffered), 15)
                + right(text(median(direct.map(\.cost)), 1), 9) + right(median(results.map(\.rate)), 13)
                + right(text(share, 2), 9) + right(median(results.map { Double($0.latency(0.5)) }), 9)
                + right(median(results.map { Double($0.latency(0.99)) }), 9) + right(text(cost, 1), 9))
        return (share, cost)
    }

    private func onNewQueue<Result>(
        _ options: StorageOptions = StorageOptions(), _ body: (JournaledStorage) async throws -> Result
    ) async throws -> Result {
        let path = "\(directory)/queue"
        try removeTree(path)
        let storage = try JournaledStorage.open(directory: path, owner: nil, options: options) { event in
            complain("\(event)")
        }
        _ = try storage.recover()
        let result = try await body(storage)
        await storage.close()
        try removeTree(path)
        return result
    }

    /// Messages a second that stay queued, from the first commit until the last one is in GDBM. The journal is as small
    /// as a quarter of the default, so that its limit is felt.
    private func drainless() async throws -> Double {
        var options = StorageOptions()
        options.journalLimit = 512 << 20
        return try await onNewQueue(options) { storage in
            let begin = ContinuousClock.now
            let count = try await ClosedLoop(storage, inFlight: 32, removes: false).run(seconds: seconds * 2).count
            try await storage.checkpoint()
            let elapsed = ContinuousClock.now - begin
            precondition(storage.count() == count, "the queue has not what was committed")
            return Double(count) / elapsed.seconds
        }
    }

    private func right(_ value: some CustomStringConvertible, _ width: Int) -> String {
        let text = value.description
        return String(repeating: " ", count: max(0, width - text.count)) + text
    }

    private func right(_ value: Double, _ width: Int) -> String { right(Int(value.rounded()), width) }

    private func text(_ value: Double, _ digits: Int) -> String {
        let scale = digits == 1 ? 10.0 : 100.0
        return "\((value * scale).rounded() / scale)"
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
}

extension Duration {
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}

/// What the disk can do: one write and one fdatasync after another over a zero-filled file as long as a segment.
final class RawAppend {
    struct Result {
        /// Records a second.
        var rate: Double
        /// CPU in microseconds a record.
        var cost: Double
    }

    private let descriptor: Int32
    private let path: String
    private let length = 64 << 20
    private var position = 0

    init(_ path: String, isDirect: Bool) throws {
        self.path = path
        descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | (isDirect ? 0o40000 : 0), 0o600)  // O_DIRECT of x86 Linux
        if descriptor < 0 { throw CallFailed("open \(path)") }
        let zeros = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { zeros.deallocate() }
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        for piece in 0..<(length >> 20) {
            guard pwrite(descriptor, zeros.baseAddress, zeros.count, piece << 20) == zeros.count else {
                throw CallFailed("write \(path)")
            }
        }
        if fsync(descriptor) != 0 { throw CallFailed("sync \(path)") }
    }

    deinit {
        close(descriptor)
        unlink(path)
    }

    /// Records a second with `batch` of them in each write.
    func run(batch: Int, seconds: Double) throws -> Result {
        let octets = UnsafeMutableRawBufferPointer.allocate(byteCount: batch * Bench.size, alignment: 4096)
        defer { octets.deallocate() }
        var generator = Generator(seed: 1)
        for index in octets.indices { octets[index] = UInt8(truncatingIfNeeded: generator.next()) }
        let (begin, processor) = (ContinuousClock.now, processorTime())
        let end = begin + .seconds(seconds)
        var count = 0
        while ContinuousClock.now < end {
            if position + octets.count > length { position = 0 }
            guard pwrite(descriptor, octets.baseAddress, octets.count, position) == octets.count,
                fdatasync(descriptor) == 0
            else { throw CallFailed("write \(path)") }
            count += batch
            position += octets.count
        }
        return Result(
            rate: Double(count) / (ContinuousClock.now - begin).seconds,
            cost: (processorTime() - processor) * 1e6 / Double(count))
    }
}

/// Seconds of CPU that this process has used.
func processorTime() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Removes a directory with all that is in it; no complaint if it is not there.
func removeTree(_ path: String) throws {
    if FileManager.default.fileExists(atPath: path) { try FileManager.default.removeItem(atPath: path) }
}
