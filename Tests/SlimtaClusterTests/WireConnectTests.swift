// Making a connection: which server of several, as whom, how long it may take, and what is said when there is none.

import Foundation
import TestKit
import Testing

@testable import SlimtaCluster

@Suite(.needsPostgres) struct WireConnectTests {
    /// What libpq makes of words: an answer of the server, or why there is none.
    private static func ask(
        _ question: String, _ words: String, password: String? = nil, within: Duration = patience
    ) throws -> String {
        // Longer than any deadline here.
        let options = PostgresOptions(connection: words, password: password, connectTimeout: .seconds(600))
        let connection = try PostgresConnection(options, by: .after(within))
        return try connection.run(statement("ask", question), [], by: .after(patience)).text(0, 0)
    }

    @Test func manyWaysToSayWhere() throws {
        let server = try PostgresServer.shared()
        let folder = server.folder.path
        for words in [
            "host=127.0.0.1 port=\(server.port) dbname=postgres user=postgres",
            "host=localhost port=\(server.port) dbname=postgres user=postgres",
            "host=nowhere.invalid hostaddr=127.0.0.1 port=\(server.port) dbname=postgres user=postgres",
            "hostaddr=127.0.0.1 port=\(server.port) dbname=postgres user=postgres",
            "host='\(folder)' port=\(server.port) dbname=postgres user=postgres",
            "postgresql://postgres@127.0.0.1:\(server.port)/postgres",
        ] { #expect(try Self.ask("show port", words) == "\(server.port)", "\(words)") }
    }

    @Test func whatTheServerIsTold() throws {
        let server = try PostgresServer.shared()
        let words = server.connection(to: "postgres")
        #expect(try Self.ask("show application_name", words) == "slimtad")
        #expect(try Self.ask("show application_name", words + " application_name=mine") == "mine")
        #expect(try Self.ask("show client_encoding", words + " client_encoding=LATIN1") == "UTF8")
        #expect(try Self.ask("show work_mem", words + " options='-c work_mem=7MB'") == "7MB")
    }

    @Test func passwords() throws {
        let server = try PostgresServer.shared()
        try server.sql("create role with_password login password 'Geheim, ''7''' ")
        let words = server.connection(to: "postgres", user: "with_password")
        #expect(try Self.ask("select current_user::text", words, password: "Geheim, '7'") == "with_password")
        for password in ["wrong-password", nil] {
            let error = failure { try Self.ask("select 'a'::text", words, password: password) }
            #expect(error?.isUnreachable == true)
            #expect(error?.text.contains("password") == true)
            #expect(error?.text.contains("wrong-password") == false)
        }
        let options = PostgresOptions(connection: words, password: "Geheim")
        #expect(!"\(options)".contains("Geheim"))
    }

    @Test func onlyOneThatCanBeWrittenTo() throws {
        let server = try PostgresServer.shared()
        let standby = try PostgresServer(settings: ["default_transaction_read_only": "on"])
        func words(_ ports: [Int]) -> String {
            let hosts = ports.map { _ in "127.0.0.1" }.joined(separator: ",")
            let list = ports.map(String.init).joined(separator: ",")
            return "host=\(hosts) port=\(list) dbname=postgres user=postgres"
        }
        let both = words([standby.port, server.port])
        #expect(try Self.ask("show port", both) == "\(server.port)")
        #expect(try Self.ask("show port", words([server.port, standby.port])) == "\(server.port)")
        #expect(try Self.ask("show port", both + " target_session_attrs=any") == "\(standby.port)")
        #expect(try Self.ask("show port", both + " target_session_attrs=read-only") == "\(standby.port)")
        let error = failure { try Self.ask("show port", words([standby.port])) }
        #expect(error?.isUnreachable == true)
        #expect(error?.text.contains("read-only") == true)
    }

    @Test func hostsThatAreNotThere() throws {
        let server = try PostgresServer.shared()
        let closed = try NameServer.freePort()
        let silent = try PostgresLink(to: server.port)
        silent.set(.silent)
        // A name that is none, a port that nobody has, a host that says nothing: each leaves time for the next.
        let words = """
            host=bad..name,127.0.0.1,127.0.0.1,127.0.0.1 port=1,\(closed),\(silent.port),\(server.port)
            dbname=postgres user=postgres
            """
        let clock = ContinuousClock()
        var answer = ""
        let time = try clock.measure { answer = try Self.ask("show port", words, within: .seconds(8)) }
        #expect(answer == "\(server.port)")
        #expect(time < .seconds(8))
        let none = "host=bad..name,127.0.0.1,127.0.0.1 port=1,\(closed),\(silent.port)"
        let error = failure { try Self.ask("show port", none, within: .seconds(2)) }
        #expect(error?.isUnreachable == true)
        for part in ["bad..name: ", "port \(closed) failed", "port \(silent.port): no connection in the time"] {
            #expect(error?.text.contains(part) == true, "\(part) is not in: \(error?.text ?? "nothing")")
        }
    }

    @Test func aServerThatSaysNothing() throws {
        let link = try PostgresLink(to: PostgresServer.shared().port)
        link.set(.silent)
        let words = "host=127.0.0.1 port=\(link.port) dbname=postgres user=postgres"
        let clock = ContinuousClock()
        func time(_ options: PostgresOptions, _ limit: Duration) -> Duration {
            clock.measure {
                let error = failure { try PostgresConnection(options, by: .after(limit)) }
                #expect(error?.isUnreachable == true)
                #expect(error?.mayHaveCommitted == false)
            }
        }
        let short = Duration.milliseconds(300)
        for (options, limit) in [
            (PostgresOptions(connection: words), short),
            (PostgresOptions(connection: words, connectTimeout: short), .seconds(600)),
        ] {
            let taken = time(options, limit)
            #expect(short <= taken && taken < .seconds(10))
        }
        let taken = time(PostgresOptions(connection: words + " connect_timeout=1", connectTimeout: patience), patience)
        #expect(.seconds(1) <= taken && taken < .seconds(10))
    }

    @Test func wordsThatAreNone() throws {
        for (words, part) in [
            ("host=127.0.0.1 hots=127.0.0.2", "hots"), ("host", "missing"),
            ("host=a,b port=1,2,3", "different lengths"),
            ("postgresql://[::1", "]"), ("port=99999 host=127.0.0.1", "port number"),
        ] {
            let error = failure { try Self.ask("show port", words) }
            #expect(error?.isUnreachable == true)
            #expect(error?.text.contains(part) == true, "\(words): \(error?.text ?? "no error")")
        }
    }

    @Test func noTimeIsLeft() throws {
        let words = try PostgresServer.shared().connection(to: "postgres")
        #expect(failure { try Self.ask("show port", words, within: .zero) } == .unreachable("no time is left"))
    }

    @Test func closedByUs() throws {
        let database = try WireDatabase()
        let connection = try database.connect()
        let process = try connection.process()
        #expect(!connection.isBroken)
        connection.close()
        #expect(connection.isBroken)
        let error = failure { try connection.execute("select 1", by: .after(patience)) }
        #expect(error == .unreachable("the connection was closed"))
        try database.wait(until: "0", "select count(*) from pg_stat_activity where pid = \(process)")
    }

    @Test func whoForgetsAConnectionClosesIt() throws {
        let database = try WireDatabase()
        let process = try database.connect().process()
        try database.wait(until: "0", "select count(*) from pg_stat_activity where pid = \(process)")
    }

    /// In a process of its own: other tests read the environment.
    @Test func theEnvironmentIsForgotten() async throws {
        let port = try PostgresServer.shared().port
        await #expect(processExitsWith: .success) { [port = port as Int] in
            for (name, value) in [
                ("PGOPTIONS", "-c work_mem=9MB"), ("PGAPPNAME", "theirs"), ("PGPORT", "1"), ("PGX", ""),
                ("XPG", "kept"),
            ] { setenv(name, value, 1) }
            PostgresLibrary.forgetEnvironment()
            for name in ["PGOPTIONS", "PGAPPNAME", "PGPORT", "PGX"] { #expect(getenv(name) == nil) }
            #expect(getenv("XPG") != nil && getenv("PATH") != nil)
            let words = "host=127.0.0.1 port=\(port) dbname=postgres user=postgres"
            let memory = try WireConnectTests.ask("show work_mem", words)
            #expect(memory == "4MB")
            let name = try WireConnectTests.ask("show application_name", words)
            #expect(name == "slimtad")
        }
        // That it would have said something.
        await #expect(processExitsWith: .success) { [port = port as Int] in
            setenv("PGOPTIONS", "-c work_mem=9MB", 1)
            let words = "host=127.0.0.1 port=\(port) dbname=postgres user=postgres"
            let memory = try WireConnectTests.ask("show work_mem", words)
            #expect(memory == "9MB")
        }
    }
}

