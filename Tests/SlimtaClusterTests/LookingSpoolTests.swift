// The rest of large messages: written piece by piece, in order and with back pressure, and read back whole or not at all.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Looking: large messages", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
struct LookingSpoolTests {
    static let size = Chunk.size

    static func octets(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 9) }
    }

    /// Writes `octets` in pieces of `step`.
    private func write(
        _ octets: [UInt8], by step: Int, _ bench: LookingBench, _ id: QueueID
    ) async throws -> SpooledChunks {
        let writer = bench.reader.beginSpool(id)
        for start in stride(from: 0, to: octets.count, by: step) {
            let piece = ByteBuffer(bytes: octets[start..<min(start + step, octets.count)])
            #expect(await appended(writer, piece) == nil)
        }
        return try #require(try await finished(writer).get() as? SpooledChunks)
    }

    private func appended(_ writer: any SpoolWriter, _ bytes: ByteBuffer) async -> StorageError? {
        await withCheckedContinuation { continuation in writer.append(bytes) { continuation.resume(returning: $0) } }
    }

    private func finished(_ writer: any SpoolWriter) async -> Result<any SpooledBody, StorageError> {
        await withCheckedContinuation { continuation in writer.finish { continuation.resume(returning: $0) } }
    }

    private func all(_ body: any SpooledBody, by limit: Int) async throws -> [UInt8] {
        let reader = body.makeReader()
        var all: [UInt8] = []
        while let next = try await reader.next(limit) {
            #expect(1...limit ~= next.readableBytes)
            all += next.readableBytesView
        }
        #expect(try await reader.next(limit) == nil)
        return all
    }

    /// An envelope whose message has this rest.
    private func store(_ body: SpooledChunks, _ bench: LookingBench) async throws -> Envelope {
        let envelope = bench.envelope()
        try await bench.store([.init(envelope: envelope, head: "head", rest: body.reference, part: body.part)])
        return envelope
    }

    @Test(arguments: [
        (0, 1), (1, 1), (size - 1, 10_000), (size, size), (size + 1, 100_000), (2 * size, 3 * size),
        (5 * size + 17, 70_000), (3 * size + 1, 4 * size),
    ])
    func whatIsWrittenIsReadBack(_ count: Int, _ step: Int) async throws {
        let bench = try LookingBench()
        bench.node.withLock { $0.part = 5 }
        let octets = Self.octets(count)
        let id = bench.envelope().id
        let body = try await write(octets, by: step, bench, id)
        #expect(body.part == 5 && body.begun <= monotonicMilliseconds())
        #expect(body.reference.id == id && body.reference.length == Int64(count))
        #expect(body.reference.crc32c == octets.withUnsafeBytes { crc32c(0, $0) })
        let pieces = try bench.sql("select chunk, length(octets) from slimtad.message_05 order by chunk")
        let expected = (0..<(count + Self.size - 1) / Self.size).map {
            "\($0 + 1)|\(min(Self.size, count - $0 * Self.size))"
        }
        #expect(pieces == expected.joined(separator: "\n"))
        // Before it is committed, and as somebody reads it who has only the row.
        #expect(try await all(body, by: 100_000) == octets)
        let envelope = try await store(body, bench)
        let stored = try await bench.reader.load(envelope.id)
        #expect(stored.message.size == count + 4)
        let rest = try #require(stored.message.rest)
        #expect(rest.reference == body.reference)
        #expect(try await all(rest, by: 10_000) == octets)
        await bench.close()
    }

    /// While nothing can be written, what is taken is less than two pieces; all comes in order when it can.
    @Test func backPressure() async throws {
        let bench = try LookingBench()
        try await bench.rows.run { connection, deadline in
            try connection.execute(
                "begin; lock table slimtad.message_00 in access exclusive mode", by: deadline)
        }
        let writer = bench.reader.beginSpool(bench.envelope().id)
        let done = Mutex<[Int]>([])
        let ended = AsyncStream<Void>.makeStream()
        let octets = Self.octets(4 * Self.size)
        let step = Self.size / 4
        for number in 0..<16 {
            writer.append(ByteBuffer(bytes: octets[number * step..<(number + 1) * step])) { error in
                #expect(error == nil)
                done.withLock { $0.append(number) }
            }
        }
        writer.finish { result in
            if case .success(let body) = result { #expect(body.reference.length == Int64(octets.count)) }
            done.withLock { $0.append(16) }
            ended.continuation.finish()
        }
        #expect(try await bench.areWaiting(1))
        #expect(done.withLock { $0 } == Array(0..<7))
        // Of this database: others are on the same server.
        #expect(
            try bench.sql(
                "select count(*) from pg_locks where locktype = 'relation' and not granted "
                    + "and database = (select oid from pg_database where datname = current_database())") == "1")
        try await bench.rows.run { connection, deadline in try connection.execute("commit", by: deadline) }
        for await _ in ended.stream {}
        #expect(done.withLock { $0 } == Array(0...16))
        #expect(try bench.sql("select sum(length(octets)) from slimtad.message_00") == "\(octets.count)")
        await bench.close()
    }

    @Test func whatIsGivenUp() async throws {
        let bench = try LookingBench()
        let writer = bench.reader.beginSpool(bench.envelope().id)
        #expect(await appended(writer, ByteBuffer(bytes: [1])) == nil)
        writer.abandon()
        #expect(await appended(writer, ByteBuffer(bytes: [1])) == .closed)
        #expect(await failure { () async throws(StorageError) in try await finished(writer).get() } == .closed)
        let other = bench.reader.beginSpool(bench.envelope().id)
        _ = try await finished(other).get()
        #expect(await appended(other, ByteBuffer(bytes: [1])) == .closed)
        #expect(await failure { () async throws(StorageError) in try await finished(other).get() } == .closed)
        bench.node.withLock { $0.phase = .closed }
        #expect(await appended(bench.reader.beginSpool(bench.envelope().id), ByteBuffer(bytes: [1])) == .closed)
        await bench.close()
    }

    /// Nothing comes behind a piece that was not written.
    @Test func whatCannotBeWritten() async throws {
        let bench = try LookingBench()
        _ = try bench.sql("alter table slimtad.message_00 add check (chunk < 2)")
        let writer = bench.reader.beginSpool(bench.envelope().id)
        var errors: [StorageError?] = []
        for _ in 0..<5 { errors.append(await appended(writer, ByteBuffer(bytes: Self.octets(Self.size)))) }
        let result = await failure { () async throws(StorageError) in try await finished(writer).get() }
        guard case .failed(let text) = result else { return #expect(result == .failed("")) }
        #expect(text.contains("23514"))
        #expect(errors[0] == nil && errors[4] == .failed(text))
        #expect(try bench.sql("select string_agg(chunk::text, ',') from slimtad.message_00") == "1")
        await bench.close()
    }

    @Test(arguments: [
        "delete from slimtad.message_00 where chunk = 2", "delete from slimtad.message_00 where chunk = 3",
        "update slimtad.message_00 set octets = octets || '\\x00' where chunk = 3",
        "update slimtad.message_00 set octets = substr(octets, 2) where chunk = 1",
        "update slimtad.message_00 set octets = set_byte(octets, 5, get_byte(octets, 5) # 1) where chunk = 2",
        "update slimtad.item set rest_crc = rest_crc # 1",
    ])
    func whatIsNotWhole(_ change: String) async throws {
        let bench = try LookingBench()
        let octets = Self.octets(2 * Self.size + 100)
        let body = try await write(octets, by: Self.size, bench, bench.envelope().id)
        let envelope = try await store(body, bench)
        _ = try bench.sql(change)
        let rest = try #require(try await bench.reader.load(envelope.id).message.rest)
        let reader = rest.makeReader()
        var count = 0
        var error: StorageError?
        do { while let next = try await reader.next(1 << 20) { count += next.readableBytes } } catch let failure {
            error = failure as? StorageError
        }
        guard case .damaged(let text) = error else { return #expect(error == .damaged("")) }
        #expect(count <= 2 * Self.size)
        #expect(bench.told.events == [.damaged(id: envelope.id, description: text)])
        #expect(try bench.sql("select count(*) from slimtad.loss") == "1")
        await bench.close()
    }

    /// A large message is sent for minutes: meanwhile its table may be emptied, after what is needed was moved.
    @Test func movedWhileItIsRead() async throws {
        let bench = try LookingBench()
        let octets = Self.octets(3 * Self.size)
        let body = try await write(octets, by: Self.size, bench, bench.envelope().id)
        let envelope = try await store(body, bench)
        let rest = try #require(try await bench.reader.load(envelope.id).message.rest)
        for reader in [rest.makeReader(), body.makeReader()] {
            var all: [UInt8] = []
            while let next = try await reader.next(Self.size) {
                all += next.readableBytesView
                if all.count > Self.size { continue }
                _ = try bench.sql(
                    """
                    begin; insert into slimtad.message_long select * from slimtad.message_00 on conflict do nothing;
                    update slimtad.item set part = 24; commit; truncate slimtad.message_00
                    """)
            }
            #expect(all == octets)
        }
        #expect(bench.told.events.isEmpty)
        await bench.close()
    }

    @Test func theEnvelopeHasEnded() async throws {
        let bench = try LookingBench()
        let body = try await write(Self.octets(3 * Self.size), by: Self.size, bench, bench.envelope().id)
        let envelope = try await store(body, bench)
        let rest = try #require(try await bench.reader.load(envelope.id).message.rest)
        let reader = rest.makeReader()
        _ = try await reader.next(Self.size)
        _ = try bench.sql("delete from slimtad.item; truncate slimtad.message_00")
        await #expect(throws: StorageError.notFound) { try await reader.next(Self.size) }
        // Who had it before it was committed does not know whose it is.
        await #expect(throws: StorageError.failed("the rest of its message is gone")) {
            try await body.makeReader().next(Self.size)
        }
        #expect(bench.told.events.isEmpty)
        await bench.close()
    }
}
