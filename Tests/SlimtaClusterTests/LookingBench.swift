// A database with the queue's tables, who reads it, and rows in it as they are written: for the tests of the read path, each of
// which has one of its own.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import Synchronization
import TestKit

@testable import SlimtaCluster

/// A queue with sixteen buckets, all of which are the node's.
final class LookingBench: Sendable {
    /// An envelope as it is stored.
    struct Stored: Sendable {
        var envelope: Envelope
        /// nil: it is as it was accepted.
        var state: EnvelopeState?
        var head = "Subject: x\r\n\r\nbody\r\n"
        var rest: SpoolReference?
        var part = 0
        /// nil: the envelope's own id.
        var message: QueueID?
        var hasContent = true

        var id: QueueID { envelope.id }
    }

    /// What the operator was told.
    final class Told: Sendable {
        private let all = Mutex<[ClusterEvent]>([])
        @Sendable func note(_ event: ClusterEvent) { all.withLock { $0.append(event) } }
        var events: [ClusterEvent] { all.withLock { $0 } }
    }

    static let due = Timestamp(milliseconds: 1_700_000_100_000)

    let server: PostgresServer
    let database: String
    let node = NodeState()
    let told = Told()
    let options: ClusterOptions
    let reader: ClusterReader
    /// For what tests do to the database.
    let rows: ReaderPool

    /// - Parameter port: another one than the server's own, if there is something in between.
    init(_ server: PostgresServer? = nil, port: Int? = nil, change: (inout ClusterOptions) -> Void = { _ in }) throws {
        let server = try server ?? PostgresServer.shared()
        self.server = server
        database = try server.createDatabase()
        try server.sql(
            "create schema slimtad; \(Schema.tables(withLZ4: false)) \(Schema.rows(buckets: 16))", in: database)
        var options = ClusterOptions(
            database: PostgresOptions(connection: server.connection(to: database, port: port)), node: "first",
            machine: "here")
        options.needsStandby = false
        change(&options)
        self.options = options
        reader = ClusterReader(options, node, report: told.note)
        let direct = PostgresOptions(connection: server.connection(to: database))
        rows = ReaderPool(threads: 1, patience: .seconds(60)) { (deadline: Deadline) throws(PostgresError) in
            try PostgresConnection(direct, by: deadline)
        }
        node.withLock { values in
            values.phase = .running
            values.owned = Set(0..<16)
        }
        try reader.start()
        try rows.start()
    }

    func close() async {
        await reader.close()
        await rows.close()
    }

    func sql(_ text: String) throws -> String { try server.sql(text, in: database) }

    /// An envelope that is not stored yet.
    func envelope(
        to recipients: [String] = ["b@example.org"], sender: String? = "a@example.com", bucket: UInt16? = nil,
        at milliseconds: Int64 = 0
    ) -> Envelope {
        let time = Timestamp(milliseconds: 1_700_000_000_000 + milliseconds)
        return Envelope(
            id: QueueID(at: time, bucket: bucket ?? .random(in: 0..<16)),
            sender: sender.flatMap { Mailbox(parsing: $0) }, recipients: recipients.compactMap { Mailbox(parsing: $0) },
            received: time, body: .eightBitMIME, smtpUTF8: true,
            client: ClientInfo(address: "192.0.2.1", name: "client.example", protocolWord: "ESMTPSA"),
            prependedFields: ByteBuffer(string: "Received: from here\r\n"))
    }

    private static let contents = (0...ContentTable.long).map { part in
        PostgresStatement(
            name: "test_content_\(part)",
            sql: """
                insert into \(ContentTable.name(part)) (id, chunk, octets) values ($1, $2, $3) on conflict do nothing
                """,
            parameters: [.uuid, .int4, .bytea])
    }

    private static let item = PostgresStatement(
        name: "test_item",
        sql: """
            insert into slimtad.item (bucket, id, message, part, octets, rest, rest_octets, rest_crc, received, due, tried,
                attempts, flags, destination, pending, recipients, delivered, bounced, expired, removed, envelope, state)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
            """,
        parameters: [
            .int4, .uuid, .uuid, .int4, .int8, .uuid, .int8, .int8, .int8, .int8, .int8, .int4, .int4, .text, .int4,
            .int4, .int4, .int4, .int4, .int4, .bytea, .bytea,
        ])

    /// Stores envelopes as the line does.
    func store(_ stored: [Stored]) async throws {
        try await rows.run { connection, deadline in
            var batch = PostgresBatch()
            for one in stored {
                if one.hasContent {
                    batch.run(
                        Self.contents[one.part],
                        [.uuid(one.message ?? one.id), .int4(0), .bytea(ByteBuffer(string: one.head))])
                }
                batch.run(Self.item, Self.values(one))
            }
            _ = try connection.run(batch, by: deadline)
        }
    }

    @discardableResult
    func store(_ envelope: Envelope, _ state: EnvelopeState? = nil) async throws -> Envelope {
        try await store([Stored(envelope: envelope, state: state)])
        return envelope
    }

    private static func values(_ one: Stored) -> [PostgresValue] {
        let envelope = one.envelope
        let state = one.state ?? EnvelopeState(of: envelope, due: due)
        let fates = Fates(state)
        var flags: ItemFlags = []
        if state.isHeld { flags.insert(.held) }
        if state.isWarned { flags.insert(.warned) }
        if envelope.sender == nil { flags.insert(.notice) }
        let counts =
            [envelope.recipients.count] + [fates.delivered, fates.bounced, fates.expired, fates.removed].map(Int.init)
        return [
            .int4(Int32(one.id.bucket)), .uuid(one.id), .uuid(one.message ?? one.id), .int4(Int32(one.part)),
            .int8(Int64(one.head.utf8.count) + (one.rest?.length ?? 0)), .uuid(one.rest?.id),
            .int8(one.rest?.length), .int8(one.rest.map { Int64($0.crc32c) }), .int8(envelope.received.milliseconds),
            .int8(state.due.milliseconds), .int8(state.history.last?.time.milliseconds), .int4(Int32(state.attempts)),
            .int4(flags.rawValue), .text(envelope.recipients.first?.foldedDomain ?? ""),
            .int4(Int32(state.pending.first ?? -1)),
        ] + counts.map { .int4(Int32($0)) } + [
            .bytea(ItemRecord.withOctets(of: envelope, due: due, in: OutputBuffer()) { Array($0) }),
            one.state.map { state in .bytea(ItemRecord.withOctets(of: state, in: OutputBuffer()) { Array($0) }) }
                ?? .null(.bytea),
        ]
    }

    /// Waits until so many of this database's sessions wait for a lock; false: they never do.
    func areWaiting(_ count: Int) async throws -> Bool {
        for _ in 0..<1000 {
            let waiting = try sql(
                "select count(*) from pg_stat_activity where datname = '\(database)' and wait_event_type = 'Lock'")
            if waiting == "\(count)" { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
    }
}

extension QueueID {
    /// As SQL has it.
    var literal: String { "'\(self)'::uuid" }
}

/// Why something was not read; nil: it was.
func failure<Value>(_ body: () async throws(StorageError) -> Value) async -> StorageError? {
    do throws(StorageError) {
        _ = try await body()
        return nil
    } catch {
        return error
    }
}
