// What the line's thread does: connects, writes groups, and finds out what came of one that it heard nothing of. Started by
// ClusterStorage, ends with it.

import SlimtaMail
import SlimtaQueue
import SlimtaThreads

/// One life of the line's thread.
struct LineRun: ~Copyable {
    private let line: WriterLine
    private var connection: PostgresConnection?
    /// What the fence has to be for us to write, and the incarnation of the node that this belongs to.
    private var fence: (number: Int64, incarnation: Int64)?
    /// New mail of groups of which nobody knows whether they came through.
    private var doubts = Doubts()
    /// Ends of such groups: the queue makes them again, and what they end may have gone the first time.
    private var endsInDoubt: Set<QueueID> = []
    private var receipts = ReceiptCounts()
    private var backOff = BackOff()

    /// New mail that its client comes back with.
    fileprivate struct Doubts {
        var isOpen = false
        /// All of it.
        var all: [QueueID] = []
        /// Which of it others deliver.
        var others: Set<QueueID> = []
        /// What of it is taken out if it is there.
        var envelopes: [QueueID] = []
        var receipts: [(key: Receipt.Digest, id: QueueID)] = []
    }

    /// The one line that a node has.
    static let number: Int32 = 0

    private init(_ line: WriterLine) { self.line = line }

    /// Works until the line is stopped: on a thread of its own.
    static func run(_ line: WriterLine) {
        var run = LineRun(line)
        run.run()
    }

    private var node: NodeState { line.node }
    private var options: ClusterOptions { line.options }

    private mutating func run() {
        while true {
            if line.isAbandoned { return }
            if connection?.hasEnded == true { connection = nil }
            guard ready() else {
                node.withLock { $0.isBusy = false }
                if line.isStopped { break }
                continue
            }
            guard let turn = line.take() else {
                node.withLock { $0.isBusy = false }
                if line.isStopped, !line.hasWork { break }
                line.wait(line.isStopped ? .zero : nil)
                continue
            }
            node.withLock { $0.isBusy = true }
            switch turn {
            case .group(let group): write(current(group))
            case .handOver(let buckets, let incarnation, let done):
                if fence?.incarnation == incarnation { handOver(buckets) }
                done()
            }
            node.withLock { $0.progress &+= 1 }
        }
        line.failAll(.closed)
        dropDoubts()
        node.withLock { $0.isBusy = false }
    }

    // MARK: The connection

    /// Whether there is a connection that may write. If not, what waits has failed, and some time has passed.
    private mutating func ready() -> Bool {
        let incarnation = node.now.incarnation
        if incarnation == 0 {
            // Not yet, or not any more, a node: the node's thread joins.
            line.failAll(node.now.away.map { .away($0) } ?? .lost)
            line.wait(.milliseconds(20))
            return false
        }
        if let fence, fence.incarnation != incarnation { self.fence = nil }
        if fence == nil {
            fence = (node.now.fence, incarnation)
            // What was in doubt under another incarnation is found by whoever has the bucket now.
            dropDoubts()
        }
        if connection != nil, !doubts.isOpen { return true }
        // Whoever watches the line must not take a database that does not answer for a line that hangs.
        node.withLock { $0.isBusy = false }
        do throws(PostgresError) {
            try connect()
            try settle()
            backOff.reset()
            notice(nil)
            return fence != nil
        } catch {
            node.mistrust(connection, error)
            connection = nil
            notice(error.description)
            line.failAll(.away(error.description))
            line.wait(backOff.next())
            return false
        }
    }

    private mutating func connect() throws(PostgresError) {
        if connection != nil { return }
        let deadline = Deadline.after(options.commitTimeout)
        let new = try PostgresConnection.session(options, node, patience: options.commitTimeout, by: deadline)
        try new.prepare(WriteStatements.all, by: deadline)
        connection = new
    }

    /// Tells others whether the database can be written.
    private func notice(_ trouble: String?) {
        if let event = node.found(trouble, by: .line) { line.report(event) }
    }

