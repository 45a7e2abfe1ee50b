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
    /// Has the daemon answer a question.
    typealias Ask = @Sendable (NodeQuestion) async -> String

    private let options: ClusterOptions
    private let node: NodeState
    private let pool: ReaderPool
    private let give: Give
    private let ask: Ask
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

    init(
        _ options: ClusterOptions, _ node: NodeState, _ pool: ReaderPool, give: @escaping Give, ask: @escaping Ask
    ) {
        self.options = options
        self.node = node
        self.pool = pool
        self.give = give
        self.ask = ask
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
                state.withLock { $0.busy += 1 }
                begin(taken)
            }
            if commands.isEmpty { try? await Task.sleep(for: Self.pause) }
        }
    }

    private func begin(_ taken: Taken) {
        if taken.verb == CommandStatements.question {
            Task {
                let text = await ask(NodeQuestion(taken.reason ?? "", by: taken.by))
                await self.end(taken, done: 0, [(taken.id, text)])
            }
        } else if let verb = OperatorCommand.Verb(rawValue: taken.verb) {
            give(taken.command(verb)) { answer in
                Task { await self.end(taken, done: answer.done, answer.failed.map { ($0.id, $0.error.word) }) }
            }
        } else {
            let error = QueueOperationError.elsewhere(
                "its slimtad is of another release and does not know this command")
            Task { await self.end(taken, done: 0, taken.ids.map { ($0, error.word) }) }
        }
    }

    private func end(_ taken: Taken, done: Int, _ errors: [(QueueID, String)]) async {
        await write(done, errors, to: taken.id)
        state.withLock { $0.busy -= 1 }
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

    private func write(_ done: Int, _ errors: [(id: QueueID, word: String)], to id: QueueID) async {
        var ids = PostgresColumn(.uuid)
        var words = PostgresColumn(.text)
        for error in errors {
            ids.append(error.id)
            words.append(error.word)
        }
        let values = [.uuid(id), .int8(Int64(done)), ids.value, words.value] as [PostgresValue]
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
