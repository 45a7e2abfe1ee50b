// What operators do to messages over the control socket. Each is durable before it is counted as done.

import SlimtaControl
import SlimtaMail
import SlimtaQueue
import SlimtaStorage

/// What can be done to a queued message.
enum QueueAction: String, CaseIterable, Sendable {
    case flush, hold, release, remove, bounce

    static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }

    /// What was done, in a log line and for who asked.
    var done: String {
        switch self {
        case .flush: "flushed"
        case .hold: "held"
        case .release: "released"
        case .remove: "removed"
        case .bounce: "bounced"
        }
    }
}

extension Control {
    /// Changes that are being made durable at once: the storage makes one batch of them.
    private static let atOnce = 64

    func change(_ action: QueueAction, _ request: ControlRequest) async throws(Refusal) -> ControlResponse {
        let query = request.query
        try allow(["id", "all"] + QueueFilter.names + ["limit", "after", "until"], query)
        let ids = try query.filter { $0.name == "id" }.map { parameter throws(Refusal) in
            guard let id = QueueID(parameter.value) else {
                throw Refusal(400, "\"\(parameter.value)\" is not a queue id: 32 hexadecimal digits")
            }
            return id
        }
        var walk = try Walk(query)
        let all = query.first { $0.name == "all" }
        guard all.map({ $0.value == "yes" }) ?? true else { throw Refusal(400, "all: say all=yes") }
        let isGiven = [!ids.isEmpty, !walk.filter.isEmpty, all != nil].filter(\.self).count
        guard isGiven == 1 else {
            throw Refusal(400, "which messages? id=ID (also several), or a filter, or all=yes: one of these")
        }
        let by =
            walk.after == nil ? await log(request, "\(action.rawValue) \(described(query))") : await name(of: request)
        if action == .flush, all != nil {
            return answer(await queue.flushAll(), [], next: nil)
        }
        var chosen = ids
        var next: QueueID?
        if ids.isEmpty {
            walk.limit = min(walk.limit, 1000)
            (_, next) = try await self.walk(walk) { queued, _, _ in chosen.append(queued.envelope.id) }
        }
        let failed = await perform(action, chosen, by: by)
        // What left while we looked for it needs nothing more.
        let told = ids.isEmpty ? failed.filter { $0.1 != .notFound } : failed
        return answer(
            chosen.count - failed.count,
            told.map { .object([.init("id", .string("\($0)")), .init("error", .string($1.text))]) }, next: next)
    }

    private func answer(_ done: Int, _ failed: [JSON], next: QueueID?) -> ControlResponse {
        ControlResponse(
            .object([
                .init("done", .count(done)), .init("failed", .array(failed)),
                .init("next", .optional(next.map { "\($0)" })),
            ]))
    }

    /// What was asked for, in a log line.
    private func described(_ query: [ControlRequest.Parameter]) -> String {
        let ids = query.count { $0.name == "id" }
        if ids > 3 { return "\(ids) messages" }
        return query.filter { !["limit", "until"].contains($0.name) }.map { "\($0.name)=\($0.value)" }.joined(
            separator: " ")
    }

    /// Returns what could not be done.
    private func perform(
        _ action: QueueAction, _ ids: [QueueID], by name: String
    ) async -> [(QueueID, QueueOperationError)] {
        await withTaskGroup(of: (QueueID, QueueOperationError)?.self) { tasks in
            var failed: [(QueueID, QueueOperationError)] = []
            for (number, id) in ids.enumerated() {
                if number >= Self.atOnce, let failure = await tasks.next() ?? nil { failed.append(failure) }
                tasks.addTask { [queue] in
                    do throws(QueueOperationError) {
                        switch action {
                        case .flush: try await queue.flush(id)
                        case .hold: try await queue.hold(id)
                        case .release: try await queue.release(id)
                        case .remove: try await queue.remove(id, by: name)
                        case .bounce: try await queue.bounce(id, by: name)
                        }
                        return nil
                    } catch {
                        return (id, error)
                    }
                }
            }
            for await failure in tasks { if let failure { failed.append(failure) } }
            return failed
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
        case .storage(let error): error.text
        }
    }
}
