// Shared limits in a beat of the node: what is written and read with it, and what the queue is told of that. A part of NodeRun; the
// rule is SiteBook's.

import SlimtaMail
import SlimtaQueue

/// What a node's thread does about limits that it shares with others.
struct NodeSites {
    private let thread: NodeThread
    private var book = SiteBook()
    /// As many nodes was the queue told of.
    private var told = 1

    private var options: ClusterOptions { thread.options }
    /// Who delivers nothing has no part of any limit, and hears of no others.
    private var isRelay: Bool { options.roles.contains(.relay) }

    init(_ thread: NodeThread) { self.thread = thread }

    /// Adds what is to be told to others to a beat, in a transaction that ends before anything is read. How many steps that are.
    mutating func write(to batch: inout PostgresBatch, offset: Duration) -> Int {
        let changes = book.changes(thread.siteReports, offset: offset)
        let steps = SiteStatements.add(changes, to: &batch, options)
        if steps > 0 { batch.sync() }
        return steps
    }

    /// Adds the question what others have told, if there are any.
    func ask(in batch: inout PostgresBatch) {
        if book.nodes > 1 { batch.run(SiteStatements.read, [.text(options.egress), .text(options.node)]) }
    }

    /// Tells the queue what it may do.
    ///
    /// - Parameters:
    ///   - members: rows of `NodeStatements.members`.
    ///   - rows: nil: nobody has asked.
    mutating func read(_ members: PostgresRows, _ rows: PostgresRows?, offset: Duration) {
        guard isRelay else { return }
        var names: Set<String> = []
        for row in 0..<members.count {
            let roles = NodeRoles(rawValue: Int32(truncatingIfNeeded: members.int(row, 2)))
            let isThere = !members.bool(row, 3) && !members.bool(row, 5)
            if isThere, roles.contains(.relay), members.text(row, 6) == options.egress {
                names.insert(members.text(row, 0))
            }
        }
        names.remove(options.node)
        let limits = book.read(
            rows.map(SiteStatements.rows) ?? [], nodes: names, me: options.node, offset: offset, hold: options.lease)
        if told != limits.nodes { thread.report(.sharing(nodes: limits.nodes)) }
        if told > 1 || limits.nodes > 1 { thread.tell([.sites(limits)]) }
        told = limits.nodes
    }

    /// Nothing is heard of the others: see ``SiteBook/forget()``.
    mutating func lose() {
        if let limits = book.forget(), limits.nodes > 1 { thread.tell([.sites(limits)]) }
    }
}
