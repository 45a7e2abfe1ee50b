// A queue in the files of a machine and one in PostgreSQL, with what may happen on the way between them: for QueueMoveTests.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster
@testable import SlimtaStorage

/// Both sides of a move.
final class MoveBench: Sendable {
    /// An envelope as somebody sees it.
    struct Seen: Equatable {
        var envelope: Envelope
        var state: EnvelopeState
        var content: ByteBuffer
    }

    let place: ClusterPlace
    let directory: ScratchFolder
    private let link: TestKit.PostgresLink
    /// How many moves have begun.
    private let begun = Mutex(0)

    init() throws {
        place = try ClusterPlace()
        directory = ScratchFolder()
        link = try TestKit.PostgresLink(to: place.server.port)
    }

    /// The queue in the files, started.
    func openLocal() async throws -> JournaledStorage {
        let local = try JournaledStorage.open(
            directory: directory.path, owner: nil, options: StorageOptions(), report: { _ in })
        try await local.start { _ in }
        return local
    }

    /// Who carries.
    var options: ClusterOptions { place.options("carrier", link) }

    func move(
        _ direction: QueueMove.Direction, _ fault: MoveFault? = nil, stopsBehind groups: Int = .max
    ) async throws -> MoveResult {
        let journal = try await openLocal()
        let local = FailingLocal(journal, fault?.commit, cameThrough: fault?.cameThrough ?? false)
        if let statement = fault?.statement {
            let mark = [0] + Array(statement.utf8) + [0]
            link.set(
                fault?.cameThrough == true
                    ? .loseAnswer(toClientDataContaining: mark) : .loseQuestion(containing: mark))
        }
        let asked = Mutex(0)
        let result: Result<MoveResult, any Error>
        do {
            result = .success(
                try await QueueMove.run(
                    direction, local, options,
                    begin: { _ in
                        begun.withLock { $0 += 1 }
                        return nil
                    },
                    isStopped: {
                        asked.withLock { asked in
                            asked += 1
                            return asked > groups
                        }
                    }))
        } catch {
            result = .failure(error)
        }
        link.set(.pass)
        // As a process that is killed: what was committed is in the journal.
        if fault == nil { await journal.close() } else { journal.halt() }
        return try result.get()
    }

    /// How many moves have said that they begin to carry.
    var movesBegun: Int { begun.withLock { $0 } }

    /// Changes an octet of a text wherever it is in the files. Nobody has them open.
    func damage(_ text: String) throws {
        let octets = Data(text.utf8)
        let files = FileManager.default.enumerator(atPath: directory.path)?.compactMap { $0 as? String } ?? []
        var found = 0
        for file in files {
            let path = "\(directory.path)/\(file)"
            guard var content = FileManager.default.contents(atPath: path) else { continue }
            while let range = content.range(of: octets) {
                content[range.lowerBound + octets.count / 2] ^= 0x20
                found += 1
                try content.write(to: URL(fileURLWithPath: path))
            }
        }
        #expect(found > 0)
    }

    // MARK: What is there

    /// All that a storage has.
    static func all(_ storage: any QueueBackend) async throws -> [QueueID: Seen] {
        var found: [QueueID: Seen] = [:]
        var place: QueueID?
        repeat {
            let page = try await storage.page(after: place, count: 100)
            for queued in page.envelopes {
                let stored = try await storage.load(queued.envelope.id)
                var content = stored.message.head
                if let reader = stored.message.rest?.makeReader() {
                    while var next = try await reader.next(100_000) { content.writeBuffer(&next) }
                }
                #expect(stored.envelope == queued.envelope && stored.state == queued.state)
                found[stored.envelope.id] = Seen(envelope: stored.envelope, state: stored.state, content: content)
            }
            #expect(page.unreadable.isEmpty)
            place = page.next
        } while place != nil
        return found
    }

    /// What is in the files, and what their ledger says. All of it is proved.
    func local() async throws -> (all: [QueueID: Seen], ledger: Ledger) {
        let local = try await openLocal()
        let audit = try await local.audit()
        #expect(audit.isClean, "\(audit.findings)")
        let found = try await Self.all(local)
        let ledger = local.ledger()
        await local.close()
        return (found, ledger)
    }

