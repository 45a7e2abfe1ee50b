// The database as its operator sees it: makes the tables, brings them up to date, tells of them. Called by `slimtad database`
// and `slimtad check`, which are processes of their own: it blocks. Nodes only ask `check` at their start.

/// Why a database is none that a node can work with, or that was made or changed.
package enum ClusterDatabaseError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The server, or the way to it.
    case server(PostgresError)
    /// Nobody has made the tables.
    case noTables
    /// An older release has made them.
    case older(version: Int32)
    /// A newer release has changed them so that this one must not write.
    case newer(version: Int32, oldest: Int32)
    /// No queue can be on this server.
    case unfit([String])

    /// What is wrong, and what to do.
    package var description: String {
        switch self {
        case .server(let error): "\(error)"
        case .noTables: "the database has no tables of slimtad: slimtad database init makes them"
        case .older(let version):
            "the database has version \(version) of the tables, and version \(Schema.version) is needed: slimtad database "
                + "upgrade"
        case .newer(let version, let oldest):
            "the database has version \(version) of the tables, and only releases that know version \(oldest) may use it: "
                + "this one knows version \(Schema.version)"
        case .unfit(let obstacles): obstacles.joined(separator: "; ")
        }
    }
}

/// Which tables a database has, as its one row of `slimtad.schema` says.
package struct DatabaseForm: Hashable, Sendable {
    /// Of the tables.
    package var version: Int32
    /// Releases that know only versions below it must not write.
    package var oldest: Int32
    /// How many buckets there are.
    package var buckets: Int
    /// When it was made: milliseconds since 1970.
    package var since: Int64

    /// Why this release cannot work with it; nil: it can. Newer tables do no harm unless they say so.
    package var refusal: ClusterDatabaseError? { refusal(knowing: Schema.version) }

    /// Why a release cannot that knows such tables.
    func refusal(knowing known: Int32) -> ClusterDatabaseError? {
        if version < known { return .older(version: version) }
        return oldest > known ? .newer(version: version, oldest: oldest) : nil
    }
}

/// A database, for as long as an operator's command lasts.
package final class ClusterDatabase {
    let connection: PostgresConnection
    private let patience: Duration

    /// Connects.
    ///
    /// - Parameter patience: how long each question may take.
    package init(
        _ options: PostgresOptions, patience: Duration = .seconds(60)
    ) throws(ClusterDatabaseError) {
        do throws(PostgresError) {
            connection = try PostgresConnection(options, by: .after(.seconds(15)))
        } catch {
            throw .server(error)
        }
        self.patience = patience
    }

    // MARK: for nodes too

    /// What a node asks at its start: are there the tables that it needs?
    static func check(
        _ connection: PostgresConnection, by deadline: Deadline
    ) throws(ClusterDatabaseError) -> DatabaseForm {
        guard let form = try form(connection, by: deadline) else { throw .noTables }
        if let refusal = form.refusal { throw refusal }
        return form
    }

    private static let formStatement = PostgresStatement(
        name: "schema", sql: "select version, oldest, buckets, since from slimtad.schema", parameters: [])

    private static func form(
        _ connection: PostgresConnection, by deadline: Deadline
    ) throws(ClusterDatabaseError) -> DatabaseForm? {
        do throws(PostgresError) {
            let rows = try connection.run(formStatement, [], by: deadline)
            guard rows.count > 0 else { return nil }
            return DatabaseForm(
                version: Int32(truncatingIfNeeded: rows.int(0, 0)), oldest: Int32(truncatingIfNeeded: rows.int(0, 1)),
                buckets: Int(rows.int(0, 2)), since: rows.int(0, 3))
        } catch {
            // There is no such table, or not even the schema.
            if case .refused("42P01", _, _) = error { return nil }
            throw .server(error)
        }
    }

    // MARK: for operators

    /// As ``check(_:by:)``.
    package func check() throws(ClusterDatabaseError) -> DatabaseForm {
        try Self.check(connection, by: .after(patience))
    }

    /// Which tables there are; nil: none.
    package func form() throws(ClusterDatabaseError) -> DatabaseForm? {
        try Self.form(connection, by: .after(patience))
    }

    /// What the server says of itself.
    package func server() throws(ClusterDatabaseError) -> ServerFacts {
        do throws(PostgresError) { return try ServerFacts(connection, by: .after(patience)) } catch {
            throw .server(error)
        }
    }

    /// Makes the tables, all of them or none. False, with what is there: they are there already, and nothing was changed.
    ///
    /// - Parameter buckets: in how many parts nodes share the queue; it stays so.
    package func initialise(
        buckets: Int = ClusterDatabase.defaultBuckets
    ) throws(ClusterDatabaseError) -> (isNew: Bool, form: DatabaseForm) {
        precondition(Self.allowedBuckets.contains(buckets))
        if let form = try form() { return (false, form) }
        let server = try server()
        guard server.obstacles.isEmpty else { throw .unfit(server.obstacles) }
        do throws(PostgresError) {
            // Who may only make tables in it has got the schema from an administrator.
            let hasSchema = try connection.run(Self.schemaStatement, [], by: .after(patience)).bool(0, 0)
            try connection.execute(
                (hasSchema ? "" : "create schema slimtad;\n") + Schema.tables(withLZ4: server.hasLZ4) + "\n"
                    + Schema.rows(buckets: buckets), by: .after(patience))
        } catch {
            // Somebody else may have been faster by as much as a commit.
            if case .refused = error, let form = try form() { return (false, form) }
            throw .server(error)
        }
        guard let form = try form() else { throw .noTables }
        return (true, form)
    }

    /// The buckets that ``initialise(buckets:)`` makes by default, and how many it can make.
    package static let defaultBuckets = Schema.buckets
    /// See ``defaultBuckets``.
    package static let allowedBuckets = Schema.allowedBuckets

    private static let schemaStatement = PostgresStatement(
        name: "has_schema", sql: "select exists (select 1 from pg_catalog.pg_namespace where nspname = 'slimtad')",
        parameters: [])

    /// Brings the tables up to date, step by step; the versions before and behind. What was done stays done if a later step
    /// is refused. Nodes go on working meanwhile. Newer tables stay as they are.
    package func upgrade() throws(ClusterDatabaseError) -> (from: Int32, form: DatabaseForm) {
        try upgrade(by: SchemaStep.all)
    }

    /// With steps of tests.
    func upgrade(by steps: [SchemaStep]) throws(ClusterDatabaseError) -> (from: Int32, form: DatabaseForm) {
        guard let first = try form() else { throw .noTables }
        var current = first
        while let step = steps.first(where: { $0.version == current.version + 1 }) {
            do throws(PostgresError) { try connection.execute(step.transaction, by: .after(patience)) } catch {
                // Somebody else has done it: what is left is seen from there.
                guard case .refused(Self.divisionByZero, _, _) = error else { throw .server(error) }
            }
            let before = current.version
            guard let form = try form(), form.version > before else { throw .older(version: before) }
            current = form
        }
        return (first.version, current)
    }

    private static let divisionByZero = "22012"
}
