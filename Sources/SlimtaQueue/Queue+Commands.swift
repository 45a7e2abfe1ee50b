// Operators' commands as a whole: what is ours is done here, what other nodes have is asked of them. Called by the control service,
// and by the storage for who has asked on another node.

import SlimtaMail

extension Queue {
    /// Envelopes whose changes are made durable at once.
    private static let atOnce = 128

    /// Carries a command out for envelopes whoever has them: each once.
    package func carryOut(_ command: OperatorCommand) async -> OperatorAnswer {
        var answer = await perform(command)
        let strangers = answer.failed.filter(\.error.mayBeElsewhere).map(\.id)
        guard command.verb == .flushAll || !strangers.isEmpty else { return answer }
        answer.failed.removeAll(where: \.error.mayBeElsewhere)
        var rest = command
        rest.ids = strangers
        answer.add(await storage.ask(rest))
        return answer
    }

    /// Carries it out for what is ours. Of all else it says that it is not there, or another node's.
    package func perform(_ command: OperatorCommand) async -> OperatorAnswer {
        if command.verb == .flushAll { return OperatorAnswer(done: await flushAll()) }
        var failed: [QueueOperationFailure] = []
        for start in stride(from: 0, to: command.ids.count, by: Self.atOnce) {
            let part = Array(command.ids[start...].prefix(Self.atOnce))
            switch command.verb {
            case .flush, .flushAll: failed += await flush(part, by: command.by)
            case .hold: failed += await hold(part, because: command.reason, by: command.by)
            case .release: failed += await release(part, by: command.by)
            case .remove: failed += await remove(part, by: command.by)
            case .bounce: failed += await bounce(part, by: command.by)
            }
        }
        return OperatorAnswer(of: command.ids, failed: failed)
    }

    /// Each is a commit of its own, with the notice; the storage makes one batch of those that are made at once.
    private func bounce(_ ids: [QueueID], by operatorName: String) async -> [QueueOperationFailure] {
        await withTaskGroup(of: QueueOperationFailure?.self) { tasks in
            for id in ids {
                tasks.addTask {
                    do throws(QueueOperationError) {
                        try await self.bounce(id, by: operatorName)
                        return nil
                    } catch {
                        return QueueOperationFailure(id: id, error: error)
                    }
                }
            }
            return await tasks.reduce(into: []) { failed, failure in if let failure { failed.append(failure) } }
        }
    }
}
