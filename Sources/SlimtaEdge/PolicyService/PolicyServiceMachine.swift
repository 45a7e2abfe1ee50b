// Which question to a policy server goes out on which connection, when it is tried again and when it is given up: the rules of
// PolicyServiceClient, without connections. A value; time comes in with each event.

internal import NIOCore

/// The questions to one service and the connections to it.
///
///     asked ──▶ in line ──▶ on a connection ──answered──▶ over
///       │          ▲             │ the connection failed: once more, on a new one
///       │          └── pausing ◀─┘ and, if it was new itself, after a pause
///       └──▶ given up: the breaker is open, the line is full; later: second failure, or no time left
///
/// - One question is on a connection at a time, as servers expect it. What comes is answered by the connection that
///   answered the same session last, if it is idle, else by the one used last; a new one is made if none is idle.
/// - A connection that was idle may be closed by the server at any time: the question is asked again at once, on a new one.
/// - Questions of different sessions that fail one after another open the breaker: everything is given up at once, without
///   waiting, until the pause is over; then one question is the trial for all. Those of one session do not: a server can
///   fail of what a client has said. Of connections that cannot be made no client is the cause: each counts.
/// - Everything is bounded: connections, idle ones and their time, questions in line, the time of a question.
struct PolicyServiceMachine: Sendable {
    typealias QuestionID = UInt64
    typealias ConnectionID = UInt64

    struct Limits: Hashable, Sendable {
        /// Connections at a time, closing ones counted.
        var connections = 50
        /// Idle ones; more are closed.
        var idle = 10
        /// How long one may be idle. Postfix and some servers close their side after 300 s.
        var idleTime = TimeAmount.seconds(60)
        /// Questions that are on no connection: in line, or pausing.
        var waiting = 1000
        /// What a question may take in all.
        var timeout = TimeAmount.seconds(5)
        /// How often it may go out.
        var tries = 2
        /// Before the second try, if the first was on a new connection.
        var pause = TimeAmount.seconds(1)
        /// Sessions, or connections that could not be made, with failures in a row that open the breaker.
        var failures = 3
        /// For how long.
        var breakTime = TimeAmount.seconds(30)
    }

    /// Why a question got no answer.
    enum Failure: Hashable, Sendable, CustomStringConvertible {
        case timedOut
        /// No connection, or one that failed before the answer: in the words of whoever saw it.
        case connection(String)
        case breakerOpen
        case lineFull
        case shutDown

        /// For logs.
        var description: String {
            switch self {
            case .timedOut: "no answer in time"
            case .connection(let reason): reason
            case .breakerOpen: "not asked, it failed before"
            case .lineFull: "too many questions wait"
            case .shutDown: "slimtad stops"
            }
        }
    }

    /// What is to be done; one event can lead to several.
    enum Action: Hashable, Sendable {
        /// Make this connection. ``connected(_:_:)`` or ``failed(_:_:_:)`` and ``closed(_:_:)`` are to follow.
        case connect(ConnectionID)
        /// Send the question.
        case send(ConnectionID, QuestionID)
        /// Close it; ``closed(_:_:)`` is to follow.
        case close(ConnectionID)
        /// The answer that has come is this question's.
        case deliver(QuestionID)
        /// This question gets none.
        case giveUp(QuestionID, Failure)
        /// For the log: the service failed a question, maybe the trial; none was told of within the last minute.
        case tellFailure(Failure)
        /// For the log: the breaker has opened.
        case tellOpened(Failure)
        /// For the log: the service answers again.
        case tellRecovered
    }

    private struct Question {
        let session: UInt64
        let deadline: NIODeadline
        var tries = 0
        /// Not on a connection that was idle: one of those has just failed it.
        var needsNew = false
        /// nil: in line, or pausing.
        var connection: ConnectionID?
        /// Nobody waits for the answer, which has to come all the same.
        var isWithdrawn = false
        /// Not before that.
        var pausesUntil: NIODeadline?
    }

    private enum Phase: Hashable {
        case connecting(QuestionID)
        case busy(QuestionID)
        case idle(since: NIODeadline)
        case closing
    }

    private struct Connection {
        var phase: Phase
        /// Whether it has answered.
        var isUsed = false
        /// Of the question that it answered last.
        var session: UInt64?
    }

    private enum Breaker: Hashable {
        /// What has failed since one was answered.
        case closed(Set<Cause>)
        case open(until: NIODeadline)
        /// One question is on its way to see.
        case trying(QuestionID)
    }

    /// What a failure counts as.
    private enum Cause: Hashable {
        /// Of whatever this session has asked, it may be its own fault.
        case session(UInt64)
        /// The question had no connection: it was not even seen.
        case unreachable(QuestionID)
    }

    private static let tellInterval = TimeAmount.minutes(1)

