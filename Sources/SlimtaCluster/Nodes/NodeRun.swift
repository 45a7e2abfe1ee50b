// What the node's thread does, from joining to leaving. Started by ClusterStorage. Everything here is a short transaction: between
// two beats nothing may take long.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads

/// One life of the node's thread.
struct NodeRun: ~Copyable {
    let thread: NodeThread
    private var connection: PostgresConnection?
    private var backOff = BackOff()
    private var hasStarted = false
    /// When the next beat is due, in milliseconds by the monotonic clock.
    var nextBeat: Int64 = 0
    /// Since when all beats have come through, without a gap, by the clock of leases; nil: the last one has not. Who has just
    /// come back from an outage cannot tell who is dead: nobody could be heard.
    private var steadySince: Int64?
    private var lastIncarnation: Int64 = 0
    /// Buckets that are ours and of which the queue has not been told, and how far the first one is told.
    private var loading: [UInt16] = []
    private var loadedUpTo: QueueID?
    private var offset = Duration.zero
    var inbox = Inbox()
    private var sites: NodeSites

    var options: ClusterOptions { thread.options }
    var node: NodeState { thread.node }
    private var patience: Duration { options.lease / 5 }

    /// Differences of clocks that nobody has to hear of.
    private static let allowedOffset = Duration.seconds(2)

    private init(_ thread: NodeThread) {
        self.thread = thread
        sites = NodeSites(thread)
    }

    /// Works until the thread is stopped: on a thread of its own.
    static func run(_ thread: NodeThread) {
        var run = NodeRun(thread)
        run.run()
    }

    private mutating func run() {
        while !thread.isStopped {
            do throws(NodeFault) {
                try connect()
                try join()
                try beat()
                try load()
                try lookIntoInbox()
                backOff.reset()
                found(nil)
                started(.success(()))
                let next = inbox.isDue ? min(nextBeat, inbox.next) : nextBeat
                thread.wait(loading.isEmpty ? .milliseconds(next - monotonicMilliseconds()) : .zero)
            } catch {
                failed(error)
            }
        }
        if !thread.isAbandoned { leave() }
        thread.started(.failure(.system("the storage was closed")))
    }

    private mutating func started(_ result: Result<Void, StorageOpenError>) {
        if hasStarted || !loading.isEmpty { return }
        hasStarted = true
        thread.started(result)
    }

    private mutating func failed(_ fault: NodeFault) {
        if case .database(let error) = fault { node.mistrust(connection, error) }
        connection = nil
        steadySince = nil
        sites.lose()
        // A connection may end for many reasons: others hear of it when a new one cannot be had either.
        if hasStarted, backOff.isFresh { return backOff.skip() }
        found(fault.text)
        if !hasStarted {
            hasStarted = true
            if case .unusable(let error) = fault {
                thread.started(.failure(error))
            } else {
                // Mail is refused until the database is there.
                thread.started(.success(()))
            }
        }
        thread.wait(backOff.next())
    }

    /// Tells others whether the database answers.
    private func found(_ trouble: String?) {
        if let event = node.found(trouble, by: .node) { thread.report(event) }
        // It need not wait until its own next try.
        if trouble == nil, node.now.troubles[.line] != nil { thread.line.wake() }
    }

    // MARK: Joining and leaving

    private mutating func connect() throws(NodeFault) {
        if connection?.hasEnded == true { connection = nil }
        if connection != nil { return }
        let deadline = Deadline.after(patience)
        let new: PostgresConnection
        do throws(PostgresError) {
            new = try PostgresConnection.session(options, node, patience: patience, by: deadline)
        } catch {
            throw NodeFault(error)
        }
        do throws(ClusterDatabaseError) {
            _ = try ClusterDatabase.check(new, by: deadline)
        } catch {
            if case .server(let error) = error { throw NodeFault(error) }
            throw .unusable(.newerFormat(error.description))
        }
        do throws(PostgresError) {
            try new.prepare(NodeStatements.all + SiteStatements.all, by: deadline)
        } catch {
            throw NodeFault(error)
        }
        connection = new
    }

