// What is collected of a message is what came, however large it is and however slow the disk: with the real spool of the
// storage, whose answers can be held back.

import Foundation
import NIOCore
import NIOPosix
import SlimtaMIME
import SlimtaMail
import SlimtaQueue
import SlimtaRules
import SlimtaStorage
import Synchronization
import Testing

@testable import SlimtaEdge

/// The storage's own writer; what it answers waits while it is held, and the disk may be full after some pieces.
private final class HeldWriter: SpoolWriter {
    private struct State {
        var isHeld = false
        var answers: [@Sendable () -> Void] = []
        var isAbandoned = false
        var room: Int
    }

    private let writer: any SpoolWriter
    private let state: Mutex<State>

    init(_ writer: any SpoolWriter, isHeld: Bool, room: Int) {
        self.writer = writer
        state = Mutex(State(isHeld: isHeld, room: room))
    }

    var isAbandoned: Bool { state.withLock { $0.isAbandoned } }

    func append(_ bytes: ByteBuffer, completion: @escaping @Sendable (StorageError?) -> Void) {
        let hasRoom = state.withLock { state in
            state.room -= 1
            return state.room >= 0
        }
        guard hasRoom else { return answer { completion(.full) } }
        writer.append(bytes) { error in self.answer { completion(error) } }
    }

    func finish(completion: @escaping @Sendable (Result<any SpooledBody, StorageError>) -> Void) {
        writer.finish { result in self.answer { completion(result) } }
    }

    func abandon() {
        state.withLock { $0.isAbandoned = true }
        writer.abandon()
    }

    private func answer(_ answer: @escaping @Sendable () -> Void) {
        let isHeld = state.withLock { state in
            if state.isHeld { state.answers.append(answer) }
            return state.isHeld
        }
        if !isHeld { answer() }
    }

    func release() {
        let answers = state.withLock { state in
            state.isHeld = false
            defer { state.answers = [] }
            return state.answers
        }
        for answer in answers { answer() }
    }
}

/// A collector on an event loop, over a storage of its own.
private final class Collecting: Sendable {
    let storage: JournaledStorage
    let directory: String
    let writers = Mutex<[HeldWriter]>([])
    /// What was kept in memory when the file was begun.
    let heads = Mutex<[ByteBuffer]>([])
    /// How often the collector said that it has room again.
    let drained = Mutex(0)
    private let loop = MultiThreadedEventLoopGroup.singleton.next()
    private let collector = Mutex<NIOLoopBound<MessageCollector>?>(nil)

    init(isHeld: Bool = false, room: Int = .max, readsContent: Bool = false) async throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("slimta-\(UUID().uuidString)").path
        var options = StorageOptions()
        options.segmentSize = 1 << 20
        options.journalLimit = 8 << 20
        options.minimumFree = 0
        options.reserveSize = 0
        storage = try JournaledStorage.open(directory: directory, owner: nil, options: options, report: { _ in })
        _ = try storage.recover()
        let bound = try await loop.submit { [loop] in
            NIOLoopBound(
                MessageCollector(
                    id: QueueID(at: .now()), eventLoop: loop, readsContent: readsContent,
                    makeSpool: { id, head in
                        self.heads.withLock { $0.append(head) }
                        let writer = HeldWriter(self.storage.beginSpool(id), isHeld: isHeld, room: room)
                        self.writers.withLock { $0.append(writer) }
                        return writer
                    }, drained: { self.drained.withLock { $0 += 1 } }), eventLoop: loop)
        }.get()
        collector.withLock { $0 = bound }
    }

    func on<Value: Sendable>(_ body: @escaping @Sendable (MessageCollector) throws -> Value) async throws -> Value {
        let bound = collector.withLock { $0! }
        return try await loop.submit { try body(bound.value) }.get()
    }

    func append(_ octets: [UInt8], pieces: Int) async throws {
        for start in stride(from: 0, to: octets.count, by: pieces) {
            let piece = ByteBuffer(bytes: octets[start..<min(start + pieces, octets.count)])
            try await on { $0.append(piece) }
        }
    }

    func finish() async throws -> Result<Message, StorageError> {
        let promise = loop.makePromise(of: Result<Message, StorageError>.self)
        try await on { collector in collector.finish { promise.succeed($0) } }
        return try await promise.futureResult.get()
    }

    var files: [String] {
        (FileManager.default.enumerator(atPath: directory + "/spool")?.allObjects as? [String] ?? [])
            .filter { $0.utf8.count > 30 }
    }

    func close() async {
        await storage.close()
        try? FileManager.default.removeItem(atPath: directory)
    }
}

private func octets(_ message: Message) async throws -> [UInt8] {
    var all = Array(message.head.readableBytesView)
    guard let reader = message.rest?.makeReader() else { return all }
    while let part = try await reader.next(100_000) { all += part.readableBytesView }
    return all
}

@Suite struct MessageCollectorTests {
    private static let limit = MessageCollector.headLimit

