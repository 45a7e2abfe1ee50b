// What the storage tells of what it has, while it works: pages, states, and an audit. For the control service.

package import SlimtaMail
package import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import Synchronization

extension JournaledStorage {
    /// Envelopes in the order of arrival, read on a thread of the storage: those behind `place` (nil: from the
    /// beginning), at most `count`.
    package func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage {
        try await onPool { [core] _ in
            .success(QueueWalk(core: core).page(after: place, count: count, Self.reader(core)))
        }
    }

    /// The states of envelopes, each as it is now, in the order of `ids`.
    package func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] {
        do throws(StorageError) {
            return try await onPool { [core] _ in
                let reader = Self.reader(core)
                var states: [Result<EnvelopeState, StorageError>] = Array(
                    repeating: .failure(.notFound), count: ids.count)
                for place in reader.readingOrder(ids) {
                    do throws(StorageError) { states[place] = .success(try reader.state(ids[place])) } catch {
                        states[place] = .failure(error)
                    }
                }
                return .success(states)
            }
        } catch {
            return ids.map { _ in .failure(error) }
        }
    }

    /// The receipt with this key. From memory.
    package func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? {
        try receipt { _ in key }
    }

    /// The receipt of the submission whose client was told `id`. From memory.
    package func receipt(of id: QueueID) async throws(StorageError) -> Receipt? {
        try receipt { $0.key(of: id) }.flatMap { $0.id == id ? $0 : nil }
    }

    /// Receipts in the order of their keys. From memory.
    package func receipts(after place: Receipt.Digest?, count: Int) async throws(StorageError) -> [Receipt] {
        if !isRunning { throw .closed }
        let records = core.index.withLock { $0.receipts.page(after: place, count: count, at: .now()) }
        do throws(FormatError) {
            var receipts: [Receipt] = []
            for record in records { receipts.append(try record.receipt()) }
            return receipts
        } catch {
            throw .damaged(error.text)
        }
    }

    private func receipt(_ key: (ReceiptTable) -> Receipt.Digest?) throws(StorageError) -> Receipt? {
        if !isRunning { throw .closed }
        let record = core.index.withLock { index in
            key(index.receipts).flatMap { index.receipts.find($0, at: .now()) }
        }
        do throws(FormatError) { return try record?.receipt() } catch { throw .damaged(error.text) }
    }

    // Who only looks moves nothing aside.
    private static func reader(_ core: StorageCore) -> ContentReader {
        ContentReader(core, windowSize: 32 << 10, isReadOnly: true)
    }

    /// Proves the balance from what is on disk, beside the running work: nothing waits for it but checkpoints, and these
    /// only while the states and the journal are read. Needs about a hundred octets of memory for each envelope.
    package func audit() async throws(StorageError) -> StorageAudit {
        let result: Result<StorageAudit, StorageError> = await withCheckedContinuation { continuation in
            // On the checkpoint's thread no file that counts is deleted, nor `super` written.
            self.inspect { core in
                guard let core else { return continuation.resume(returning: .failure(.closed)) }
                let (limit, running) = core.index.withLock { ($0.applied, $0.balance) }
                do {
                    let auditor = try Auditor(
                        core.fileSystem, directory: core.paths.root, options: core.options, upTo: limit)
                    auditor.compare(running)
                    // The contents take longer: meanwhile checkpoints may go on.
                    let handed = Mutex(auditor)
                    try Thread.detached("storage-audit") {
                        let audit = handed.withLock { auditor in
                            auditor.readContents(core)
                            auditor.listQuarantine()
                            return auditor.audit
                        }
                        continuation.resume(returning: .success(audit))
                    }
                } catch {
                    continuation.resume(returning: .failure(.failed("\(error)")))
                }
            }
        }
        return try result.get()
    }
}