    private mutating func join() throws(NodeFault) {
        if node.now.incarnation != 0 { return }
        let lease = options.lease.milliseconds
        let begun = bootMilliseconds()
        let rows = try run(
            NodeStatements.join,
            [
                .text(options.node), .text(options.machine), .int4(options.roles.rawValue), .text(options.egress),
                .text(options.version), .int8(lease), .bool(!hasStarted), .int8(lastIncarnation),
                .int4(LineRun.number),
            ])
        guard rows.count == 1 else { throw .unusable(.nameInUse(options.node)) }
        let (incarnation, fence) = (rows.int(0, 0), rows.int(0, 1))
        lastIncarnation = incarnation
        // Whoever has lost what there was has told the queue so.
        node.withLock { values in
            (values.incarnation, values.fence) = (incarnation, fence)
            values.leaseEnd = begun + lease * 4 / 5
        }
        (loading, loadedUpTo, inbox) = ([], nil, Inbox())
        steadySince = begun
        nextBeat = 0
        thread.report(.joined(incarnation: incarnation))
    }

    private mutating func leave() {
        guard let connection else { return }
        let now = node.now
        if now.incarnation == 0 { return }
        var batch = PostgresBatch()
        batch.run(NodeStatements.fence, [.text(options.node), .int8(now.incarnation)])
        batch.run(NodeStatements.leave, [.text(options.node), .int8(now.incarnation)])
        batch.run(NodeStatements.gone, [.text(options.node), .int8(now.incarnation)])
        batch.run(SiteStatements.clear, [.text(options.node)])
        batch.sync()
        // If it does not come through, the others find out when the lease is over.
        _ = try? connection.run(batch, by: .after(patience))
    }

    // MARK: Beats

    private mutating func beat() throws(NodeFault) {
        let now = monotonicMilliseconds()
        if now < nextBeat { return }
        let values = node.now
        let begun = bootMilliseconds()
        var batch = PostgresBatch()
        batch.run(
            NodeStatements.beat,
            [.text(options.node), .int8(values.incarnation), .int4(Int32(values.part))])
        let first = 1 + sites.write(to: &batch, offset: offset)
        batch.run(NodeStatements.members, [.int8(options.lease.milliseconds)])
        batch.run(NodeStatements.buckets, [])
        batch.run(NodeStatements.ring, [])
        batch.run(CommandStatements.areThere, [.text(options.node), .int8(values.incarnation)])
        sites.ask(in: &batch)
        batch.sync()
        let all = try run(batch)
        let rows = [all[0]] + all[first...]
        guard rows[0].count == 1 else {
            (loading, loadedUpTo) = ([], nil)
            sites.lose()
            if node.loseAll(of: values.incarnation, thread.tell) { thread.report(.fenced) }
            return
        }
        nextBeat = now + patience.milliseconds
        if begun > values.leaseEnd { steadySince = nil }
        steadySince = steadySince ?? begun
        node.withLock { $0.leaseEnd = begun + options.lease.milliseconds * 4 / 5 }
        compareClocks(Timestamp(milliseconds: rows[0].int(0, 0)))
        let bucketCount = rows[2].count
        node.withLock { $0.bucketCount = max(1, bucketCount) }
        if rows[3].count == 1 {
            let part = Int(rows[3].int(0, 0))
            node.withLock { $0.part = part }
        }
        if rows[4].bool(0, 0) { thread.desk.open() }
        sites.read(rows[1], rows.count > 5 ? rows[5] : nil, offset: offset)
        inbox.isDue = true
        let (members, buckets) = (Self.members(rows[1]), Self.buckets(rows[2]))
        if let event = node.isTold(isDraining: members.first { $0.name == options.node }?.isDraining == true) {
            thread.report(event)
        }
        place(Placement(members: members, buckets: buckets))
        try share(
            Sharing(
                members: members, buckets: buckets, me: options.node,
                // What was on its way out before or behind the look at the tables: whose it is they may not say.
                leaving: values.leaving.union(node.now.leaving), balances: options.balances),
            of: values.incarnation, begun)
    }

    /// Mail that is not ours goes there from now on.
    private func place(_ placement: Placement) {
        let before = node.withLock { values in
            defer { values.placement = placement }
            return values.placement
        }
        // Who delivers is one of them, or is about to stop.
        if options.roles.contains(.relay) { return }
        let hadRelays = before.map { $0.relays > 0 } ?? true
        if hadRelays != (placement.relays > 0) { thread.report(hadRelays ? .noRelays : .relaysBack) }
    }

    private mutating func compareClocks(_ theirs: Timestamp) {
        let found = theirs - .now()
        let isFar = found > Self.allowedOffset || found < .zero - Self.allowedOffset
        let changed = found - offset
        if isFar, changed > Self.allowedOffset || changed < .zero - Self.allowedOffset {
            thread.report(.clock(offset: found))
        }
        offset = found
    }

