// What the node's thread says to the database: who is there, whose the buckets are, what is in them.

/// The statements of joining, beating and leaving.
enum NodeStatements {
    /// Takes the name, and counts the fence of its line up, which waits for a transaction of its former life: what had the name
    /// before records nothing any more. A new node's number is above that of a forgotten one of the name, whose fence stays. Both numbers; no row: somebody works under the name. That may be this node itself ($8,
    /// its last incarnation), and at a start ($7) this machine, whose former process is not there any more.
    static let join = PostgresStatement(
        name: "join",
        sql: """
            with me as (
                insert into slimtad.node as n (name, incarnation, machine, roles, egress, version)
                select $1, coalesce((select max(incarnation) from slimtad.fence where node = $1), 0) + 1, $2, $3, $4, $5
                on conflict (name) do update set incarnation = n.incarnation + 1, machine = excluded.machine,
                    roles = excluded.roles, egress = excluded.egress, version = excluded.version,
                    begun = clock_timestamp(), beat = clock_timestamp(), is_gone = false
                where ($7 and n.machine = excluded.machine) or n.is_gone
                    or (n.machine = excluded.machine and n.incarnation = $8)
                    or n.beat < clock_timestamp() - $6 * interval '1 millisecond'
                returning name, incarnation),
            fenced as (
                insert into slimtad.fence as f (node, line, incarnation) select name, $9, 1 from me
                on conflict (node, line) do update set incarnation = f.incarnation + 1 returning incarnation)
            select me.incarnation, fenced.incarnation from me, fenced
            """,
        parameters: [.text, .text, .int4, .text, .text, .int8, .bool, .int8, .int4])

    /// Tells that the node lives; the database's time in milliseconds since 1970. No row: it was declared dead.
    static let beat = PostgresStatement(
        name: "beat",
        sql: """
            update slimtad.node set beat = clock_timestamp(), part = $3
            where name = $1 and incarnation = $2 and not is_gone
            returning (extract(epoch from clock_timestamp()) * 1000)::int8
            """,
        parameters: [.text, .int8, .int4])

    static let members = PostgresStatement(
        name: "members",
        sql: """
            select name, incarnation, roles, is_gone, is_draining,
                beat < clock_timestamp() - $1 * interval '1 millisecond', egress
            from slimtad.node
            """,
        parameters: [.int8])

    static let buckets = PostgresStatement(
        name: "buckets", sql: "select number, owner, wanted from slimtad.bucket order by number", parameters: [])

    /// How many envelopes and buckets each owner has, for who looks at nodes: reads all of the queue's index.
    static let shares = """
        (select b.owner, sum(coalesce(i.count, 0)) as queued, count(*) as buckets
        from slimtad.bucket as b
            left join (select bucket, count(*) from slimtad.item group by bucket) as i on i.bucket = b.number
        group by b.owner)
        """

    static let ring = PostgresStatement(name: "ring", sql: "select current from slimtad.ring", parameters: [])

    /// Declares a node dead that is as silent as it was when it was looked at. A row if it was not before.
    static let declareDead = PostgresStatement(
        name: "declare_dead",
        sql: """
            update slimtad.node set incarnation = incarnation + 1, is_gone = true
            where name = $1 and incarnation = $2 and not is_gone
                and beat < clock_timestamp() - $3 * interval '1 millisecond'
            returning 1
            """,
        parameters: [.text, .int8, .int8])
    /// In the same transaction: waits for what the dead node is just committing, and stops all that comes later.
    static let fenceOff = PostgresStatement(
        name: "fence_off",
        sql: """
            update slimtad.fence set incarnation = incarnation + 1 where node = $1
                and exists (select 1 from slimtad.node where name = $1 and incarnation = $2 + 1 and is_gone)
            """,
        parameters: [.text, .int8])
    /// In the same transaction: what it had is nobody's.
    static let setFree = PostgresStatement(
        name: "set_free",
        sql: """
            update slimtad.bucket set owner = case when owner = $1 then null else owner end,
                wanted = case when wanted = $1 then null else wanted end
            where (owner = $1 or wanted = $1)
                and exists (select 1 from slimtad.node where name = $1 and incarnation = $2 + 1 and is_gone)
            """,
        parameters: [.text, .int8])

