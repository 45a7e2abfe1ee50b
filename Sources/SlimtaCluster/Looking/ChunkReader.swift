// The rest of a large message, read back from its content table a piece at a time, while it is sent or looked at.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import Synchronization

/// How the rest of a large message is cut: pieces 1, 2, ... of its content, all of this size but the last.
enum Chunk {
    static let size = 256 << 10
}

/// The rest of a message that is queued.
final class StoredRest: SpooledBody {
    let reference: SpoolReference
    private let part: Int
    private let owner: QueueID
    private let access: ReadAccess

    init(_ reference: SpoolReference, part: Int, of owner: QueueID, _ access: ReadAccess) {
        self.reference = reference
        self.part = part
        self.owner = owner
        self.access = access
    }

    func makeReader() -> any SpoolReader { ChunkReader(reference, part: part, of: owner, access) }
}

/// The rest of a message that has come whole, and may be committed. All of it is durable.
final class SpooledChunks: SpooledBody {
    let reference: SpoolReference
    /// The content table that it is in: the item that has it has to name it.
    let part: Int
    /// When the first of it may have been written, in milliseconds by the monotonic clock: the table is emptied some time
    /// after it is no longer written, and only what items name is kept.
    let begun: Int64
    private let access: ReadAccess

    /// How many pieces it has.
    var pieces: Int32 { Int32(clamping: (reference.length + Int64(Chunk.size) - 1) / Int64(Chunk.size)) }

    init(_ reference: SpoolReference, part: Int, begun: Int64, _ access: ReadAccess) {
        self.reference = reference
        self.part = part
        self.begun = begun
        self.access = access
    }

    func makeReader() -> any SpoolReader { ChunkReader(reference, part: part, of: nil, access) }
}

/// Fetches pieces when they are wanted; checks at the end that it was all of it and unharmed, and gives nothing of the last
/// piece away before. For one caller at a time.
final class ChunkReader: SpoolReader {
    private struct State {
        var octets = ByteBuffer()
        /// Of the last piece that was fetched.
        var number: Int32 = 0
        /// Octets that were fetched.
        var fetched: Int64 = 0
        var crc: UInt32 = 0
    }

    private enum Turn {
        case octets(ByteBuffer)
        case end
        case fetch(Int32)
    }

    private let reference: SpoolReference
    private let part: Int
    private let owner: QueueID?
    private let access: ReadAccess
    private let state = Mutex(State())

    /// - Parameter owner: the envelope that it is read for; nil: it may not be committed yet.
    init(_ reference: SpoolReference, part: Int, of owner: QueueID?, _ access: ReadAccess) {
        self.reference = reference
        self.part = part
        self.owner = owner
        self.access = access
    }

    func next(_ limit: Int) async throws -> ByteBuffer? {
        while true {
            switch turn(limit) {
            case .octets(let octets): return octets
            case .end: return nil
            case .fetch(let number): try await fetch(number)
            }
        }
    }

    private func turn(_ limit: Int) -> Turn {
        state.withLock { state in
            let count = min(max(1, limit), state.octets.readableBytes)
            if count > 0, let octets = state.octets.readSlice(length: count) { return .octets(octets) }
            return state.fetched == reference.length ? .end : .fetch(state.number + 1)
        }
    }

    private func fetch(_ number: Int32) async throws(StorageError) {
        try access.node.reachable()
        try await access.pool.run { [self] connection, deadline in
            do {
                try add(number, try read(number, connection, deadline))
            } catch let damage as Damage {
                guard owner != nil else { throw StorageError.failed(damage.text) }
                access.losses.note(damage, connection, deadline)
                throw StorageError.damaged(damage.text)
            }
        }
    }

    private func add(_ number: Int32, _ octets: ByteBuffer) throws(Damage) {
        let isRight = state.withLock { state in
            // A job may be run twice.
            guard state.number == number - 1 else { return true }
            let left = reference.length - state.fetched
            guard Int64(octets.readableBytes) == min(left, Int64(Chunk.size)) else { return false }
            let crc = octets.withUnsafeReadableBytes { crc32c(state.crc, $0) }
            if Int64(octets.readableBytes) == left, crc != reference.crc32c { return false }
            state.octets = octets
            state.number = number
            state.fetched += Int64(octets.readableBytes)
            state.crc = crc
            return true
        }
        if !isRight { throw Damage(owner ?? reference.id, "the rest of its message is not what was stored") }
    }

    /// A piece, from where it is: it may have been moved to the table for what stays, and the other been emptied.
    private func read(
        _ number: Int32, _ connection: PostgresConnection, _ deadline: Deadline
    ) throws -> ByteBuffer {
        for table in [part, ContentTable.long] {
            let rows = try connection.run(
                ContentStatements.chunks[table], [.uuid(reference.id), .int4(number)], by: deadline)
            if rows.count == 1 { return rows.withOctets(0, 0) { ByteBuffer(bytes: $0) } }
        }
        if let owner {
            let rows = try connection.run(
                ContentStatements.item, [.int4(access.node.bucketNumber(of: owner)), .uuid(owner)], by: deadline)
            if rows.count == 0 { throw StorageError.notFound }
        }
        throw Damage(owner ?? reference.id, "the rest of its message is gone")
    }
}
