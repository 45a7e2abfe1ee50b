// Operators' commands for what other nodes have: asked of those, through the database, and answered for all. ClusterStorage has one.

import SlimtaMail
import SlimtaQueue

/// Asks nodes.
///
/// A question is a row that names a node and its incarnation. The node takes it once and writes the answer; who asks looks again and
/// again, and takes the row away at the end. If it was not taken by then nothing was done, and nothing ever will be: then it is
/// asked of who has the envelopes now. If it was, and no answer came, nobody knows how far it is: that is said, and nothing is
/// asked twice.
final class CommandAsker: Sendable {
    /// Who has an envelope.
    private enum Place: Hashable {
        case node(String, incarnation: Int64)
        case here
        case nobody
    }

    /// How far a question is. Gone: the node is not there any more.
    private enum State {
        case missing, waits, taken, answered, gone
    }

    /// Why a question is not waited for any longer.
    private enum End {
        /// There is none, and there was none.
        case missing
        /// The node is not there any more.
        case gone
        case answered
        case late
    }

    /// What is asked of a node, as the table has it.
    fileprivate struct Question {
        let verb: String
        let ids: [QueueID]
        let reason: String?
        let by: String
    }

    /// What came of a question.
    private enum Reply {
        case answer(done: Int, errors: [(id: QueueID, word: String)])
        /// It was never taken; the node may have ended.
        case untouched(isGone: Bool)
        case unknown
    }

    private let options: ClusterOptions
    private let node: NodeState
    private let pool: ReaderPool

    /// Between two looks.
    private static let pause = Duration.milliseconds(50)
    /// How long a node may take over what it has begun.
    private static let longest = Duration.seconds(120)

    init(_ options: ClusterOptions, _ node: NodeState, _ pool: ReaderPool) {
        self.options = options
        self.node = node
        self.pool = pool
    }

    /// How long nodes have to take a question: three beats, and what a commit may take.
    private var patience: Duration { options.lease * 3 / 5 + options.commitTimeout }

    /// Asks those who have the envelopes. `give` is for what has become ours meanwhile.
    func ask(_ command: OperatorCommand, give: @escaping CommandDesk.Give) async -> OperatorAnswer {
        let end = ContinuousClock.now + patience
        if command.verb == .flushAll { return await askAll(command, until: end) }
        if let error = node.unreachable { return .failed(command, .storage(error)) }
        var answer = OperatorAnswer()
        var rest = command
        while true {
            // What is found when it is too late is told, and not asked.
            let isOver = ContinuousClock.now >= end || Task.isCancelled
            let places: [Place: [QueueID]]
            do throws(StorageError) { places = try await find(rest.ids) } catch {
                answer.add(.failed(rest, .storage(error)))
                return answer
            }
            let found = Set(places.values.joined())
            answer.failed += rest.ids.filter { !found.contains($0) }.map { .init(id: $0, error: .notFound) }
            if isOver {
                for (place, ids) in places { answer.add(.failed(rest.of(ids), .elsewhere(Self.text(place)))) }
                return answer
            }
            var part = await ask(rest, places, until: end, give: give)
            rest.ids = part.failed.filter(\.error.mayBeElsewhere).map(\.id)
            part.failed.removeAll(where: \.error.mayBeElsewhere)
            answer.add(part)
            if rest.ids.isEmpty { return answer }
            try? await Task.sleep(for: Self.pause)
        }
    }

    private static func text(_ place: Place) -> String {
        place == .nobody
            ? "no node has it at the moment: ask again when one is there that delivers"
            : "goes from one node to another: ask again in a moment"
    }

    /// All at once.
    private func ask(
        _ command: OperatorCommand, _ places: [Place: [QueueID]], until end: ContinuousClock.Instant,
        give: @escaping CommandDesk.Give
    ) async -> OperatorAnswer {
        await withTaskGroup(of: OperatorAnswer.self) { tasks in
            for (place, ids) in places {
                let part = command.of(ids)
                tasks.addTask {
                    switch place {
                    case .nobody: return .failed(part, .storage(.lost))
                    case .here:
                        return await withCheckedContinuation { told in give(part) { told.resume(returning: $0) } }
                    case .node(let name, let incarnation):
                        return await self.answer(of: name, incarnation, to: part, until: end)
                    }
                }
            }
            return await tasks.reduce(into: OperatorAnswer()) { $0.add($1) }
        }
    }

