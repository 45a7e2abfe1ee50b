// What every storage owes the queue: the journal on a simulated disk and in a real directory, and the storage in memory that
// other tests use. And that the suite finds storages that do not pay.

import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

/// The journal on a disk that keeps any part of what was not synced.
private final class SimulatedPlace: StoragePlace {
    private let disk = Mutex(SimulatedDisk())

    func open() async throws -> any QueueBackend { JournaledStorage(on: disk.withLock { $0 }) }

    func crash(_ storage: any QueueBackend) async {
        let disk = disk.withLock { $0 }
        disk.powerOff()
        let image = disk.image
        (storage as? JournaledStorage)?.halt()
        var random = SystemRandomNumberGenerator()
        self.disk.withLock { $0 = SimulatedDisk.afterCut(image, .sectors, using: &random) }
    }
}

/// The journal in a directory.
private struct DirectoryPlace: StoragePlace {
    let directory = ScratchDirectory()

    func open() async throws -> any QueueBackend { try JournaledStorage.scratch(directory) }

    func crash(_ storage: any QueueBackend) async { (storage as? JournaledStorage)?.halt() }
}

private struct MemoryPlace: SharedPlace {
    let database = MemoryDatabase()

    func open() async throws -> any QueueBackend { MemoryStorage(database) }
    func open(node name: String) async throws -> any QueueBackend { MemoryStorage(database, name: name) }
    func open(edge name: String) async throws -> any QueueBackend {
        MemoryStorage(database, name: name, delivers: false)
    }
    func crash(_ storage: any QueueBackend) async { (storage as? MemoryStorage)?.crash() }

    func move(_ buckets: QueueBuckets, to name: String) async { database.move(buckets, to: name) }
    func fence(_ name: String, heir: String) async { database.fence(name, heir: heir) }
    func setAway(_ name: String, _ reason: String?) async { database.setAway(name, reason) }
    func doubtNext(_ name: String, cameThrough: Bool) async { database.doubtNext(name, cameThrough: cameThrough) }
}

@Suite struct ConformanceTests {
    @Test(arguments: StorageSuite.checks) func journalOnASimulatedDisk(_ check: StorageCheck) async throws {
        try await check.run(SimulatedPlace())
    }

    @Test(arguments: StorageSuite.checks) func journalInADirectory(_ check: StorageCheck) async throws {
        try await check.run(DirectoryPlace())
    }

    @Test(arguments: StorageSuite.checks) func memory(_ check: StorageCheck) async throws {
        try await check.run(MemoryPlace())
    }

    /// A journal beside another storage that takes all mail, none, or some.
    @Test(arguments: StorageSuite.checks, FallbackPlace.Taker.allCases) func besideAHome(
        _ check: StorageCheck, _ taker: FallbackPlace.Taker
    ) async throws {
        if taker != .home && check.usesKeys { return }
        try await check.run(FallbackPlace(home: MemoryPlace(), taker) { DirectoryPlace() })
    }

    @Test(arguments: NodeSuite.checks) func nodesWithAJournalThatTakesNothing(_ check: NodeCheck) async throws {
        // A journal is never away, and would take mail.
        if check.description == "away" { return }
        try await check.run(FallbackPlace(home: MemoryPlace(), .home, isOpen: false) { DirectoryPlace() })
    }

    @Test(arguments: NodeSuite.checks) func nodesInMemory(_ check: NodeCheck) async throws {
        try await check.run(MemoryPlace())
    }
}