/// The server of tests itself.
@Suite(.needsPostgres) struct PostgresServerTests {
    @Test func itEndsWithATestThatCrashes() async throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "slimtad-test-" + UUID().uuidString).path
        defer { unlink(path) }
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String] in
            let server = try PostgresServer()
            try Data("\(server.folder.path)\n\(server.sql("show port"))".utf8).write(to: URL(filePath: path))
            kill(getpid(), SIGKILL)
        }
        let words = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
        for _ in 0..<1_500 where FileManager.default.fileExists(atPath: words[0]) { usleep(20_000) }
        #expect(!FileManager.default.fileExists(atPath: words[0]))
        let options = PostgresOptions(connection: "host=127.0.0.1 port=\(words[1]) user=postgres")
        let error = failure { try PostgresConnection(options, by: .after(patience)) }
        #expect(error?.text.contains("refused") == true)
    }
}

@Suite struct WireLibraryTests {
    @Test func aLibraryThatIsNotThere() {
        let error = failure { try PostgresLibrary.load("libpq-of-nobody.so.5") }
        guard case .unavailable(let text) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(text.contains("libpq-of-nobody.so.5"))
        #expect(error?.mayHaveCommitted == false)
    }

    @Test func aLibraryThatIsAnother() {
        let error = failure { try PostgresLibrary.load("libc.so.6") }
        #expect(
            error
                == .unavailable(
                    "there is no PQconninfoParse in it: it has to be of PostgreSQL 14 or later"))
    }

    @Test func whatIsSaidFitsIntoALine() {
        #expect(PostgresError.line(" a\n\tb  c\u{7}\r\n ") == "a b c")
        #expect(PostgresError.line("") == "no text")
        #expect(PostgresError.line(nil) == "no text")
        #expect(PostgresError.line(String(repeating: "x", count: 600)).utf8.count == 500)
        let wide = PostgresError.line(String(repeating: "€", count: 600))
        #expect(wide.utf8.count == 498 && wide.allSatisfy { $0 == "€" })
    }

    @Test func deadlines() {
        #expect(Deadline.after(.seconds(-5)).hasPassed && Deadline.after(.zero).hasPassed)
        #expect(Deadline.after(.seconds(-5)).milliseconds == 0)
        #expect(Deadline.after(.seconds(Int64.max)).remaining > .seconds(1_000_000_000))
        #expect(Deadline.after(.seconds(Int64.max)).milliseconds == Int32.max)
        let deadline = Deadline.after(.seconds(50))
        #expect(deadline.milliseconds <= 50_000 && deadline.milliseconds > 10_000)
        #expect(deadline.remaining <= .seconds(50) && !deadline.hasPassed)
        #expect(deadline.orAfter(.seconds(5)).remaining <= .seconds(5))
        #expect(deadline.orAfter(.seconds(500)).remaining <= .seconds(50))
    }
}
