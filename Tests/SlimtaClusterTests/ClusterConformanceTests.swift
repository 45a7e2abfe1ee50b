// What every storage owes the queue, and storages of several nodes besides: the one in PostgreSQL, with a real server.

import StorageKit
import TestKit
import Testing

@Suite(.enabled(if: PostgresServer.isThere, Comment(rawValue: PostgresServer.missing)), .serialized)
struct ClusterConformanceTests {
    @Test(arguments: StorageSuite.checks) func oneNode(_ check: StorageCheck) async throws {
        try await check.run(ClusterPlace())
    }

    @Test(arguments: NodeSuite.checks) func nodes(_ check: NodeCheck) async throws {
        try await check.run(ClusterPlace())
    }
}
