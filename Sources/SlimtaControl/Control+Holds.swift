// What is to be done for logins that are held: what they have sent shortly before is held too, the operator is told by mail,
// and what is held of them is counted anew when some of it has left. The daemon calls it at the start, before anything is
// attempted, when a login is held, and every few seconds while one is: what could not be done then is done later.

import Logging
import NIOCore
package import SlimtaMail
import SlimtaQueue
import SlimtaRules
import Synchronization

extension Control {
    /// How long before a login is held what it has sent is held too.
    static let recent = Duration.seconds(3600)
    /// Envelopes that are read, and changed, at once.
    private static let portion = 256
    /// Who does what nobody has commanded.
    private static let ownName = "slimtad"
    /// How long what is being attempted is waited for.
    private static let attemptLimit = Duration.seconds(1800)
    /// How long the storage knows of a notice: much longer than it takes to write down that it was sent.
    private static let noticeMemory = Duration.seconds(86400)

    /// Does what is still to be done.
    package func lookAfterHolds() async {
        let holds = quotas.holds
        let due = holds.filter { $0.value.duties.contains(.recent) }
        let began = sweeping.withLock { sweeping in
            let new = due.filter { !sweeping.underWay.contains($0.key) }
            sweeping.underWay.formUnion(new.keys)
            return new.mapValues(\.since)
        }
        if !began.isEmpty { await holdRecent(of: began) }
        await sendNotices(holds.filter { $0.value.duties.contains(.notice) })
        if owesCount.exchange(false, ordering: .acquiringAndReleasing) { await countHeld() }
    }

    // MARK: Recent mail

    /// Where nobody waits for the answer: what goes wrong is told in the log.
    private func holdRecent(of logins: [QuotaSubject: Timestamp]) async {
        do throws(Refusal) {
            let sweep = try await holdRecent(of: logins, by: Self.ownName)
            for (login, failed) in sweep.failed { tellNotHeld(failed.filter { $0.error != .inFlight }, of: login) }
            for (login, messages) in sweep.done {
                logger.notice(
                    "recent mail of a login is held", metadata: ["login": "\(login)", "messages": "\(messages)"])
            }
        } catch {
            for login in logins.keys { tellNotHeld(error.text, of: login) }
        }
    }

    /// Lets envelopes go that were stored as held while their login was released. What goes wrong is told in the log.
    package func releaseStored(_ ids: [QueueID]) async {
        let released = await queue.carryOut(OperatorCommand(.release, ids, by: Self.ownName))
        for failure in released.failed where failure.error != .notFound {
            logger.error(
                "mail of a released login stays held",
                metadata: ["queue_id": "\(failure.id)", "error": "\(failure.error.text)"])
        }
    }

    private func tellNotHeld(_ failed: [QueueOperationFailure], of subject: QuotaSubject) {
        guard let first = failed.first else { return }
        tellNotHeld("\(failed.count) of it, the first \(first.id): \(first.error.text)", of: subject)
    }

    private func tellNotHeld(_ reason: String, of subject: QuotaSubject) {
        guard sweeping.withLock({ $0.failing.insert(subject).inserted }) else { return }
        logger.error("recent mail of a login is not held", metadata: ["login": "\(subject)", "error": "\(reason)"])
    }

    private func isSwept(_ subject: QuotaSubject, heldSince since: Timestamp) {
        _ = sweeping.withLock { $0.failing.remove(subject) }
        quotas.fulfilled(.recent, of: subject, heldSince: since)
    }

    /// What became of the recent mail of logins.
    struct Sweep {
        /// How many messages are held now of whom.
        var done: [QuotaSubject: Int] = [:]
        /// Those that are not, but for what has left meanwhile.
        var failed: [QuotaSubject: [QueueOperationFailure]] = [:]
    }

    /// Holds what logins have sent shortly before these times, or since, and is not delivered yet. They are to be in
    /// ``sweeping``, and are not any more when all is done: maybe later than this returns, for what is being attempted.
    func holdRecent(of logins: [QuotaSubject: Timestamp], by name: String) async throws(Refusal) -> Sweep {
        var (sweep, attempted, broken) = (Sweep(), [QuotaSubject: [QueueID]](), Set<QuotaSubject>())
        var waiting: Set<QuotaSubject> = []
        defer {
            let ended = Set(logins.keys).subtracting(waiting)
            sweeping.withLock { $0.underWay.subtract(ended) }
        }
        try await forEachPage(after: (logins.values.min() ?? .now()) + (.zero - Self.recent)) { page in
            var owners: [QueueID: QuotaSubject] = [:]
            for queued in page where !queued.state.isHeld {
                let subject = QuotaSubject(queued.envelope.client)
                guard let since = logins[subject], queued.envelope.id.time >= since + (.zero - Self.recent) else {
                    continue
                }
                owners[queued.envelope.id] = subject
            }
            guard !owners.isEmpty else { return }
            let held = await queue.carryOut(
                OperatorCommand(.hold, Array(owners.keys), because: Quotas.heldReason, by: name))
            for failure in held.failed {
                guard let subject = owners.removeValue(forKey: failure.id) else { continue }
                switch failure.error {
                case .notFound: continue
                case .inFlight: attempted[subject, default: []].append(failure.id)
                case .held, .kept, .storage, .elsewhere: broken.insert(subject)
                }
                sweep.failed[subject, default: []].append(failure)
            }
            for subject in owners.values { sweep.done[subject, default: 0] += 1 }
        }
        for (subject, hold) in quotas.holds where logins[subject] != nil && !broken.contains(subject) {
            if let ids = attempted[subject] {
                waiting.insert(subject)
                Task { await holdAttempted(ids, of: subject, hold.since, by: name) }
            } else {
                isSwept(subject, heldSince: hold.since)
            }
        }
        return sweep
    }

