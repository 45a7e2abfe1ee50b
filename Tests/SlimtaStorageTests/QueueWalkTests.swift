// Walks through the queue: in order, complete, each envelope once, whatever the pages.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

@Suite struct QueueWalkTests {
    let directory = ScratchDirectory()

    /// An index with these ids, in this order of slots.
    private func core(_ ids: [QueueID]) -> StorageCore {
        let core = StorageCore(SimulatedDisk(), directory: "/q", options: smallOptions(), report: { _ in })
        core.index.withLock { index in
            for id in ids {
                index.accept(id, RecipientCount(1, .submitted), at: .generation(1), body: IndexEntry.noBody)
            }
        }
        return core
    }

    private func all(_ walk: QueueWalk, by count: Int) -> [QueueID] {
        var found: [QueueID] = []
        while true {
            let next = walk.ids(after: found.last ?? QueueID(high: 0, low: 0), count)
            found += next
            if next.count < count { return found }
        }
    }

    @Test(arguments: [1, 7, 64, 500])
    func idsComeInOrderWhateverTheWindow(_ count: Int) {
        let ids = (0..<500).map { _ in QueueID(high: .random(in: 1...50), low: .random(in: 0 ... .max)) }
        let core = core(ids.shuffled())
        for windowSize in [max(count, 1), 1000, 65536] {
            core.walkWindow.withLock { $0 = nil }
            #expect(all(QueueWalk(core: core, windowSize: windowSize), by: count) == ids.sorted())
        }
    }

    @Test func whatComesInIsFoundAtTheEnd() {
        let core = core((1...10).map { QueueID(high: $0, low: 0) })
        let walk = QueueWalk(core: core)
        #expect(walk.ids(after: QueueID(high: 0, low: 0), 10).count == 10)
        _ = core.index.withLock {
            $0.accept(
                QueueID(high: 11, low: 0), RecipientCount(1, .submitted), at: .generation(1), body: IndexEntry.noBody)
        }
        #expect(walk.ids(after: QueueID(high: 5, low: 0), 100).map(\.high) == [6, 7, 8, 9, 10, 11])
        _ = core.index.withLock { $0.remove(QueueID(high: 7, low: 0)) }
        #expect(walk.ids(after: QueueID(high: 5, low: 0), 100).map(\.high) == [6, 8, 9, 10, 11])
    }

    @Test func pagesHaveEnvelopesFromJournalAndFiles() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        var ids: [QueueID] = []
        for number in 0..<40 {
            let envelope = try await storage.accept(makeEnvelope(to: ["r@d\(number).example"]))
            ids.append(envelope.id)
            if number == 20 { try await storage.checkpoint() }
            if number % 3 == 0 {
                var state = EnvelopeState(of: envelope, due: someDue)
                state.recipients[0].reply = "450 \(number)"
                try await storage.commit(QueueCommit(states: [state]))
            }
        }
        ids.sort()
        var found: [QueuedEnvelope] = []
        var place: QueueID?
        repeat {
            let page = try await storage.page(after: place, count: 7)
            #expect(page.unreadable.isEmpty)
            found += page.envelopes
            place = page.next
        } while place != nil
        #expect(found.map(\.envelope.id) == ids)
        for queued in found {
            let loaded = try await storage.load(queued.envelope.id)
            #expect(queued.envelope == loaded.envelope)
            #expect(queued.state == loaded.state)
            #expect(try await storage.states([queued.envelope.id])[0].get() == loaded.state)
        }
        #expect(await storage.states([QueueID(high: 1, low: 1)]) == [.failure(.notFound)])
        await storage.close()
        await #expect(throws: StorageError.closed) { try await storage.page(after: nil, count: 7) }

        let inspector = try StorageInspector(directory: directory.path)
        let page = inspector.page(after: nil, count: 100)
        #expect(page.envelopes.map(\.envelope.id) == ids)
        #expect(page.next == nil)
    }
}
