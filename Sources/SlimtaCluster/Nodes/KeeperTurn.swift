// What a keeper does in its turn: contents that nobody needs, steps of the ledger, receipts that have expired, nodes that are
// gone for good. Keeper makes one for each turn.

import SlimtaMail
import SlimtaQueue

/// A turn, with a connection of its own.
///
/// Contents are never deleted row by row: one table of the ring after the other is written, and when it has been closed for long
/// enough, what still lives in it is copied to the one for what stays, and it is truncated. Two turns may overlap, for one may
/// take longer than anybody expects: each transaction that moves, sweeps or empties begins by taking the ring's row, so they
/// follow each other, and looks again at what it relies on.
struct KeeperTurn {
    /// Envelopes whose content was copied.
    struct Copied {
        fileprivate var buckets = PostgresColumn(.int4)
        fileprivate var ids = PostgresColumn(.uuid)

        var count: Int { ids.count }
    }

    private let connection: PostgresConnection
    private let options: ClusterOptions
    private let limit: DeadlineLimit
    private let losses: LossBook
    private let report: @Sendable (ClusterEvent) -> Void
    /// What was refused, and did not keep the rest from being done.
    private(set) var troubles: [String] = []

    /// What reads or copies much may take so long; the server ends it a little later by itself.
    private static let longest = Duration.seconds(600)

    /// Connects.
    init(
        _ options: ClusterOptions, _ node: NodeState, _ losses: LossBook, _ limit: DeadlineLimit,
        report: @escaping @Sendable (ClusterEvent) -> Void
    ) throws(PostgresError) {
        self.options = options
        self.limit = limit
        self.losses = losses
        self.report = report
        let deadline = Deadline.after(options.commitTimeout, limit: limit)
        connection = try PostgresConnection.session(options, node, by: deadline)
        try connection.execute("set statement_timeout = '660s'; set lock_timeout = '10s'", by: deadline)
    }

    /// Does what there is to do, if no other node has just done it.
    mutating func run() throws(PostgresError) {
        // What others have found lost, or an operator has acknowledged elsewhere.
        try losses.refresh(connection, deadline)
        let interval = options.housekeeping.milliseconds * 3 / 4
        guard try ask(KeeperStatements.turn, [.int8(interval)]).count == 1 else { return }
        for (what, statement) in [
            ("the ledger", KeeperStatements.foldLedger), ("removals", KeeperStatements.foldRemovals),
            ("receipts", KeeperStatements.expire), ("nodes", KeeperStatements.forgetNodes),
            ("commands", CommandStatements.forget),
            ("sites", KeeperStatements.forgetSites),
        ] {
            try attempt(what) { turn throws(PostgresError) in _ = try turn.ask(statement) }
        }
        try attempt("the tables that are closed") { turn throws(PostgresError) in try turn.emptyParts() }
        try attempt("the ring") { turn throws(PostgresError) in try turn.turnRing() }
        try attempt("what stays") { turn throws(PostgresError) in try turn.sweep() }
        try attempt("old transactions") { turn throws(PostgresError) in try turn.lookForOldTransactions() }
        if !troubles.isEmpty { report(.housekeepingFailed(troubles.joined(separator: "; "))) }
    }

    // MARK: Asking

    private func ask(
        _ statement: PostgresStatement, _ values: [PostgresValue] = []
    ) throws(PostgresError) -> PostgresRows {
        try connection.run(statement, values, by: deadline)
    }

    private var deadline: Deadline { .after(max(options.commitTimeout, .seconds(60)), limit: limit) }

    private var longDeadline: Deadline { .after(max(options.commitTimeout, Self.longest), limit: limit) }

    /// What the server refuses, a lock that is not to be had above all, does not keep the rest from being done. Nothing begins
    /// any more behind a stop.
    private mutating func attempt(
        _ what: String, _ body: (inout KeeperTurn) throws(PostgresError) -> Void
    ) throws(PostgresError) {
        if limit.isSet { return }
        do throws(PostgresError) {
            try body(&self)
        } catch {
            guard case .refused(let state, let text, _) = error, !connection.isBroken, !error.isPassing else {
                throw error
            }
            troubles.append("\(what): \(text) (\(state))")
        }
    }

    private func lookForOldTransactions() throws(PostgresError) {
        let age = try ask(KeeperStatements.oldest)
        guard age.count == 1, !age.isNull(0, 0), age.int(0, 0) > SharedQueue.oldTransaction.milliseconds else { return }
        report(.oldTransaction(age: .milliseconds(age.int(0, 0))))
    }

    // MARK: The ring

