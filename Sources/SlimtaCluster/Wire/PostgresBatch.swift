// What is asked of the database: statements, which each connection prepares once, and batches of them, which are sent at once.

/// A statement that is prepared once for each connection, when it is first used or by `prepare`.
struct PostgresStatement: Sendable {
    /// Unique among the statements of a connection.
    let name: String
    let sql: String
    let parameters: [PostgresType]

    init(name: String, sql: String, parameters: [PostgresType]) {
        precondition(parameters.count <= 64, "\(name) has too many parameters")
        (self.name, self.sql, self.parameters) = (name, sql, parameters)
    }
}

/// What is sent at once: steps, and syncs, each of which ends a transaction. Behind the last step there is always one.
struct PostgresBatch: Sendable {
    enum Element: Sendable {
        case step(PostgresStatement, [PostgresValue])
        case sync
    }

    /// Without two syncs in a row.
    private(set) var elements: [Element] = []
    /// How many steps it has.
    private(set) var count = 0
    /// How many syncs.
    private(set) var transactions = 0
    private var isOpen = false

    init() {}

    /// Of each step.
    var statements: [PostgresStatement] {
        elements.compactMap { if case .step(let statement, _) = $0 { statement } else { nil } }
    }

    /// Adds a step. What it gives is of the statement's types.
    mutating func run(_ statement: PostgresStatement, _ values: [PostgresValue]) {
        precondition(values.map(\.type) == statement.parameters, "\(statement.name): other parameters")
        elements.append(.step(statement, values))
        count += 1
        isOpen = true
    }

    /// Ends the transaction.
    mutating func sync() {
        guard isOpen else { return }
        elements.append(.sync)
        transactions += 1
        isOpen = false
    }
}
