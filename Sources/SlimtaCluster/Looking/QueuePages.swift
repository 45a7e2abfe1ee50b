// Pages of all that is queued, in the order of arrival, over all buckets: for `slimtad queue list` and its like. Who only
// looks reports no damage: it is in the page.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// Reads pages.
enum QueuePages {
    /// Of each bucket the first ids behind `$1`, at most `$2`, by its primary key. Up to the first one at which a bucket was
    /// cut off none is missing: of these the first `$3`. The last column: whether a bucket was cut off.
    private static let statement = PostgresStatement(
        name: "read_page",
        sql: """
            with near as materialized (
                select b.number as bucket, n.id, n.place from slimtad.bucket b cross join lateral (
                    select i.id, row_number() over (order by i.id) as place from slimtad.item i
                    where i.bucket = b.number and i.id > $1 order by i.id limit $2) n),
            edge as materialized (select id from near where place = $2 order by id limit 1),
            page as materialized (
                select bucket, id from near
                where not exists (select 1 from edge) or id <= (select id from edge) order by id limit $3)
            select i.id, i.envelope, i.state, exists (select 1 from edge) as is_cut
            from page join slimtad.item i on i.bucket = page.bucket and i.id = page.id
            order by i.id
            """,
        parameters: [.uuid, .int8, .int8])

    /// The envelopes behind `place`, at most `count`; no more than there are if `next` is nil.
    static func page(
        after place: QueueID?, count: Int, buckets: Int, _ connection: PostgresConnection, _ deadline: Deadline
    ) throws -> QueuedPage {
        var page = QueuedPage()
        var last = place ?? QueueID(high: 0, low: 0)
        var left = max(1, count)
        // Where all is in a few buckets the page is not full at once: then of each more is taken, and at last so much that
        // one alone would fill it.
        var share = 2 * left / max(1, buckets) + 8
        while true {
            let limit = min(left, share)
            let rows = try connection.run(
                statement, [.uuid(last), .int8(Int64(limit)), .int8(Int64(left))], by: deadline)
            for row in 0..<rows.count { page.add(rows, row) }
            guard rows.count > 0 else { return page }
            last = rows.id(rows.count - 1, 0)
            left -= rows.count
            if left == 0 || !rows.bool(0, 3) {
                page.next = left == 0 ? last : nil
                return page
            }
            share *= 4
        }
    }
}

extension QueuedPage {
    fileprivate mutating func add(_ rows: PostgresRows, _ row: Int) {
        let id = rows.id(row, 0)
        do throws(FormatError) {
            envelopes.append(try rows.record(row, of: id, envelope: 1, state: 2))
        } catch {
            unreadable.append((id, error.text))
        }
    }
}

extension ClusterReader {
    /// Pages of at most so many are read at once.
    private static let pageLimit = 10_000

    /// Of all nodes: see ``QueueBackend/page(after:count:)``.
    func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage {
        try node.reachable()
        return try await pool.run { connection, deadline in
            let rows = try connection.run(Self.bucketCount, [], by: deadline)
            let buckets = rows.count == 1 ? Int(rows.int(0, 0)) : 1
            return try QueuePages.page(
                after: place, count: min(count, Self.pageLimit), buckets: buckets, connection, deadline)
        }
    }

    private static let bucketCount = PostgresStatement(
        name: "read_bucket_count", sql: "select buckets from slimtad.schema", parameters: [])
}
