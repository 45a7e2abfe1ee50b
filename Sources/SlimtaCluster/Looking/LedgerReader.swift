// The balance of all recipients that this queue ever accepted, in one statement, so in one snapshot: what the keeper has
// summed up, what was recorded since, and what is queued.

import SlimtaMail
import SlimtaQueue
import SlimtaThreads

enum LedgerReader {
    private static let statement = PostgresStatement(
        name: "read_ledger",
        sql: """
            select 0 as what, kind, '' as name, sum(accepted)::int8, sum(delivered)::int8, sum(bounced)::int8,
                sum(expired)::int8, sum(removed)::int8, sum(lost)::int8, sum(mismatched)::int8, sum(queued)::int8
            from (
                select kind, accepted, delivered, bounced, expired, removed, lost, mismatched, 0::int8 as queued
                from slimtad.ledger
                union all
                select kind, accepted, delivered, bounced, expired, removed, lost, mismatched, 0 from slimtad.ledger_step
                union all
                select (flags & 4) / 4, 0, delivered, bounced, expired, removed, 0, 0,
                    recipients::int8 - delivered - bounced - expired - removed from slimtad.item) one
            group by kind
            union all
            select 1, 0, name, sum(count)::int8, 0, 0, 0, 0, 0, 0, 0 from slimtad.removed_step group by name
            union all
            select 2, 0, '', since, 0, 0, 0, 0, 0, 0, 0 from slimtad.schema
            """,
        parameters: [])

    static func read(_ connection: PostgresConnection, _ deadline: Deadline) throws -> Ledger {
        let rows = try connection.run(statement, [], by: deadline)
        var ledger = Ledger(since: Timestamp(milliseconds: 0))
        var removed: [(name: String, count: Int64)] = []
        for row in 0..<rows.count {
            switch rows.int(row, 0) {
            case 0: ledger.add(rows, row)
            case 1: removed.append((rows.text(row, 2), rows.int(row, 3)))
            default: ledger.since = Timestamp(milliseconds: rows.int(row, 3))
            }
        }
        // Each node has counted by itself: together there may be more names than are told apart.
        removed.sort { ($1.count, $0.name) < ($0.count, $1.name) }
        for (place, operatorName) in removed.enumerated() {
            let name = place < Ledger.operatorLimit ? operatorName.name : Ledger.others
            ledger.removedBy[name, default: 0] &+= UInt64(bitPattern: operatorName.count)
        }
        return ledger
    }
}

extension Ledger {
    fileprivate mutating func add(_ rows: PostgresRows, _ row: Int) {
        func number(_ column: Int) -> UInt64 { UInt64(bitPattern: rows.int(row, column)) }
        let kind = rows.int(row, 1) == 1 ? Kind.notice : .submitted
        self[kind].accepted = number(3)
        self[kind].delivered = number(4)
        self[kind].bounced = number(5)
        self[kind].expired = number(6)
        self[kind].removed = number(7)
        self[kind].lost = number(8)
        mismatched &+= number(9)
        self[kind].queued = number(10)
    }
}

extension ClusterReader {
    /// How long a statement may take that reads a whole table.
    static let scanPatience = Duration.seconds(300)

    /// Of all nodes: see ``QueueBackend/ledger()``. Of a long queue it may be half a minute old.
    func ledger() async throws(StorageError) -> Ledger {
        try node.reachable()
        if let known = ledgers.ledger(at: monotonicMilliseconds()) { return known }
        return try await access.scans.run { [ledgers] connection, _ in
            // Somebody else may have asked for it meanwhile.
            if let known = ledgers.ledger(at: monotonicMilliseconds()) { return known }
            let deadline = Deadline.after(Self.scanPatience)
            try connection.execute(SessionSettings.beginScan, by: deadline)
            let ledger = try LedgerReader.read(connection, deadline)
            try connection.execute("commit", by: deadline)
            ledgers.put(ledger, at: monotonicMilliseconds())
            return ledger
        }
    }
}
