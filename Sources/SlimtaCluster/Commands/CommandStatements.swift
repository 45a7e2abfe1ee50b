// What nodes say to the database about operators' commands, and how reasons are written there: see CommandAsker and CommandDesk.

import SlimtaQueue

/// The statements about `slimtad.command`. Of a question to a node's daemon the verb is ``question``, the words are the reason, and the
/// answer is its one error: one without errors is of a release that knows no questions.
enum CommandStatements {
    static let question = "question"

    /// Whether anything waits for this node.
    static let areThere = PostgresStatement(
        name: "commands_are_there",
        sql: """
            select exists (
                select 1 from slimtad.command where node = $1 and incarnation = $2 and not is_taken)
            """,
        parameters: [.text, .int8])

    /// What waits for this node, which is nobody's but its own from now on; a row for each envelope, or one without.
    static let take = PostgresStatement(
        name: "take_commands",
        sql: """
            with mine as (
                update slimtad.command set is_taken = true
                where node = $1 and incarnation = $2 and not is_taken and asked > clock_timestamp() - interval '10 minutes'
                    and exists (select 1 from slimtad.node where name = $1 and incarnation = $2 and not is_gone)
                returning id, verb, reason, by_name, ids)
            select m.id, m.verb, m.reason, m.by_name, x.id
            from mine m left join lateral unnest(m.ids) as x(id) on true order by m.id
            """,
        parameters: [.text, .int8])

    static let answer = PostgresStatement(
        name: "answer_command",
        sql: """
            update slimtad.command set done = $2, failed = $3, errors = $4 where id = $1 and is_taken and done is null
            """,
        parameters: [.uuid, .int8, .uuidArray, .textArray])

    /// Who has these envelopes. Those that are not queued are left out; null: nobody.
    static let find = PostgresStatement(
        name: "find_owners",
        sql: """
            select w.id, n.name, n.incarnation
            from unnest($1::int4[], $2::uuid[]) as w(bucket, id)
            join slimtad.item i on i.bucket = w.bucket and i.id = w.id
            join slimtad.bucket b on b.number = w.bucket
            left join slimtad.node n on n.name = b.owner and not n.is_gone
            """,
        parameters: [.int4Array, .uuidArray])

    /// All other nodes that deliver.
    static let others = PostgresStatement(
        name: "other_relays",
        sql: """
            select name, incarnation from slimtad.node
            where name <> $1 and not is_gone and (roles & \(NodeRoles.relay.rawValue)) <> 0
            """,
        parameters: [.text])

    /// All other nodes that have not left.
    static let otherNodes = PostgresStatement(
        name: "other_nodes", sql: "select name, incarnation from slimtad.node where name <> $1 and not is_gone",
        parameters: [.text])

    /// Asks a node, if it is still the one that was meant. May be said twice.
    static let ask = PostgresStatement(
        name: "ask_command",
        sql: """
            insert into slimtad.command (id, node, incarnation, verb, ids, reason, by_name)
            select $1, name, incarnation, $4, $5, $6, $7 from slimtad.node
            where name = $2 and incarnation = $3 and not is_gone
            on conflict (id) do nothing
            """,
        parameters: [.uuid, .text, .int8, .text, .uuidArray, .text, .text])

    /// How far it is: taken, answered, and whether the node is still there.
    static let watch = PostgresStatement(
        name: "watch_command",
        sql: """
            select is_taken, done is not null, exists (
                select 1 from slimtad.node n where n.name = c.node and n.incarnation = c.incarnation and not n.is_gone)
            from slimtad.command c where id = $1
            """,
        parameters: [.uuid])

    /// Takes the question back: with the answer, if there is one. What was not taken by now never is.
    static let end = PostgresStatement(
        name: "end_command",
        sql: """
            with ended as (delete from slimtad.command where id = $1 returning is_taken, done, failed, errors)
            select e.is_taken, e.done, x.id, x.error
            from ended e left join lateral unnest(e.failed, e.errors) as x(id, error) on true
            """,
        parameters: [.uuid])

    /// Those that nobody has ended: who asked is gone.
    static let forget = PostgresStatement(
        name: "forget_commands",
        sql: "delete from slimtad.command where asked < clock_timestamp() - interval '10 minutes'", parameters: [])
}

extension QueueOperationError {
    private static let textMark = "text "

    /// As the table has it.
    var word: String {
        switch self {
        case .notFound: "gone"
        case .inFlight: "busy"
        case .held: "held"
        case .kept: "kept"
        // Behind its end a node does nothing more: what it has is another one's.
        case .storage(.lost), .storage(.closed): "lost"
        case .storage(let error): Self.textMark + error.text
        case .elsewhere(let text): Self.textMark + text
        }
    }

    /// As a node has written it.
    init(word: String, of node: String) {
        switch word {
        case "gone": self = .notFound
        case "busy": self = .inFlight
        case "held": self = .held
        case "kept": self = .kept
        case "lost": self = .storage(.lost)
        default:
            let text = word.hasPrefix(Self.textMark) ? String(word.dropFirst(Self.textMark.count)) : word
            self = .elsewhere("node \(node): \(text)")
        }
    }
}