    // MARK: Groups

    /// The commits that were made under this incarnation; the others fail: what they speak of may be another node's by now.
    private func current(_ group: CommitGroup) -> CommitGroup {
        guard group.commits.contains(where: { $0.incarnation != fence?.incarnation }) else { return group }
        var rest = CommitGroup()
        for pending in group.commits where pending.incarnation != fence?.incarnation || !rest.add(pending) {
            pending.completion(.failure(.lost))
        }
        return rest
    }

    /// - Parameter isNew: nothing of its new mail was ever given to the database before, as far as we know.
    private mutating func write(_ group: CommitGroup, isNew: Bool = true, attempts: Int = 0) {
        if group.isEmpty { return }
        node.withLock { $0.progress &+= 1 }
        guard let connection, let fence else { return fail(group, .away("no connection to the database")) }
        let owners = receipts.adding(group.owned, now: monotonicMilliseconds())
        let batch = WriteBatch(
            group, isNew: isNew,
            fence: .init(node: options.node, line: Self.number, incarnation: fence.number),
            part: node.now.part, buckets: node.now.bucketCount, trimming: owners, asksForStandby: options.needsStandby)
        do throws(PostgresError) {
            let answer = batch.answer(try connection.run(batch.batch, by: .after(options.commitTimeout)))
            // Somebody took the standby's name away: what was committed may be on one disk alone.
            if answer.hasStandby == false { throw .warned(PostgresConnection.noStandby) }
            for (owner, count) in answer.owners { receipts.found(owner, count) }
            node.withLock { $0.fullUntil = 0 }
            for pending in group.commits { pending.completion(.success(())) }
            line.calls.filled(group.bucketsOfOthers(of: node.withLock { $0.bucketCount }))
            if answer.isShort { lookForVanished(group) }
            haveEnded(group, missing: answer.missing)
        } catch {
            receipts.forget()
            refused(group, batch, error, isNew: isNew, attempts)
        }
    }

    private mutating func refused(
        _ group: CommitGroup, _ batch: WriteBatch, _ error: PostgresError, isNew: Bool, _ attempts: Int
    ) {
        node.mistrust(connection, error)
        if error.mayHaveCommitted { return doubt(group, error.description) }
        guard case .refused(let code, _, let step) = error else {
            connection = nil
            return fail(group, .away(error.description))
        }
        // What was asked behind the group was refused; the group is there.
        if batch.isStandby(step: step) { return doubt(group, error.text) }
        if code == PostgresCode.divisionByZero, batch.isFence(step: step) {
            fenced()
            return fail(group, .lost)
        }
        if connection?.isBroken == false {
            // The queue's own mail, made again after a doubt, is there.
            if code == PostgresCode.uniqueViolation, isNew { return write(group, isNew: false, attempts: attempts) }
            if PostgresCode.retriable.contains(code), attempts < 3 {
                return write(group, isNew: isNew, attempts: attempts + 1)
            }
        }
        if code == PostgresCode.divisionByZero, batch.isReceipts(step: step) { return repeated(group) }
        if connection?.isBroken != false { connection = nil }
        let failure = StorageError(error)
        if failure == .full { node.withLock { $0.fullUntil = monotonicMilliseconds() + 5000 } }
        if group.commits.count == 1 { return fail(group, failure) }
        // One of them is at fault, or all of them: each is told its own.
        for pending in group.commits {
            // A connection that has gone is made anew by the next turn.
            if connection == nil {
                pending.completion(.failure(.away(error.description)))
            } else {
                write(CommitGroup(pending))
            }
        }
    }