    /// What is being attempted is held as soon as that has ended, if it is not delivered then: for half an hour, and while
    /// its login is held.
    private func holdAttempted(
        _ ids: [QueueID], of subject: QuotaSubject, _ since: Timestamp, by name: String
    ) async {
        defer { _ = sweeping.withLock { $0.underWay.remove(subject) } }
        var (ids, wait, waited) = (ids, Duration.milliseconds(100), Duration.zero)
        while !ids.isEmpty {
            guard (try? await Task.sleep(for: wait)) != nil, quotas.isHeld(subject) else { return }
            let held = await queue.carryOut(OperatorCommand(.hold, ids, because: Quotas.heldReason, by: name))
            let failed = held.failed.filter { $0.error != .notFound }
            waited += wait
            wait = min(wait * 2, .seconds(10))
            // What the storage cannot do, and what takes that long, is looked at again.
            if waited >= Self.attemptLimit || failed.contains(where: { $0.error != .inFlight }) {
                return tellNotHeld(failed, of: subject)
            }
            ids = failed.map(\.id)
        }
        isSwept(subject, heldSince: since)
    }

    /// The queue from a time on, but for what is our own.
    func forEachPage(
        after start: Timestamp?, _ body: ([QueuedEnvelope]) async -> Void
    ) async throws(Refusal) {
        // Ids begin with the time.
        var place = start.map { QueueID(high: UInt64(clamping: $0.milliseconds) << 16, low: 0) }
        repeat {
            let page: QueuedPage
            do throws(StorageError) { page = try await storage.page(after: place, count: Self.portion) } catch {
                throw Refusal(error)
            }
            await body(page.envelopes.filter { !$0.envelope.client.edge.isEmpty })
            place = page.next
        } while place != nil
    }

    // MARK: Counting

    /// Counts anew what came of logins since they are held, and is held yet: some of it has left the queue, maybe while no
    /// daemon ran. Envelopes that policies have made of one message count once.
    package func countHeld() async {
        let (holds, began) = (quotas.holds, Timestamp.now())
        guard let first = holds.values.map(\.since).min() else { return }
        struct Key: Hashable {
            let received: Timestamp
            let content: Int
        }
        var found: [QuotaSubject: [Key: Int]] = [:]
        let counted: Void? = try? await forEachPage(after: first) { page in
            for queued in page where queued.state.heldReason == Quotas.heldReason {
                let (subject, received) = (QuotaSubject(queued.envelope.client), queued.envelope.received)
                // What comes from now on is counted as it comes.
                guard let hold = holds[subject], received >= hold.since, received <= began,
                    let message = try? await storage.look(at: queued.envelope.id).message
                else { continue }
                // Two messages of one millisecond differ in that.
                var hasher = Hasher()
                message.head.withUnsafeReadableBytes { hasher.combine(bytes: $0) }
                let key = Key(received: received, content: hasher.finalize())
                found[subject, default: [:]][key] = message.size
            }
        }
        guard counted != nil else { return owesCount.store(true, ordering: .releasing) }
        for (subject, hold) in holds {
            let sizes = found[subject, default: [:]].values
            quotas.counted(messages: sizes.count, octets: sizes.reduce(0, +), of: subject, before: hold)
        }
    }

    // MARK: Telling

    /// Puts a notice into the queue for each of these. The storage takes none of them twice, though a crash may make us
    /// try.
    private func sendNotices(_ holds: [QuotaSubject: QuotaHold]) async {
        guard let first = holds.values.map(\.since).min() else { return }
        let (quotas, now) = (quotas.now, Timestamp.now())
        guard let rules = quotas.rules, let address = rules.notify else {
            // The address was taken out of slimta.conf meanwhile.
            for (subject, hold) in holds { self.quotas.fulfilled(.notice, of: subject, heldSince: hold.since) }
            return
        }
        var held: [QuotaSubject: HoldNotice.Held] = [:]
        try? await forEachPage(after: first + (.zero - Self.recent)) { page in
            for queued in page where queued.state.heldReason == Quotas.heldReason {
                let subject = QuotaSubject(queued.envelope.client)
                if holds[subject] != nil { held[subject, default: .init()].add(queued.envelope) }
            }
        }
        let hostname = await daemon.facts(now).hostname
        for (subject, hold) in holds {
            guard let facts = quotas.facts(of: subject, at: now), facts.hold?.since == hold.since else { continue }
            let notice = HoldNotice(facts, held[subject] ?? .init(), rules.action, hostname: hostname)
            let name = quotas.name(of: hold, subject)
            let id = storage.newID(at: now)
            let key = Receipt.Digest(name[0], name[1], name[2], name[3])
            let receipt = Receipt(
                key: key, owner: .init(key), fingerprint: key, id: id, expires: now + Self.noticeMemory)
            let message = notice.message(id, to: address, at: now)
            let envelope = await queue.signed(notice.envelope(id, to: address, at: now), message)
            let result = await accept(envelope, message, receipt)
            switch result {
            case .success:
                logger.notice(
                    "notice of a held login queued",
                    metadata: ["login": "\(subject)", "queue_id": "\(id)", "recipient": "\(address)"])
            case .failure(.repeated): break
            case .failure: continue
            }
            self.quotas.fulfilled(.notice, of: subject, heldSince: hold.since)
        }
    }

    private func accept(
        _ envelope: Envelope, _ message: Message, _ receipt: Receipt
    ) async -> Result<Void, StorageError> {
        await withCheckedContinuation { continuation in
            queue.accept([envelope], message, receipt: receipt) { continuation.resume(returning: $0) }
        }
    }
}
