// The tables of a queue in PostgreSQL, as the SQL that makes them, and the rows that have to be there before the first
// node comes. ClusterDatabase runs it; what the columns mean is said here, for whoever writes a statement against them.
//
// Portable SQL: no plpgsql, no partitions, no large objects. Each name carries the schema's: no search_path is trusted.
// A change of a table is a new step in SchemaStep.all, never a change of a text here alone.

/// What a database of ours has in it.
enum Schema {
    /// The version of the tables that this release makes and works with.
    static let version: Int32 = 1

    /// The buckets of a new database, where nobody says another number.
    static let buckets = 256

    /// How many buckets a database may have. An id has room for 65,536, but each beat of a node looks at the whole list.
    static let allowedBuckets = 1...4096

    /// All tables, for a schema that is there and empty.
    static func tables(withLZ4: Bool) -> String {
        let contents = (0...ContentTable.long).map { contentTable($0, withLZ4: withLZ4) }
        return ([itself, nodes, queue] + contents + [ring, receipts, ledger, words]).joined(separator: "\n")
    }

    /// What has to be in them.
    static func rows(buckets: Int) -> String {
        """
        insert into slimtad.bucket (number) select n from pg_catalog.generate_series(0, \(buckets - 1)) as n;
        insert into slimtad.ring (current, turned) values (0, pg_catalog.clock_timestamp());
        insert into slimtad.part (number) select n from pg_catalog.generate_series(0, \(ContentTable.count - 1)) as n;
        insert into slimtad.ledger (kind, accepted, delivered, bounced, expired, removed, lost, mismatched)
            values (0, 0, 0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0, 0);
        insert into slimtad.schema (version, oldest, buckets, since) values (\(version), \(version), \(buckets),
            (extract(epoch from pg_catalog.clock_timestamp()) * 1000)::int8);
        """
    }

    /// One row. `version`: of these tables. `oldest`: a release that knows only versions below it must not write. since:
    /// milliseconds since 1970.
    private static let itself = """
        create table slimtad.schema (version int4 not null, oldest int4 not null, buckets int4 not null, since int8 not null);
        """

    /// `node`: a row a node. `incarnation` is counted up by whoever takes the name (a start) or declares it dead.
    /// `machine`: which machine has it. roles: see NodeRoles. `part`: the content table that it writes, as it saw at its last
    /// beat. `fence`: a row a writer line of a node, who may record; each group locks it `for share`, and counting it up
    /// ends an incarnation of the line.
    private static let nodes = """
        create table slimtad.node (
            name text primary key, incarnation int8 not null, machine text not null, roles int4 not null,
            egress text not null, version text not null,
            begun timestamptz not null default clock_timestamp(), beat timestamptz not null default clock_timestamp(),
            is_gone bool not null default false, is_draining bool not null default false,
            part int4 not null default 0)
            with (fillfactor = 20);
        create table slimtad.fence (
            node text not null, line int4 not null, incarnation int8 not null, primary key (node, line))
            with (fillfactor = 20);
        """

    /// `bucket`: parts of the queue. owner null: nobody's. wanted: the node that asked its owner for it.
    /// `item`: a queued envelope. flags: see ItemFlags. message: whose content it is (chunk 0), of `octets` in all with the
    /// rest; rest, rest_octets and rest_crc: the spooled rest of a large one. part: in which content table. destination:
    /// the domain of the first recipient; pending: the index of the first one that is still to be delivered, or -1. state
    /// null: as accepted. No index by time: who owns a bucket has it in memory. The one by part is the keeper's: no state changes it,
    /// so updates stay within their page. `inbox`: what a node put into a bucket of another.
    /// `move`: the number of each node that has carried mail here or away: what it is just carrying is in buckets below zero, where
    /// no node looks for it (MoveStatements).
    private static let queue = """
        create table slimtad.bucket (number int4 primary key, owner text, wanted text) with (fillfactor = 50);
        create table slimtad.item (
            bucket int4 not null, id uuid not null, message uuid not null, part int4 not null, octets int8 not null,
            rest uuid, rest_octets int8, rest_crc int8,
            received int8 not null, due int8 not null, tried int8, attempts int4 not null, flags int4 not null,
            destination text not null, pending int4 not null default 0,
            recipients int4 not null, delivered int4 not null, bounced int4 not null, expired int4 not null,
            removed int4 not null,
            envelope bytea not null, state bytea,
            primary key (bucket, id))
            with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
        create index item_part on slimtad.item (part);
        create table slimtad.inbox (bucket int4 not null, id uuid not null, primary key (bucket, id))
            with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
        create table slimtad.move (number int4 primary key, node text not null unique);
        """

