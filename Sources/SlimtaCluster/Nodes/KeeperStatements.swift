// What a keeper says to the database: see KeeperTurn. Names of content tables, numbers and limits are in the texts: a plan that
// is made without knowing them reads all that is queued.

/// The statements of housekeeping.
enum KeeperStatements {
    /// Whether it is this one's turn: nobody has been at it for some milliseconds, nor is just now.
    static let turn = PostgresStatement(
        name: "turn",
        sql: """
            with free as materialized (
                select 1 from slimtad.ring where kept < clock_timestamp() - $1 * interval '1 millisecond'
                for update skip locked)
            update slimtad.ring set kept = clock_timestamp() where exists (select 1 from free) returning 1
            """,
        parameters: [.int8])

    /// The first of each transaction that moves, sweeps or turns: another one waits until it is over, and sees all of it.
    static let lock = PostgresStatement(name: "lock_ring", sql: Self.lockText, parameters: [])
    private static let lockText = "update slimtad.ring set kept = clock_timestamp()"

    static let foldLedger = PostgresStatement(
        name: "fold_ledger",
        sql: """
            with gone as (delete from slimtad.ledger_step returning *),
            sums as (
                select kind, sum(accepted) accepted, sum(delivered) delivered, sum(bounced) bounced, sum(expired) expired,
                    sum(removed) removed, sum(lost) lost, sum(mismatched) mismatched from gone group by kind)
            update slimtad.ledger l set accepted = l.accepted + s.accepted, delivered = l.delivered + s.delivered,
                bounced = l.bounced + s.bounced, expired = l.expired + s.expired, removed = l.removed + s.removed,
                lost = l.lost + s.lost, mismatched = l.mismatched + s.mismatched
            from sums s where l.kind = s.kind
            """,
        parameters: [])

    static let foldRemovals = PostgresStatement(
        name: "fold_removals",
        sql: """
            with gone as (delete from slimtad.removed_step returning name, count)
            insert into slimtad.removed_step select name, sum(count) from gone group by name
            """,
        parameters: [])

    /// By the clock that all nodes have in common.
    static let expire = PostgresStatement(
        name: "expire",
        sql: """
            with gone as (
                delete from slimtad.receipt
                where expires <= (select (extract(epoch from clock_timestamp()) * 1000)::int8) returning key)
            delete from slimtad.receipt_part p using gone where p.key = gone.key
            """,
        parameters: [])

    /// Nodes that left or died long ago and own nothing. One of them that comes back all the same has no fence, and begins anew.
    static let forgetNodes = PostgresStatement(
        name: "forget_nodes",
        sql: """
            with gone as (
                delete from slimtad.node n where is_gone and beat < clock_timestamp() - interval '30 days'
                    and not exists (select 1 from slimtad.bucket b where b.owner = n.name or b.wanted = n.name)
                returning name)
            delete from slimtad.fence f using gone where f.node = gone.name
            """,
        parameters: [])

    /// What nodes have told that are not there any more. Nobody has counted it since they were found silent.
    static let forgetSites = PostgresStatement(
        name: "forget_sites",
        sql: """
            delete from slimtad.site s
            where not exists (select 1 from slimtad.node n where n.name = s.node and not n.is_gone)
            """,
        parameters: [])

    /// The age of the oldest transaction that holds vacuum up, in milliseconds.
    static let oldest = PostgresStatement(
        name: "oldest",
        sql: """
            select (extract(epoch from max(clock_timestamp() - xact_start)) * 1000)::int8 from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
            """,
        parameters: [])
}

// MARK: The ring

extension KeeperStatements {
    /// Which table is written; whether for long enough, or so much that there should be another one; whether for far too long,
    /// and for how many seconds.
    static let ring = PostgresStatement(
        name: "ring_state",
        sql: """
            select current, turned < clock_timestamp() - $1 * interval '1 millisecond'
                or pg_table_size(('slimtad.message_' || lpad(current::text, 2, '0'))::regclass) > $2,
                turned < clock_timestamp() - $3 * interval '1 millisecond',
                extract(epoch from clock_timestamp() - turned)::int8
            from slimtad.ring
            """,
        parameters: [.int8, .int8, .int8])

    /// The first table behind this one that may be written.
    static let free = PostgresStatement(
        name: "free_part",
        sql: """
            select number from slimtad.part where closed is null and number <> $1
            order by (number - $1 + \(ContentTable.count)) % \(ContentTable.count) limit 1
            """,
        parameters: [.int4])

