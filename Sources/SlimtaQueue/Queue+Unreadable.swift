// Messages that cannot be read back: that is our fault and not the peer's, and their senders are told so. Called by the
// queue's driver.

import Logging
internal import NIOCore
import SlimtaMail
import Synchronization

extension Queue {
    /// Has the relay make an attempt. What it says of recipients whose message we could not give it is ours to say.
    func attempt(
        _ stored: StoredEnvelope, _ pending: [Int], _ relay: any Relay, _ signer: (any NoticeSigner)?
    ) async -> [Outcome] {
        guard let stored = await standing(stored, signer) else {
            return Array(repeating: .unsigned, count: pending.count)
        }
        let watched = stored.message.rest.map { WatchedBody($0) }
        var message = stored.message
        message.rest = watched
        let outcomes = await attempt(
            Delivery(envelope: stored.envelope, message: message, recipients: pending), in: stored.state, relay)
        guard let failure = watched?.failure, failure != .closed else { return outcomes }
        log(failure, stored.envelope)
        return outcomes.map { $0.result == .delivered ? $0 : Outcome(unreadable: failure) }
    }

    /// What is left of an envelope that could not be loaded, if its sender can be told; nil also if nothing is wrong with it.
    func remains(of id: QueueID, _ error: StorageError) async -> StoredEnvelope? {
        switch error {
        case .damaged, .failed: break
        case .full, .notFound, .closed, .away, .doubtful, .lost, .repeated: return nil
        }
        guard let remains = await storage.remains(of: id) else { return nil }
        log(error, remains.envelope)
        return remains
    }

    /// The envelope, or what is left of it.
    func loadOrRemains(of id: QueueID) async throws(StorageError) -> StoredEnvelope {
        do throws(StorageError) { return try await storage.load(id) } catch {
            guard case .damaged = error, let remains = await storage.remains(of: id) else { throw error }
            return remains
        }
    }

    private func log(_ error: StorageError, _ envelope: Envelope) {
        logger.error(
            "queued envelope could not be read",
            metadata: [
                "queue_id": "\(envelope.id)", "sender": "\(envelope.senderText)", "error": "\(error.reason)",
            ])
    }
}

extension Outcome {
    /// What is said of recipients whose message cannot be read: for good if it is damaged, since that does not mend
    /// itself; else it is tried again.
    init(unreadable error: StorageError) {
        switch error {
        case .damaged:
            self.init(
                .permanent,
                Reply(554, EnhancedStatus(5, 3, 0), "the message was damaged in our storage and cannot be sent"))
        case .full, .failed, .notFound, .closed, .away, .doubtful, .lost, .repeated:
            self.init(
                .temporary, Reply(451, EnhancedStatus(4, 3, 0), "our storage cannot read the message at the moment"))
        }
    }
}

extension StorageError {
    fileprivate var reason: String {
        switch self {
        case .damaged(let reason), .failed(let reason), .away(let reason): reason
        case .full, .notFound, .closed, .doubtful, .lost, .repeated: "\(self)"
        }
    }
}

/// A spooled body that remembers that it could not be read.
private final class WatchedBody: SpooledBody {
    private let body: any SpooledBody
    private let failed = Mutex<StorageError?>(nil)

    init(_ body: any SpooledBody) { self.body = body }

    var reference: SpoolReference { body.reference }
    /// The last failure; nil: none.
    var failure: StorageError? { failed.withLock { $0 } }

    func makeReader() -> any SpoolReader { WatchedReader(body.makeReader(), self) }

    fileprivate func note(_ error: any Error) {
        failed.withLock { $0 = error as? StorageError ?? .failed("\(error)") }
    }
}

private final class WatchedReader: SpoolReader {
    private let reader: any SpoolReader
    private let body: WatchedBody

    init(_ reader: any SpoolReader, _ body: WatchedBody) {
        self.reader = reader
        self.body = body
    }

    func next(_ limit: Int) async throws -> ByteBuffer? {
        do { return try await reader.next(limit) } catch {
            body.note(error)
            throw error
        }
    }
}
