// What is said to the database while a queue is carried into it or out of it: see QueueMove. What is just being carried is in
// buckets below zero, where no node looks for it: on its way in until the other side has let go of it, on its way out from
// before the other side has it.

/// The statements of a move. `$1` of most is the carrier's base: an item of bucket b is in bucket base - b while it is carried.
enum MoveStatements {
    /// The number of a node that carries: its own, for good.
    static let number = PostgresStatement(
        name: "move_number",
        sql: """
            with known as materialized (select number from slimtad.move where node = $1),
            new as (
                insert into slimtad.move (number, node)
                select coalesce((select max(number) from slimtad.move), 0) + 1, $1 where not exists (select 1 from known)
                on conflict do nothing returning number)
            select number from known union all select number from new
            """,
        parameters: [.text])

    /// The base of a number: buckets base - 65535 to base are its.
    static func base(_ number: Int32) -> Int32 { -(number << 16) - 1 }
    /// Numbers beyond it have no base.
    static let numbers: ClosedRange<Int32> = 1...32766

    // MARK: Into the database

    /// New items with all that they have been through, still to be carried. How many were new.
    static let carriedIn = PostgresStatement(
        name: "carried_in",
        sql: """
            with new as (
                insert into slimtad.item (bucket, id, message, part, octets, rest, rest_octets, rest_crc, received, due, tried,
                    attempts, flags, destination, pending, recipients, delivered, bounced, expired, removed, envelope, state)
                select $1 - x.bucket, x.id, x.message, x.part, x.octets, x.rest, x.rest_octets, x.rest_crc, x.received, x.due,
                    x.tried, x.attempts,
                    x.flags | (case when exists (select 1 from slimtad.receipt_part p where p.id = x.id) then 8 else 0 end),
                    x.destination, x.pending, x.recipients, x.delivered, x.bounced, x.expired, x.removed, x.envelope, x.state
                from unnest($2::int4[], $3::uuid[], $4::uuid[], $5::int4[], $6::int8[], $7::uuid[], $8::int8[], $9::int8[],
                    $10::int8[], $11::int8[], $12::int8[], $13::int4[], $14::int4[], $15::text[], $16::int4[], $17::int4[],
                    $18::int4[], $19::int4[], $20::int4[], $21::int4[], $22::bytea[], $23::bytea[])
                    as x(bucket, id, message, part, octets, rest, rest_octets, rest_crc, received, due, tried, attempts, flags,
                        destination, pending, recipients, delivered, bounced, expired, removed, envelope, state)
                where not exists (select 1 from slimtad.item i where i.bucket = x.bucket and i.id = x.id)
                on conflict (bucket, id) do nothing
                returning flags, recipients),
            step as (
                insert into slimtad.ledger_step
                select (flags & 4) / 4, sum(recipients), 0, 0, 0, 0, 0, 0 from new group by 1)
            select count(*)::int8 from new
            """,
        parameters: [
            .int4, .int4Array, .uuidArray, .uuidArray, .int4Array, .int8Array, .uuidArray, .int8Array, .int8Array,
            .int8Array, .int8Array, .int8Array, .int4Array, .int4Array, .textArray, .int4Array, .int4Array, .int4Array,
            .int4Array, .int4Array, .int4Array, .byteaArray, .byteaArray,
        ])

    /// What is no longer carried is where nodes look for it, and is told to who owns the bucket. Given are the buckets that are
    /// below zero.
    static let setDown = PostgresStatement(
        name: "set_down",
        sql: """
            with down as (
                update slimtad.item i set bucket = $1 - x.bucket from unnest($2::int4[], $3::uuid[]) as x(bucket, id)
                where i.bucket = x.bucket and i.id = x.id returning i.bucket, i.id),
            told as (insert into slimtad.inbox (bucket, id) select bucket, id from down on conflict do nothing)
            select count(*)::int8 from down
            """,
        parameters: [.int4, .int4Array, .uuidArray])

    /// A piece of a large message.
    static let piece = (0..<ContentTable.count).map { part in
        PostgresStatement(
            name: "move_piece_\(part)",
            sql: """
                insert into \(ContentTable.name(part)) (id, chunk, octets) values ($1, $2, $3)
                on conflict (id, chunk) do update set octets = excluded.octets
                """,
            parameters: [.uuid, .int4, .bytea])
    }

