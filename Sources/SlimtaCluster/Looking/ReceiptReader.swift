// Receipts of submissions, as they are now: the record, and how those of its envelopes ended that have left the queue.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// What is asked of the receipts' tables.
private enum ReceiptStatements {
    static let byKey = PostgresStatement(
        name: "receipt_by_key",
        sql: "select key, record from slimtad.receipt where key = $1 and (expires is null or expires > $2)",
        parameters: [.bytea, .int8])

    static let byID = PostgresStatement(
        name: "receipt_by_id",
        sql: """
            select key, record from slimtad.receipt where id = $1 and (expires is null or expires > $2)
            order by expires desc limit 1
            """,
        parameters: [.uuid, .int8])

    static let endings = PostgresStatement(
        name: "receipt_endings",
        sql: "select id, ended from slimtad.receipt_part where key = $1 and ended is not null",
        parameters: [.bytea])
}

extension ClusterReader {
    /// By what the client has given its submission: see ``QueueStorage/receipt(for:)``.
    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? {
        try await receipt(ReceiptStatements.byKey, .bytea(key.octets))
    }

    /// By what the client was told: see ``QueueStorage/receipt(of:)``.
    func receipt(of id: QueueID) async throws(StorageError) -> Receipt? {
        try await receipt(ReceiptStatements.byID, .uuid(id))
    }

    private func receipt(
        _ statement: PostgresStatement, _ wanted: PostgresValue
    ) async throws(StorageError) -> Receipt? {
        try node.reachable()
        return try await pool.run { connection, deadline in
            let rows = try connection.run(statement, [wanted, .int8(Timestamp.now().milliseconds)], by: deadline)
            guard rows.count > 0 else { return nil }
            var receipt = try rows.withOctets(0, 1) { octets throws(FormatError) in try ReceiptCodec.decode(octets) }
            let parts = try connection.run(
                ReceiptStatements.endings, [.bytea(rows.octets(0, 0))], by: deadline)
            for row in 0..<parts.count {
                let id = parts.id(row, 0)
                receipt.note(
                    try parts.withOctets(row, 1) { octets throws(FormatError) in
                        try EndedCodec.decode(octets, of: id)
                    })
            }
            return receipt
        }
    }
}
