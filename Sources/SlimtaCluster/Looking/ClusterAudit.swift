// Proves the ledger's balance from the tables, beside the running work: in one snapshot, with all records of what is queued,
// and whether each message is there as long as it was. For `slimtad audit`.

import SlimtaMail
import SlimtaQueue

/// Makes an audit. Belongs to one thread.
struct ClusterAuditor {
    private enum Statements {
        static let buckets = PostgresStatement(
            name: "audit_buckets", sql: "select buckets from slimtad.schema", parameters: [])

        static let page = PostgresStatement(
            name: "audit_page",
            sql: """
                select \(ItemRow.columns), i.bucket from slimtad.item i where (i.bucket, i.id) > ($1, $2)
                order by i.bucket, i.id limit $3
                """,
            parameters: [.int4, .uuid, .int8])

        static let items = PostgresStatement(
            name: "audit_items",
            sql: """
                select \(ItemRow.columns) from unnest($1::int4[], $2::uuid[]) as wanted(bucket, id)
                join slimtad.item i on i.bucket = wanted.bucket and i.id = wanted.id
                """,
            parameters: [.int4Array, .uuidArray])

        /// How long the pieces of contents are, without reading them: of each the first, how many others there are, the
        /// number of the last, and their octets.
        static let contents = (0...ContentTable.long).map { part in
            PostgresStatement(
                name: "audit_contents_\(part)",
                sql: """
                    select m.id, max(case when m.chunk = 0 then octet_length(m.octets) else -1 end)::int8,
                        sum(case when m.chunk > 0 then 1 else 0 end)::int8, max(m.chunk)::int8,
                        sum(case when m.chunk > 0 then octet_length(m.octets) else 0 end)::int8
                    from unnest($1::uuid[]) as wanted(id) join \(ContentTable.name(part)) m on m.id = wanted.id
                    group by m.id
                    """,
                parameters: [.uuidArray])
        }
    }

    /// What a content table has of one id.
    private struct Content {
        /// Of chunk 0; -1: there is none.
        var head: Int64
        var chunks: Int64
        var last: Int64
        var octets: Int64
    }

    /// Rows that are read at once.
    private static let pageSize = 500

    private let connection: PostgresConnection
    private let patience: Duration
    /// Asked between two pages.
    private let isOver: () -> Bool
    private var audit: StorageAudit
    /// Whose messages are not where the snapshot says, and what is said of them if that is true.
    private var suspects: [QueueID] = []
    private var bucketCount = QueueBuckets.most

    /// - Parameter patience: how long one statement may take.
    init(_ connection: PostgresConnection, patience: Duration, isOver: @escaping () -> Bool) {
        self.connection = connection
        self.patience = patience
        self.isOver = isOver
        audit = StorageAudit(ledger: Ledger(since: Timestamp(milliseconds: 0)))
    }

    private var deadline: Deadline { .after(patience) }

    /// The whole of it.
    mutating func run() throws -> StorageAudit {
        try connection.execute(SessionSettings.beginScan, by: deadline)
        let count = try connection.run(Statements.buckets, [], by: deadline)
        if count.count == 1 { bucketCount = max(1, Int(count.int(0, 0))) }
        audit.ledger = try LedgerReader.read(connection, deadline)
        // There are no counters beside the tables: what the nodes say is what the tables say.
        audit.running = audit.ledger
        if audit.ledger.unaccounted != 0 { audit.add("\(audit.ledger.unaccounted) recipients are not accounted for") }
        if audit.ledger.mismatched > 0 {
            audit.add("\(audit.ledger.mismatched) removals did not say how each recipient ended")
        }
        try connection.execute(SessionSettings.endScan, by: deadline)
        try readItems()
        let losses = try LossBook.read(connection, deadline)
        try connection.execute("commit", by: deadline)
        try recheck()
        let known = Set(audit.findings.compactMap(\.id))
        for (id, text) in losses.sorted(by: { $0.key < $1.key }) where !known.contains(id) { audit.add(text, id) }
        return audit
    }