    /// What rules ask of it is gathered while it comes in, whatever of it is in memory, and only where they ask.
    @Test(arguments: [1000, limit - 1, limit, limit + 1, 3 * limit], [false, true])
    func content(_ size: Int, _ readsContent: Bool) async throws {
        let end = Array("\r\n--b\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nx\r\n--b--\r\n".utf8)
        var octets = Array("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n".utf8)
        octets += Array(repeating: UInt8(ascii: "x"), count: size - octets.count - end.count) + end
        let collecting = try await Collecting(readsContent: readsContent)
        try await collecting.append(octets, pieces: 7001)
        let facts = try await collecting.on { $0.content?.facts }
        #expect(facts?.attachments.map(\.names) == (readsContent ? [["a.exe"]] : nil))
        #expect(facts?.parts == (readsContent ? 2 : nil))
        await collecting.close()
    }

    private func text(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 9) }
    }

    @Test(arguments: [0, 1, 1000, limit - 1, limit, limit + 1, 2 * limit, 3 * limit + 5], [1 << 30, 65_536, 40_001])
    func whatCameIsThere(size: Int, pieces: Int) async throws {
        let collecting = try await Collecting()
        let text = text(size)
        try await collecting.append(text, pieces: pieces)
        let message = try await collecting.finish().get()
        #expect(message.size == size && message.head.readableBytes == min(size, Self.limit))
        #expect((message.rest == nil) == (size <= Self.limit), "a file only for what memory does not hold")
        #expect(try await octets(message) == text)
        // Whoever looks on while the file is written has to know what is not in it.
        #expect(collecting.heads.withLock { $0 } == (message.rest == nil ? [] : [message.head]))
        await collecting.close()
    }

    /// The end of the message comes before the disk has answered to anything.
    @Test func theEndIsWaitedFor() async throws {
        let collecting = try await Collecting(isHeld: true)
        let text = text(3 * Self.limit)
        try await collecting.append(text, pieces: 50_000)
        async let result = collecting.finish()
        try await Task.sleep(for: .milliseconds(50))
        collecting.writers.withLock { $0 }.forEach { $0.release() }
        #expect(try await octets(try await result.get()) == text)
        await collecting.close()
    }

    /// While much is on its way to the disk the client is not read; it is said once when there is room.
    @Test func backPressure() async throws {
        let collecting = try await Collecting(isHeld: true)
        try await collecting.append(text(Self.limit + 512 * 1024), pieces: 65_536)
        #expect(try await collecting.on { !$0.isBackedUp }, "as much as may be on its way")
        try await collecting.append(text(1), pieces: 1)
        #expect(try await collecting.on { $0.isBackedUp })
        collecting.writers.withLock { $0 }.forEach { $0.release() }
        for _ in 0..<500 where try await collecting.on({ $0.isBackedUp }) {
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(try await collecting.on { !$0.isBackedUp })
        #expect(collecting.drained.withLock { $0 } == 1)
        await collecting.close()
    }

    @Test(arguments: [false, true]) func abandonedMessagesLeaveNothing(isHeld: Bool) async throws {
        let collecting = try await Collecting(isHeld: isHeld)
        try await collecting.append(text(3 * Self.limit), pieces: 100_000)
        try await collecting.on { $0.abandon() }
        collecting.writers.withLock { $0 }.forEach { $0.release() }
        for _ in 0..<500 where !collecting.files.isEmpty { try await Task.sleep(for: .milliseconds(10)) }
        #expect(collecting.files.isEmpty)
        await collecting.close()
    }

    @Test func abandoningASmallMessageNeedsNoDisk() async throws {
        let collecting = try await Collecting()
        try await collecting.append(text(1000), pieces: 100)
        try await collecting.on { $0.abandon() }
        #expect(collecting.writers.withLock { $0.isEmpty })
        await collecting.close()
    }

    /// The disk is full, at once or while the message comes: the message is refused, whatever of it still comes.
    @Test(arguments: [0, 1, 3]) func aDiskThatIsFull(piecesBefore: Int) async throws {
        let collecting = try await Collecting(room: piecesBefore)
        try await collecting.append(text(Self.limit), pieces: Self.limit)
        try await collecting.append(text(5000), pieces: 1000)
        guard case .failure(.full) = try await collecting.finish() else {
            Issue.record("a message that nobody has")
            return
        }
        try await collecting.on { $0.abandon() }
        #expect(collecting.writers.withLock { $0.allSatisfy(\.isAbandoned) })
        await collecting.close()
    }

    @Test func aStorageThatHasClosed() async throws {
        let collecting = try await Collecting()
        await collecting.storage.close()
        try await collecting.append(text(2 * Self.limit), pieces: 100_000)
        guard case .failure(.closed) = try await collecting.finish() else {
            Issue.record("a message that nobody has")
            return
        }
        await collecting.close()
    }

    /// A spool in which no file can be made.
    @Test func aDirectoryThatIsGone() async throws {
        let collecting = try await Collecting(isHeld: true)
        try FileManager.default.removeItem(atPath: collecting.directory + "/spool")
        try Data().write(to: URL(fileURLWithPath: collecting.directory + "/spool"))
        try await collecting.append(text(2 * Self.limit), pieces: 100_000)
        collecting.writers.withLock { $0 }.forEach { $0.release() }
        guard case .failure(.failed) = try await collecting.finish() else {
            Issue.record("the file cannot be there")
            return
        }
        await collecting.close()
    }
}
