// Random operations on the storage and on a dictionary, with checkpoints, compaction and reopening in between.

import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaStorage

@Suite struct ModelTests {
    private struct Expected {
        var envelope: Envelope
        var text: String
        var state: EnvelopeState
    }

    @Test func theStorageIsADictionary() async throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        print("model seed \(seed)")
        var random = SeededGenerator(seed: seed)
        let directory = ScratchDirectory()
        let events = Events()
        var storage = try JournaledStorage.scratch(directory, smallOptions(), events)
        _ = try storage.recover()
        var model: [QueueID: Expected] = [:]
        for step in 0..<900 {
            let some = model.keys.sorted().randomElement(using: &random)
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<45:
                let count = Int.random(in: 0..<5, using: &random) == 0 ? 3 : 1
                let text = String(repeating: "\(step).", count: Int.random(in: 0..<800, using: &random))
                let envelopes = (0..<count).map { _ in makeEnvelope(QueueID(high: random.next(), low: random.next())) }
                try await storage.commit(
                    QueueCommit(accepted: envelopes.map { .init($0, due: someDue) }, message: makeMessage(text)))
                for envelope in envelopes {
                    model[envelope.id] = Expected(
                        envelope: envelope, text: text, state: EnvelopeState(of: envelope, due: someDue))
                }
            case 45..<65:
                guard let some else { continue }
                model[some]!.state.attempts += 1
                model[some]!.state.recipients[0].reply = "450 later \(step)"
                try await storage.commit(QueueCommit(states: [model[some]!.state]))
            case 65..<97:
                guard let some else { continue }
                model[some] = nil
                try await storage.commit(QueueCommit(ended: [Ending(id: some, delivered: 1)]))
            case 97: try await storage.checkpoint()
            default:
                if Bool.random(using: &random) { await storage.close() } else { storage.halt() }
                storage = try JournaledStorage.scratch(directory, smallOptions(), events)
                let queued = try storage.recover()
                #expect(Set(queued.map(\.id)) == Set(model.keys), "seed \(seed), step \(step)")
                #expect(queued.count == model.count)
                try await compare(storage, model, "seed \(seed), step \(step)")
            }
        }
        try await compare(storage, model, "seed \(seed)")
        await storage.close()
        for event in events.all {
            switch event {
            case .tornTail: break
            default: Issue.record("seed \(seed): \(event)")
            }
        }
        // What is dead does not pile up.
        let generations = storage.core.catalog.withLock { $0.generations.count }
        #expect(generations <= 8)
    }

    private func compare(_ storage: JournaledStorage, _ model: [QueueID: Expected], _ comment: Comment) async throws {
        #expect(storage.count() == model.count, comment)
        for (id, expected) in model {
            let loaded = try await storage.load(id)
            #expect(loaded.envelope == expected.envelope, comment)
            #expect(loaded.text == expected.text, comment)
            #expect(loaded.state == expected.state, comment)
        }
    }
}