    /// Sets buckets free whose owner is gone, and forgets that somebody wanted them who is.
    static let adopt = PostgresStatement(
        name: "adopt",
        sql: """
            update slimtad.bucket b set
                owner = (select name from slimtad.node where name = b.owner and not is_gone),
                wanted = (select name from slimtad.node where name = b.wanted and not is_gone)
            where number = any($1)
            """,
        parameters: [.int4Array])

    /// Takes free buckets, as long as the node lives.
    static let take = PostgresStatement(
        name: "take",
        sql: """
            with me as materialized (
                select 1 from slimtad.node where name = $1 and incarnation = $2 and not is_gone for share)
            update slimtad.bucket set owner = $1, wanted = null
            where number in (
                    select number from slimtad.bucket where owner is null and number <> all($4)
                    order by number limit $3 for update skip locked)
                and exists (select 1 from me)
            returning number
            """,
        parameters: [.text, .int8, .int4, .int4Array])

    static let ask = PostgresStatement(
        name: "ask",
        sql: """
            update slimtad.bucket set wanted = $1
            where number = any($2) and wanted is null and owner is not null and owner <> $1
            """,
        parameters: [.text, .int4Array])

    /// Leaves: nothing of it comes later any more, and the buckets are anybody's.
    static let fence = PostgresStatement(
        name: "leave_fence",
        sql: """
            update slimtad.fence set incarnation = incarnation + 1 where node = $1
                and exists (select 1 from slimtad.node where name = $1 and incarnation = $2 and not is_gone)
            """,
        parameters: [.text, .int8])
    static let leave = PostgresStatement(
        name: "leave",
        sql: """
            update slimtad.bucket set owner = case when owner = $1 then null else owner end,
                wanted = case when wanted = $1 then null else wanted end
            where (owner = $1 or wanted = $1)
                and exists (select 1 from slimtad.node where name = $1 and incarnation = $2 and not is_gone)
            """,
        parameters: [.text, .int8])
    static let gone = PostgresStatement(
        name: "gone",
        sql: "update slimtad.node set is_gone = true where name = $1 and incarnation = $2 and not is_gone",
        parameters: [.text, .int8])

    /// Of a node that delivers nothing any more: what it had in its former life is anybody's.
    static let setOwnFree = PostgresStatement(
        name: "set_own_free",
        sql: """
            update slimtad.bucket set owner = null, wanted = null
            where owner = $1
                and exists (select 1 from slimtad.node where name = $1 and incarnation = $2 and not is_gone)
            """,
        parameters: [.text, .int8])

    /// What is in buckets, from a place on: all that the scheduler needs. The envelope only where the destination is not that of
    /// its first recipient. Last, whether it is named in the inbox.
    static let summaries = PostgresStatement(
        name: "summaries",
        sql: """
            select id, received, due, tried, attempts, flags, destination, pending,
                case when pending > 0 then envelope end,
                exists (select 1 from slimtad.inbox x where x.bucket = i.bucket and x.id = i.id)
            from slimtad.item i where bucket = $1 and id > $2 order by id limit $3
            """,
        parameters: [.int4, .uuid, .int4])

    static let all = [
        join, beat, members, buckets, ring, declareDead, fenceOff, setFree, adopt, take, ask, fence, leave, gone,
        setOwnFree, summaries, InboxStatements.read, InboxStatements.forget,
    ]
}

/// What is said about names.
enum InboxStatements {
    /// What others have put into buckets: as `NodeStatements.summaries`, with nulls where the item has left the queue; last
    /// the bucket.
    static let read = PostgresStatement(
        name: "inbox",
        sql: """
            select x.id, i.received, i.due, i.tried, i.attempts, i.flags, i.destination, i.pending,
                case when i.pending > 0 then i.envelope end, x.bucket
            from slimtad.inbox x left join slimtad.item i on i.bucket = x.bucket and i.id = x.id
            where x.bucket = any($1) limit $2
            """,
        parameters: [.int4Array, .int4])

    /// As long as the node lives: its row is held until the names are gone. No row: it was declared dead, and they stay.
    static let forget = PostgresStatement(
        name: "inbox_forget",
        sql: """
            with me as materialized (
                select 1 from slimtad.node where name = $1 and incarnation = $2 and not is_gone for share),
            gone as (
                delete from slimtad.inbox x using unnest($3::int4[], $4::uuid[]) as told(bucket, id)
                where x.bucket = told.bucket and x.id = told.id and exists (select 1 from me))
            select 1 from me
            """,
        parameters: [.text, .int8, .int4Array, .uuidArray])
}