    private static func contentTable(_ number: Int, withLZ4: Bool) -> String {
        """
        create table \(ContentTable.name(number)) (
            id uuid not null, chunk int4 not null, octets bytea \(withLZ4 ? "compression lz4 " : "")not null,
            primary key (id, chunk));
        """
    }

    /// `ring`, one row: which content table is written, and since when; `kept`: when somebody has last seen to the house.
    /// `part`: when each of them was closed; null: it is empty, or being written.
    private static let ring = """
        create table slimtad.ring (
            current int4 not null, turned timestamptz not null, kept timestamptz not null default 'epoch');
        create table slimtad.part (number int4 primary key, closed timestamptz);
        """

    /// Receipts of submissions, and how the envelopes with one ended.
    private static let receipts = """
        create table slimtad.receipt (
            key bytea primary key, owner bytea not null, id uuid not null, expires int8, octets int4 not null,
            record bytea not null);
        create index receipt_id on slimtad.receipt (id);
        create index receipt_owner on slimtad.receipt (owner, expires);
        create table slimtad.receipt_part (id uuid primary key, key bytea not null, ended bytea);
        create index receipt_part_key on slimtad.receipt_part (key);
        """

    /// `ledger_step`: a row a group, folded into `ledger` (kind 0: what was submitted, 1: notices). `removed_step`: who
    /// removed how many. `loss`: mail that was found lost, until somebody acknowledges it.
    private static let ledger = """
        create table slimtad.ledger_step (
            kind int4 not null, accepted int8 not null, delivered int8 not null, bounced int8 not null,
            expired int8 not null, removed int8 not null, lost int8 not null, mismatched int8 not null);
        create table slimtad.ledger (
            kind int4 primary key, accepted int8 not null, delivered int8 not null, bounced int8 not null,
            expired int8 not null, removed int8 not null, lost int8 not null, mismatched int8 not null);
        create table slimtad.removed_step (name text not null, count int8 not null);
        create table slimtad.loss (id uuid primary key, text text not null);
        """

    /// `site`: what nodes with the same egress tell each other of destinations and sites: a row a node and subject, see
    /// SiteBook.Row. most: the limit; claim: what the node has of it or may take; flags: see SiteFlags; tried: milliseconds
    /// since 1970. `command`: what an operator wants of a node, asked on another one: of the node
    /// under that incarnation, and of no other. is_taken: it has read it, once; before that who has asked may delete it, and
    /// nothing was done. done null: it has not answered; failed, errors: which envelopes it was not done for, and why.
    private static let words = """
        create table slimtad.site (
            egress text not null, subject text not null, node text not null, most int4 not null, wanted int4 not null,
            claim int4 not null, flags int4 not null, tried int8, reason text, relay text,
            primary key (egress, subject, node))
            with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
        create table slimtad.command (
            id uuid primary key, node text not null, incarnation int8 not null, verb text not null, ids uuid[] not null,
            reason text, by_name text not null, asked timestamptz not null default clock_timestamp(),
            is_taken bool not null default false, done int8, failed uuid[], errors text[]);
        """
}

/// Where contents are: a ring of plain tables, truncated and never deleted from, and one for what stays.
package enum ContentTable {
    /// Tables of the ring: 0 to 23.
    package static let count = 24
    /// The one for what stays.
    package static let long = 24

    /// The table's name with its schema, as SQL has it.
    package static func name(_ number: Int) -> String {
        precondition((0...long).contains(number))
        if number == long { return "slimtad.message_long" }
        return number < 10 ? "slimtad.message_0\(number)" : "slimtad.message_\(number)"
    }
}
