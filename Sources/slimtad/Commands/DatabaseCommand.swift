// `slimtad database init|upgrade|status`: the tables of a queue in PostgreSQL. Nodes never make or change them.

import ArgumentParser
import SlimtaCluster
import SlimtaConfiguration
import SlimtaMail
import SlimtaNet
import SlimtaSystem

struct DatabaseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "database",
        abstract: "Make the tables of a queue in PostgreSQL, bring them up to date, look at them.",
        discussion: """
            The database is that of [[queue.postgresql]]. Started as root the command connects as the service's user. \
            Exit status 69: the server cannot be reached, or libpq is missing; 75: it is not known whether something was \
            done, or others were in the way: do it again; 77: the role may not; 78: these are not tables that this \
            slimtad can work with.
            """,
        subcommands: [Init.self, Upgrade.self, Status.self], defaultSubcommand: Status.self)

    struct Init: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "init", abstract: "Make the tables.",
            discussion: """
                All of them or none; tables that are there already are left as they are. The role needs the right CREATE \
                on its database, or a schema "slimtad" of its own.
                """)

        @OptionGroup var config: ConfigurationOption

        @Option(help: "In how many parts nodes share the queue, from 1 to 4096; it stays so.")
        var buckets = ClusterDatabase.defaultBuckets

        func validate() throws {
            guard ClusterDatabase.allowedBuckets.contains(buckets) else {
                throw ValidationError("--buckets takes a number from 1 to \(ClusterDatabase.allowedBuckets.upperBound)")
            }
        }

        func run() {
            orExit { () throws(Failure) in
                let place = try DatabasePlace(config.path)
                try place.open { (database) throws(ClusterDatabaseError) in
                    let (isNew, form) = try database.initialise(buckets: buckets)
                    let words = "version \(form.version), \(counted(form.buckets, "bucket"))"
                    print(isNew ? "the tables were made: \(words)" : "the tables are there already: \(words)")
                    for warning in place.warnings(of: try database.server()) { say("warning: \(warning)") }
                }
            }
        }
    }

    struct Upgrade: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "upgrade", abstract: "Bring the tables up to date, while nodes go on working.",
            discussion: """
                Before the first node of a new release: nodes of the old one work with the new tables. A step that others \
                are in the way of for two seconds is not done: do it again.
                """)

        @OptionGroup var config: ConfigurationOption

        func run() {
            orExit { () throws(Failure) in
                try DatabasePlace(config.path).open { (database) throws(ClusterDatabaseError) in
                    let (before, form) = try database.upgrade()
                    print(
                        before == form.version
                            ? "nothing to do: the tables have version \(before)"
                            : "the tables had version \(before), and have version \(form.version)")
                }
            }
        }
    }

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status", abstract: "Show tables, nodes and server.",
            discussion: """
                "heard" is when a node told of itself last, by the server's clock.
                """)

        @OptionGroup var config: ConfigurationOption

        @Flag(help: "Print a JSON object.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                let place = try DatabasePlace(config.path)
                try place.open { (database) throws(ClusterDatabaseError) in
                    let status = try database.status()
                    let warnings = status.server.obstacles + place.warnings(of: status.server)
                    if json { print(JSON.database(status, warnings).line) } else { Self.tell(status, warnings) }
                    if let refusal = status.form.refusal { throw refusal }
                }
            }
        }

        private static func tell(_ status: DatabaseStatus, _ warnings: [String]) {
            for warning in warnings { StatusCommand.line("warning", warning) }
            let form = status.form
            StatusCommand.line("tables", "version \(form.version), for releases that know version \(form.oldest)")
            StatusCommand.line("since", Timestamp(milliseconds: form.since).isoDate)
            StatusCommand.line("server", "PostgreSQL \(status.server.version), as \(status.server.role)")
            StatusCommand.line("buckets", "\(form.buckets), \(status.freeBuckets) of them nobody's")
            StatusCommand.line(
                "size",
                "\(octets(status.items)) of envelopes, \(octets(status.contents)) of contents, \(octets(status.database)) of "
                    + "the whole database")
            for node in status.nodes {
                StatusCommand.line(
                    "node",
                    "\(node.name): \(node.state), \(node.roles.names.joined(separator: " and ")), heard "
                        + "\(age(node.heard / 1000)) ago, begun \(age(node.begun / 1000)) ago, "
                        + "\(counted(node.buckets, "bucket")), \(counted(node.queued, "message")), \(node.version)")
            }
        }
    }
}