    /// What a node says for some of its envelopes.
    private func answer(
        of name: String, _ incarnation: Int64, to command: OperatorCommand, until end: ContinuousClock.Instant
    ) async -> OperatorAnswer {
        switch await question(Question(command), to: name, incarnation, until: end) {
        case .answer(let done, let errors): OperatorAnswer(done, errors, of: name)
        // Somebody else has them by now, or will.
        case .untouched(isGone: true): .failed(command, .storage(.lost))
        case .untouched(isGone: false):
            .failed(command, .elsewhere("node \(name) has it and does not answer; nothing was done: ask again"))
        case .unknown:
            .failed(
                command,
                .elsewhere("node \(name) has it, was told, and did not answer: it may be done or not; ask again"))
        }
    }

    /// Asks all other nodes that deliver, each for all that it has.
    private func askAll(_ command: OperatorCommand, until end: ContinuousClock.Instant) async -> OperatorAnswer {
        let others: [(String, Int64)]
        do throws(StorageError) { others = try await nodes(CommandStatements.others) } catch {
            return OperatorAnswer(silent: ["all other nodes (\(error.text))"])
        }
        return await withTaskGroup(of: OperatorAnswer.self) { tasks in
            for (name, incarnation) in others {
                tasks.addTask {
                    switch await self.question(Question(command), to: name, incarnation, until: end) {
                    case .answer(let done, let errors): OperatorAnswer(done, errors, of: name)
                    // Of one that has gone meanwhile nobody has flushed what others have now.
                    case .untouched, .unknown: OperatorAnswer(silent: ["node \(name)"])
                    }
                }
            }
            return await tasks.reduce(into: OperatorAnswer()) { $0.add($1) }
        }
    }

    /// Asks the daemons of all other nodes.
    func ask(_ question: NodeQuestion) async throws(StorageError) -> [NodeAnswer] {
        let end = ContinuousClock.now + patience
        let asked = Question(
            verb: CommandStatements.question, ids: [], reason: question.text, by: question.by)
        let others = try await nodes(CommandStatements.otherNodes)
        return await withTaskGroup(of: NodeAnswer.self) { tasks in
            for (name, incarnation) in others {
                tasks.addTask {
                    switch await self.question(asked, to: name, incarnation, until: end) {
                    case .answer(_, let errors):
                        NodeAnswer(name, errors.first?.word, silence: "its slimtad is of another release")
                    case .untouched(isGone: true): NodeAnswer(name, nil, silence: "has gone; nothing was done there")
                    case .untouched(isGone: false):
                        NodeAnswer(name, nil, silence: "does not answer; nothing was done there")
                    case .unknown:
                        NodeAnswer(name, nil, silence: "was asked and did not answer: it may be done there or not")
                    }
                }
            }
            return await tasks.reduce(into: []) { $0.append($1) }.sorted { $0.node < $1.node }
        }
    }

    // MARK: In the database

    /// Names and incarnations.
    private func nodes(_ statement: PostgresStatement) async throws(StorageError) -> [(String, Int64)] {
        try node.reachable()
        let me = options.node
        return try await pool.run { connection, deadline -> [(String, Int64)] in
            let rows = try connection.run(statement, [.text(me)], by: deadline)
            return (0..<rows.count).map { (rows.text($0, 0), rows.int($0, 1)) }
        }
    }

    private func find(_ ids: [QueueID]) async throws(StorageError) -> [Place: [QueueID]] {
        var buckets = PostgresColumn(.int4)
        for id in ids { buckets.append(node.bucketNumber(of: id)) }
        let values = [buckets.value, Self.column(ids)]
        let me = options.node
        return try await pool.run { connection, deadline -> [Place: [QueueID]] in
            let rows = try connection.run(CommandStatements.find, values, by: deadline)
            var places: [Place: [QueueID]] = [:]
            for row in 0..<rows.count {
                let place: Place =
                    if rows.isNull(row, 1) {
                        .nobody
                    } else if rows.text(row, 1) == me {
                        .here
                    } else {
                        .node(rows.text(row, 1), incarnation: rows.int(row, 2))
                    }
                places[place, default: []].append(rows.id(row, 0))
            }
            return places
        }
    }

