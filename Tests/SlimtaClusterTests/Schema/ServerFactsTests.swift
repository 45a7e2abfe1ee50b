// What a server says of itself, and what is said of that: each fault alone, and a real server that has several.

import TestKit
import Testing

@testable import SlimtaCluster

struct ServerFactsTests {
    private static let good = ServerFacts(
        version: "15.18", number: 150_018, role: "mail", encoding: "UTF8", isInRecovery: false, syncs: true,
        writesFullPages: true, synchronousCommit: "on", standbyNames: "ANY 1 (a, b)", isolation: "read committed",
        statementTimeout: 0, hasLZ4: true)

    /// What is changed, and how the warnings begin with and without the need of a standby.
    private struct Spoiled {
        var facts = ServerFactsTests.good
        var needing: [String]
        var otherwise: [String]

        init(_ needing: [String], _ otherwise: [String], _ spoil: (inout ServerFacts) -> Void) {
            (self.needing, self.otherwise) = (needing, otherwise)
            spoil(&facts)
        }
    }

    private static let spoiled = [
        Spoiled([], []) { _ in },
        Spoiled(["fsync is off"], ["fsync is off"]) { $0.syncs = false },
        Spoiled(["full_page_writes is off"], ["full_page_writes is off"]) { $0.writesFullPages = false },
        Spoiled(["synchronous_commit is off"], ["synchronous_commit is off"]) { $0.synchronousCommit = "off" },
        Spoiled(["synchronous_commit is local"], ["synchronous_commit is local"]) { $0.synchronousCommit = "local" },
        Spoiled(["synchronous_commit is remote_write"], []) { $0.synchronousCommit = "remote_write" },
        Spoiled([], []) { $0.synchronousCommit = "remote_apply" },
        Spoiled(["synchronous_standby_names is empty"], []) { $0.standbyNames = "" },
        Spoiled(["synchronous_commit is local", "synchronous_standby_names is empty"], []) {
            ($0.standbyNames, $0.synchronousCommit) = (" ", "local")
        },
        Spoiled(["default_transaction_isolation is serializable"], ["default_transaction_isolation is serializable"]) {
            $0.isolation = "serializable"
        },
        Spoiled(["statement_timeout is 500 ms"], ["statement_timeout is 500 ms"]) { $0.statementTimeout = 500 },
    ]

    @Test(arguments: spoiled.indices) func warnings(_ index: Int) {
        let one = Self.spoiled[index]
        for (found, expected) in [
            (one.facts.warnings(needsStandby: true), one.needing),
            (one.facts.warnings(needsStandby: false), one.otherwise),
        ] {
            #expect(found.count == expected.count, "\(found)")
            for (text, beginning) in zip(found, expected) { #expect(text.hasPrefix(beginning), "\(text)") }
        }
        #expect(one.facts.obstacles.isEmpty)
    }

    @Test func obstacles() {
        #expect(Self.good.obstacles.isEmpty)
        var facts = Self.good
        (facts.version, facts.number) = ("12.22", 120_022)
        #expect(facts.obstacles == ["PostgreSQL 12.22 is too old: 13 or later is needed"])
        facts.number = 130_000
        #expect(facts.obstacles.isEmpty)
        facts.encoding = "LATIN1"
        facts.isInRecovery = true
        #expect(facts.obstacles.count == 2 && facts.obstacles[0].contains("LATIN1"))
        #expect(facts.obstacles[1].hasPrefix("the server is a standby"))
    }

    @Test(.enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
    func realServer() throws {
        let place = try SchemaPlace()
        let role = try place.addRole(
            """
            grant create on database DATABASE to ROLE; alter role ROLE set synchronous_commit = local;
            alter role ROLE set default_transaction_isolation = 'repeatable read'; alter role ROLE set statement_timeout = '1min';
            """)
        let facts = try place.connect(as: role).server()
        #expect(try place.sql("show server_version_num") == "\(facts.number)")
        #expect(try place.sql("show server_version") == facts.version)
        #expect(facts.role == role && facts.encoding == "UTF8" && !facts.isInRecovery)
        // As TestKit starts it.
        #expect(!facts.syncs && facts.writesFullPages && facts.standbyNames == "")
        #expect(facts.synchronousCommit == "local" && facts.isolation == "repeatable read")
        #expect(facts.statementTimeout == 60_000)
        #expect(facts.warnings(needsStandby: true).count == 5 && facts.obstacles.isEmpty)
        #expect(
            facts.warnings(needsStandby: true).contains {
                $0.hasSuffix("alter role \"\(role)\" set statement_timeout = 0")
            })
    }

    /// A database for texts that are not UTF-8 is none for a queue.
    @Test(.enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
    func otherEncoding() throws {
        let server = try PostgresServer.shared()
        let name = try server.createDatabase() + "_latin"
        try server.sql("create database \(name) encoding 'LATIN1' locale 'C' template template0")
        let database = try ClusterDatabase(PostgresOptions(connection: server.connection(to: name)))
        let error = #expect(throws: ClusterDatabaseError.self) { try database.initialise() }
        guard case .unfit(let obstacles) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(obstacles.count == 1 && obstacles[0].contains("LATIN1"))
        #expect(try database.form() == nil)
    }
}
