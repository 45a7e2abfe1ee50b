// A connection to the database as the storage's threads use it: one thread at a time asks and waits for the answer, until a
// deadline. Never on an event loop.

/// A connection to a server that can be written to.
final class PostgresConnection {
    /// nil: it was closed.
    private var socket: PostgresSocket?
    /// Which of the hosts of the connection string it leads to.
    let place: Int
    /// The statements that this connection has prepared: their texts by their names.
    private var prepared: [String: String] = [:]
    /// Whether another connection could do what this one was refused.
    private var isStale = false

    /// Connects to the first server of `options` that will have it.
    init(_ options: PostgresOptions, by deadline: Deadline) throws(PostgresError) {
        try PostgresLibrary.load()
        (socket, place) = try PostgresHosts(options).connect(by: deadline) { socket, place, _ in (socket, place) }
    }

    private init(_ socket: PostgresSocket, _ place: Int) { (self.socket, self.place) = (socket, place) }

    /// Connects to the first server of `options` that `check` does not refuse; `place` is the host that is asked first.
    static func first(
        of options: PostgresOptions, from place: Int, by deadline: Deadline,
        _ check: (PostgresConnection, Deadline) throws(PostgresError) -> Void
    ) throws(PostgresError) -> PostgresConnection {
        try PostgresLibrary.load()
        return try PostgresHosts(options).connect(from: place, by: deadline) {
            (socket, place, deadline) throws(PostgresError) in
            let connection = PostgresConnection(socket, place)
            try check(connection, deadline)
            return connection
        }
    }

    /// Whether it is of no use any more and has to be thrown away: after `unreachable` and `doubtful`, and after a refusal
    /// that another connection might not meet. After `warned` it is as good as before.
    var isBroken: Bool { isStale || socket?.isBroken ?? true }

    /// Whether the server has ended it, as far as that can be seen without asking.
    var hasEnded: Bool { socket?.obstacle() != nil }

    /// Closes it, as does who forgets it. If it is broken, what the server has not been sent yet never will be.
    func close() { socket = nil }

    // MARK: Questions

    /// Prepares those that are not prepared yet. The step of a refusal is the statement's number among these; what is lost
    /// here is `unreachable`, for nothing was sent that could change anything.
    func prepare(_ statements: [PostgresStatement], by deadline: Deadline) throws(PostgresError) {
        var missing: [(step: Int, name: String, statement: PostgresStatement)] = []
        for (step, statement) in statements.enumerated() {
            let name = statement.name
            if let sql = prepared[name] ?? missing.first(where: { $0.name == name })?.statement.sql {
                precondition(sql == statement.sql, "two statements are called \(name)")
            } else {
                missing.append((step, name, statement))
            }
        }
        guard !missing.isEmpty else { return }
        let socket = try ready(by: deadline)
        var refusal: PostgresError?
        do throws(PostgresError) {
            try socket.enterPipeline()
            for (_, name, statement) in missing { try socket.prepare(statement, as: name) }
            try socket.sync()
            try socket.flush(by: deadline)
            for (step, name, statement) in missing {
                let result = try socket.answer(by: deadline)
                if result.kind == .done { prepared[name] = statement.sql } else { note(result, step, in: &refusal) }
            }
            _ = try socket.end(by: deadline)
            socket.exitPipeline()
        } catch { throw error.mayHaveCommitted ? .unreachable(error.text) : error }
        if let refusal { throw refusal }
    }

    /// Runs all steps, in one go: the rows of each. Throws the first refusal, and has run the transactions behind it then;
    /// a batch of one transaction is either done or not. If a statement cannot be prepared nothing is run.
    func run(_ batch: PostgresBatch, by deadline: Deadline) throws(PostgresError) -> [PostgresRows] {
        var batch = batch
        batch.sync()
        guard batch.count > 0 else { return [] }
        try prepare(batch.statements, by: deadline)
        let socket = try ready(by: deadline)
        try send(batch, over: socket, by: deadline)
        var rows: [PostgresRows] = []
        var refusal: PostgresError?
        for element in batch.elements {
            switch element {
            case .step(let statement, _):
                let result = try socket.answer(by: deadline)
                note(result, rows.count, in: &refusal)
                rows.append(PostgresRows(result, of: statement.name))
            case .sync:
                if let result = try socket.end(by: deadline) { note(result, rows.count - 1, in: &refusal) }
            }
        }
        socket.exitPipeline()
        // Which of several transactions a warning belongs to is not certain: the worse word counts.
        if let refusal, batch.transactions == 1 || socket.warning == nil { throw refusal }
        if let warning = socket.warning { throw .warned(warning) }
        return rows
    }

    /// Runs one statement, a transaction of its own.
    func run(
        _ statement: PostgresStatement, _ values: [PostgresValue], by deadline: Deadline
    ) throws(PostgresError) -> PostgresRows {
        var batch = PostgresBatch()
        batch.run(statement, values)
        return try run(batch, by: deadline)[0]
    }

    /// Runs a text of one or several statements, all of them one transaction unless they say otherwise; what they give is
    /// dropped. The step of a refusal is its number among them.
    func execute(_ sql: String, by deadline: Deadline) throws(PostgresError) {
        let socket = try ready(by: deadline)
        try socket.query(sql)
        try socket.flush(by: deadline)
        var refusal: PostgresError?
        var step = 0
        while let result = try socket.next(by: deadline) {
            if result.kind == .lost { throw socket.lost(result) }
            note(result, step, in: &refusal)
            step += 1
        }
        if let refusal { throw refusal }
        if let warning = socket.warning { throw .warned(warning) }
    }

    // MARK: Calls

    /// Notifications with this word are calls from now on; `listen` is said besides.
    func awaitCalls(with word: String) throws(PostgresError) {
        guard let socket else { throw .unreachable("the connection was closed") }
        try socket.awaitCalls(with: word)
    }

    /// Waits for a call until `bell` can be read or time is over; whether there was one since the last time.
    func waitForCall(orBell bell: Int32, by deadline: Deadline) throws(PostgresError) -> Bool {
        guard let socket, !isBroken else { throw .unreachable("the connection was lost") }
        return socket.waitForCall(orBell: bell, by: deadline)
    }

    // MARK: What they have in common

    /// The socket, if something can be sent.
    private func ready(by deadline: Deadline) throws(PostgresError) -> PostgresSocket {
        guard let socket else { throw .unreachable("the connection was closed") }
        guard !deadline.hasPassed else { throw .unreachable("no time is left") }
        if let obstacle = socket.obstacle() { throw .unreachable(obstacle) }
        return socket
    }

    private func send(_ batch: PostgresBatch, over socket: PostgresSocket, by deadline: Deadline) throws(PostgresError)
    {
        try socket.enterPipeline()
        for element in batch.elements {
            switch element {
            case .step(let statement, let values): try socket.execute(statement.name, values)
            case .sync: try socket.sync()
            }
        }
        try socket.flush(by: deadline)
    }

    /// What a new connection may be free of: it is a standby's (25006), its statements are gone (26000) or were made for
    /// other tables (0A000).
    private static let staleStates: Set<String> = ["25006", "26000", "0A000"]

    private func note(_ result: PostgresResult, _ step: Int, in refusal: inout PostgresError?) {
        guard result.kind == .refused else { return }
        let state = result.state ?? ""
        if Self.staleStates.contains(state) { isStale = true }
        refusal = refusal ?? .refused(state: state, text: result.text, step: step)
    }
}
