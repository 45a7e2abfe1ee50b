// Between the edges and the queue: policies, then the storage, then the reply. The composition root makes one for all
// edges, and gives it new policies at a reload.

package import Logging
package import NIOCore
package import SlimtaMail
package import SlimtaQueue
package import SlimtaRules
import Synchronization

/// Takes what edges submit. Policies run on the caller's thread, the 250 comes from the storage's.
package final class Intake: Submissions {
    private struct Settings {
        var policies: PolicyChain
        var hostname: String
    }

    private let settings: Mutex<Settings>
    private let queue: Queue
    private let storage: any QueueStorage
    private let quotas: QuotaBook?
    /// The storage's, for policies that split.
    private let newID: @Sendable (Timestamp, QueueID) -> QueueID
    private let logger: Logger

    /// Takes messages for `queue`, whose storage is `storage`. `hostname` is our name: in Received, and in Message-ID.
    /// Without `quotas` nothing is counted.
    package init(
        policies: PolicyChain, hostname: String, queue: Queue, storage: any QueueStorage, quotas: QuotaBook? = nil,
        logger: Logger
    ) {
        self.quotas = quotas
        settings = Mutex(Settings(policies: policies, hostname: hostname))
        self.queue = queue
        self.storage = storage
        newID = { storage.newID(at: $0, beside: $1) }
        self.logger = logger
    }

    /// Takes effect for messages that are submitted from now on.
    package func reconfigure(policies: PolicyChain, hostname: String) {
        settings.withLock { $0 = Settings(policies: policies, hostname: hostname) }
    }

    /// The storage knows: `completion` is called at once.
    package func refusal(size: Int?, completion: @escaping @Sendable (Reply?) -> Void) {
        switch storage.admission(of: size ?? 0) {
        case .open: completion(nil)
        case .full: completion(Reply(storing: .full))
        case .away(let reason): completion(Reply(storing: .away(reason)))
        case .draining: completion(Reply(storing: .lost))
        }
    }

    /// The storage's.
    package func newID(at time: Timestamp) -> QueueID { storage.newID(at: time) }

    /// The storage's, with policies that look on.
    package func beginSpool(_ id: QueueID, behind head: ByteBuffer) -> any SpoolWriter {
        let spool = storage.beginSpool(id)
        let observers = settings.withLock { $0.policies }.makeObservers()
        return observers.isEmpty ? spool : ObservedSpool(spool, head: head, observers)
    }

    /// What an edge has handed over, and what it is looked at with.
    private struct Submission: Sendable {
        let envelope: Envelope
        let message: Message
        let terms: SubmissionTerms
        let receipt: Receipt?
        let session: String
        let policies: PolicyChain
        let context: PolicyContext
    }

    /// What is called at the end: with the reply, the envelopes that were stored, and whether they are held with their login.
    private typealias Completion = @Sendable (Reply, [QueueID], Bool) -> Void

    /// One queue id is told to the client: that of the envelope as it came. Envelopes that policies make of it have their own,
    /// and a line in the log each.
    package func submit(
        _ envelope: Envelope, _ message: Message, terms: SubmissionTerms, receipt: Receipt?, session: String,
        completion: @escaping @Sendable (Reply) -> Void
    ) {
        let settings = settings.withLock { $0 }
        var context = PolicyContext(
            hostname: settings.hostname, now: envelope.received, zoneOffset: envelope.received.localOffset,
            senders: terms.senders, newID: newID, beginSpool: { [storage] in storage.beginSpool($0) })
        (context.fields, context.due, context.heldReason) = (terms.fields, terms.due, terms.heldReason)
        context.filter = terms.filter?.filter
        let submission = Submission(
            envelope: envelope, message: message, terms: terms, receipt: receipt, session: session,
            policies: settings.policies, context: context)
        let mail: PolicyMail
        do throws(PolicyRefusal) {
            mail = try settings.policies.begin(envelope, message, context)
        } catch {
            refused(error, submission)
            return completion(error.reply)
        }
        guard let quotas else { return admit(mail, submission, nil) { reply, _, _ in completion(reply) } }
        // What has no header is not counted; before all other policies, some of which cost much.
        quotas.take(envelope, size: message.size) { [self] charge, refusal in
            if let refusal {
                refused(PolicyRefusal(refusal), submission)
                return completion(refusal)
            }
            admit(mail, submission, charge) { reply, stored, isHeld in
                guard let charge else { return completion(reply) }
                quotas.settle(charge, stored: stored, isHeld: isHeld) { completion(reply) }
            }
        }
    }

    private func admit(
        _ mail: PolicyMail, _ submission: Submission, _ charge: Quotas.Charge?, _ completion: @escaping Completion
    ) {
        let (policies, context) = (submission.policies, submission.context)
        var mail = mail
        do throws(PolicyRefusal) {
            try policies.proceed(&mail, context)
        } catch {
            refused(error, submission)
            return completion(error.reply, [], false)
        }
        guard policies.waits(context) else { return store(mail, submission, charge, completion) }
        Task { [mail] in
            var mail = mail
            do throws(PolicyRefusal) {
                try await policies.finish(&mail, context)
                store(mail, submission, charge, completion)
            } catch {
                refused(error, submission)
                if let reason = error.keptBecause { keep(mail, submission, reason) }
                completion(error.reply, [], false)
            }
        }
    }

    /// What was refused for a fault of ours is there for whoever looks for it. The client is not told of it, and comes again.
    private func keep(_ mail: PolicyMail, _ submission: Submission, _ reason: String) {
        queue.accept(mail.envelopes, mail.message, heldReason: reason) { [self] result in
            if case .failure(let error) = result { _ = notStored(error, submission) }
        }
    }

    private func refused(_ refusal: PolicyRefusal, _ submission: Submission) {
        var fields: Logger.Metadata = ["reply": "\(refusal.reply)"]
        if let allowed = refusal.allowed { fields["allowed"] = "\(allowed)" }
        if let selector = refusal.selector { fields["selector"] = "\(selector)" }
        if let filter = refusal.filter { fields["milter"] = "\(filter)" }
        log(.info, "refused by policy", submission, fields)
    }

    private func store(
        _ mail: PolicyMail, _ submission: Submission, _ charge: Quotas.Charge?, _ completion: @escaping Completion
    ) {
        if let name = mail.discardedBy { return discard(by: name, submission, completion) }
        let terms = submission.terms
        // A rule's hold is the rule's: to release the login does not end it.
        let ruleReason = terms.heldReason ?? mail.heldReason
        // Asked now: policies may have taken long.
        let isHeld = ruleReason == nil && charge.map { quotas?.isHeld($0) == true } == true
        let heldReason = isHeld ? Quotas.heldReason : ruleReason
        queue.accept(
            mail.envelopes, mail.message, heldReason: heldReason, due: terms.due, receipt: submission.receipt
        ) { [self] result in
            if case .failure(let error) = result { return completion(notStored(error, submission), [], false) }
            var fields: Logger.Metadata = heldReason.map { ["held": "\($0)"] } ?? [:]
            if let due = terms.due { fields["due"] = "\(due.isoDate)" }
            // Once a message, which may be several envelopes.
            var told = Self.words(mail)
            for envelope in mail.envelopes {
                log(.info, "accepted", envelope, mail.message, submission.session, fields.merging(told) { $1 })
                told = [:]
            }
            completion(Self.queued(submission), mail.envelopes.map(\.id), isHeld)
        }
    }

    /// The client hears what it hears of a message that is queued; recipients are counted, and nothing else is kept.
    private func discard(by name: String, _ submission: Submission, _ completion: @escaping Completion) {
        // As it was submitted: filters may have taken all recipients out.
        let envelope = submission.envelope
        queue.discard(envelope, by: "milter \(name)", receipt: submission.receipt) { [self] result in
            if case .failure(let error) = result { return completion(notStored(error, submission), [], false) }
            log(.info, "discarded", submission, ["milter": "\(name)"])
            completion(Self.queued(submission), [envelope.id], false)
        }
    }

    private static func queued(_ submission: Submission) -> Reply {
        Reply(250, .init(2, 6, 0), "Message queued as \(submission.envelope.id)")
    }

    /// What the client hears where the storage has not taken what was to be done with its message.
    private func notStored(_ error: StorageError, _ submission: Submission) -> Reply {
        if case .repeated = error {
            log(.info, "submitted before", submission)
            return .repeated
        }
        log(.error, "message could not be stored", submission, ["error": "\(error.text)"])
        return Reply(storing: error)
    }

    /// What was mended in the header, and what was not.
    private static func words(_ mail: PolicyMail) -> Logger.Metadata {
        var fields: Logger.Metadata = [:]
        for (name, repairs) in [("repaired", mail.repairs), ("not_repaired", mail.unrepaired)] where !repairs.isEmpty {
            fields[name] = .string(
                HeaderRepair.allCases.filter(repairs.contains).map(\.rawValue).joined(separator: ","))
        }
        return fields
    }

    /// The storage's.
    package func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? {
        try await storage.receipt(for: key)
    }

    /// As the storage has it.
    package func submission(_ id: QueueID, of owners: [Receipt.Owner]) async throws(StorageError) -> SubmissionState? {
        try await storage.submission(id, of: owners)
    }

    /// Waits for the storage.
    package func forget(_ keys: [Receipt.Digest], completion: @escaping @Sendable (StorageError?) -> Void) {
        storage.commit(QueueCommit(forgotten: keys)) { result in
            switch result {
            case .success: completion(nil)
            case .failure(let error): completion(error)
            }
        }
    }

    private func log(
        _ level: Logger.Level, _ message: Logger.Message, _ submission: Submission, _ more: Logger.Metadata = [:]
    ) {
        log(level, message, submission.envelope, submission.message, submission.session, more)
    }

    private func log(
        _ level: Logger.Level, _ message: Logger.Message, _ envelope: Envelope, _ content: Message, _ session: String,
        _ more: Logger.Metadata
    ) {
        guard logger.logLevel <= level else { return }
        // A thousand recipients are no line of a log; each has a line of its own when it is attempted.
        var shown = envelope.recipients.prefix(20).map(\.text).joined(separator: ",")
        if envelope.recipients.count > 20 { shown += ",... (\(envelope.recipients.count - 20) more)" }
        let client = envelope.client
        var metadata: Logger.Metadata = [
            "queue_id": .string(envelope.id.description), "sender": .string(envelope.senderText),
            "recipient": .string(shown), "size": .string(String(content.size)),
            "client": .string(client.address.isEmpty ? "local" : client.address),
            "protocol": .string(client.protocolWord), "edge": .string(client.edge), "session": .string(session),
        ]
        if let tls = client.tls { metadata["tls"] = "\(tls)" }
        if let login = client.login { metadata["login"] = .string(login) }
        metadata.merge(more) { $1 }
        logger.log(level: level, message, metadata: metadata)
    }
}