    private mutating func readItems() throws {
        var (bucket, last) = (Int32(-1), QueueID(high: 0, low: 0))
        while true {
            if isOver() { throw StorageError.closed }
            let rows = try connection.run(
                Statements.page, [.int4(bucket), .uuid(last), .int8(Int64(Self.pageSize))], by: deadline)
            let items = (0..<rows.count).map { ItemRow(rows, $0) }
            guard let end = items.last else { return }
            bucket = Int32(truncatingIfNeeded: rows.int(rows.count - 1, 21))
            last = end.id
            let faults = try contentFaults(items)
            for item in items {
                for fault in item.faults { audit.add(fault, item.id) }
                if case .success = item.record { audit.envelopes += 1 }
                if faults[item.id] != nil {
                    suspects.append(item.id)
                } else {
                    audit.octets += item.octets
                    if item.rest != nil { audit.spooled += 1 }
                }
            }
        }
    }

    /// Emptying a table does not care for snapshots: what was moved meanwhile is in none of the tables for ours. So what is
    /// missing is sought again where it is now.
    private mutating func recheck() throws {
        for start in stride(from: 0, to: suspects.count, by: Self.pageSize) {
            if isOver() { throw StorageError.closed }
            let ids = Array(suspects[start..<min(start + Self.pageSize, suspects.count)])
            var checked = try items(ids)
            // One that is moved between two looks is in neither of the places where it was sought.
            for _ in 0..<3 {
                let faults = try contentFaults(checked)
                let now = Dictionary(
                    try items(checked.map(\.id)).map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
                var moved: [ItemRow] = []
                for item in checked {
                    // It has left the queue.
                    guard let again = now[item.id] else { continue }
                    if let fault = faults[item.id] {
                        if again.part == item.part { audit.add(fault, item.id) } else { moved.append(again) }
                    } else {
                        audit.octets += item.octets
                        if item.rest != nil { audit.spooled += 1 }
                    }
                }
                checked = moved
            }
        }
    }

    private func items(_ ids: [QueueID]) throws -> [ItemRow] {
        var buckets = PostgresColumn(.int4)
        var names = PostgresColumn(.uuid)
        for id in ids {
            buckets.append(Int32(id.bucket(of: bucketCount)))
            names.append(id)
        }
        let rows = try connection.run(Statements.items, [buckets.value, names.value], by: deadline)
        return (0..<rows.count).map { ItemRow(rows, $0) }
    }

    /// What is wrong with the messages of these.
    private func contentFaults(_ items: [ItemRow]) throws -> [QueueID: String] {
        var faults: [QueueID: String] = [:]
        for (part, items) in Dictionary(grouping: items, by: \.part) {
            guard 0...ContentTable.long ~= part else {
                for item in items { faults[item.id] = "its message is in no table: \(part)" }
                continue
            }
            let contents = try contents(Set(items.flatMap { [$0.message] + ($0.rest.map { [$0.id] } ?? []) }), part)
            for item in items { faults[item.id] = Self.fault(item, contents) }
        }
        return faults
    }

    private func contents(_ ids: Set<QueueID>, _ part: Int) throws -> [QueueID: Content] {
        var names = PostgresColumn(.uuid)
        for id in ids { names.append(id) }
        let rows = try connection.run(Statements.contents[part], [names.value], by: deadline)
        var contents: [QueueID: Content] = [:]
        for row in 0..<rows.count {
            contents[rows.id(row, 0)] = Content(
                head: rows.int(row, 1), chunks: rows.int(row, 2), last: rows.int(row, 3), octets: rows.int(row, 4))
        }
        return contents
    }

    private static func fault(_ item: ItemRow, _ contents: [QueueID: Content]) -> String? {
        guard let head = contents[item.message], head.head >= 0 else { return "its message is gone" }
        if head.head != item.head { return "its message has \(head.head) octets, not \(item.head)" }
        guard let rest = item.rest, rest.length > 0 else { return nil }
        guard let found = contents[rest.id], found.chunks > 0 else { return "the rest of its message is gone" }
        if found.octets != rest.length || found.last != found.chunks {
            return "the rest of its message has \(found.octets) octets, not \(rest.length)"
        }
        return nil
    }
}

extension ClusterReader {
    /// Of all nodes: see ``QueueBackend/audit()``.
    func audit() async throws(StorageError) -> StorageAudit {
        try node.reachable()
        return try await access.scans.run { [scans = access.scans] connection, _ in
            var auditor = ClusterAuditor(connection, patience: Self.scanPatience) { scans.isClosed }
            return try auditor.run()
        }
    }
}