    /// Another table is written if the present one has been for long enough: the next one that is not closed.
    mutating func turnRing() throws(PostgresError) {
        let rows = try ask(
            KeeperStatements.ring,
            [
                .int8(options.ringPeriod.milliseconds), .int8(Int64(options.ringOctets)),
                .int8((options.ringPeriod + options.ringHold).milliseconds),
            ])
        guard rows.count == 1, rows.bool(0, 1) else { return }
        let current = Int32(truncatingIfNeeded: rows.int(0, 0))
        let free = try ask(KeeperStatements.free, [.int4(current)])
        if free.count == 0 {
            if rows.bool(0, 2) {
                let minutes = rows.int(0, 3) / 60
                troubles.append("content table \(current) is written since \(minutes) minutes: no other one is empty")
            }
            return
        }
        let next = Int32(truncatingIfNeeded: free.int(0, 0))
        try clear(Int(next))
        var batch = PostgresBatch()
        batch.run(KeeperStatements.lock, [])
        batch.run(KeeperStatements.turnRing, [.int4(next), .int4(current)])
        batch.run(KeeperStatements.closePart, [.int4(current), .int4(next)])
        batch.sync()
        _ = try connection.run(batch, by: deadline)
    }

    /// What was written into a table after it was emptied is nobody's: a piece of a message whose writer was held up for hours.
    /// Where it cannot be emptied now it is when it has been closed again.
    private mutating func clear(_ part: Int) throws(PostgresError) {
        guard try ask(KeeperStatements.hasRows[part]).bool(0, 0) else { return }
        try attempt("content table \(part)") { turn throws(PostgresError) in
            try turn.empty(part, where: "closed is null")
        }
    }

    /// Empties the tables that have been closed for long enough, each for itself.
    mutating func emptyParts() throws(PostgresError) {
        let rows = try ask(KeeperStatements.closedParts, [.int8(options.ringHold.milliseconds)])
        for row in 0..<rows.count {
            let part = Int(rows.int(row, 0))
            try attempt("content table \(part)") { turn throws(PostgresError) in
                try turn.moveAll(part)
                try turn.emptyClosed(part)
            }
        }
    }

    private func moveAll(_ part: Int) throws(PostgresError) {
        while !limit.isSet {
            let copied = try copy(part)
            // What is locked at the moment is moved in another turn.
            if copied.count == 0 { return }
            if try place(copied, part) == 0 { return }
        }
    }

    /// Copies contents of some envelopes that are still queued to where they stay. Nothing of the queue is locked: nobody waits.
    func copy(_ part: Int) throws(PostgresError) -> Copied {
        var batch = PostgresBatch()
        batch.run(KeeperStatements.lock, [])
        batch.run(KeeperStatements.copy[part], [])
        batch.sync()
        let rows = try connection.run(batch, by: longDeadline)[1]
        var copied = Copied()
        for row in 0..<rows.count {
            copied.buckets.append(Int32(truncatingIfNeeded: rows.int(row, 0)))
            copied.ids.append(rows.id(row, 1))
        }
        return copied
    }

    /// Tells the envelopes where their contents are now, if the copies are still there; of how many.
    func place(_ copied: Copied, _ part: Int) throws(PostgresError) -> Int {
        var batch = PostgresBatch()
        batch.run(KeeperStatements.lock, [])
        batch.run(KeeperStatements.place[part], [copied.buckets.value, copied.ids.value])
        batch.sync()
        return Int(try connection.run(batch, by: deadline)[1].int(0, 0))
    }

    /// Empties a table that has been closed for long enough and has nothing in it that is queued.
    func emptyClosed(_ part: Int) throws(PostgresError) {
        let hold = options.ringHold.milliseconds
        try empty(part, where: "closed < clock_timestamp() - \(hold) * interval '1 millisecond'")
    }

    /// Empties a table if `condition` holds for its row and nobody needs or writes it; looks at that when nobody else can be at it.
    private func empty(_ part: Int, where condition: String) throws(PostgresError) {
        do throws(PostgresError) {
            try connection.execute(KeeperStatements.empty(part, where: condition), by: deadline)
        } catch {
            // It is in use again, or still.
            if case .refused(PostgresCode.divisionByZero, _, _) = error { return }
            throw error
        }
    }

    /// Deletes contents among those that stay which no envelope has any more.
    func sweep() throws(PostgresError) {
        var batch = PostgresBatch()
        batch.run(KeeperStatements.lock, [])
        batch.run(KeeperStatements.wholeTables, [])
        batch.run(KeeperStatements.sweep, [])
        batch.sync()
        _ = try connection.run(batch, by: longDeadline)
    }
}
