// What every storage owes the queue, and storages of several nodes besides: the one in PostgreSQL, with a real server.

import Foundation
import SlimtaQueue
import SlimtaStorage
import StorageKit
import TestKit
import Testing

@Suite(.enabled(if: PostgresServer.isThere, Comment(rawValue: PostgresServer.missing)), .serialized)
struct ClusterConformanceTests {
    @Test(arguments: StorageSuite.checks) func oneNode(_ check: StorageCheck) async throws {
        try await check.run(ClusterPlace())
    }

    /// A node's own journal beside the database: while that takes all mail, and while it is away for every second message.
    @Test(arguments: StorageSuite.checks, [FallbackPlace.Taker.home, .both]) func besideAJournal(
        _ check: StorageCheck, _ taker: FallbackPlace.Taker
    ) async throws {
        if taker != .home && check.usesKeys { return }
        try await check.run(FallbackPlace(home: ClusterPlace(), taker) { JournalPlace() })
    }

    @Test(arguments: NodeSuite.checks) func nodesWithAJournalThatTakesNothing(_ check: NodeCheck) async throws {
        // A journal is never away, and would take mail.
        if check.description == "away" { return }
        try await check.run(FallbackPlace(home: ClusterPlace(), .home, isOpen: false) { JournalPlace() })
    }

    @Test(arguments: NodeSuite.checks) func nodes(_ check: NodeCheck) async throws {
        try await check.run(ClusterPlace())
    }
}

/// A node's journal in a directory of its own.
private final class JournalPlace: StoragePlace {
    private let directory = FileManager.default.temporaryDirectory.appendingPathComponent("slimta-\(UUID())").path

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func open() async throws -> any QueueBackend {
        try JournaledStorage.open(directory: directory, owner: nil, options: StorageOptions(), report: { _ in })
    }

    /// It is the database whose end is a kill here: kills of journals are SlimtaStorageTests'.
    func crash(_ storage: any QueueBackend) async { await storage.close() }
}
