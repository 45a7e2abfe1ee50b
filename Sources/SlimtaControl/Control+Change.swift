// What operators do to messages over the control socket. Each is durable before it is counted as done.

import Logging
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaRules
import Synchronization

extension Control {
    func change(_ action: QueueAction, _ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        let query = request.query
        try allow(["id", "all"] + QueueFilter.names + ["limit", "after", "until"], query)
        let ids = try query.filter { $0.name == "id" }.map { parameter throws(Refusal) in
            guard let id = QueueID(parameter.value) else {
                throw Refusal(400, "\"\(parameter.value)\" is not a queue id: 32 hexadecimal digits")
            }
            return id
        }
        let walk = try Walk(query)
        let all = query.first { $0.name == "all" }
        guard all.map({ $0.value == "yes" }) ?? true else { throw Refusal(400, "all: say all=yes") }
        let isGiven = [!ids.isEmpty, !walk.filter.isEmpty, all != nil].filter(\.self).count
        guard isGiven == 1 else {
            throw Refusal(400, "which messages? id=ID (also several), or a filter, or all=yes: one of these")
        }
        let by =
            walk.after == nil
            ? await log(request, "\(action.rawValue) \(described(query))") : await daemon.userName(request.peer.uid)
        if action == .flush, all != nil {
            let flushed = await queue.carryOut(OperatorCommand(.flushAll, [], by: by))
            logDone(action, flushed.done, by)
            return answer(flushed, next: nil)
        }
        var seen: Set<QueueID> = []
        var chosen = ids.filter { seen.insert($0).inserted }
        var next: QueueID?
        var isOfHeldLogin = await leavesHold(action, chosen)
        if ids.isEmpty {
            (_, next) = try await self.walk(walk) { queued, _, _ in
                chosen.append(queued.envelope.id)
                isOfHeldLogin = isOfHeldLogin || action.endsHold && queued.state.heldReason == Quotas.heldReason
            }
        }
        var result = await queue.carryOut(OperatorCommand(action.verb, chosen, by: by))
        if isOfHeldLogin { owesCount.store(true, ordering: .releasing) }
        // There is room for as much again of who is held: counted once, behind the last page.
        if next == nil, owesCount.exchange(false, ordering: .acquiringAndReleasing) { await countHeld() }
        if chosen.count != 1 { logDone(action, result.done, by) }
        // What left while we looked for it needs nothing more.
        if ids.isEmpty { result.failed.removeAll { $0.error == .notFound } }
        return answer(result, next: next)
    }

    /// Whether what is held with its login is among these, and is not behind the action.
    private func leavesHold(_ action: QueueAction, _ ids: [QueueID]) async -> Bool {
        guard action.endsHold, !ids.isEmpty, quotas.hasHolds else { return false }
        return await storage.states(ids).contains { (try? $0.get())?.heldReason == Quotas.heldReason }
    }

    private func answer(_ result: OperatorAnswer, next: QueueID?) -> HTTPResponse {
        var members = changed(result.done, result.failed)
        if !result.silent.isEmpty { members.append(.init("silent", .array(result.silent.map { .string($0) }))) }
        return HTTPResponse(.object(members + [.init("next", .optional(next.map { "\($0)" }))]))
    }

    /// What all changes of messages are answered with.
    func changed(_ done: Int, _ failed: [QueueOperationFailure]) -> [JSON.Member] {
        let failed = failed.map { failure -> JSON in
            .object([.init("id", .string("\(failure.id)")), .init("error", .string(failure.error.text))])
        }
        return [
            .init("done", .count(done)), .init("failed", .array(failed)), .init("delivering", .bool(daemon.delivers)),
        ]
    }

    private func logDone(_ action: QueueAction, _ count: Int, _ name: String) {
        logger.notice(
            "command carried out",
            metadata: ["command": "\(action.rawValue)", "by": "\(name)", "messages": "\(count)"])
    }

    /// What was asked for, in a log line.
    private func described(_ query: [HTTPTarget.Parameter]) -> String {
        let ids = query.count { $0.name == "id" }
        if ids > 3 { return "\(ids) messages" }
        return query.filter { !["limit", "until"].contains($0.name) }.map { "\($0.name)=\($0.value)" }.joined(
            separator: " ")
    }
}

extension QueueAction {
    /// Whether what was held is not behind it.
    fileprivate var endsHold: Bool {
        switch self {
        case .release, .remove, .bounce: true
        case .flush, .hold: false
        }
    }
}

extension QueueOperationError {
    /// In words, for who asked.
    var text: String {
        switch self {
        case .notFound: "is not queued"
        case .inFlight: "an attempt is being made: ask again in a moment"
        case .held: "is held: release it first"
        case .kept: EnvelopeState.keptText
        case .storage(let error): error.text
        case .elsewhere(let text): text
        }
    }
}