    /// Receipts whose keys are not there.
    static let receiptsIn = PostgresStatement(
        name: "move_receipts_in",
        sql: """
            with new as (
                insert into slimtad.receipt (key, owner, id, expires, octets, record)
                select * from unnest($1::bytea[], $2::bytea[], $3::uuid[], $4::int8[], $5::int4[], $6::bytea[])
                on conflict (key) do nothing returning key),
            parts as (
                insert into slimtad.receipt_part (id, key)
                select x.id, x.key from unnest($7::uuid[], $8::bytea[]) as x(id, key) join new on new.key = x.key
                on conflict (id) do update set key = excluded.key)
            select count(*)::int8 from new
            """,
        parameters: [
            .byteaArray, .byteaArray, .uuidArray, .int8Array, .int4Array, .byteaArray, .uuidArray, .byteaArray,
        ])

    // MARK: Out of the database

    /// Nodes that work, or may: name, whether it was silent for as long as a lease is, whether it is leaving, incarnation, how
    /// many buckets it has.
    static let others = PostgresStatement(
        name: "move_others",
        sql: """
            select name, beat < clock_timestamp() - $2 * interval '1 millisecond', is_draining, incarnation,
                (select count(*) from slimtad.bucket b where b.owner = n.name)
            from slimtad.node n where not is_gone and name <> $1 order by name
            """,
        parameters: [.text, .int8])

    /// All buckets that are nobody's who works. How many are not ours then.
    static let takeAll = PostgresStatement(
        name: "move_take_all",
        sql: """
            with me as materialized (
                select 1 from slimtad.node where name = $1 and incarnation = $2 and not is_gone for share),
            taken as (
                update slimtad.bucket b set owner = $1, wanted = null
                where exists (select 1 from me) and not exists (
                    select 1 from slimtad.node n where n.name = b.owner and n.name <> $1 and not n.is_gone)
                returning 1)
            select (select count(*) from slimtad.bucket) - (select count(*) from taken)
            """,
        parameters: [.text, .int8])

    /// Takes up what is behind a place: bucket and id of the last one; no row: there is no more.
    static let takeUp = PostgresStatement(
        name: "take_up",
        sql: """
            with few as materialized (
                select bucket, id from slimtad.item where bucket >= 0 and (bucket, id) > ($2, $3)
                order by bucket, id limit $4 for update),
            up as (
                update slimtad.item i set bucket = $1 - i.bucket from few where i.bucket = few.bucket and i.id = few.id)
            select bucket, id from few order by bucket desc, id desc limit 1
            """,
        parameters: [.int4, .int4, .uuid, .int8])

    /// What is carried: behind a place, with all that it has.
    static let carried = PostgresStatement(
        name: "carried",
        sql: """
            select bucket, id, envelope, state, message, part, octets, rest, rest_octets, rest_crc
            from slimtad.item where bucket between $1 - 65535 and $1 and (bucket, id) > ($2, $3)
            order by bucket, id limit $4
            """,
        parameters: [.int4, .int4, .uuid, .int8])

    /// How much is in the queue, and how much is carried by this one.
    static let counts = PostgresStatement(
        name: "move_counts",
        sql: """
            select (select count(*) from slimtad.item where bucket >= 0),
                (select count(*) from slimtad.item where bucket between $1 - 65535 and $1)
            """,
        parameters: [.int4])

    /// The messages of several envelopes: chunk 0.
    static let heads = (0...ContentTable.long).map { part in
        PostgresStatement(
            name: "move_heads_\(part)",
            sql: "select id, octets from \(ContentTable.name(part)) where id = any($1) and chunk = 0",
            parameters: [.uuidArray])
    }

    /// Keys of receipts behind one, which have not expired.
    static let keys = PostgresStatement(
        name: "move_keys",
        sql: """
            select key, record from slimtad.receipt where key > $1 and (expires is null
                or expires > (select (extract(epoch from clock_timestamp()) * 1000)::int8))
            order by key limit $2
            """,
        parameters: [.bytea, .int8])

    /// How the envelopes of receipts ended.
    static let endings = PostgresStatement(
        name: "move_endings",
        sql: "select key, id, ended from slimtad.receipt_part where key = any($1) and ended is not null",
        parameters: [.byteaArray])
}
