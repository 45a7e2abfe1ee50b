// What other nodes have put into our part of the queue: found with each beat, and sooner where they call. Part of NodeRun.
//
// Whoever puts mail into a bucket of another names it in `inbox`, in the same transaction. So a look at the items of a bucket sees
// an item if and only if it sees its name, and each is told once:
//
// - what a look at a new bucket's items has found is told by that; that it was named is remembered, and not told of again;
// - what came behind that look is found by its name, which is looked for only when the bucket has been read;
// - a name is taken away when the queue has been told, never before, and only by an incarnation that lives. Whoever has the bucket
//   later reads its items first, and those that were named to somebody before are among them.

import SlimtaMail
import SlimtaQueue
import SlimtaThreads

/// What has to be known between two looks.
struct Inbox {
    /// Names of which the queue was told, or whose envelopes have left it, and that may still be there.
    var told: Set<QueueID> = []
    /// Whether there may be something to do.
    var isDue = false
    /// Not before, by the monotonic clock.
    var next: Int64 = 0

    /// Names that are read at once.
    static let page = 2000
    /// The time from one look to the next, however many call.
    static let pause: Int64 = 20
}

extension NodeRun {
    /// Tells the queue what others have put into buckets that have been read.
    mutating func lookIntoInbox() throws(NodeFault) {
        if thread.takeCall() { inbox.isDue = true }
        var now = monotonicMilliseconds()
        if now < inbox.next { return }
        while inbox.isDue, now < nextBeat, !thread.isStopped {
            let values = node.now
            let names = inbox.told
            if names.isEmpty, values.read.isEmpty { return inbox.isDue = false }
            var batch = PostgresBatch()
            if !names.isEmpty {
                batch.run(
                    InboxStatements.forget,
                    [.text(options.node), .int8(values.incarnation)] + columns(names))
                batch.sync()
            }
            batch.run(InboxStatements.read, [numbers(values.read), .int4(Int32(Inbox.page))])
            let answers = try run(batch)
            guard let rows = answers.last else { return }
            // Declared dead: nothing is told any more, and the beat says so.
            if !names.isEmpty, answers[0].count == 0 { return nextBeat = 0 }
            inbox.told.subtract(names)
            tell(rows, of: values.incarnation, but: names)
            now = monotonicMilliseconds()
            inbox.next = now + Inbox.pause
            inbox.isDue = !inbox.told.isEmpty
            // One that is called all the time does not look all the time.
            if rows.count < Inbox.page { return }
        }
    }

    /// - Parameter known: the queue was told of these before, should they be there all the same.
    private mutating func tell(_ rows: PostgresRows, of incarnation: Int64, but known: Set<QueueID>) {
        node.inOrder {
            let ours = node.withLock { $0.incarnation == incarnation ? $0.read : [] }
            var summaries: [QueuedSummary] = []
            for row in 0..<rows.count {
                let id = rows.id(row, 0)
                // What is being handed over is found by who gets it.
                guard ours.contains(UInt16(rows.int(row, 9))) else { continue }
                inbox.told.insert(id)
                let isGone = rows.isNull(row, 1)
                if !isGone, !known.contains(id) { summaries.append(QueuedSummary(rows, row)) }
            }
            if !summaries.isEmpty { thread.tell([.acquired(summaries)]) }
        }
    }

    /// In one order: who takes names away beside us does not wait for us in a circle.
    private func columns(_ ids: Set<QueueID>) -> [PostgresValue] {
        var (buckets, column) = (PostgresColumn(.int4), PostgresColumn(.uuid))
        for id in ids.sorted() {
            buckets.append(node.bucketNumber(of: id))
            column.append(id)
        }
        return [buckets.value, column.value]
    }
}

extension NodeState.Values {
    /// Buckets that are ours, whose items the queue has been told of, and that do not leave.
    fileprivate var read: Set<UInt16> { owned.subtracting(leaving).subtracting(loading) }
}
