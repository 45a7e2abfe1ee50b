// Envelopes, options and small helpers for the storage's tests.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

/// Small sizes, so that a short test rotates, checkpoints and compacts often.
func smallOptions() -> StorageOptions {
    var options = StorageOptions()
    options.segmentSize = 32 << 10
    options.journalLimit = 8 * (32 << 10)
    options.batchSize = 8 << 10
    options.minimumFree = 0
    options.checkpointSegments = 2
    options.checkpointAge = .seconds(600)
    options.retryInterval = .milliseconds(20)
    options.markerDelay = .milliseconds(2)
    options.reserveSize = 0
    options.generationLimit = 3
    options.deltaLimit = 2
    options.ioThreads = 2
    return options
}

/// The rounds that `make crash` wants; nil in a short run.
let crashRounds = ProcessInfo.processInfo.environment["CRASH_ROUNDS"].flatMap { Int($0) }

/// Events as they come.
final class Events: Sendable {
    private let events = Mutex<[StorageEvent]>([])
    var all: [StorageEvent] { events.withLock { $0 } }
    @Sendable func report(_ event: StorageEvent) { events.withLock { $0.append(event) } }
}

/// A directory that is deleted in the end.
final class ScratchDirectory: Sendable {
    let path: String

    init() {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("slimta-\(UUID().uuidString)").path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

func makeMessage(_ text: String) -> Message { Message(head: ByteBuffer(string: text)) }

extension JournaledStorage {
    /// A storage on a disk that is not the machine's.
    convenience init(on disk: SimulatedDisk, _ options: StorageOptions = smallOptions(), _ events: Events = Events()) {
        self.init(disk, directory: "/q", lock: nil, options: options, report: events.report)
    }

    static func scratch(
        _ directory: ScratchDirectory, _ options: StorageOptions = smallOptions(), _ events: Events = Events()
    ) throws -> JournaledStorage {
        try open(directory: directory.path, owner: nil, options: options, report: events.report)
    }

    /// Stores one envelope.
    @discardableResult
    func accept(_ envelope: Envelope = makeEnvelope(), _ text: String = "Subject: x\r\n\r\nbody\r\n") async throws
        -> Envelope
    {
        try await commit(QueueCommit(accepted: [.init(envelope, due: someDue)], message: makeMessage(text)))
        return envelope
    }
}

extension StoredEnvelope {
    var text: String { String(buffer: message.head) }
}

/// Waits until `condition` holds; a test that waits in vain fails.
func eventually(_ what: Comment, _ condition: () async -> Bool) async throws {
    for _ in 0..<2000 {
        if await condition() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record(what)
}

/// Reads all of a spooled body.
func readAll(_ body: any SpooledBody, piece: Int = 10_000) async throws -> ByteBuffer {
    let reader = body.makeReader()
    var all = ByteBuffer()
    while var next = try await reader.next(piece) { all.writeBuffer(&next) }
    return all
}

/// A suite whose tests open one queue on one disk.
protocol OnSimulatedDisk {
    var disk: SimulatedDisk { get }
    var events: Events { get }
}

extension OnSimulatedDisk {
    /// The queue, ready for use.
    func storage(_ options: StorageOptions = smallOptions()) throws -> JournaledStorage {
        let storage = JournaledStorage(on: disk, options, events)
        _ = try storage.recover()
        return storage
    }
}
