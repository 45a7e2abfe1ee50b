// What every connection of the storage says to the server before anything else, whoever has it: how statements are planned,
// and nothing that a role or a database may have set otherwise.

import SlimtaMail

/// How our sessions are set up.
enum SessionSettings {
    /// Nearly all statements look up rows by primary keys. A plan that was made while a table was empty must do it by the index
    /// a million rows later too: so plans are generic, and what reads whole tables is not among them. Names are not looked
    /// up in schemas where others may put something. A commit that is answered is on the disk.
    ///
    /// A machine that is gone must not hold locks for hours: the server looks whether it is there. Nor does a statement wait for a
    /// lock, or run, when nobody waits for it any more.
    static func sql(patience: Duration) -> String {
        let milliseconds = max(1, patience.milliseconds)
        return """
            set search_path = pg_catalog;
            set client_encoding = 'UTF8';
            set synchronous_commit = on;
            set default_transaction_isolation = 'read committed';
            set plan_cache_mode = force_generic_plan;
            set jit = off;
            set enable_seqscan = off;
            set enable_hashjoin = off;
            set enable_mergejoin = off;
            set lock_timeout = \(milliseconds);
            select set_config(name, value, false) from pg_settings join (values ('tcp_keepalives_idle', '5'),
                ('tcp_keepalives_interval', '2'), ('tcp_keepalives_count', '3'), ('tcp_user_timeout', '15000'),
                ('client_connection_check_interval', '5000')) as wanted(name, value) using (name)
            """
    }

    /// One snapshot for all that follows, in which a table may be read from end to end.
    static let beginScan = """
        begin isolation level repeatable read read only;
        set local enable_seqscan = on
        """

    /// From here on rows are looked up again.
    static let endScan = "set local enable_seqscan = off"
}