    private static func members(_ rows: PostgresRows) -> [Sharing.Member] {
        (0..<rows.count).map { row in
            Sharing.Member(
                name: rows.text(row, 0), incarnation: rows.int(row, 1),
                roles: NodeRoles(rawValue: Int32(truncatingIfNeeded: rows.int(row, 2))), isGone: rows.bool(row, 3),
                isDraining: rows.bool(row, 4), isSilent: rows.bool(row, 5))
        }
    }

    private static func buckets(_ rows: PostgresRows) -> [Sharing.Bucket] {
        (0..<rows.count).map { row in
            Sharing.Bucket(
                number: UInt16(truncatingIfNeeded: rows.int(row, 0)),
                owner: rows.isNull(row, 1) ? nil : rows.text(row, 1),
                wanted: rows.isNull(row, 2) ? nil : rows.text(row, 2))
        }
    }

    /// Does what the tables ask of this node.
    private mutating func share(_ sharing: Sharing, of incarnation: Int64, _ begun: Int64) throws(NodeFault) {
        if let steadySince, begun - steadySince >= options.lease.milliseconds {
            for member in sharing.dead { declareDead(member) }
        }
        if !sharing.orphans.isEmpty { _ = try run(NodeStatements.adopt, [numbers(sharing.orphans)]) }
        guard options.roles.contains(.relay) else {
            if !sharing.own.isEmpty {
                _ = try run(NodeStatements.setOwnFree, [.text(options.node), .int8(incarnation)])
            }
            return
        }
        var taken: Set<UInt16> = []
        if sharing.take > 0 {
            let rows = try run(
                NodeStatements.take,
                [
                    .text(options.node), .int8(incarnation), .int4(Int32(sharing.take)),
                    numbers(sharing.leaving),
                ])
            for row in 0..<rows.count { taken.insert(UInt16(truncatingIfNeeded: rows.int(row, 0))) }
        }
        if !sharing.ask.isEmpty { _ = try run(NodeStatements.ask, [.text(options.node), numbers(sharing.ask)]) }
        let now = node.now
        // The line has been fenced off since the beat: all is lost, and the queue was told.
        if now.incarnation != incarnation { return }
        release(sharing, now)
        begin(
            sharing.own.union(taken).subtracting(now.owned).subtracting(sharing.leaving).subtracting(sharing.release),
            incarnation)
    }

    /// Tells the queue what others want, and what they have already.
    private mutating func release(_ sharing: Sharing, _ now: NodeState.Values) {
        let wanted = sharing.release.intersection(now.owned).subtracting(sharing.leaving)
        // A node that is not fenced loses no bucket; if somebody has taken one by hand, it is gone all the same.
        let lost = now.owned.subtracting(sharing.own)
        if !lost.isEmpty { node.withLock { $0.owned.subtract(lost) } }
        let leaving = wanted.union(lost)
        if !leaving.isEmpty {
            node.withLock { values in
                values.leaving.formUnion(leaving)
                values.loading.subtract(leaving)
            }
            if let first = loading.first, leaving.contains(first) { loadedUpTo = nil }
            loading.removeAll { leaving.contains($0) }
            thread.tell([.releasing(QueueBuckets(numbers: leaving, of: now.bucketCount))])
        }
        // The queue has let go of these before, and the line could not say so.
        let stuck = sharing.release.subtracting(now.owned).subtracting(sharing.leaving)
        if !stuck.isEmpty { _ = thread.line.give(.handOver(stuck.sorted(), incarnation: now.incarnation, {})) }
    }

    /// Does not come through as long as a transaction of the other node holds its fence: then it is tried at the next beat.
    private func declareDead(_ member: Sharing.Member) {
        var batch = PostgresBatch()
        batch.run(
            NodeStatements.declareDead,
            [.text(member.name), .int8(member.incarnation), .int8(options.lease.milliseconds)])
        batch.run(NodeStatements.fenceOff, [.text(member.name), .int8(member.incarnation)])
        batch.run(NodeStatements.setFree, [.text(member.name), .int8(member.incarnation)])
        batch.sync()
        do throws(NodeFault) {
            if try run(batch)[0].count > 0 { thread.report(.declaredDead(node: member.name)) }
        } catch {
            thread.report(.housekeepingFailed("node \(member.name) cannot be declared dead: \(error.text)"))
        }
    }

    // MARK: Buckets that come

