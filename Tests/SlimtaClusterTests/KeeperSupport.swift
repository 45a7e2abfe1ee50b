// What tests of housekeeping have in common: turns on threads of their own, and locks that somebody else holds.

import SlimtaMail
import SlimtaQueue
import TestKit

@testable import SlimtaCluster

extension LookingBench {
    /// A queue whose tables may be emptied a second after they were closed.
    static func kept(_ change: (inout ClusterOptions) -> Void = { _ in }) throws -> LookingBench {
        try LookingBench { options in
            options.needsStandby = false
            options.ringHold = .seconds(1)
            change(&options)
        }
    }

    /// What `body` makes of a turn, on a thread of its own.
    func keep<Value: Sendable>(_ body: @escaping @Sendable (inout KeeperTurn) throws -> Value) -> Background<Value> {
        let (options, node, note) = (options, node, told.note)
        return Background {
            var turn = try KeeperTurn(options, node, LossBook(note), DeadlineLimit(), report: note)
            return try body(&turn)
        }
    }

    /// A transaction that does this and stays open.
    func hold(_ sql: String) async throws {
        try await rows.run { connection, deadline in try connection.execute("begin; \(sql)", by: deadline) }
    }

    /// Ends it.
    func letGo() async throws {
        try await rows.run { connection, deadline in try connection.execute("commit", by: deadline) }
    }

    /// Envelopes of one message that is in a table which was closed long ago.
    func storeOld(_ count: Int, in part: Int) async throws -> [Envelope] {
        let envelopes = (0..<count).map { envelope(at: Int64($0)) }
        try await store(envelopes.map { Stored(envelope: $0, part: part, message: envelopes[0].id) })
        _ = try sql("update slimtad.part set closed = 'epoch' where number = \(part)")
        return envelopes
    }

    /// In which table each of all envelopes has its content, in their order, as far as its content is there.
    func places() throws -> String {
        let all = (0...ContentTable.long).map { part in
            "select \(part) as part, id from \(ContentTable.name(part)) where chunk = 0"
        }
        return try sql(
            """
            select coalesce(string_agg(coalesce(m.part::text, 'lost'), ' ' order by i.id), '') from slimtad.item i
            left join (\(all.joined(separator: " union all "))) m on m.id = i.message and m.part = i.part
            """)
    }

    /// Numbers of rows.
    func count(_ table: String) throws -> Int { Int(try sql("select count(*) from slimtad.\(table)")) ?? -1 }
}

extension ClusterPlace {
    /// A session beside those of the nodes.
    func session() throws -> PostgresConnection {
        try PostgresConnection(PostgresOptions(connection: server.connection(to: name)), by: .after(patience))
    }
}