    /// What a node finds that has all of the database's queue, and what the ledger says.
    func shared(_ body: (any QueueBackend) async throws -> Void = { _ in }) async throws -> (
        all: [QueueID: Seen], ledger: Ledger
    ) {
        // Who was cut off is found dead by now.
        _ = try place.server.sql(
            """
            begin;
            update slimtad.node set incarnation = incarnation + 1, is_gone = true where name = 'carrier';
            update slimtad.fence set incarnation = incarnation + 1 where node = 'carrier';
            update slimtad.bucket set owner = null, wanted = null;
            commit
            """, in: place.name)
        let node = try await place.open(node: "other")
        let acquired = Mutex<Set<QueueID>>([])
        try await node.start { events in
            for case .acquired(let summaries) in events {
                acquired.withLock { $0.formUnion(summaries.map(\.id)) }
            }
        }
        let queued = Set(try await Self.all(node).keys)
        #expect(acquired.withLock { $0 } == queued, "a node delivers what is in the queue, and nothing else")
        try await body(node)
        let audit = try await node.audit()
        #expect(audit.isClean, "\(audit.findings)")
        let found = try await Self.all(node)
        let ledger = try await node.ledger()
        await node.close()
        return (found, ledger)
    }
}

/// A folder that is not there yet, and removed at the end.
final class ScratchFolder: Sendable {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("slimta-\(UUID().uuidString)").path

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Where a move is cut off.
struct MoveFault: CustomStringConvertible, Sendable {
    /// The first question to the database with this statement.
    var statement: String?
    /// So many commits of the files come through before.
    var commit: Int?
    /// What was asked last is done, though nobody hears of it.
    var cameThrough: Bool

    var description: String { "\(statement ?? "commit \(commit ?? 0)"), \(cameThrough ? "done" : "not done")" }
}

/// The files, which fail at a commit: all that come behind it fail too.
final class FailingLocal: MovableBackend {
    private let sound: JournaledStorage
    private let left: Mutex<Int>
    private let cameThrough: Bool

    init(_ sound: JournaledStorage, _ commits: Int?, cameThrough: Bool) {
        self.sound = sound
        left = Mutex(commits ?? .max)
        self.cameThrough = cameThrough
    }

    func commit(_ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void) {
        let left = left.withLock { left in
            left -= 1
            return left
        }
        if left >= 0 { return sound.commit(commit, completion: completion) }
        if left < -1 || !cameThrough { return completion(.failure(.failed("cut off"))) }
        sound.commit(commit) { _ in completion(.failure(.failed("cut off"))) }
    }

    func start(_ events: @escaping @Sendable ([QueueEvent]) -> Void) async throws(StorageOpenError) {
        try await sound.start(events)
    }
    func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID { sound.newID(at: time, beside: sibling) }
    func admission(of size: Int) -> Admission { sound.admission(of: size) }
    func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope { try await sound.load(id) }
    func remains(of id: QueueID) async -> StoredEnvelope? { await sound.remains(of: id) }
    func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] { await sound.states(ids) }
    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? { try await sound.receipt(for: key) }
    func receipt(of id: QueueID) async throws(StorageError) -> Receipt? { try await sound.receipt(of: id) }
    func receipts(after place: Receipt.Digest?, count: Int) async throws(StorageError) -> [Receipt] {
        try await sound.receipts(after: place, count: count)
    }
    func beginSpool(_ id: QueueID) -> any SpoolWriter { sound.beginSpool(id) }
    func released(_ buckets: QueueBuckets) { sound.released(buckets) }
    func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage {
        try await sound.page(after: place, count: count)
    }
    func count() async throws(StorageError) -> Int { sound.count() }
    func status() -> StorageStatus { sound.status() }
    func ledger() async throws(StorageError) -> Ledger { sound.ledger() }
    func audit() async throws(StorageError) -> StorageAudit { try await sound.audit() }
    func acknowledgeLosses() async throws(StorageError) -> [String] { try await sound.acknowledgeLosses() }
    func close() async { await sound.close() }
}

extension Ledger {
    /// What two storages say together, but when they began.
    func together(with other: Ledger) -> Ledger {
        var sum = self + other
        sum.since = Timestamp(milliseconds: 0)
        return sum
    }
}
