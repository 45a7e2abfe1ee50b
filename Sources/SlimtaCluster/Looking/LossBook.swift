// Mail that was found to be lost: told to the operator at once, and kept in the database until somebody acknowledges it.

import SlimtaMail
import SlimtaQueue
import Synchronization

/// What is known of `slimtad.loss`, and the way into it.
final class LossBook: Sendable {
    private struct State {
        /// As the table has them, or is to have them.
        var texts: [QueueID: String] = [:]
        /// Those that the operator was told of, or has acknowledged.
        var told: Set<QueueID> = []
        /// Those that could not be written.
        var unwritten: Set<QueueID> = []
    }

    private enum Statements {
        static let insert = PostgresStatement(
            name: "loss_insert",
            sql: "insert into slimtad.loss (id, text) values ($1, $2) on conflict (id) do nothing",
            parameters: [.uuid, .text])
        static let read = PostgresStatement(
            name: "loss_read", sql: "select id, text from slimtad.loss order by id", parameters: [])
        static let delete = PostgresStatement(
            name: "loss_delete",
            sql: "with gone as (delete from slimtad.loss returning id, text) select id, text from gone order by id",
            parameters: [])
    }

    private let state = Mutex(State())
    private let report: @Sendable (ClusterEvent) -> Void

    init(_ report: @escaping @Sendable (ClusterEvent) -> Void) { self.report = report }

    /// For the status: from memory, in the order of ids.
    var texts: [String] { state.withLock { state in state.texts.sorted { $0.key < $1.key }.map(\.value) } }

    /// An envelope cannot be read. The operator is told once; a database that cannot be written now is told the next time.
    func note(_ damage: Damage, _ connection: PostgresConnection, _ deadline: Deadline) {
        let id = damage.id
        let (isNew, isUnwritten) = state.withLock { state in
            let isNew = state.told.insert(id).inserted
            if isNew {
                state.texts[id] = damage.line
                state.unwritten.insert(id)
            }
            return (isNew, state.unwritten.contains(id))
        }
        if isNew { report(.damaged(id: id, description: damage.text)) }
        guard isUnwritten else { return }
        do throws(PostgresError) {
            _ = try connection.run(Statements.insert, [.uuid(id), .text(damage.line)], by: deadline)
            _ = state.withLock { $0.unwritten.remove(id) }
        } catch {
            // It stays in memory, and is written when the envelope is read again.
        }
    }

    /// What the table has: what others have found, and acknowledged.
    func refresh(_ connection: PostgresConnection, _ deadline: Deadline) throws(PostgresError) {
        let found = try Self.read(connection, deadline)
        state.withLock { state in
            let unwritten = state.texts.filter { state.unwritten.contains($0.key) }
            state.texts = found.merging(unwritten) { stored, _ in stored }
        }
    }

    static func read(
        _ connection: PostgresConnection, _ deadline: Deadline
    ) throws(PostgresError) -> [QueueID: String] {
        let rows = try connection.run(Statements.read, [], by: deadline)
        return Dictionary((0..<rows.count).map { (rows.id($0, 0), rows.text($0, 1)) }) { first, _ in first }
    }

    /// Empties the table; what it had, and what it was to have. By what memory has it can be asked again after a doubt.
    func acknowledge(_ connection: PostgresConnection, _ deadline: Deadline) throws(PostgresError) -> [String] {
        let rows = try connection.run(Statements.delete, [], by: deadline)
        let found = Dictionary((0..<rows.count).map { (rows.id($0, 0), rows.text($0, 1)) }) { first, _ in first }
        let gone = state.withLock { state in
            let gone = found.merging(state.texts) { stored, _ in stored }
            state.texts = [:]
            state.unwritten = []
            state.told.formUnion(gone.keys)
            return gone
        }
        return gone.sorted { $0.key < $1.key }.map(\.value)
    }
}

/// An envelope that is there and cannot be read.
struct Damage: Error {
    var id: QueueID
    var text: String

    /// What is wrong with it, and whose it was if that is known.
    init(_ id: QueueID, _ text: String, _ envelope: Envelope? = nil) {
        self.id = id
        self.text = text
        guard let envelope else { return }
        let first = envelope.recipients.first?.text ?? "nobody"
        let others = envelope.recipients.count > 1 ? " and \(envelope.recipients.count - 1) more" : ""
        self.text += ": from \(envelope.senderText) to \(first)\(others)"
    }

    /// For a list of several.
    var line: String { "\(id): \(text)" }
}
