// Takes the rest of a large message while it arrives: piece by piece into a content table, each in a transaction of its own,
// so that none lasts as long as a client takes. MessageCollector has one for each large message.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import Synchronization

/// Writes pieces, one at a time and in order; what comes meanwhile is collected.
///
/// What is appended is done with when less than two pieces are in memory: one that is on its way, and one that is filled.
/// What is left of a message that never came to its end is in a table that is emptied as a whole.
final class ChunkWriter: SpoolWriter {
    private typealias Completion = @Sendable (StorageError?) -> Void

    private struct Waiting {
        /// How many octets had been appended with it.
        var end: Int64
        /// What it is told whatever happens.
        var error: StorageError?
        var completion: Completion
    }

    private struct State {
        /// Less than a piece.
        var current = ByteBuffer()
        /// Whole pieces.
        var full: [ByteBuffer] = []
        /// Of the last piece that was sent.
        var number: Int32 = 0
        var isWriting = false
        var appended: Int64 = 0
        var durable: Int64 = 0
        var crc: UInt32 = 0
        var waiting: [Waiting] = []
        /// Whether a thread is calling completions: in order they are called by one at a time.
        var isCalling = false
        var finish: (@Sendable (Result<any SpooledBody, StorageError>) -> Void)?
        /// Nothing is taken any more.
        var isOver = false
        /// Nothing is written behind a gap.
        var failure: StorageError?

        /// Nothing more is written; the first reason counts.
        mutating func fail(_ error: StorageError) {
            if failure == nil { failure = error }
            full = []
            current = ByteBuffer()
        }
    }

    /// May be run again after a doubt: then it is written anew, so that it waits for the standby anew as well.
    private static let statements = (0...ContentTable.long).map { part in
        PostgresStatement(
            name: "write_chunk_\(part)",
            sql: """
                insert into \(ContentTable.name(part)) (id, chunk, octets) values ($1, $2, $3)
                on conflict (id, chunk) do update set octets = excluded.octets
                """,
            parameters: [.uuid, .int4, .bytea])
    }

    private let id: QueueID
    private let part: Int
    private let access: ReadAccess
    private let begun = monotonicMilliseconds()
    private let state: Mutex<State>

    /// - Parameter failure: why it takes nothing from the beginning; nil: it does.
    init(_ id: QueueID, part: Int, _ access: ReadAccess, failure: StorageError?) {
        self.id = id
        self.part = part
        self.access = access
        var state = State()
        state.failure = failure
        self.state = Mutex(state)
    }

    func append(_ bytes: ByteBuffer, completion: @escaping @Sendable (StorageError?) -> Void) {
        state.withLock { state in
            let isTaken = !state.isOver && state.failure == nil
            if isTaken { Self.collect(bytes, &state) }
            state.waiting.append(
                Waiting(end: state.appended, error: isTaken ? nil : state.failure ?? .closed, completion: completion))
        }
        goOn()
    }

    private static func collect(_ bytes: ByteBuffer, _ state: inout State) {
        state.appended += Int64(bytes.readableBytes)
        state.crc = bytes.withUnsafeReadableBytes { crc32c(state.crc, $0) }
        var bytes = bytes
        while bytes.readableBytes > 0 {
            let count = min(bytes.readableBytes, Chunk.size - state.current.readableBytes)
            if let slice = bytes.readSlice(length: count) { state.current.writeImmutableBuffer(slice) }
            guard state.current.readableBytes == Chunk.size else { continue }
            state.full.append(state.current)
            state.current = ByteBuffer()
        }
    }

    func finish(completion: @escaping @Sendable (Result<any SpooledBody, StorageError>) -> Void) {
        let isOver = state.withLock { state in
            if state.isOver { return true }
            state.isOver = true
            state.finish = completion
            return false
        }
        if isOver { return completion(.failure(.closed)) }
        goOn()
    }

    func abandon() {
        state.withLock { state in
            state.isOver = true
            state.fail(.closed)
        }
        goOn()
    }

    /// A message that takes too long would be written into a table that is emptied, or is another's by now.
    private static let late = StorageError.failed("the message took too long to arrive")
    private var isLate: Bool { monotonicMilliseconds() - begun >= access.arrivalLimit.milliseconds }

    /// Writes what is to be written, and calls who waits for what is done.
    private func goOn() {
        let isLate = isLate
        let piece = state.withLock { state -> (number: Int32, octets: ByteBuffer)? in
            if isLate, state.failure == nil { state.fail(Self.late) }
            if state.isWriting || state.failure != nil { return nil }
            let octets: ByteBuffer
            if !state.full.isEmpty {
                octets = state.full.removeFirst()
            } else if state.finish != nil, state.current.readableBytes > 0 {
                octets = state.current
                state.current = ByteBuffer()
            } else {
                return nil
            }
            state.isWriting = true
            state.number += 1
            return (state.number, octets)
        }
        if let piece { write(piece.number, piece.octets) }
        callBack()
    }

    private func write(_ number: Int32, _ octets: ByteBuffer) {
        let (id, statement) = (id, Self.statements[part])
        access.writers.submit { connection, deadline in
            _ = try connection.run(statement, [.uuid(id), .int4(number), .bytea(octets)], by: deadline)
        } completion: { result in
            self.state.withLock { state in
                state.isWriting = false
                switch result {
                case .success: state.durable += Int64(octets.readableBytes)
                case .failure(let error): state.fail(error)
                }
            }
            self.goOn()
        }
    }

    private func callBack() {
        var isCaller = false
        while let call = nextCall(&isCaller) { call() }
    }

    /// Who is to be called next; nil: nobody, or another thread is calling, which will find it.
    private func nextCall(_ isCaller: inout Bool) -> (() -> Void)? {
        state.withLock { state in
            if state.isCalling, !isCaller { return nil }
            guard let call = take(&state) else {
                state.isCalling = false
                return nil
            }
            (state.isCalling, isCaller) = (true, true)
            return call
        }
    }

    private func take(_ state: inout State) -> (() -> Void)? {
        if let first = state.waiting.first {
            let isDurable = first.end <= state.durable
            let error = first.error ?? (isDurable ? nil : state.failure)
            guard error != nil || first.end - state.durable < 2 * Int64(Chunk.size) else { return nil }
            state.waiting.removeFirst()
            return { first.completion(error) }
        }
        guard let finish = state.finish else { return nil }
        if let failure = state.failure {
            state.finish = nil
            return { finish(.failure(failure)) }
        }
        guard state.durable == state.appended, !state.isWriting else { return nil }
        state.finish = nil
        let reference = SpoolReference(id: id, length: state.appended, crc32c: state.crc)
        let body = SpooledChunks(reference, part: part, begun: begun, access)
        return { finish(.success(body)) }
    }
}