    private mutating func begin(_ buckets: Set<UInt16>, _ incarnation: Int64) {
        if buckets.isEmpty { return }
        let count = node.withLock { values -> Int? in
            if values.incarnation != incarnation { return nil }
            values.loading.formUnion(buckets)
            values.owned.formUnion(buckets)
            return values.owned.count
        }
        guard let count else { return }
        loading += buckets.sorted()
        thread.report(.buckets(count))
    }

    /// Reads what is in new buckets and tells the queue, until it is time for the next beat.
    private mutating func load() throws(NodeFault) {
        while let bucket = loading.first, monotonicMilliseconds() < nextBeat, !thread.isStopped {
            let rows = try run(
                NodeStatements.summaries,
                [
                    .int4(Int32(bucket)), .uuid(loadedUpTo ?? QueueID(high: 0, low: 0)),
                    .int4(options.summaryPage),
                ], by: .after(options.commitTimeout))
            let summaries = (0..<rows.count).map { QueuedSummary(rows, $0) }
            let isOurs = node.inOrder {
                let isOurs = node.withLock { $0.owned.contains(bucket) }
                if isOurs, !summaries.isEmpty { thread.tell([.acquired(summaries)]) }
                return isOurs
            }
            // The line has been fenced off meanwhile: the next beat begins anew.
            guard isOurs else {
                (loading, loadedUpTo) = ([], nil)
                return
            }
            for row in 0..<rows.count where rows.bool(row, 9) { inbox.told.insert(rows.id(row, 0)) }
            if rows.count < Int(options.summaryPage) {
                inbox.isDue = true
                loading.removeFirst()
                loadedUpTo = nil
                node.withLock { _ = $0.loading.remove(bucket) }
            } else {
                loadedUpTo = summaries.last?.id
            }
            // A million take half a minute: what edges take meanwhile for buckets that have been read does not wait for them.
            try lookIntoInbox()
        }
    }

    // MARK: Asking

    func run(
        _ statement: PostgresStatement, _ values: [PostgresValue], by deadline: Deadline? = nil
    ) throws(NodeFault) -> PostgresRows {
        guard let connection else { throw NodeFault(.unreachable("no connection to the database")) }
        do throws(PostgresError) {
            return try connection.run(statement, values, by: deadline ?? .after(patience))
        } catch {
            throw NodeFault(error)
        }
    }

    func run(_ batch: PostgresBatch) throws(NodeFault) -> [PostgresRows] {
        guard let connection else { throw NodeFault(.unreachable("no connection to the database")) }
        do throws(PostgresError) {
            return try connection.run(batch, by: .after(patience))
        } catch {
            throw NodeFault(error)
        }
    }

    func numbers(_ buckets: some Collection<UInt16>) -> PostgresValue {
        var column = PostgresColumn(.int4)
        for bucket in buckets { column.append(Int32(bucket)) }
        return column.value
    }
}

/// Why the node's thread cannot go on.
enum NodeFault: Error {
    /// It is tried again.
    case database(PostgresError)
    /// So too, but a start fails with it.
    case unusable(StorageOpenError)

    init(_ error: PostgresError) { self = .database(error) }

    var text: String {
        switch self {
        case .database(let error): error.description
        case .unusable(let error): error.description
        }
    }
}

extension QueuedSummary {
    /// Of a row of `NodeStatements.summaries`, or of `InboxStatements.read`.
    init(_ rows: PostgresRows, _ row: Int) {
        let flags = ItemFlags(rawValue: Int32(truncatingIfNeeded: rows.int(row, 5)))
        let pending = Int(rows.int(row, 7))
        self.init(
            id: rows.id(row, 0), received: Timestamp(milliseconds: rows.int(row, 1)),
            due: Timestamp(milliseconds: rows.int(row, 2)), attempts: UInt32(clamping: rows.int(row, 4)),
            tried: rows.isNull(row, 3) ? nil : Timestamp(milliseconds: rows.int(row, 3)),
            isHeld: flags.contains(.held), isWarned: flags.contains(.warned),
            destination: pending == 0 ? rows.text(row, 6) : pending < 0 ? "" : rows.domain(row, 8, of: pending))
    }
}

extension PostgresRows {
    /// The folded domain of a recipient of the envelope that is in this column; empty if it cannot be read, which comes out when
    /// it is due.
    fileprivate func domain(_ row: Int, _ column: Int, of recipient: Int) -> String {
        let envelope = withOctets(row, column) { octets in try? EnvelopeCodec.decode(octets).0 }
        guard let envelope, recipient < envelope.recipients.count else { return "" }
        return envelope.recipients[recipient].foldedDomain
    }
}