    private let limits: Limits
    private var questions: [QuestionID: Question] = [:]
    private var line = CircularBuffer<QuestionID>()
    private var connections: [ConnectionID: Connection] = [:]
    /// The last used last.
    private var idle: [ConnectionID] = []
    private var breaker = Breaker.closed([])
    private var mayTellAt: NIODeadline?
    /// Why questions are given up at once; nil: they are not.
    private(set) var complaint: Failure?
    private var lastConnection: ConnectionID = 0
    private var isShutDown = false
    /// When ``timePassed(_:)`` is due; nil: never. It can be that nothing is left to do then.
    private(set) var nextDue: NIODeadline?

    init(_ limits: Limits) { self.limits = limits }

    /// Connections, closing ones counted.
    var connectionCount: Int { connections.count }
    /// Those that wait for a question.
    var idleCount: Int { idle.count }
    /// Questions without an answer yet.
    var questionCount: Int { questions.count }
    /// Whether questions are given up at once.
    var isBroken: Bool {
        switch breaker {
        case .closed: false
        case .open, .trying: true
        }
    }

    // MARK: Questions

    /// A session asks. `id` is new.
    mutating func asked(_ id: QuestionID, by session: UInt64, _ now: NIODeadline) -> [Action] {
        guard !isShutDown else { return [.giveUp(id, .shutDown)] }
        guard questions.count < limits.connections + limits.waiting else {
            return tell(.lineFull, now) + [.giveUp(id, .lineFull)]
        }
        switch breaker {
        case .closed: break
        case .open(let until):
            guard until <= now else { return [.giveUp(id, .breakerOpen)] }
            breaker = .trying(id)
        case .trying: return [.giveUp(id, .breakerOpen)]
        }
        questions[id] = Question(session: session, deadline: now + limits.timeout)
        line.append(id)
        due(now + limits.timeout)
        return serve(now)
    }

    /// Nobody waits for the answer any more. A question that was sent stays where it is, or its answer would be taken for
    /// the next one's.
    mutating func withdrawn(_ id: QuestionID, _ now: NIODeadline) -> [Action] {
        guard let question = questions[id] else { return [] }
        if let connection = question.connection, case .busy = connections[connection]?.phase {
            questions[id]?.isWithdrawn = true
            return []
        }
        forget(id)
        if breaker == .trying(id) { breaker = .open(until: now) }
        return serve(now)
    }

    /// Time is over for some.
    mutating func timePassed(_ now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        for id in questions.keys.sorted() {
            // One that fails can take others with it.
            guard let question = questions[id] else { continue }
            if question.deadline <= now {
                let cause = cause(of: id, question)
                // What comes on its connection now would be taken for the next question's answer.
                if let connection = question.connection { actions += close(connection) }
                actions += fail(id, .timedOut, cause, now)
            } else if let end = question.pausesUntil, end <= now {
                questions[id]?.pausesUntil = nil
                line.prepend(id)
            }
        }
        while let id = idle.first, case .idle(let since) = connections[id]?.phase, since + limits.idleTime <= now {
            actions += close(id)
        }
        actions += serve(now)
        nextDue = nil
        for question in questions.values { due(min(question.deadline, question.pausesUntil ?? .distantFuture)) }
        if let id = idle.first, case .idle(let since) = connections[id]?.phase { due(since + limits.idleTime) }
        return actions
    }

    private mutating func due(_ time: NIODeadline) { nextDue = min(nextDue ?? time, time) }

    /// Everything ends: no question is answered any more, and connections are closed.
    mutating func shutDown() -> [Action] {
        isShutDown = true
        let given = questions.keys.sorted().map { Action.giveUp($0, .shutDown) }
        questions.removeAll()
        line.removeAll()
        return given + connections.keys.sorted().flatMap { close($0) }
    }

    // MARK: Connections

    /// The connection is there.
    mutating func connected(_ id: ConnectionID, _ now: NIODeadline) -> [Action] {
        guard case .connecting(let asker) = connections[id]?.phase else { return [] }
        // The question that it was made for can be over.
        if questions[asker]?.connection == id { return [send(asker, on: id)] }
        return becameIdle(id, now)
    }

    /// The answer to what was sent on the connection has come. `isInOrder`: and nothing else with it.
    mutating func answered(_ id: ConnectionID, isInOrder: Bool, _ now: NIODeadline) -> [Action] {
        guard case .busy(let question) = connections[id]?.phase else { return close(id) }
        // What is told comes first: whoever has the answer may look for it.
        var actions: [Action] = isBroken ? [.tellRecovered] : []
        if let asker = questions[question] {
            forget(question)
            connections[id]?.session = asker.session
            actions.append(.deliver(question))
        }
        connections[id]?.isUsed = true
        breaker = .closed([])
        complaint = nil
        if isInOrder { return actions + becameIdle(id, now) }
        return actions + close(id) + serve(now)
    }

