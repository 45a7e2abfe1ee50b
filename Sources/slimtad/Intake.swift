// Between the edges and the queue: policies, then the storage, then the reply. One for all edges.

import Logging
import NIOCore
import SlimtaEdge
import SlimtaMail
import SlimtaPolicy
import SlimtaQueue
import SlimtaStorage
import Synchronization

/// Takes what edges submit.
final class Intake: Submissions {
    private struct Settings {
        var policies: PolicyChain
        var hostname: String
    }

    private let settings: Mutex<Settings>
    private let queue: Queue
    private let storage: JournaledStorage
    private let logger: Logger

    init(policies: PolicyChain, hostname: String, queue: Queue, storage: JournaledStorage, logger: Logger) {
        settings = Mutex(Settings(policies: policies, hostname: hostname))
        self.queue = queue
        self.storage = storage
        self.logger = logger
    }

    /// Takes effect for messages that are submitted from now on.
    func reconfigure(policies: PolicyChain, hostname: String) {
        settings.withLock { $0 = Settings(policies: policies, hostname: hostname) }
    }

    func refusal(size: Int?) -> Reply? {
        let status = storage.status()
        return status.isFull || status.freeOctets < UInt64(size ?? 0) ? Reply(storing: .full) : nil
    }

    func beginSpool(_ id: QueueID) -> any SpoolWriter { storage.beginSpool(id) }

    func submit(
        _ envelope: Envelope, _ message: Message, session: String, completion: @escaping @Sendable (Reply) -> Void
    ) {
        let settings = settings.withLock { $0 }
        let context = PolicyContext(
            hostname: settings.hostname, now: envelope.received, zoneOffset: envelope.received.localOffset)
        let mail: PolicyMail
        do throws(PolicyRefusal) {
            mail = try settings.policies.apply(to: envelope, message, context)
        } catch {
            log(.info, "refused by policy", envelope, message, session, ["reply": "\(error.reply)"])
            return completion(error.reply)
        }
        queue.accept(mail.envelopes, mail.message) { [self] result in
            switch result {
            case .success:
                for envelope in mail.envelopes { log(.info, "accepted", envelope, mail.message, session, [:]) }
                completion(Reply(250, .init(2, 6, 0), "Message queued as \(envelope.id)"))
            case .failure(let error):
                log(.error, "message could not be stored", envelope, message, session, ["error": "\(error)"])
                completion(Reply(storing: error))
            }
        }
    }

    private func log(
        _ level: Logger.Level, _ message: Logger.Message, _ envelope: Envelope, _ content: Message, _ session: String,
        _ more: Logger.Metadata
    ) {
        guard logger.logLevel <= level else { return }
        var metadata = more
        metadata["queue_id"] = "\(envelope.id)"
        metadata["sender"] = "\(envelope.senderText)"
        // A thousand recipients are no line of a log; each has a line of its own when it is attempted.
        let shown = envelope.recipients.prefix(20).map(\.text).joined(separator: ",")
        let more = envelope.recipients.count - 20
        metadata["recipient"] = more > 0 ? "\(shown),... (\(more) more)" : "\(shown)"
        metadata["size"] = "\(content.size)"
        metadata["client"] = "\(envelope.client.address.isEmpty ? "local" : envelope.client.address)"
        metadata["protocol"] = "\(envelope.client.protocolWord)"
        if let tls = envelope.client.tls { metadata["tls"] = "\(tls)" }
        if let login = envelope.client.login { metadata["login"] = "\(login)" }
        metadata["edge"] = "\(envelope.client.edge)"
        metadata["session"] = "\(session)"
        logger.log(level: level, message, metadata: metadata)
    }
}
