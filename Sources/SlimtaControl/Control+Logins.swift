// Logins over the control socket: what was counted of them, and who is held. Whose mail is held is found in the queue, by
// login and reason.

import Logging
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaRules
import Synchronization

/// What operators do to a login, by its name on the command line, in requests and in the log.
package enum LoginAction: String, CaseIterable, Sendable {
    case hold, release, bounce

    /// All of them, for who named another.
    static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

extension Control {
    // MARK: Looking

    /// A page of logins, or one.
    func logins(_ query: [HTTPTarget.Parameter]) async throws(Refusal) -> HTTPResponse {
        try allow(["login", "held", "limit"], query)
        let now = Timestamp.now()
        if let name = query.first(where: { $0.name == "login" })?.value {
            guard let facts = quotas.now.facts(of: await subject(name).0, at: now) else {
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
        try allow(["login", "mail"], request.query)
        let names = request.query.filter { $0.name == "login" }.map(\.value)
        guard names.count == 1, let name = names.first, !name.isEmpty else {
            throw Refusal(400, "which login? login=NAME")
        }
        let mail = request.query.filter { $0.name == "mail" }
        guard mail.isEmpty || action != .bounce && mail.allSatisfy({ $0.value == "no" }) else {
            throw Refusal(400, "mail: hold and release have mail=no")
        }
        let (subject, isThere) = await subject(name)
        let now = Timestamp.now()
        var isKnown = isThere == true
        if !isKnown { isKnown = try await isHeardOf(subject, at: now) }
        if !isKnown, isThere == false, action != .release {
            throw Refusal(
                404,
                "nobody is called \(subject): it is no user, nothing was counted of it, and it has no mail in the queue; "
                    + "nothing was changed")
        }
        let by = await log(request, "login \(action.rawValue) \(subject)")
        var failed: [QueueOperationFailure] = []
        var done = 0
        switch action {
        case .hold:
            await quotas.hold(subject, because: "\(by) wants it so", at: now)
            if !mail.isEmpty { break }
            sweeping.withLock { _ = $0.underWay.insert(subject) }
            let sweep = try await holdRecent(of: [subject: now], by: by)
            (done, failed) = (sweep.done[subject] ?? 0, sweep.failed[subject] ?? [])
        case .release:
            let wasHeld = await quotas.release(subject, at: now)
            if !mail.isEmpty {
                guard wasHeld else { throw Refusal(409, "\(subject) is not held") }
                break
            }
            (done, failed) = try await forEachHeld(of: subject) {
                await self.queue.carryOut(OperatorCommand(.release, $0, by: by)).failed
            }
            if !wasHeld, done + failed.count == 0 { throw Refusal(409, "\(subject) is not held") }
        case .bounce:
            (done, failed) = try await forEachHeld(of: subject) {
                await self.queue.carryOut(OperatorCommand(.bounce, $0, by: by)).failed
            }
            if !quotas.isHeld(subject), done + failed.count == 0 { throw Refusal(409, "\(subject) is not held") }
            await countHeld()
        }
        logger.notice(
            "command carried out",
            metadata: ["command": "login \(action.rawValue) \(subject)", "by": "\(by)", "messages": "\(done)"])
        let told: [JSON.Member] = [.init("login", .string("\(subject)")), .init("known", .bool(isKnown))]
        return HTTPResponse(.object(told + (mail.isEmpty ? changed(done, failed) : [])))
    }

    /// Whom an operator means, and whether there is such a login; nil: nobody can tell. An address need not have sent anything.
    private func subject(_ name: String) async -> (QuotaSubject, isThere: Bool?) {
        let login = await daemon.login(name)
        let subject = quotas.subject(name, as: login.name)
        return (subject, subject.isLogin ? login.isThere : true)
    }

    /// Whether anything was counted of a sender, or it has mail in the queue.
    private func isHeardOf(_ subject: QuotaSubject, at now: Timestamp) async throws(Refusal) -> Bool {
        var isHeardOf = quotas.now.facts(of: subject, at: now) != nil
        if isHeardOf { return true }
        try await forEachPage(after: nil) { page in
            isHeardOf = isHeardOf || page.contains { QuotaSubject($0.envelope.client) == subject }
        }
        return isHeardOf
    }

    /// How many envelopes of a login that are held with it `perform` was done for, and those for which it was not, but for what
    /// has left meanwhile.
    private func forEachHeld(
        of subject: QuotaSubject, perform: ([QueueID]) async -> [QueueOperationFailure]
    ) async throws(Refusal) -> (Int, [QueueOperationFailure]) {
        var (done, failed) = (0, [QueueOperationFailure]())
        try await forEachPage(after: nil) { page in
            let ids = page.filter {
                $0.state.heldReason == Quotas.heldReason && QuotaSubject($0.envelope.client) == subject
            }.map(\.envelope.id)
            guard !ids.isEmpty else { return }
            let failures = await perform(ids)
            done += ids.count - failures.count
            failed += failures.filter { $0.error != .notFound }
        }
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
            .init(QuotaWindow.hour.name, amounts(facts.hour)), .init(QuotaWindow.day.name, amounts(facts.day)),
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