/// Where the configuration says that the database is, and how to get there.
struct DatabasePlace {
    private let settings: PostgreSQLSettings
    private let options: PostgresOptions

    /// Reads the configuration and the password, as who calls; then becomes the service's user, whom the server may know by
    /// its socket.
    init(_ path: String) throws(Failure) {
        let file = try ConfigurationFile.parse(path)
        guard case .postgresql(let settings) = file.values.queue.placement else {
            throw Failure(
                .configuration,
                "\(path): the queue is in no database: storage = \"postgresql\" in [queue] puts it into one")
        }
        self.settings = settings
        options = try StorageMaker.database(settings, file, for: "slimtad database")
        do throws(SystemError) {
            if Privileges.isRoot {
                let daemon = file.values.daemon
                try Privileges.drop(to: try Privileges.lookUp(user: daemon.user, group: daemon.group))
            }
        } catch {
            throw Failure(error)
        }
        PostgresLibrary.forgetEnvironment()
    }

    /// Connects; what is refused is how the command ends.
    func open(_ body: (ClusterDatabase) throws(ClusterDatabaseError) -> Void) throws(Failure) {
        do throws(ClusterDatabaseError) { try body(try ClusterDatabase(options)) } catch {
            throw Failure(database: error)
        }
    }

    func warnings(of server: ServerFacts) -> [String] {
        server.warnings(needsStandby: settings.synchronous == .required)
    }
}

extension Failure {
    /// How a command ends that a database, or the way to it, keeps from going on.
    init(database error: ClusterDatabaseError) {
        let (status, hint): (ExitStatus, String) =
            switch error {
            case .server(.unavailable): (.unavailable, "; apt install libpq5")
            case .server(.unreachable): (.unavailable, "")
            case .server(.refused("42501", _, _)): (.notPermitted, "; nothing was changed")
            case .server(.refused("55P03", _, _)): (.temporary, "; nothing was changed by that: do it again")
            case .server(.refused): (.unavailable, "; nothing was changed by that")
            case .server(.doubtful), .server(.warned): (.temporary, "; do it again: what is done is left as it is")
            case .noTables, .older, .newer, .unfit: (.configuration, "")
            }
        self.init(status, "database: \(error)\(hint)")
    }
}

extension DatabaseStatus.Node {
    fileprivate var state: String { isGone ? "gone" : isDraining ? "leaving" : "works" }
}

extension NodeRoles {
    fileprivate var names: [String] {
        if isEmpty { return ["carries mail"] }
        return (contains(.edge) ? ["edge"] : []) + (contains(.relay) ? ["relay"] : [])
    }
}

extension JSON {
    fileprivate static func database(_ status: DatabaseStatus, _ warnings: [String]) -> JSON {
        let form = status.form
        return .object([
            .init("version", .count(form.version)), .init("oldest", .count(form.oldest)),
            .init("since", .string(Timestamp(milliseconds: form.since).isoDate)),
            .init("server_version", .string(status.server.version)), .init("role", .string(status.server.role)),
            .init("buckets", .count(form.buckets)), .init("free_buckets", .count(status.freeBuckets)),
            .init("item_octets", .count(status.items)), .init("content_octets", .count(status.contents)),
            .init("database_octets", .count(status.database)),
            .init("nodes", .array(status.nodes.map(Self.node))),
            .init("warnings", .array(warnings.map { .string($0) })),
        ])
    }

    private static func node(_ node: DatabaseStatus.Node) -> JSON {
        .object([
            .init("name", .string(node.name)), .init("state", .string(node.state)),
            .init("roles", .array(node.roles.names.map { .string($0) })), .init("egress", .string(node.egress)),
            .init("version", .string(node.version)), .init("incarnation", .count(node.incarnation)),
            .init("heard_seconds", .count(node.heard / 1000)), .init("begun_seconds", .count(node.begun / 1000)),
            .init("buckets", .count(node.buckets)), .init("queued", .count(node.queued)),
        ])
    }
}
