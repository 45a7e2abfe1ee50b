// What the log says of the recording of outcomes: by it an operator, and the crash rig, tell which attempt counted and which
// may have made a second copy.

import Logging
import StorageKit
import Synchronization
import Testing

@testable import SlimtaQueue

@Suite struct RecordingLogTests {
    let database = MemoryDatabase()
    let log = RecordingLog()

    @Test func anOutcomeThatIsRecorded() async throws {
        let node = try await Node(database, "node", log: log)
        let id = try await node.accept(to: "x@x.test")
        try await eventually("it is delivered") { node.queue.count == 0 }
        #expect(log.lines(of: id) == ["delivered", "outcome recorded"])
        await node.end()
    }

    @Test func anOutcomeThatIsRecordedLater() async throws {
        let node = try await Node(database, "node", log: log)
        let id = try await node.accept(to: "x@slow.test")
        try await eventually("an attempt is under way") { node.relay.attempts(id) == 1 }
        database.doubtNext("node", cameThrough: true)
        node.relay.open()
        try await eventually("it is recorded in the end") { node.queue.count == 0 }
        #expect(
            log.lines(of: id) == [
                "delivered", "outcome cannot be recorded, no delivery begins until it can", "outcome recorded",
            ])
        await node.end()
    }

    @Test func anOutcomeThatIsNeverRecorded() async throws {
        let node = try await Node(database, "node", log: log)
        let id = try await node.accept(to: "x@slow.test")
        try await eventually("an attempt is under way") { node.relay.attempts(id) == 1 }
        database.setAway("node", "no route")
        node.relay.open()
        try await eventually("nobody takes the outcome") {
            log.lines(of: id).last == "outcome cannot be recorded, no delivery begins until it can"
        }
        await node.storage.close()
        await node.end()
        #expect(log.lines(of: id).last == "outcome was not recorded before the end")
    }
}

/// Keeps the messages of what is logged, debug lines too.
final class RecordingLog: LogHandler {
    private let kept = Mutex<[(message: String, id: String)]>([])

    var logLevel: Logger.Level {
        get { .debug }
        set {}
    }
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        kept.withLock { $0.append(("\(event.message)", "\(event.metadata?["queue_id"] ?? "")")) }
    }

    /// What was said of one message, in order.
    func lines(of id: some CustomStringConvertible) -> [String] {
        kept.withLock { $0.filter { $0.id == "\(id)" }.map(\.message) }
    }
}
