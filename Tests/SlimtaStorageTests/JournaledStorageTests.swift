// The storage as its callers see it, on the machine's disk.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaStorage

@Suite struct JournaledStorageTests {
    let directory = ScratchDirectory()

    @Test func whatIsCommittedIsLoadedAndSurvivesClose() async throws {
        let storage = try JournaledStorage.scratch(directory)
        #expect(try storage.recover().isEmpty)
        let envelope = try await storage.accept(makeEnvelope(to: ["x@A.Example", "y@b.example"]), "hello")
        let loaded = try await storage.load(envelope.id)
        #expect(loaded.envelope == envelope)
        #expect(loaded.text == "hello")
        #expect(loaded.state == EnvelopeState(of: envelope, due: someDue))
        await storage.close()

        let again = try JournaledStorage.scratch(directory)
        let queued = try again.recover()
        #expect(
            queued == [
                QueuedSummary(
                    id: envelope.id, received: envelope.received, due: someDue, attempts: 0, isHeld: false,
                    destination: "a.example")
            ])
        #expect(again.status().generations == 2)
        let reloaded = try await again.load(envelope.id)
        #expect(reloaded.envelope == envelope)
        #expect(reloaded.text == "hello")
        await again.close()
    }

    /// Else one message in 65,536 could never be carried into a database.
    @Test func noIDIsOfTheLocalQueueBesideADatabase() throws {
        let storage = try JournaledStorage.scratch(directory)
        let (time, sibling) = (Timestamp.now(), QueueID(at: .now(), bucket: FallbackStorage.bucket))
        for _ in 0..<400_000 where FallbackStorage.isLocal(storage.newID(at: time, beside: sibling)) {
            Issue.record("an id says that it is local")
            break
        }
    }

    @Test func whatIsCommittedSurvivesWithoutClose() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let kept = try await storage.accept()
        let removed = try await storage.accept()
        try await storage.commit(QueueCommit(ended: [Ending(id: removed.id, delivered: 1)]))
        storage.halt()

        let again = try JournaledStorage.scratch(directory)
        #expect(try again.recover().map(\.id) == [kept.id])
        #expect(try await again.load(kept.id).envelope == kept)
        await #expect(throws: StorageError.notFound) { try await again.load(removed.id) }
        await again.close()
    }

    @Test func envelopesOfOneCommitShareTheBody() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let envelopes = (0..<3).map { makeEnvelope(to: ["r@d\($0).example"]) }
        try await storage.commit(
            QueueCommit(accepted: envelopes.map { .init($0, due: someDue) }, message: makeMessage("shared")))
        try await storage.checkpoint()
        // The body is under the first envelope's id; it must outlive that envelope.
        try await storage.commit(QueueCommit(ended: [Ending(id: envelopes[0].id)]))
        #expect(storage.core.catalog.withLock { $0.generations.values.map(\.info.records).max() } == 4)
        for envelope in envelopes.dropFirst() {
            #expect(try await storage.load(envelope.id).text == "shared")
        }
        await storage.close()
        let again = try JournaledStorage.scratch(directory)
        #expect(Set(try again.recover().map(\.id)) == Set(envelopes.dropFirst().map(\.id)))
        for envelope in envelopes.dropFirst() {
            let loaded = try await again.load(envelope.id)
            #expect(loaded.text == "shared")
            #expect(loaded.envelope == envelope)
        }
        await again.close()
    }

    @Test func statesAreKeptWhereverTheyAre() async throws {
        var storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let envelope = try await storage.accept(makeEnvelope(to: ["a@one.example", "b@two.example"]))
        var state = EnvelopeState(of: envelope, due: someDue)
        for round in 1...6 {
            state.attempts = UInt32(round)
            state.due = someDue + .seconds(round)
            state.isHeld = round == 6
            state.isWarned = round > 2
            state.recipients[0] = RecipientState(
                fate: .delivered, reply: "250 2.0.0 ok \(round)", relay: "mx[192.0.2.2]:25")
            try await storage.commit(QueueCommit(states: [state]))
            #expect(try await storage.load(envelope.id).state == state)
            if round % 2 == 0 { try await storage.checkpoint() }
            #expect(try await storage.load(envelope.id).state == state)
            if round % 3 == 0 {
                if round == 3 { storage.halt() } else { await storage.close() }
                storage = try JournaledStorage.scratch(directory)
                let queued = try storage.recover()
                #expect(queued.map(\.attempts) == [UInt32(round)])
                #expect(queued.map(\.destination) == ["two.example"])
                #expect(queued.map(\.due) == [state.due])
                #expect(queued.map(\.isHeld) == [state.isHeld])
                #expect(try await storage.load(envelope.id).state == state)
            }
        }
        await storage.close()
    }

    @Test func aStateOfWhatIsNotQueuedMeansNothing() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let envelope = makeEnvelope()
        try await storage.commit(
            QueueCommit(states: [EnvelopeState(of: envelope, due: someDue)], ended: [Ending(id: envelope.id)]))
        #expect(storage.count() == 0)
        await storage.close()
        let again = try JournaledStorage.scratch(directory)
        #expect(try again.recover().isEmpty)
        await again.close()
    }

    @Test func aSecondDaemonIsRefused() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        #expect(throws: StorageOpenError.inUse(processID: getpid())) { try JournaledStorage.scratch(directory) }
        await storage.close()
        let again = try JournaledStorage.scratch(directory)
        again.halt()
    }

    /// `slimtad status` beside a start that is just beginning must not end it.
    @Test func aStartWaitsForWhoOnlyLooks() async throws {
        try JournaledStorage.scratch(directory).halt()
        let looking = Looking(try StorageInspector(directory: directory.path))
        // A thread: tasks of other tests may have all that run tasks.
        Thread.detachNewThread {
            usleep(200_000)
            looking.inspector.withLock { $0 = nil }
        }
        let storage = try JournaledStorage.scratch(directory)
        #expect(looking.inspector.withLock { $0 == nil })
        storage.halt()
    }

    /// Somebody who looks at the queue's files for a moment.
    private final class Looking: Sendable {
        let inspector: Mutex<StorageInspector?>

        init(_ inspector: sending StorageInspector) { self.inspector = Mutex(inspector) }
    }

    @Test func anUnsafeDirectoryIsRefused() throws {
        let manager = FileManager.default
        try manager.createDirectory(atPath: directory.path, withIntermediateDirectories: false)
        for mode in [0o770, 0o702, 0o777] {
            try manager.setAttributes([.posixPermissions: mode], ofItemAtPath: directory.path)
            #expect(throws: StorageOpenError.self) { try JournaledStorage.scratch(directory) }
        }
        let link = ScratchDirectory()
        try manager.createSymbolicLink(atPath: link.path, withDestinationPath: directory.path)
        #expect(throws: StorageOpenError.unsafe("\(link.path) is not a directory of its own")) {
            try JournaledStorage.scratch(link)
        }
        #expect(try manager.contentsOfDirectory(atPath: directory.path).isEmpty)
    }

    @Test func aReadableDirectoryIsClosedToOthers() throws {
        let manager = FileManager.default
        try manager.createDirectory(atPath: directory.path, withIntermediateDirectories: false)
        try manager.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory.path)
        try JournaledStorage.scratch(directory).halt()
        let attributes = try manager.attributesOfItem(atPath: directory.path)
        #expect(attributes[.posixPermissions] as? Int == 0o700)
    }

    @Test func allIsPrivate() async throws {
        let before = umask(0)
        defer { umask(before) }
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        try await storage.accept()
        await storage.close()
        let names = FileManager.default.enumerator(atPath: directory.path)!
        var files = 0
        for case let name as String in names {
            let attributes = try FileManager.default.attributesOfItem(atPath: "\(directory.path)/\(name)")
            let isDirectory = attributes[.type] as? FileAttributeType == .typeDirectory
            #expect(attributes[.posixPermissions] as? Int == (isDirectory ? 0o700 : 0o600), "\(name)")
            files += 1
        }
        #expect(files > 8)
    }

    @Test func commitsCompleteInOrder() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let (stream, continuation) = AsyncStream<Int>.makeStream()
        for number in 0..<200 {
            storage.commit(
                QueueCommit(accepted: [.init(makeEnvelope(), due: someDue)], message: makeMessage("\(number)"))
            ) {
                result in
                if case .success = result { continuation.yield(number) }
            }
        }
        var seen: [Int] = []
        for await number in stream {
            seen.append(number)
            if seen.count == 200 { break }
        }
        #expect(seen == Array(0..<200))
        #expect(storage.count() == 200)
        await storage.close()
    }

    @Test func aSealedFileIsReadableWithGDBMTool() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        for _ in 0..<5 { try await storage.accept() }
        await storage.close()
        let queue = "\(directory.path)/queue"
        let names = try FileManager.default.contentsOfDirectory(atPath: queue).sorted()
        #expect(names.count == 2)
        for (name, count) in zip(names, [11, 6]) {
            let output = Pipe()
            let process = try ChildProcess(
                "/usr/bin/gdbmtool", ["-r", "\(queue)/\(name)", "count"], output: .pipe(output), errors: .inherited)
            let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            #expect(process.waitUntilExit() == 0)
            #expect(text.contains("\(count)"), "\(name): \(text)")
        }
    }

    @Test func afterCloseNothingIsTaken() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        await storage.close()
        await #expect(throws: StorageError.closed) { try await storage.accept() }
        await #expect(throws: StorageError.closed) { try await storage.checkpoint() }
        await #expect(throws: StorageError.closed) { try await storage.load(QueueID(high: 1, low: 1)) }
    }

    @Test func aCommitThatFitsNoSegmentIsRefused() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        await #expect(throws: StorageError.self) {
            try await storage.accept(makeEnvelope(), String(repeating: "x", count: 40_000))
        }
        // One that just fits is taken.
        let large = try await storage.accept(makeEnvelope(), String(repeating: "y", count: 27_000))
        #expect(try await storage.load(large.id).text.utf8.count == 27_000)
        await storage.close()
    }
}
