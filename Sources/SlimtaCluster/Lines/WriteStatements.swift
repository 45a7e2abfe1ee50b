// What the line says to the database: one statement for all of a kind in a group. Each is run with arrays, a place in them for
// each row. WriteBatch fills them in.

/// The statements of a group's transaction, in the order in which they are run.
enum WriteStatements {
    /// Holds the line's fence until the transaction ends; divides by zero if it was counted up.
    static let fenced = PostgresStatement(
        name: "fenced",
        sql: """
            select 1 / count(*)::int4 from
            (select 1 from slimtad.fence where node = $1 and line = $2 and incarnation = $3 for share) f
            """,
        parameters: [.text, .int4, .int8])

    /// Parts of receipts that have expired and whose key comes again.
    static let clearedParts = PostgresStatement(
        name: "cleared_parts", sql: "delete from slimtad.receipt_part where key = any($1)", parameters: [.byteaArray])

    /// Divides by zero if one of the keys is there and has not expired, by the clock that all nodes have in common: then all of the transaction has not happened.
    static let receipts = PostgresStatement(
        name: "receipts",
        sql: """
            with new as (
                insert into slimtad.receipt as r (key, owner, id, expires, octets, record)
                select * from unnest($1::bytea[], $2::bytea[], $3::uuid[], $4::int8[], $5::int4[], $6::bytea[])
                on conflict (key) do update set owner = excluded.owner, id = excluded.id, expires = excluded.expires,
                    octets = excluded.octets, record = excluded.record
                    where r.expires <= (select (extract(epoch from clock_timestamp()) * 1000)::int8)
                returning 1)
            select 1 / (case when count(*) = $7 then 1 else 0 end) from new
            """,
        parameters: [.byteaArray, .byteaArray, .uuidArray, .int8Array, .int4Array, .byteaArray, .int8])

    static let receiptParts = PostgresStatement(
        name: "receipt_parts",
        sql: """
            insert into slimtad.receipt_part (id, key) select * from unnest($1::uuid[], $2::bytea[])
            on conflict (id) do update set key = excluded.key
            """,
        parameters: [.uuidArray, .byteaArray])

    /// Of one owner those that are more than there may be, beginning with what expires first; how many and how large the
    /// others are.
    static let trimmedReceipts = PostgresStatement(
        name: "trimmed_receipts",
        sql: """
            with ranked as materialized (
                select key, octets, row_number() over latest as place, sum(octets) over latest as total
                from slimtad.receipt where owner = $1 and expires is not null
                window latest as (order by expires desc, key rows unbounded preceding)),
            gone as (
                delete from slimtad.receipt r using ranked
                where r.key = ranked.key and (place > $2 or total > $3) returning r.key),
            parts as (delete from slimtad.receipt_part p using gone where p.key = gone.key)
            select count(*)::int8, coalesce(sum(octets), 0)::int8 from ranked where place <= $2 and total <= $3
            """,
        parameters: [.bytea, .int8, .int8])

    /// The message of new envelopes: chunk 0, in one of the ring's tables. Refused as a whole where one of them is there.
    static let contents = contents("contents", conflicts: "")

    /// The same of what may be there.
    static let contentsAgain = contents("contents_again", conflicts: "on conflict (id, chunk) do nothing")

    private static func contents(_ name: String, conflicts: String) -> [PostgresStatement] {
        (0..<ContentTable.count).map { part in
            PostgresStatement(
                name: "\(name)_\(part)",
                sql: """
                    insert into \(ContentTable.name(part)) (id, chunk, octets)
                    select id, 0, octets from unnest($1::uuid[], $2::bytea[]) as x(id, octets) \(conflicts)
                    """,
                parameters: [.uuidArray, .byteaArray])
        }
    }

    /// Divides by zero unless all of the rests of large messages are in the table: its pieces were written before, by other
    /// transactions, and the table may have been emptied since. It is not from here on: that would wait for us.
    static let whole = (0..<ContentTable.count).map { part in
        PostgresStatement(
            name: "whole_\(part)",
            sql: """
                select 1 / (case when bool_and(x.octets = (
                    select coalesce(sum(length(m.octets)), 0) from \(ContentTable.name(part)) m
                    where m.id = x.id and m.chunk > 0)) then 1 else 0 end)
                from unnest($1::uuid[], $2::int8[]) as x(id, octets)
                """,
            parameters: [.uuidArray, .int8Array])
    }

    /// New envelopes: how many. Refused as a whole where one of them is there: to look for each costs more than all else that
    /// the server does for it.
    static let accepted = accepted("accepted", conflicts: "")

    /// The same where one that is made again after a doubt may be there: how many were new.
    static let acceptedAgain = accepted("accepted_again", conflicts: "on conflict (bucket, id) do nothing")