    /// Receipts that are there already: their commits are refused, the others are made again.
    private mutating func repeated(_ group: CommitGroup) {
        guard let connection else { return fail(group, .away("no connection to the database")) }
        let keys = PostgresColumn(keys: group.commits.flatMap { $0.commit.receipts.map(\.key) })
        var known: Set<[UInt8]> = []
        do throws(PostgresError) {
            let rows = try connection.run(WriteStatements.known, [keys.value], by: .after(options.commitTimeout))
            for row in 0..<rows.count { known.insert(rows.octets(row, 0)) }
        } catch {
            if connection.isBroken { self.connection = nil }
            return fail(group, .away(error.description))
        }
        var rest = CommitGroup()
        for pending in group.commits {
            let isKnown = pending.commit.receipts.contains { known.contains($0.key.octets) }
            if isKnown || !rest.add(pending) { pending.completion(.failure(isKnown ? .repeated : .doubtful)) }
        }
        if rest.isEmpty { return }
        // Where none is known, one went or came in between: then each is made by itself.
        if rest.commits.count < group.commits.count { return write(rest) }
        if rest.commits.count == 1 { return fail(rest, .repeated) }
        for pending in rest.commits { write(CommitGroup(pending)) }
    }

    /// Envelopes of which something was recorded, and that are not there: who had put them into our bucket has taken them back.
    /// One that has ended is none of them, whoever has ended it.
    private mutating func lookForVanished(_ group: CommitGroup) {
        let ended = Set(group.commits.flatMap(\.commit.ended).map(\.id))
        var (buckets, ids) = (PostgresColumn(.int4), PostgresColumn(.uuid))
        for id in group.commits.flatMap(\.commit.states).map(\.id) where !ended.contains(id) {
            buckets.append(node.bucketNumber(of: id))
            ids.append(id)
        }
        guard ids.count > 0, let connection else { return }
        let values = [buckets.value, ids.value]
        // If it does not come through, who has them finds out when they are due.
        guard let rows = try? connection.run(WriteStatements.vanished, values, by: .after(options.commitTimeout)),
            rows.count > 0
        else { return }
        let vanished = (0..<rows.count).map { rows.id($0, 0) }
        line.report(.vanished(vanished))
        line.tell([.withdrawn(vanished)])
    }

    /// The ends of a group came through; `missing`: of what was not there. That is as it should be where an end is made again.
    private mutating func haveEnded(_ group: CommitGroup, missing: [QueueID]) {
        let vanished = missing.filter { !endsInDoubt.contains($0) }
        if !vanished.isEmpty { line.report(.vanished(vanished)) }
        if !endsInDoubt.isEmpty { endsInDoubt.subtract(group.commits.flatMap(\.commit.ended).map(\.id)) }
    }

    private func fail(_ group: CommitGroup, _ error: StorageError) {
        for pending in group.commits { pending.completion(.failure(error)) }
    }

    // MARK: Doubt

    /// Nobody knows whether the group came through.
    private mutating func doubt(_ group: CommitGroup, _ reason: String) {
        connection = nil
        doubts.isOpen = true
        for commit in group.commits.map(\.commit) {
            endsInDoubt.formUnion(commit.ended.map(\.id))
            if commit.isNewMail { doubts.add(commit) }
        }
        line.report(.doubt(reason))
        fail(group, .doubtful)
    }

