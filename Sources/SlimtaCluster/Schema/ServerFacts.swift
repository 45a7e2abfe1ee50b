// What a server says of itself, and what of that loses acknowledged mail or hurts. Asked by ClusterDatabase and by nodes at
// their start; said by `slimtad check`, `slimtad database` and the log.

/// Settings of a server as a session of ours has them.
package struct ServerFacts: Hashable, Sendable {
    /// As people know it: "15.18 (Debian 15.18-0+deb12u1)".
    package var version: String
    /// As programs compare it: 150018.
    package var number: Int64
    /// Who we are there.
    package var role: String
    /// The database's encoding.
    package var encoding: String
    /// Whether it is a standby.
    package var isInRecovery: Bool
    /// `fsync`: whether the server waits for its disk.
    package var syncs: Bool
    /// `full_page_writes`: whether pages that a crash leaves half-written are mended.
    package var writesFullPages: Bool
    /// `synchronous_commit`: what a commit waits for.
    package var synchronousCommit: String
    /// `synchronous_standby_names`; empty: there are none.
    package var standbyNames: String
    /// `default_transaction_isolation`.
    package var isolation: String
    /// `statement_timeout` in milliseconds; 0: none.
    package var statementTimeout: Int64
    /// Whether it can compress by lz4.
    package var hasLZ4: Bool

    /// The oldest server that is supported.
    private static let oldest = (number: Int64(130_000), name: "13")

    /// Why no queue can be here, each a sentence that says what to do; none: it can.
    package var obstacles: [String] {
        var texts: [String] = []
        if number < Self.oldest.number {
            texts.append("PostgreSQL \(version) is too old: \(Self.oldest.name) or later is needed")
        }
        if encoding != "UTF8" {
            texts.append(
                "the database's encoding is \(encoding): it has to be made with encoding UTF8 (createdb -E UTF8 -T template0)"
            )
        }
        if isInRecovery {
            texts.append(
                "the server is a standby: connection has to name the one that can be written to, or all of them with "
                    + "target_session_attrs=read-write")
        }
        return texts
    }

    /// What loses acknowledged mail or hurts, each a sentence that says what to do.
    ///
    /// - Parameter needsStandby: whether nothing is acknowledged that no standby has.
    package func warnings(needsStandby: Bool) -> [String] {
        var texts: [String] = []
        if !syncs {
            texts.append(
                "fsync is off: acknowledged mail, and the whole database, is lost when the server's machine stops; set "
                    + "fsync = on in postgresql.conf")
        }
        if !writesFullPages {
            texts.append(
                "full_page_writes is off: a crash of the server's machine can damage the database; set full_page_writes = on "
                    + "in postgresql.conf")
        }
        if let text = commitWarning(needsStandby: needsStandby) { texts.append(text) }
        if needsStandby, !hasStandbyNames {
            texts.append(
                "synchronous_standby_names is empty: no mail is taken until it names standbys, or synchronous = "
                    + "\"optional\" in slimta.conf lets mail be lost with the server's disk")
        }
        if isolation != "read committed" {
            texts.append(
                "default_transaction_isolation is \(isolation): transactions fail that need not; "
                    + alterRole("default_transaction_isolation = 'read committed'"))
        }
        if statementTimeout > 0 {
            texts.append(
                "statement_timeout is \(statementTimeout) ms: what takes longer is cut off, such as reading a long queue; "
                    + alterRole("statement_timeout = 0"))
        }
        return texts
    }

    private var hasStandbyNames: Bool { !standbyNames.allSatisfy(\.isWhitespace) }

    private func commitWarning(needsStandby: Bool) -> String? {
        let cure = alterRole("synchronous_commit = on")
        return switch synchronousCommit {
        case "off":
            "synchronous_commit is off: mail that was acknowledged within the last second is lost when the server stops; "
                + cure
        case "local" where needsStandby || hasStandbyNames:
            "synchronous_commit is local: acknowledged mail that no standby has is lost at a failover; \(cure)"
        case "remote_write" where needsStandby:
            "synchronous_commit is remote_write: a standby has acknowledged mail in memory only; \(cure)"
        default: nil
        }
    }

    private func alterRole(_ setting: String) -> String { "alter role \"\(role)\" set \(setting)" }
}

extension ServerFacts {
    private static let statement = PostgresStatement(
        name: "server_facts",
        sql: """
            select current_setting('server_version'), current_setting('server_version_num')::int8, current_user::text,
                current_setting('server_encoding'), pg_catalog.pg_is_in_recovery(),
                current_setting('fsync')::bool, current_setting('full_page_writes')::bool,
                current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
                current_setting('default_transaction_isolation'),
                (select setting::int8 from pg_catalog.pg_settings where name = 'statement_timeout'),
                exists (select 1 from pg_catalog.pg_settings
                    where name = 'default_toast_compression' and 'lz4' = any (enumvals))
            """,
        parameters: [])

    /// Asks.
    init(_ connection: PostgresConnection, by deadline: Deadline) throws(PostgresError) {
        let rows = try connection.run(Self.statement, [], by: deadline)
        (version, number, role) = (rows.text(0, 0), rows.int(0, 1), rows.text(0, 2))
        (encoding, isInRecovery) = (rows.text(0, 3), rows.bool(0, 4))
        (syncs, writesFullPages) = (rows.bool(0, 5), rows.bool(0, 6))
        (synchronousCommit, standbyNames) = (rows.text(0, 7), rows.text(0, 8))
        (isolation, statementTimeout, hasLZ4) = (rows.text(0, 9), rows.int(0, 10), rows.bool(0, 11))
    }
}
