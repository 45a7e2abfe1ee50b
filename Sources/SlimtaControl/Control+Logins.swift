// Logins over the control socket: what was counted of them, and who is held. Whose mail is held is found in the queue, by
// login and reason.

import Logging
package import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaRules

/// What operators do to a login, by its name on the command line, in requests and in the log.
package enum LoginAction: String, CaseIterable, Sendable {
    case hold, release, bounce

    /// All of them, for who named another.
    static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

extension Control {
    /// How long before a login is held what it has sent is held too.
    private static let recent = Duration.seconds(3600)
    /// Envelopes that are read, and changed, at once.
    private static let portion = 256
    /// Who does what nobody has commanded.
    private static let ownName = "slimtad"

    // MARK: Looking

    /// A page of logins, or one.
    func logins(_ query: [HTTPTarget.Parameter]) throws(Refusal) -> HTTPResponse {
        try allow(["login", "held", "limit"], query)
        let now = Timestamp.now()
        if let name = query.first(where: { $0.name == "login" })?.value {
            guard let facts = quotas.now.facts(of: quotas.subject(name), at: now) else {
                throw Refusal(404, "nothing is known of \(name): it has sent nothing that was counted, and is not held")
            }
            return HTTPResponse(.login(facts))
        }
        let limit = try Walk.limit(query)
        let isOnlyHeld = query.contains { $0.name == "held" && $0.value == "yes" }
        let quotas = quotas.now
        let found = quotas.facts(limit: limit, isOnlyHeld: isOnlyHeld, at: now)
        return HTTPResponse(
            .object([
                .init("counting", .bool(quotas.rules != nil)), .init("known", .count(quotas.count)),
                .init("logins", .array(found.map { .login($0) })),
            ]))
    }

    // MARK: Changing

    func change(_ action: LoginAction, _ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        try allow(["login"], request.query)
        guard let name = request.query.first?.value, !name.isEmpty, request.query.count == 1 else {
            throw Refusal(400, "which login? login=NAME")
        }
        let by = await log(request, "login \(action.rawValue) \(name)")
        let subject = quotas.subject(name)
        let now = Timestamp.now()
        var failed: [QueueOperationFailure] = []
        var done = 0
        switch action {
        case .hold:
            await quotas.hold(subject, because: "\(by) wants it so", at: now)
            (done, failed) = try await holdRecent(of: subject, by: by)
        case .release:
            let wasHeld = await quotas.release(subject, at: now)
            (done, failed) = try await forEachHeld(of: subject) { await self.queue.release($0, by: by) }
            if !wasHeld, done + failed.count == 0 { throw Refusal(409, "\(name) is not held") }
        case .bounce:
            (done, failed) = try await forEachHeld(of: subject) { await self.bounce($0, by: by) }
            if failed.isEmpty { quotas.emptied(subject, at: now) }
        }
        logger.notice(
            "command carried out",
            metadata: ["command": "login \(action.rawValue) \(name)", "by": "\(by)", "messages": "\(done)"])
        return HTTPResponse(.object([.init("login", .string("\(subject)"))] + changed(done, failed)))
    }

    /// Holds what a login that is held has sent shortly before and is not delivered yet. What goes wrong is told in the log.
    package func holdRecent(of login: String) async {
        let subject = QuotaSubject.login(login)
        do throws(Refusal) {
            let (done, failed) = try await holdRecent(of: subject, by: Self.ownName)
            tellNotHeld(failed.filter { $0.error != .inFlight }, of: subject)
            guard done > 0 else { return }
            logger.notice("recent mail of a login is held", metadata: ["login": "\(login)", "messages": "\(done)"])
        } catch {
            tellNotHeld(error.text, of: subject)
        }
    }

    /// Lets envelopes go that were stored as held while their login was released. What goes wrong is told in the log.
    package func releaseStored(_ ids: [QueueID]) async {
        for failure in await queue.release(ids, by: Self.ownName) where failure.error != .notFound {
            logger.error(
                "mail of a released login stays held",
                metadata: ["queue_id": "\(failure.id)", "error": "\(failure.error.text)"])
        }
    }

    /// Where nobody waits for the answer.
    private func tellNotHeld(_ failed: [QueueOperationFailure], of subject: QuotaSubject) {
        guard let first = failed.first else { return }
        tellNotHeld("\(failed.count) of it, the first \(first.id): \(first.error.text)", of: subject)
    }

    private func tellNotHeld(_ reason: String, of subject: QuotaSubject) {
        logger.error("recent mail of a login is not held", metadata: ["login": "\(subject)", "error": "\(reason)"])
    }

    private func holdRecent(
        of subject: QuotaSubject, by name: String
    ) async throws(Refusal) -> (Int, [QueueOperationFailure]) {
        let first = Timestamp.now() + (.zero - Self.recent)
        // Ids begin with the time.
        let start = QueueID(high: UInt64(clamping: first.milliseconds) << 16, low: 0)
        let (done, failed) = try await forEach(after: start) {
            QuotaSubject($0.envelope.client) == subject && !$0.state.isHeld
        } perform: {
            await self.queue.hold($0, because: Quotas.heldReason, by: name)
        }
        let attempted = Self.inFlight(failed)
        if !attempted.isEmpty { Task { await holdAttempted(attempted, of: subject, by: name) } }
        return (done, failed)
    }

    /// What is being attempted is held as soon as that has ended, if it is not delivered then: for half an hour, and while
    /// its login is held.
    private func holdAttempted(_ ids: [QueueID], of subject: QuotaSubject, by name: String) async {
        var (ids, wait, waited) = (ids, Duration.milliseconds(100), Duration.zero)
        while !ids.isEmpty {
            guard (try? await Task.sleep(for: wait)) != nil, quotas.isHeld(subject) else { return }
            let failed = await queue.hold(ids, because: Quotas.heldReason, by: name).filter { $0.error != .notFound }
            waited += wait
            let isLast = waited >= .seconds(1800)
            tellNotHeld(failed.filter { isLast || $0.error != .inFlight }, of: subject)
            if isLast { return }
            ids = Self.inFlight(failed)
            wait = min(wait * 2, .seconds(10))
        }
    }

    private static func inFlight(_ failed: [QueueOperationFailure]) -> [QueueID] {
        failed.filter { $0.error == .inFlight }.map(\.id)
    }

    private func forEachHeld(
        of subject: QuotaSubject, perform: ([QueueID]) async -> [QueueOperationFailure]
    ) async throws(Refusal) -> (Int, [QueueOperationFailure]) {
        try await forEach(after: nil) {
            $0.state.heldReason == Quotas.heldReason && QuotaSubject($0.envelope.client) == subject
        } perform: {
            await perform($0)
        }
    }

    /// How many it was done for, and those for which it was not, but for what has left meanwhile.
    private func forEach(
        after start: QueueID?, where isMeant: (QueuedEnvelope) -> Bool,
        perform: ([QueueID]) async -> [QueueOperationFailure]
    ) async throws(Refusal) -> (Int, [QueueOperationFailure]) {
        var (done, failed, place) = (0, [QueueOperationFailure](), start)
        repeat {
            let page: QueuedPage
            do throws(StorageError) { page = try await storage.page(after: place, count: Self.portion) } catch {
                throw Refusal(error)
            }
            let ids = page.envelopes.filter { !$0.envelope.client.edge.isEmpty && isMeant($0) }.map(\.envelope.id)
            if !ids.isEmpty {
                let failures = await perform(ids)
                done += ids.count - failures.count
                failed += failures.filter { $0.error != .notFound }
            }
            place = page.next
        } while place != nil
        return (done, failed)
    }
}

extension JSON {
    /// What is known of a login, or an address.
    static func login(_ facts: QuotaFacts) -> JSON {
        .object([
            .init("name", .string("\(facts.subject)")), .init("is_login", .bool(facts.subject.isLogin)),
            .init("held", .bool(facts.hold != nil)), .init("held_since", .optional(facts.hold?.since.isoDate)),
            .init("reason", .optional(facts.hold?.reason)),
            .init("held_messages", .count(facts.hold?.messages ?? 0)),
            .init("held_octets", .count(facts.hold?.octets ?? 0)),
            .init("forgiven_until", .optional(facts.forgivenUntil?.isoDate)),
            .init("learning", .bool(facts.isLearning)),
            .init("since", .string(facts.since.isoDate)), .init("last", .string(facts.last.isoDate)),
            .init("hour", amounts(facts.hour)), .init("day", amounts(facts.day)),
            .init("known_recipients", .count(facts.known)),
            .init(
                "last_outcomes",
                .object([.init("refused", .count(facts.refused.count)), .init("all", .count(facts.refused.of))])),
            .init("exceeded", .array(facts.exceeded.map { .string("\($0)") })),
            .init("limits", .object(QuotaLimits.Level.allCases.map { .init($0.rawValue, limits(facts.limits[$0])) })),
            .init("refused_share", facts.limits.refusedShare.map { .count($0) } ?? .null),
        ])
    }

    private static func amounts(_ amounts: QuotaAmounts) -> JSON {
        .object(QuotaCounter.allCases.map { .init($0.rawValue, .count(amounts[$0])) })
    }

    private static func limits(_ limits: [QuotaLimits.Limit]) -> JSON {
        .array(
            limits.map {
                .object([
                    .init("counter", .string($0.counter.rawValue)), .init("window", .string($0.window.rawValue)),
                    .init("most", .count($0.most)),
                ])
            })
    }
}