    private static func column(_ ids: [QueueID]) -> PostgresValue {
        var column = PostgresColumn(.uuid)
        for id in ids { column.append(id) }
        return column.value
    }

    /// Asks, waits, and takes the question away.
    private func question(
        _ question: Question, to name: String, _ incarnation: Int64, until end: ContinuousClock.Instant
    ) async -> Reply {
        let id = QueueID(at: .now())
        let values: [PostgresValue] = [
            .uuid(id), .text(name), .int8(incarnation), .text(question.verb), Self.column(question.ids),
            .text(question.reason), .text(question.by),
        ]
        let isAsked: Void? = try? await pool.run { connection, deadline in
            _ = try connection.run(CommandStatements.ask, values, by: deadline)
        }
        // Where that did not come through, it may be there all the same.
        let ended = isAsked == nil ? End.late : await wait(for: id, until: end)
        if ended == .missing { return .untouched(isGone: true) }
        return await take(id, isGone: ended == .gone)
    }

    /// Until there is an answer, or none is to be expected.
    private func wait(for id: QueueID, until end: ContinuousClock.Instant) async -> End {
        var begun: ContinuousClock.Instant?
        while true {
            // While the database cannot be asked it is tried again.
            let state = try? await pool.run { connection, deadline -> State in
                let rows = try connection.run(CommandStatements.watch, [.uuid(id)], by: deadline)
                if rows.count == 0 { return State.missing }
                if rows.bool(0, 1) { return State.answered }
                // Who is not there any more will not answer.
                if !rows.bool(0, 2) { return State.gone }
                return rows.bool(0, 0) ? State.taken : State.waits
            }
            let now = ContinuousClock.now
            switch state {
            case .missing: return .missing
            case .gone: return .gone
            case .answered: return .answered
            case .taken: begun = begun ?? now
            case .waits, nil: break
            }
            if Task.isCancelled || now >= (begun.map { $0 + Self.longest } ?? end) { return .late }
            try? await Task.sleep(for: Self.pause)
        }
    }

    /// - Parameter isGone: whether the node is: what it has not taken is another one's to do.
    private func take(_ id: QueueID, isGone: Bool) async -> Reply {
        let reply = try? await pool.run { connection, deadline -> Reply in
            let rows = try connection.run(CommandStatements.end, [.uuid(id)], by: deadline)
            // A first try may have taken it away, with whatever was in it.
            guard rows.count > 0 else { return .unknown }
            guard rows.bool(0, 0) else { return .untouched(isGone: isGone) }
            if rows.isNull(0, 1) { return .unknown }
            let errors = (0..<rows.count).filter { !rows.isNull($0, 2) }.map { (rows.id($0, 2), rows.text($0, 3)) }
            return .answer(done: Int(rows.int(0, 1)), errors: errors)
        }
        return reply ?? .unknown
    }
}

extension CommandAsker.Question {
    fileprivate init(_ command: OperatorCommand) {
        self.init(verb: command.verb.rawValue, ids: command.ids, reason: command.reason, by: command.by)
    }
}

extension OperatorAnswer {
    /// What a node has written.
    fileprivate init(_ done: Int, _ errors: [(id: QueueID, word: String)], of node: String) {
        self.init(
            done: done,
            failed: errors.map { .init(id: $0.id, error: QueueOperationError(word: $0.word, of: node)) })
    }

    /// Nothing of a command was done.
    static func failed(_ command: OperatorCommand, _ error: QueueOperationError) -> OperatorAnswer {
        OperatorAnswer(failed: command.ids.map { .init(id: $0, error: error) })
    }
}

extension OperatorCommand {
    /// The same for others.
    fileprivate func of(_ ids: [QueueID]) -> OperatorCommand {
        var command = self
        command.ids = ids
        return command
    }
}
