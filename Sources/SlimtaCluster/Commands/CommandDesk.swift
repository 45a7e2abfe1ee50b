// What operators ask of this node on other ones: read from the database, carried out by the queue as if it had been asked here, and
// answered. Opened by the node's thread at a beat; works by the threads that read.

import SlimtaMail
import SlimtaQueue
import Synchronization

/// Takes commands, and answers them.
///
/// Each is taken once, and is only then begun: who has asked can take it back until then, and knows that nothing was done.
final class CommandDesk: Sendable {
    /// Has the queue carry out what is ours of a command; it answers once.
    typealias Give = @Sendable (OperatorCommand, @escaping @Sendable (OperatorAnswer) -> Void) -> Void

    private let options: ClusterOptions
    private let node: NodeState
    private let pool: ReaderPool
    private let give: Give
    private let state = Mutex(State())

    private struct State {
        /// Whether somebody looks for commands.
        var isServing = false
        var isClosed = false
        /// Commands that were taken, and have no answer in the database; and who looks for more, who may be taking some.
        var busy = 0
    }

    /// How long it waits for the next command: who works through a long queue asks again and again.
    private static let pause = Duration.milliseconds(100)
    /// How often it is tried to write an answer, once a second: what it says is done.
    private static let tries = 10

    init(_ options: ClusterOptions, _ node: NodeState, _ pool: ReaderPool, give: @escaping Give) {
        self.options = options
        self.node = node
        self.pool = pool
        self.give = give
    }

    /// There is something to do, if it is not being done already.
    func open() {
        let begins = state.withLock { state in
            if state.isServing || state.isClosed { return false }
            state.isServing = true
            state.busy += 1
            return true
        }
        if begins { Task { await serve() } }
    }

    /// Takes no more; returns when all that was taken is answered, or when that takes longer than a commit may.
    func close() async {
        state.withLock { $0.isClosed = true }
        let end = ContinuousClock.now + options.commitTimeout
        while state.withLock({ $0.busy }) > 0, ContinuousClock.now < end {
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    private var isClosed: Bool { state.withLock { $0.isClosed } }

    /// Until nothing has come for two beats. What comes just then is found at the next one.
    private func serve() async {
        defer {
            state.withLock { state in
                state.isServing = false
                state.busy -= 1
            }
        }
        var last = ContinuousClock.now
        while !isClosed, ContinuousClock.now < last + options.lease * 2 / 5 {
            guard let commands = try? await take() else { return }
            for taken in commands {
                last = .now
                guard let verb = OperatorCommand.Verb(rawValue: taken.verb) else {
                    let text = "its slimtad is of another release and does not know this command"
                    await write(.failed(taken.command(.flush), .elsewhere(text)), to: taken.id)
                    continue
                }
                state.withLock { $0.busy += 1 }
                give(taken.command(verb)) { answer in
                    Task {
                        await self.write(answer, to: taken.id)
                        self.state.withLock { $0.busy -= 1 }
                    }
                }
            }
            if commands.isEmpty { try? await Task.sleep(for: Self.pause) }
        }
    }

    /// As it stands in the table.
    private struct Taken: Sendable {
        let id: QueueID
        let verb: String
        let reason: String?
        let by: String
        var ids: [QueueID] = []

        func command(_ verb: OperatorCommand.Verb) -> OperatorCommand {
            OperatorCommand(verb, ids, because: reason, by: by)
        }
    }

    private func take() async throws(StorageError) -> [Taken] {
        let incarnation = node.now.incarnation
        let name = options.node
        return try await pool.run { connection, deadline -> [Taken] in
            let rows = try connection.run(CommandStatements.take, [.text(name), .int8(incarnation)], by: deadline)
            var commands: [Taken] = []
            for row in 0..<rows.count {
                let id = rows.id(row, 0)
                if commands.last?.id != id {
                    let reason = rows.isNull(row, 2) ? nil : rows.text(row, 2)
                    commands.append(Taken(id: id, verb: rows.text(row, 1), reason: reason, by: rows.text(row, 3)))
                }
                if !rows.isNull(row, 4) { commands[commands.count - 1].ids.append(rows.id(row, 4)) }
            }
            return commands
        }
    }

    private func write(_ answer: OperatorAnswer, to id: QueueID) async {
        var ids = PostgresColumn(.uuid)
        var errors = PostgresColumn(.text)
        for failure in answer.failed {
            ids.append(failure.id)
            errors.append(failure.error.word)
        }
        let values = [.uuid(id), .int8(Int64(answer.done)), ids.value, errors.value] as [PostgresValue]
        for _ in 0..<Self.tries {
            let isWritten: Void? = try? await pool.run { connection, deadline in
                _ = try connection.run(CommandStatements.answer, values, by: deadline)
            }
            // The node's end does not wait for a database that is away.
            if isWritten != nil || isClosed { return }
            try? await Task.sleep(for: .seconds(1))
        }
    }
}
