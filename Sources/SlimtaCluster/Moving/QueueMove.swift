// Carries a queue from the files of a machine into a database, or back, for `slimtad queue move`. Nobody delivers what is just
// being carried, so that it may stop at any moment: what is on one side alone is there whole, and what is on both is found by
// its id when the move goes on.
//
//     into:    file only -> file, and carried in the database -> carried in the database only -> in the database's queue
//     out of:  in the database's queue -> carried in the database -> carried, and file -> file only
//
// Nobody may work with the files before a move that has stopped in between has come to its end: whoever calls sees to that.

import NIOCore
package import SlimtaMail
package import SlimtaQueue
import SlimtaRecords
import Synchronization

/// A move.
package struct QueueMove {
    /// Where the queue is to be.
    package enum Direction: Sendable {
        case intoDatabase, outOfDatabase
    }

    private let local: any MovableBackend
    private let database: MoveDatabase
    private let isStopped: @Sendable () -> Bool
    private let progress: @Sendable (_ moved: Int, _ total: Int) -> Void
    private var result = MoveResult()
    private var total = 0

    /// Envelopes that are carried with one commit on each side.
    private static let groupSize = 200
    /// Octets of messages, without the rest of large ones.
    private static let groupOctets = 4 << 20
    /// Receipts at once.
    private static let receiptCount = 500

    /// Carries all there is. When it returns, also after a stop, nothing is on its way; if it throws something may be.
    ///
    /// - Parameters:
    ///   - local: started, and with nobody else at it.
    ///   - begin: called with the time at which the database's queue began, before anything is carried; a text is why it must
    ///     not be. It is not called where others keep the move from being made: then nothing is on its way that was not before.
    ///   - isStopped: asked between two groups.
    package static func run(
        _ direction: Direction, _ local: any MovableBackend, _ options: ClusterOptions,
        begin: (Timestamp) -> String? = { _ in nil }, isStopped: @escaping @Sendable () -> Bool = { false },
        progress: @escaping @Sendable (_ moved: Int, _ total: Int) -> Void = { _, _ in }
    ) async throws(MoveError) -> MoveResult {
        let database = try MoveDatabase(options)
        defer { database.leave() }
        let since = Timestamp(milliseconds: database.form.since)
        var move = QueueMove(local: local, database: database, isStopped: isStopped, progress: progress)
        switch direction {
        case .intoDatabase: try await move.moveIn { begin(since) }
        case .outOfDatabase: try await move.moveOut { begin(since) }
        }
        return move.result
    }

    private init(
        local: any MovableBackend, database: MoveDatabase, isStopped: @escaping @Sendable () -> Bool,
        progress: @escaping @Sendable (_ moved: Int, _ total: Int) -> Void
    ) {
        (self.local, self.database, self.isStopped, self.progress) = (local, database, isStopped, progress)
    }

    private mutating func moved(_ count: Int) {
        result.envelopes += count
        progress(result.envelopes, max(total, result.envelopes))
    }

    private mutating func stops() -> Bool {
        if isStopped() { result.isInterrupted = true }
        return result.isInterrupted
    }

    private func commit(_ commit: QueueCommit) async throws(MoveError) {
        do throws(StorageError) { try await local.commit(commit) } catch { throw .local(error) }
    }

    private func count() async throws(MoveError) -> Int {
        do throws(StorageError) { return try await local.count() } catch { throw .local(error) }
    }

    // MARK: Into the database

    private mutating func moveIn(_ begin: () -> String?) async throws(MoveError) {
        total = try await count()
        // A database that does not answer is found out while nothing is begun.
        _ = try database.counts()
        if let refusal = begin() { throw .others(refusal) }
        try await finishCarried()
        try await moveReceiptsIn()
        var place: QueueID?
        repeat {
            let page: QueuedPage
            do throws(StorageError) { page = try await local.page(after: place, count: Self.groupSize) } catch {
                throw .local(error)
            }
            result.failed += page.unreadable
            var group = MoveDatabase.Group()
            for queued in page.envelopes where !result.isInterrupted {
                await add(queued.envelope.id, to: &group)
                if group.octets < Self.groupOctets { continue }
                try await carryIn(group)
                group = MoveDatabase.Group()
                _ = stops()
            }
            try await carryIn(group)
            place = page.next
        } while !stops() && place != nil
        // What stays now is what cannot be read, or what a stop has left.
        try database.setDown()
        result.left = try await count()
        result.isInterrupted = result.left > result.failed.count
    }

    /// Reads an envelope of the files.
    private mutating func add(_ id: QueueID, to group: inout MoveDatabase.Group) async {
        // Its id says that it is not in the database: see FallbackStorage.
        if FallbackStorage.isLocal(id) {
            result.failed.append(
                (
                    id,
                    "stays in the local queue, which delivers it with storage = \"local\", or with when_away = \"local\" "
                        + "beside the database"
                ))
            return
        }
        do throws(StorageError) {
            let stored = try await local.load(id)
            // The message of several envelopes is there once.
            let first = group.envelopes.first { other, message, _ in
                message == other.envelope.id && other.envelope.received == stored.envelope.received
                    && other.message.rest?.reference == stored.message.rest?.reference
                    && other.message.head == stored.message.head
            }
            group.envelopes.append((stored, first?.message ?? id, nil))
            if first == nil { group.octets += stored.message.head.readableBytes }
        } catch {
            result.failed.append((id, error.text))
        }
    }

    private mutating func carryIn(_ whole: MoveDatabase.Group) async throws(MoveError) {
        var group = whole
        group.envelopes = []
        var rests: [QueueID: Rest] = [:]
        for var entry in whole.envelopes {
            if let body = entry.stored.message.rest {
                let rest = if let known = rests[entry.message] { known } else { try await carryIn(body) }
                rests[entry.message] = rest
                switch rest {
                case .inTable(let part): entry.part = part
                case .unreadable(let reason):
                    // It stays.
                    result.failed.append((entry.stored.envelope.id, reason))
                    continue
                }
            }
            group.envelopes.append(entry)
        }
        if group.envelopes.isEmpty { return }
        try database.carryIn(group)
        let ids = group.envelopes.map(\.stored.envelope.id)
        try await commit(QueueCommit(departed: ids))
        database.arrived(ids)
        moved(ids.count)
    }

    /// What became of the rest of a large message.
    private enum Rest {
        /// Of contents.
        case inTable(Int)
        case unreadable(String)
    }

    /// The rest of a large message, piece by piece.
    private func carryIn(_ rest: any SpooledBody) async throws(MoveError) -> Rest {
        try database.beat()
        let part = database.part
        let reader = rest.makeReader()
        var (piece, number) = (ByteBuffer(), Int32(0))
        var isOver = false
        while !isOver {
            do {
                if var octets = try await reader.next(Chunk.size - piece.readableBytes) {
                    piece.writeBuffer(&octets)
                } else {
                    isOver = true
                }
            } catch {
                return .unreadable("the rest of its message cannot be read: \(error)")
            }
            guard piece.readableBytes == Chunk.size || isOver && piece.readableBytes > 0 else { continue }
            number += 1
            try database.put(number, of: rest.reference.id, piece, part: part)
            piece = ByteBuffer()
        }
        return .inTable(part)
    }

    /// What an earlier run has carried and not set down: it leaves the files, if it is still there.
    private mutating func finishCarried() async throws(MoveError) {
        while true {
            let rows = try database.carried(after: nil, count: Self.groupSize)
            if rows.count == 0 { return }
            let places = (0..<rows.count).map { MoveDatabase.Place(bucket: Int32(rows.int($0, 0)), id: rows.id($0, 1)) }
            // The copy in the database is whole: it is the one that stays, whatever became of the other.
            let here = try await queued(places.map(\.id))
            if !here.isEmpty { try await commit(QueueCommit(departed: here.sorted())) }
            try database.putBack(places)
            moved(here.count)
        }
    }

    /// Which of them are in the files, readable or not.
    private func queued(_ ids: [QueueID]) async throws(MoveError) -> Set<QueueID> {
        var here: Set<QueueID> = []
        for (id, state) in zip(ids, await local.states(ids)) {
            switch state {
            case .success, .failure(.damaged): here.insert(id)
            case .failure(.notFound): break
            case .failure(let error): throw .local(error)
            }
        }
        return here
    }

    private mutating func moveReceiptsIn() async throws(MoveError) {
        var key: Receipt.Digest?
        while true {
            let receipts: [Receipt]
            do throws(StorageError) {
                receipts = try await local.receipts(after: key, count: Self.receiptCount)
            } catch {
                throw .local(error)
            }
            guard let last = receipts.last else { return }
            key = last.key
            let moving = receipts.filter { !Self.isLocal($0) }
            if moving.isEmpty { continue }
            try database.put(moving)
            try await commit(QueueCommit(forgotten: moving.map(\.key)))
            result.receipts += moving.count
        }
    }

    /// Whether it is of mail that stays, and is looked for beside that.
    private static func isLocal(_ receipt: Receipt) -> Bool {
        FallbackStorage.isLocal(receipt.id) || receipt.envelopes.contains { FallbackStorage.isLocal($0.id) }
    }

    // MARK: Out of the database

    private mutating func moveOut(_ begin: () -> String?) async throws(MoveError) {
        // Cut off behind it the buckets are those of a node that is silent, as of any that was killed.
        try database.takeAll()
        let counts = try database.counts()
        if let refusal = begin() { throw .others(refusal) }
        total = counts.queued + counts.carried
        try await moveReceiptsOut()
        // What an earlier run has taken up.
        try await carryOut()
        var place = MoveDatabase.Place(bucket: -1, id: QueueID(high: 0, low: 0))
        while !stops(), let last = try database.takeUp(after: place, count: Self.groupSize) {
            try await carryOut()
            place = last
        }
        result.left = try database.counts().queued
        result.isInterrupted = result.left > result.failed.count
    }

    /// A row of what is carried.
    private struct Carried {
        var place: MoveDatabase.Place
        var queued: QueuedEnvelope
        var message: QueueID
        var part: Int
        var octets: Int64
        var rest: SpoolReference?
        /// There is a copy in the files that is not, or no longer, what the database has.
        var hasBadCopy = false
    }

    private mutating func carryOut() async throws(MoveError) {
        var last: MoveDatabase.Place?
        while true {
            let rows = try database.carried(after: last, count: Self.groupSize)
            if rows.count == 0 { return }
            let places = (0..<rows.count).map { MoveDatabase.Place(bucket: Int32(rows.int($0, 0)), id: rows.id($0, 1)) }
            last = places.last
            let copied = try await queued(places.map(\.id))
            var (found, done): ([Carried], [MoveDatabase.Place]) = ([], [])
            for (row, place) in places.enumerated() {
                let record = Self.record(rows, row, place)
                // It came through before the last run was cut off, and nothing has become of it since.
                if copied.contains(place.id), try await hasCopy(place.id, of: try? record.get().queued) {
                    done.append(place)
                    continue
                }
                switch record {
                case .success(var carried):
                    carried.hasBadCopy = copied.contains(place.id)
                    found.append(carried)
                case .failure(let error): try refuse([place], "its record is unreadable (\(error.text))")
                }
            }
            try database.takeOut(done)
            moved(done.count)
            try await carryOut(found)
        }
    }

    private static func record(
        _ rows: PostgresRows, _ row: Int, _ place: MoveDatabase.Place
    ) -> Result<Carried, FormatError> {
        do throws(FormatError) {
            return .success(
                Carried(
                    place: place, queued: try rows.record(row, of: place.id, envelope: 2, state: 3),
                    message: rows.id(row, 4), part: Int(rows.int(row, 5)), octets: rows.int(row, 6),
                    rest: rows.rest(row, 7)))
        } catch {
            return .failure(error)
        }
    }

    /// Whether what is in the files can be read to its end, and says what the database says, if that is known: files whose
    /// state was damaged have it as it was accepted.
    private func hasCopy(_ id: QueueID, of original: QueuedEnvelope?) async throws(MoveError) -> Bool {
        do {
            let stored = try await local.load(id)
            if let original, stored.envelope != original.envelope || stored.state != original.state { return false }
            let reader = stored.message.rest?.makeReader()
            while try await reader?.next(Chunk.size) != nil {}
            return true
        } catch StorageError.damaged {
            return false
        } catch {
            throw .local(error as? StorageError ?? .failed("\(error)"))
        }
    }

    /// They stay in the database.
    private mutating func refuse(_ places: [MoveDatabase.Place], _ reason: String) throws(MoveError) {
        try database.putBack(places)
        result.failed += places.map { ($0.id, reason) }
    }

    private mutating func carryOut(_ found: [Carried]) async throws(MoveError) {
        var start = found.startIndex
        while start < found.endIndex {
            // So many as fit into memory, one at least.
            var (end, octets) = (start, 0)
            repeat {
                octets += Int(found[end].octets - (found[end].rest?.length ?? 0))
                end += 1
            } while end < found.endIndex && octets < Self.groupOctets
            try await carryOutGroup(Array(found[start..<end]))
            start = end
        }
    }

    private mutating func carryOutGroup(_ group: [Carried]) async throws(MoveError) {
        var heads: [QueueID: ByteBuffer] = [:]
        for (part, rows) in Dictionary(grouping: group, by: \.part) where 0...ContentTable.long ~= part {
            // A keeper may have moved it meanwhile.
            for table in Set([part, ContentTable.long]) {
                let missing = Set(rows.map(\.message)).filter { heads[$0] == nil }
                if missing.isEmpty { continue }
                heads.merge(try database.heads(Array(missing), part: table)) { first, _ in first }
            }
        }
        var (commits, carried): ([QueueCommit], [[MoveDatabase.Place]]) = ([], [])
        var replaced: [QueueID] = []
        for (message, rows) in Dictionary(grouping: group, by: \.message) {
            let first = rows[0]
            guard let head = heads[message], Int64(head.readableBytes) == first.octets - (first.rest?.length ?? 0)
            else {
                try refuse(rows.map(\.place), "its message is gone")
                continue
            }
            var body: (any SpooledBody)?
            if let rest = first.rest {
                body = try await carryOut(rest, of: first)
                if body == nil {
                    try refuse(rows.map(\.place), "the rest of its message is gone, or not what was stored")
                    continue
                }
            }
            var commit = QueueCommit(message: Message(head: head, rest: body))
            for row in rows {
                let (envelope, state) = (row.queued.envelope, row.queued.state)
                commit.accepted.append(.init(envelope, due: state.due))
                if state != EnvelopeState(of: envelope, due: state.due) { commit.states.append(state) }
                if row.hasBadCopy { replaced.append(envelope.id) }
            }
            commits.append(commit)
            carried.append(rows.map(\.place))
        }
        // Only now: what the database has of them was read, and is whole.
        if !replaced.isEmpty { try await self.commit(QueueCommit(departed: replaced)) }
        var failure: StorageError?
        var done: [MoveDatabase.Place] = []
        for (answer, places) in zip(await local.commitAll(commits), carried) {
            if case .failure(let error) = answer { failure = failure ?? error } else { done += places }
        }
        try database.takeOut(done)
        moved(done.count)
        if let failure { throw .local(failure) }
    }

    /// The rest of a large message; nil: it is not what it was.
    private func carryOut(_ rest: SpoolReference, of row: Carried) async throws(MoveError) -> (any SpooledBody)? {
        // Not the envelope's id: a file of that name may be there, and about to be deleted.
        let writer = local.beginSpool(local.newID(at: .now(), beside: nil))
        var (number, left, crc) = (Int32(0), rest.length, UInt32(0))
        while left > 0 {
            number += 1
            var piece = try database.piece(number, of: rest.id, part: row.part)
            if piece == nil { piece = try database.piece(number, of: rest.id, part: ContentTable.long) }
            guard let piece, piece.readableBytes > 0, Int64(piece.readableBytes) <= left else {
                writer.abandon()
                return nil
            }
            crc = piece.withUnsafeReadableBytes { crc32c(crc, $0) }
            left -= Int64(piece.readableBytes)
            let refusal = await withCheckedContinuation { continuation in
                writer.append(piece) { continuation.resume(returning: $0) }
            }
            if let refusal { throw .local(refusal) }
        }
        if crc != rest.crc32c {
            writer.abandon()
            return nil
        }
        let body: Result<any SpooledBody, StorageError> = await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }
        do throws(StorageError) { return try body.get() } catch { throw .local(error) }
    }

    private mutating func moveReceiptsOut() async throws(MoveError) {
        var key: [UInt8] = []
        while true {
            let page = try database.receipts(after: key, count: Self.receiptCount)
            guard let last = page.last else { return }
            key = last
            result.failedReceipts += page.damaged
            let receipts = page.receipts
            if receipts.isEmpty { continue }
            let answers = await local.commitAll(receipts.map { QueueCommit(receipts: [$0]) })
            for case .failure(let error) in answers where error != .repeated { throw .local(error) }
            try database.forget(receipts.map(\.key))
            result.receipts += receipts.count
        }
    }
}

extension QueueStorage {
    /// Makes commits that have nothing to do with each other, and waits for all.
    fileprivate func commitAll(_ commits: [QueueCommit]) async -> [Result<Void, StorageError>] {
        if commits.isEmpty { return [] }
        return await withCheckedContinuation { continuation in
            let tally = Tally(commits.count) { continuation.resume(returning: $0) }
            for (place, commit) in commits.enumerated() { self.commit(commit) { tally.note(place, $0) } }
        }
    }
}

/// Answers to several commits, until all are there.
private final class Tally: Sendable {
    private let answers: Mutex<(all: [Result<Void, StorageError>], left: Int)>
    private let done: @Sendable ([Result<Void, StorageError>]) -> Void

    init(_ count: Int, _ done: @escaping @Sendable ([Result<Void, StorageError>]) -> Void) {
        answers = Mutex((Array(repeating: .failure(.closed), count: count), count))
        self.done = done
    }

    func note(_ place: Int, _ answer: Result<Void, StorageError>) {
        let all = answers.withLock { answers -> [Result<Void, StorageError>]? in
            answers.all[place] = answer
            answers.left -= 1
            return answers.left == 0 ? answers.all : nil
        }
        if let all { done(all) }
    }
}
