// Real PostgreSQL servers for tests: Debian's, in a temporary folder, without rights. Most tests share one, in which each has a
// database of its own.

package import Foundation
import Glibc
import Synchronization

/// A server on a port of 127.0.0.1 and a UNIX socket, from `init` to `stop`, or to the end of this process.
///
/// Its superuser is "postgres", who needs no password; the role "with_password", which a test may make, needs its own.
package final class PostgresServer: Sendable {
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    /// Whether there is one, for `.enabled(if:)`.
    package static let isThere = program("initdb") != nil && program("psql") != nil
    /// What a test says that is skipped without.
    package static let missing = "PostgreSQL's server is not there: .ci/deps test unpacks it"

    private static let one = Result { try PostgresServer() }
    /// The one that tests share; it is started by whoever is first.
    package static func shared() throws -> PostgresServer { try one.get() }

    package let port: Int
    /// Where its socket, its data and its log are.
    package let folder: URL
    private let process: ChildProcess
    private let lifeline = Pipe()
    private let databases = Mutex(0)

    /// Starts a server with `settings` beside those of tests, which make it forget what the power takes, and `files` in the
    /// folder of its data, which nobody else may read.
    package init(settings: [String: String] = [:], files: [String: [UInt8]] = [:]) throws {
        guard let initdb = Self.program("initdb"), let postgres = Self.program("postgres") else {
            throw Failure(description: Self.missing)
        }
        port = try NameServer.freePort()
        // Short: the path of a socket has 107 octets at most.
        let name = "pg-\(getpid())-\(port)"
        folder = FileManager.default.temporaryDirectory.appending(path: name)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        let account = Self.account
        if let account { chown(folder.path, account.user, account.group) }
        let data = folder.appending(path: "data").path
        let made = try Self.run(
            initdb, ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"])
        guard made.status == 0 else { throw Failure(description: "initdb: \(made.output)") }
        try Self.write(settings, port: port, folder: folder)
        for (name, octets) in files {
            let path = URL(filePath: data).appending(path: name)
            try Data(octets).write(to: path)
            chmod(path.path, 0o600)
            if let account { chown(path.path, account.user, account.group) }
        }

        // It ends when the pipe does: with `stop`, and also if the tests crash. One that a test has stopped goes on for that.
        let script = """
            trap '' INT; "$@" >"$0"/log 2>&1 & cat >/dev/null; kill -QUIT $!; kill -CONT $!; wait; rm -r "$0"
            """
        let command = Self.unprivileged([postgres, "-D", data])
        process = try ChildProcess(
            "/bin/sh", ["-c", script, folder.path] + command, environment: Self.environment, input: .pipe(lifeline))
        for _ in 0..<2_000 {
            if isReady { return }
            usleep(10_000)
        }
        let text = log
        stop()
        throw Failure(description: "PostgreSQL does not start: \(text)")
    }

    private static func write(_ settings: [String: String], port: Int, folder: URL) throws {
        let own = [
            "listen_addresses": "127.0.0.1", "port": "\(port)", "unix_socket_directories": folder.path,
            "jit": "off", "fsync": "off", "max_connections": "200", "timezone": "UTC", "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%a ",
        ]
        let lines = own.merging(settings) { $1 }.sorted { $0.key < $1.key }.map { "\($0) = '\($1)'\n" }
        let data = folder.appending(path: "data")
        try append(lines.joined(), to: data.appending(path: "postgresql.conf"))
        let access = """
            local all all trust
            host all with_password 127.0.0.1/32 scram-sha-256
            host all all 127.0.0.1/32 trust
            local replication all trust
            host replication all 127.0.0.1/32 trust

            """
        // Over what is there: the file stays its owner's.
        let file = try FileHandle(forWritingTo: data.appending(path: "pg_hba.conf"))
        try file.truncate(atOffset: 0)
        try file.write(contentsOf: Data(access.utf8))
        try file.close()
    }

    private static func append(_ text: String, to path: URL) throws {
        let file = try FileHandle(forWritingTo: path)
        try file.seekToEnd()
        try file.write(contentsOf: Data(text.utf8))
        try file.close()
    }

    deinit { stop() }

    private var isReady: Bool {
        let status = try? String(contentsOf: folder.appending(path: "data/postmaster.pid"), encoding: .utf8)
        return status?.split(separator: "\n").last?.hasPrefix("ready") ?? false
    }

    /// What it has written.
    package var log: String {
        (try? String(contentsOf: folder.appending(path: "log"), encoding: .utf8)) ?? "no log"
    }

    /// Ends the server as a crash would, and takes away what it has; nothing of it runs any more when this returns.
    package func stop() {
        try? lifeline.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    // MARK: What tests do with it

    /// libpq's words for a database; `port` is another one if there is something in between.
    package func connection(to database: String, user: String = "postgres", port: Int? = nil) -> String {
        "host=127.0.0.1 port=\(port ?? self.port) dbname=\(database) user=\(user)"
    }

    /// A new database; its name.
    package func createDatabase() throws -> String {
        let number = databases.withLock { count in
            count += 1
            return count
        }
        let name = "test\(number)"
        try sql("create database \(name) template template0")
        return name
    }

    /// What psql prints of one or several statements: a line for each row, with | between columns.
    @discardableResult
    package func sql(_ text: String, in database: String = "postgres") throws -> String {
        guard let psql = Self.program("psql") else { throw Failure(description: Self.missing) }
        let result = try Self.run(
            psql,
            [
                "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", folder.path, "-p", "\(port)", "-U", "postgres",
                "-d", database, "-c", text,
            ])
        guard result.status == 0 else { throw Failure(description: "psql: \(text): \(result.output)") }
        return result.output.trimmingCharacters(in: .newlines)
    }

    // MARK: Programs

    /// A program of the newest PostgreSQL of the machine, or of what is unpacked; nil: it is not there.
    package static func program(_ name: String) -> String? {
        let versions = (try? FileManager.default.contentsOfDirectory(atPath: "/usr/lib/postgresql")) ?? []
        let installed = versions.compactMap { Int($0) }.sorted(by: >).map { "/usr/lib/postgresql/\($0)/bin/\(name)" }
        let unpacked = ["postgresql-15", "postgresql-client-15"].map {
            Programs.unpacked.appending(path: "\($0)/usr/lib/postgresql/15/bin/\(name)").path
        }
        return (installed + unpacked).first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    private static let environment = ["LC_ALL": "C", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "TZ": "UTC"]

    /// Who it runs as if we are root, whom it refuses; nil: we are not.
    private static let account: (user: uid_t, group: gid_t)? = {
        guard geteuid() == 0 else { return nil }
        guard let entry = getpwnam("postgres") ?? getpwnam("nobody") else { return (65_534, 65_534) }
        return (entry.pointee.pw_uid, entry.pointee.pw_gid)
    }()

    private static func unprivileged(_ command: [String]) -> [String] {
        guard let account else { return command }
        return ["/usr/bin/setpriv", "--reuid", "\(account.user)", "--regid", "\(account.group)", "--clear-groups"]
            + command
    }

    private static func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
        let words = unprivileged([program] + arguments)
        let output = Pipe()
        let process = try ChildProcess(
            words[0], Array(words.dropFirst()), environment: environment, in: "/", output: .pipe(output),
            errors: .pipe(output))
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        return (process.waitUntilExit(), String(decoding: text, as: UTF8.self))
    }
}