    private static func accepted(_ name: String, conflicts: String) -> PostgresStatement {
        PostgresStatement(
            name: name,
            sql: """
                with new as (
                    insert into slimtad.item (bucket, id, message, part, octets, rest, rest_octets, rest_crc, received, due,
                        tried, attempts, flags, destination, recipients, delivered, bounced, expired, removed, envelope,
                        state)
                    select bucket, id, message, part, octets, rest, rest_octets, rest_crc, received, due, null, 0, flags,
                        destination, recipients, 0, 0, 0, 0, envelope, null
                    from unnest($1::int4[], $2::uuid[], $3::uuid[], $4::int4[], $5::int8[], $6::uuid[], $7::int8[],
                        $8::int8[], $9::int8[], $10::int8[], $11::int4[], $12::text[], $13::int4[], $14::bytea[])
                        as x(bucket, id, message, part, octets, rest, rest_octets, rest_crc, received, due, flags,
                            destination, recipients, envelope)
                    \(conflicts)
                    returning flags, recipients),
                step as (
                    insert into slimtad.ledger_step
                    select (flags & 4) / 4, sum(recipients), 0, 0, 0, 0, 0, 0 from new group by 1)
                select count(*)::int8 from new
                """,
            parameters: [
                .int4Array, .uuidArray, .uuidArray, .int4Array, .int8Array, .uuidArray, .int8Array, .int8Array,
                .int8Array, .int8Array, .int4Array, .textArray, .int4Array, .byteaArray,
            ])
    }

    /// What is in buckets that are not ours is named to who has them.
    static let named = PostgresStatement(
        name: "named",
        sql: """
            insert into slimtad.inbox (bucket, id) select * from unnest($1::int4[], $2::uuid[])
            on conflict (bucket, id) do nothing
            """,
        parameters: [.int4Array, .uuidArray])

    /// New states, and of how many envelopes: one may have vanished, since who had put it into our bucket took it back after a
    /// doubt. `pending`: the index of the first recipient that is still to be delivered, or -1; by it and the envelope the
    /// destination is known.
    static let states = PostgresStatement(
        name: "states",
        sql: """
            with changed as (
            update slimtad.item i set due = s.due, tried = s.tried, attempts = s.attempts,
                flags = (i.flags & ~3) | s.flags, pending = s.pending,
                delivered = s.delivered, bounced = s.bounced, expired = s.expired, removed = s.removed, state = s.state
            from unnest($1::int4[], $2::uuid[], $3::int8[], $4::int8[], $5::int4[], $6::int4[], $7::int4[], $8::int4[],
                $9::int4[], $10::int4[], $11::int4[], $12::bytea[])
                as s(bucket, id, due, tried, attempts, flags, pending, delivered, bounced, expired, removed, state)
            where i.bucket = s.bucket and i.id = s.id returning 1)
            select count(*)::int8 from changed
            """,
        parameters: [
            .int4Array, .uuidArray, .int8Array, .int8Array, .int4Array, .int4Array, .int4Array, .int4Array, .int4Array,
            .int4Array, .int4Array, .byteaArray,
        ])

    /// Which were not there to leave. An ending that does not say of each recipient how it ended, or takes back what was said before, is
    /// counted as mismatched.
    static let ended = PostgresStatement(
        name: "ended",
        sql: """
            with said as materialized (
                select * from unnest($1::int4[], $2::uuid[], $3::int4[], $4::int4[], $5::int4[], $6::int4[], $7::text[],
                    $8::bytea[]) as x(bucket, id, delivered, bounced, expired, removed, by_name, ended)),
            gone as (
                delete from slimtad.item i using said s where i.bucket = s.bucket and i.id = s.id
                returning i.id, i.flags, s.delivered, s.bounced, s.expired, s.removed, s.by_name, s.ended,
                    (s.delivered < i.delivered or s.bounced < i.bounced or s.expired < i.expired
                        or s.removed < i.removed)::int4
                    + (s.delivered::int8 + s.bounced + s.expired + s.removed <> i.recipients)::int4 as faults),
            noted as (
                update slimtad.receipt_part p set ended = gone.ended from gone
                where gone.flags & 8 <> 0 and p.id = gone.id and p.ended is null),
            step as (
                insert into slimtad.ledger_step
                select (flags & 4) / 4, 0, sum(delivered), sum(bounced), sum(expired), sum(removed), 0, sum(faults)
                from gone group by 1),
            who as (
                insert into slimtad.removed_step select by_name, sum(removed) from gone where removed > 0 group by 1)
            select id from said except select id from gone
            """,
        parameters: [
            .int4Array, .uuidArray, .int4Array, .int4Array, .int4Array, .int4Array, .textArray, .byteaArray,
        ])