    /// Whether anything is in a table.
    static let hasRows = (0..<ContentTable.count).map { part in
        PostgresStatement(
            name: "has_rows_\(part)", sql: "select exists (select 1 from \(ContentTable.name(part)))", parameters: [])
    }

    static let turnRing = PostgresStatement(
        name: "turn_ring",
        sql: """
            update slimtad.ring set current = $1, turned = clock_timestamp() where current = $2
                and exists (select 1 from slimtad.part where number = $1 and closed is null)
            """,
        parameters: [.int4, .int4])
    static let closePart = PostgresStatement(
        name: "close_part",
        sql: """
            update slimtad.part set closed = clock_timestamp() where number = $1
                and exists (select 1 from slimtad.ring where current = $2)
            """,
        parameters: [.int4, .int4])

    /// Tables that have been closed for so many milliseconds and that no node writes any more, as far as it has told.
    static let closedParts = PostgresStatement(
        name: "closed_parts",
        sql: """
            select number from slimtad.part p where closed < clock_timestamp() - $1 * interval '1 millisecond'
                and not exists (select 1 from slimtad.node n where n.part = p.number and not n.is_gone)
            order by closed
            """,
        parameters: [.int8])

    /// Empties a table, or divides by zero: what is looked at is looked at while nobody else can read or write it. Who reads
    /// it holds it for a moment; who makes us wait longer than that would make everybody wait.
    static func empty(_ part: Int, where condition: String) -> String {
        let table = ContentTable.name(part)
        return """
            set local lock_timeout = '1s';
            \(lockText);
            lock table \(table) in access exclusive mode;
            select 1 / (case when exists (select 1 from slimtad.part where number = \(part) and \(condition))
                and not exists (select 1 from slimtad.ring where current = \(part))
                and not exists (select 1 from slimtad.node where part = \(part) and not is_gone)
                and not exists (select 1 from slimtad.item where part = \(part)) then 1 else 0 end);
            truncate \(table);
            update slimtad.part set closed = null where number = \(part)
            """
    }
}

// MARK: What stays

extension KeeperStatements {
    private static let long = ContentTable.name(ContentTable.long)

    /// Copies contents of some envelopes of a table: so much at once that it does not take long, one at least. Which.
    static let copy = (0..<ContentTable.count).map { part in
        PostgresStatement(
            name: "copy_\(part)",
            sql: """
                with few as materialized (
                    select bucket, id, message, rest, octets from slimtad.item where part = \(part) limit 1000),
                chosen as materialized (
                    select bucket, id, message, rest from (
                        select *, sum(octets) over (rows unbounded preceding) - octets as before from few) s
                    where before < \(16 << 20)),
                copied as (
                    insert into \(long) (id, chunk, octets)
                    select m.id, m.chunk, m.octets
                    from (select message as id from chosen union select rest from chosen where rest is not null) needed
                    join \(ContentTable.name(part)) m on m.id = needed.id
                    on conflict (id, chunk) do nothing)
                select bucket, id from chosen
                """,
            parameters: [])
    }

    /// Of the envelopes that nobody is just changing, those of whose content nothing is left that is not copied: how many.
    static let place = (0..<ContentTable.count).map { part in
        PostgresStatement(
            name: "place_\(part)",
            sql: """
                with free as materialized (
                    select i.bucket, i.id, i.message, i.rest from unnest($1::int4[], $2::uuid[]) as x(bucket, id)
                    join slimtad.item i on i.bucket = x.bucket and i.id = x.id and i.part = \(part)
                    for update of i skip locked),
                moved as (
                    update slimtad.item i set part = \(ContentTable.long) from free f
                    where i.bucket = f.bucket and i.id = f.id and not exists (
                        select 1 from \(ContentTable.name(part)) m where m.id = any(array[f.message, f.rest])
                            and not exists (select 1 from \(long) l where l.id = m.id and l.chunk = m.chunk))
                    returning 1)
                select count(*)::int8 from moved
                """,
            parameters: [.int4Array, .uuidArray])
    }

    /// What follows in the transaction looks at whole tables.
    static let wholeTables = PostgresStatement(
        name: "whole_tables",
        sql: """
            select set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true),
                set_config('enable_mergejoin', 'on', true)
            """,
        parameters: [])

    /// Contents among those that stay which no envelope has any more.
    static let sweep = PostgresStatement(
        name: "sweep",
        sql: """
            with needed as materialized (
                select message as id from slimtad.item where part = \(ContentTable.long)
                union select rest from slimtad.item where part = \(ContentTable.long) and rest is not null),
            unneeded as materialized (select id from \(long) except select id from needed)
            delete from \(long) l using unneeded u where l.id = u.id
            """,
        parameters: [])
}
