// What a queue has after a power cut: recovered, read whole, closed, and read once more.

import SlimtaMail
import SlimtaQueue
import SlimtaStorage
import Synchronization

/// `storage-worker check`: prints "P number verdict" for each envelope and each receipt that is there; the verdict is "ok",
/// or a word for what is wrong with it.
struct Check {
    let directory: String

    /// False if the storage complained of damage: a power cut is none.
    func run() async throws -> Bool {
        let isSound = Mutex(true)
        let first = try await read { event in
            switch event {
            case .tornTail, .superblockRepaired: break
            case .damaged, .missing, .resurrected, .journalFailed, .journalRecovered, .checkpointFailed, .diskFull,
                .diskRoom, .leftover, .receiptsForgotten:
                complain("\(event)")
                isSound.withLock { $0 = false }
            }
        }
        // Whole groups only, and never a group beside what took its place.
        let present = Set(first.keys)
        for (number, found) in first.sorted(by: { $0.key < $1.key }) {
            var verdict = found.verdict
            if let group = found.group {
                if !present.isSuperset(of: group.numbers) { verdict = "torn" }
                if group.replaced != 0, present.contains(group.replaced) { verdict = "twice" }
                // A receipt is forgotten behind its group only.
                if let receipt = group.receiptNumber, !present.contains(receipt) { verdict = "unkeyed" }
            }
            print("P \(number) \(verdict)")
        }
        // `close` has brought all into GDBM: from there it reads the same.
        let second = try await read { complain("second start: \($0)") }
        let isSame = second.mapValues(\.verdict) == first.mapValues(\.verdict)
        if !isSame { complain("the second start found \(second.count) envelopes, the first \(first.count)") }
        return isSame && isSound.withLock { $0 }
    }

    private struct Found {
        var group: Group?
        var verdict: String
    }

    private func read(_ report: @escaping @Sendable (StorageEvent) -> Void) async throws -> [Int: Found] {
        let storage = try JournaledStorage.open(
            directory: directory, owner: nil, options: .small, report: report)
        var found: [Int: Found] = [:]
        let summaries = try storage.recover()
        for summary in summaries {
            let (number, one) = await look(at: summary.id, storage)
            found[number] = found[number] == nil ? one : Found(group: one.group, verdict: "double")
        }
        // No storage lists its receipts: all keys that the load can have used are asked for, ended groups' too.
        let queued = Set(summaries.map(\.id))
        for first in stride(from: 0, through: (found.keys.max() ?? 0) + 10_000, by: 2) {
            guard let receipt = try await storage.receipt(for: Group.receiptKey(first)) else { continue }
            let fault = Group.fault(of: receipt, first: first, queued: queued)
            found[Group.receipts + first] = Found(verdict: fault ?? "ok")
        }
        await storage.close()
        return found
    }

    private func look(at id: QueueID, _ storage: JournaledStorage) async -> (Int, Found) {
        do {
            let stored = try await storage.load(id)
            guard let (group, number) = Group.of(stored.envelope) else { return (-1, Found(verdict: "strange")) }
            let isWhole = try await group.matches(stored, number: number)
            return (number, Found(group: group, verdict: isWhole ? "ok" : "garbled"))
        } catch {
            complain("\(id): \(error)")
            return (-1, Found(verdict: "unreadable"))
        }
    }
}