    /// How many have left to go on in another storage: they were never accepted here.
    static let departed = PostgresStatement(
        name: "departed",
        sql: """
            with gone as (
                delete from slimtad.item i using unnest($1::int4[], $2::uuid[]) as s(bucket, id)
                where i.bucket = s.bucket and i.id = s.id
                returning i.flags, i.recipients),
            step as (
                insert into slimtad.ledger_step
                select (flags & 4) / 4, -sum(recipients), 0, 0, 0, 0, 0, 0 from gone group by 1)
            select count(*)::int8 from gone
            """,
        parameters: [.int4Array, .uuidArray])

    static let forgottenParts = PostgresStatement(
        name: "forgotten_parts", sql: "delete from slimtad.receipt_part where key = any($1)",
        parameters: [.byteaArray])
    static let forgotten = PostgresStatement(
        name: "forgotten", sql: "delete from slimtad.receipt where key = any($1)", parameters: [.byteaArray])

    /// A transaction of its own, behind the group's: whether what was committed before it has waited for a standby.
    static let standby = PostgresStatement(
        name: "standby",
        sql: """
            select current_setting('synchronous_standby_names') <> ''
                and current_setting('synchronous_commit') in ('on', 'remote_apply', 'remote_write')
            """,
        parameters: [])

    /// Which keys of receipts are there.
    static let known = PostgresStatement(
        name: "known",
        sql: """
            select key from slimtad.receipt where key = any($1) and (expires is null
                or expires > (select (extract(epoch from clock_timestamp()) * 1000)::int8))
            """,
        parameters: [.byteaArray])

    /// Which of these envelopes have vanished.
    static let vanished = PostgresStatement(
        name: "vanished",
        sql: """
            select x.id from unnest($1::int4[], $2::uuid[]) as x(bucket, id)
            where not exists (select 1 from slimtad.item i where i.bucket = x.bucket and i.id = x.id)
            """,
        parameters: [.int4Array, .uuidArray])

    /// Buckets go to who wants them, or to nobody: run by the line, behind all that it has recorded of them.
    static let handedOver = PostgresStatement(
        name: "handed_over",
        sql: """
            update slimtad.bucket b set owner = (select name from slimtad.node where name = b.wanted and not is_gone),
                wanted = null
            where number = any($1) and owner = $2
            """,
        parameters: [.int4Array, .text])

    /// What is prepared at once, where a connection begins.
    static let all =
        [
            fenced, clearedParts, receipts, receiptParts, trimmedReceipts, accepted, acceptedAgain, named, states,
            ended, departed, forgottenParts, forgotten, standby, known, vanished, handedOver,
        ] + contents + contentsAgain
}

/// What is said of a group that nobody knows of whether it came through.
enum DoubtStatements {
    /// Counts the line's own fence up, which waits for a backend that may still have it and stops one that has not begun. The
    /// new number.
    static let fence = PostgresStatement(
        name: "doubt_fence",
        sql: """
            update slimtad.fence set incarnation = incarnation + 1 where node = $1 and line = $2 returning incarnation
            """,
        parameters: [.text, .int4])
    /// Behind it in the same transaction: divides by zero if the node was declared dead. Its row is not held: whoever declares it
    /// dead from now on counts the fence up once more.
    static let alive = PostgresStatement(
        name: "doubt_alive",
        sql: """
            select 1 / count(*)::int4 from slimtad.node where name = $1 and incarnation = $2 and not is_gone
            """,
        parameters: [.text, .int8])

    /// Takes new mail out again whose client was told to come back with it, and its names. What had come through: not what
    /// another node, whose it was, has ended by now.
    static let takenBack = PostgresStatement(
        name: "taken_back",
        sql: """
            with said as materialized (select * from unnest($1::int4[], $2::uuid[]) as x(bucket, id)),
            gone as (
                delete from slimtad.item i using said s where i.bucket = s.bucket and i.id = s.id
                returning i.id, i.flags, i.recipients),
            unnamed as (delete from slimtad.inbox x using said s where x.bucket = s.bucket and x.id = s.id),
            step as (
                insert into slimtad.ledger_step
                select (flags & 4) / 4, -sum(recipients), 0, 0, 0, 0, 0, 0 from gone group by 1)
            select id from gone
            """,
        parameters: [.int4Array, .uuidArray])

    static let receiptParts = PostgresStatement(
        name: "doubt_parts",
        sql: """
            delete from slimtad.receipt_part p using slimtad.receipt r, unnest($1::bytea[], $2::uuid[]) as x(key, id)
            where r.key = x.key and r.id = x.id and p.key = r.key
            """,
        parameters: [.byteaArray, .uuidArray])

    /// By key and by what the client would have been told: the client may have come back to another node meanwhile.
    static let receipts = PostgresStatement(
        name: "doubt_receipts",
        sql: """
            delete from slimtad.receipt r using unnest($1::bytea[], $2::uuid[]) as x(key, id)
            where r.key = x.key and r.id = x.id
            """,
        parameters: [.byteaArray, .uuidArray])
}