    /// Finds out what came of what is in doubt: the old transaction has ended or never will, once the fence is counted up.
    private mutating func settle() throws(PostgresError) {
        guard doubts.isOpen, let connection, let fence else { return }
        let deadline = Deadline.after(options.commitTimeout)
        var counting = PostgresBatch()
        counting.run(DoubtStatements.fence, [.text(options.node), .int4(Self.number)])
        counting.run(DoubtStatements.alive, [.text(options.node), .int8(fence.incarnation)])
        counting.sync()
        let number: Int64
        do throws(PostgresError) {
            let rows = try connection.run(counting, by: deadline)[0]
            guard rows.count == 1 else { return fenced() }
            number = rows.int(0, 0)
        } catch {
            guard case .refused(PostgresCode.divisionByZero, _, _) = error else { throw error }
            return fenced()
        }
        self.fence = (number, fence.incarnation)
        var buckets = PostgresColumn(.int4)
        var ids = PostgresColumn(.uuid)
        for id in doubts.envelopes.sorted() {
            buckets.append(node.bucketNumber(of: id))
            ids.append(id)
        }
        let keys = PostgresColumn(keys: doubts.receipts.map(\.key))
        var told = PostgresColumn(.uuid)
        for receipt in doubts.receipts { told.append(receipt.id) }
        var batch = PostgresBatch()
        batch.run(DoubtStatements.receiptParts, [keys.value, told.value])
        batch.run(DoubtStatements.receipts, [keys.value, told.value])
        batch.run(DoubtStatements.takenBack, [buckets.value, ids.value])
        batch.run(WriteStatements.fenced, [.text(options.node), .int4(Self.number), .int8(number)])
        batch.sync()
        let gone = try connection.run(batch, by: deadline)[2]
        let taken = (0..<gone.count).map { gone.id($0, 0) }
        // What only we deliver and is not there has never been.
        let left = doubts.others.subtracting(taken)
        leave(doubts.all.filter(left.contains))
        doubts = Doubts()
        if !taken.isEmpty {
            line.report(.takenBack(taken))
            line.tell([.withdrawn(taken)])
        }
    }

    /// What is in doubt is not looked for: whoever has the buckets now finds it, and delivers it.
    private mutating func dropDoubts() {
        leave(doubts.all)
        doubts = Doubts()
        endsInDoubt = []
    }

    private func leave(_ ids: [QueueID]) { if !ids.isEmpty { line.report(.leftInDoubt(ids)) } }

    /// Another node has declared this one dead: nothing that we know of the queue counts.
    private mutating func fenced() {
        guard let incarnation = fence?.incarnation else { return }
        fence = nil
        dropDoubts()
        if node.loseAll(of: incarnation, line.tell) { line.report(.fenced) }
    }

    // MARK: Handing over

    /// Gives buckets away, behind all that was recorded of them. What does not come through is found by the node's thread at its
    /// next beat, by whose the buckets are then.
    private mutating func handOver(_ buckets: [UInt16]) {
        guard let connection, let fence else { return }
        // The next beat sees whose they are, whatever comes of it.
        var numbers = PostgresColumn(.int4)
        for bucket in buckets { numbers.append(Int32(bucket)) }
        var batch = PostgresBatch()
        batch.run(WriteStatements.handedOver, [numbers.value, .text(options.node)])
        batch.run(WriteStatements.fenced, [.text(options.node), .int4(Self.number), .int8(fence.number)])
        batch.sync()
        do throws(PostgresError) {
            _ = try connection.run(batch, by: .after(options.commitTimeout))
        } catch {
            if connection.isBroken { self.connection = nil }
            if error.mayHaveCommitted { doubts.isOpen = true }
        }
    }
}

extension LineRun.Doubts {
    /// The mail of a commit.
    fileprivate mutating func add(_ commit: QueueCommit) {
        let ids = commit.accepted.map(\.envelope.id)
        all += ids
        if commit.isForOthers { others.formUnion(ids) }
        if commit.outlivesDoubt { return }
        envelopes += ids
        receipts += commit.receipts.map { ($0.key, $0.id) }
    }
}

extension CommitGroup {
    /// Where it has put something that others deliver.
    ///
    /// - Parameter buckets: how many there are.
    fileprivate func bucketsOfOthers(of buckets: Int) -> Set<UInt16> {
        Set(
            commits.filter(\.commit.isForOthers).flatMap(\.commit.accepted).map { $0.envelope.id.bucket(of: buckets) })
    }

    /// Whose receipts are added, and about how large each is.
    fileprivate var owned: [(owner: Receipt.Owner, octets: Int)] {
        commits.flatMap(\.commit.receipts).filter { $0.expires != nil }.map { receipt in
            let recipients = receipt.envelopes.flatMap(\.recipients)
            return (
                receipt.owner, 200 + receipt.answer.count + recipients.reduce(0) { $0 + $1.address.utf8.count + 20 }
            )
        }
    }
}