    /// The connection could not be made, has ended, or has said what is no answer. It is closed, if it is not yet.
    mutating func failed(_ id: ConnectionID, _ reason: String, _ now: NIODeadline) -> [Action] {
        guard let connection = connections[id] else { return [] }
        switch connection.phase {
        case .connecting(let asker), .busy(let asker):
            guard let question = questions[asker], question.connection == id else { break }
            let cause = cause(of: asker, question)
            return close(id) + failed(asker, cause, wasUsed: connection.isUsed, reason, now) + serve(now)
        case .idle, .closing: break
        }
        return close(id) + serve(now)
    }

    /// The connection is gone: there is room for another.
    mutating func closed(_ id: ConnectionID, _ now: NIODeadline) -> [Action] {
        let actions = failed(id, "the connection was closed", now).filter { $0 != .close(id) }
        connections[id] = nil
        return actions + serve(now)
    }

    // MARK: Rules

    /// What it counts as if the question fails now.
    private func cause(of id: QuestionID, _ question: Question) -> Cause {
        if let connection = question.connection, case .connecting = connections[connection]?.phase {
            return .unreachable(id)
        }
        return .session(question.session)
    }

    /// One try of a question has failed.
    private mutating func failed(
        _ id: QuestionID, _ cause: Cause, wasUsed: Bool, _ reason: String, _ now: NIODeadline
    ) -> [Action] {
        guard let question = questions[id] else { return [] }
        guard question.tries < limits.tries, !question.isWithdrawn else {
            return fail(id, .connection(reason), cause, now)
        }
        questions[id]?.connection = nil
        questions[id]?.needsNew = true
        if wasUsed {
            line.prepend(id)
        } else {
            questions[id]?.pausesUntil = now + limits.pause
            due(now + limits.pause)
        }
        return []
    }

    /// A question has failed for good.
    private mutating func fail(
        _ id: QuestionID, _ failure: Failure, _ cause: Cause, _ now: NIODeadline
    ) -> [Action] {
        forget(id)
        let open = [Action.giveUp(id, failure)]
        switch breaker {
        case .closed(let causes) where causes.union([cause]).count < limits.failures:
            breaker = .closed(causes.union([cause]))
            return tell(failure, now) + open
        case .closed:
            breaker = .open(until: now + limits.breakTime)
            complaint = failure
            mayTellAt = now + Self.tellInterval
            return [.tellOpened(failure)] + open + giveUpLine()
        case .trying(id):
            breaker = .open(until: now + limits.breakTime)
            complaint = failure
            return tell(failure, now) + open
        // Those that were on their way when it opened.
        case .open, .trying: return open
        }
    }

    /// Nobody in line waits for what fails.
    private mutating func giveUpLine() -> [Action] {
        let waiting = questions.filter { $0.value.connection == nil }.keys.sorted()
        for id in waiting { forget(id) }
        return waiting.map { .giveUp($0, .breakerOpen) }
    }

    private mutating func tell(_ failure: Failure, _ now: NIODeadline) -> [Action] {
        if let mayTellAt, mayTellAt > now { return [] }
        mayTellAt = now + Self.tellInterval
        return [.tellFailure(failure)]
    }

    /// Gives questions in line their connections.
    private mutating func serve(_ now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        while !isShutDown, let id = line.first, let question = questions[id] {
            if !question.needsNew, let connection = takeIdle(for: question.session) {
                line.removeFirst()
                actions.append(send(id, on: connection))
            } else if connections.count < limits.connections {
                line.removeFirst()
                lastConnection += 1
                connections[lastConnection] = Connection(phase: .connecting(id))
                questions[id]?.connection = lastConnection
                questions[id]?.tries += 1
                actions.append(.connect(lastConnection))
            } else {
                // It waits for one that is closed, where it needs a new one.
                if question.needsNew, let victim = idle.first { actions += close(victim) }
                break
            }
        }
        return actions
    }

    private mutating func takeIdle(for session: UInt64) -> ConnectionID? {
        guard let index = idle.lastIndex(where: { connections[$0]?.session == session }) ?? idle.indices.last else {
            return nil
        }
        return idle.remove(at: index)
    }

    private mutating func send(_ question: QuestionID, on id: ConnectionID) -> Action {
        // The try of a new connection began with the connecting.
        if questions[question]?.connection == nil { questions[question]?.tries += 1 }
        questions[question]?.connection = id
        connections[id]?.phase = .busy(question)
        return .send(id, question)
    }

    private mutating func becameIdle(_ id: ConnectionID, _ now: NIODeadline) -> [Action] {
        connections[id]?.phase = .idle(since: now)
        idle.append(id)
        due(now + limits.idleTime)
        var actions = serve(now)
        while idle.count > limits.idle, let oldest = idle.first { actions += close(oldest) }
        return actions
    }

    private mutating func close(_ id: ConnectionID) -> [Action] {
        guard let connection = connections[id], connection.phase != .closing else { return [] }
        connections[id]?.phase = .closing
        idle.removeAll { $0 == id }
        return [.close(id)]
    }

    private mutating func forget(_ id: QuestionID) {
        guard let question = questions.removeValue(forKey: id) else { return }
        if question.connection == nil, let index = line.firstIndex(of: id) { line.remove(at: index) }
    }
}
