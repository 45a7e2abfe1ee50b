// Which connection gets which work: the rules of a connection pool, without connections. Used by SlimtaRelay's
// ConnectionPool for SMTP, and by HTTPClient.

internal import NIOCore

/// Where connections lead: work for equal destinations may share them.
package protocol PoolDestination: Hashable, Sendable {
    /// See ``group``.
    associatedtype Group: Hashable & Sendable
    /// What has its connections counted together with those of other destinations, such as those of one IP address.
    var group: Group { get }
}

/// Shares out connections to destinations among those who wait for one.
///
/// - No more than `total` connections, and `perDestination` for the destinations of one group, from the decision to
///   connect until the connection is known to be closed.
/// - Work for one destination is done in the order in which it came. Among destinations that wait for room in `total`
///   it goes round; one with many messages does not hold up one with a single one.
/// - An idle connection is given the next work for its destination, the last used first, and is closed if another
///   destination needs its place.
/// - A connection that has done `uses` pieces of work, or is old, is closed instead of given more.
/// - Nothing is kept of a destination without connections and work.
package struct ConnectionPoolMachine<Destination: PoolDestination, Work: Sendable> {
    /// The number of a connection, which is never used again.
    package typealias ConnectionID = UInt64

    /// How many connections there may be, and what each does.
    package struct Limits: Hashable, Sendable {
        /// Connections, all destinations together.
        package var total: Int
        /// Connections to the destinations of one group.
        package var perDestination: Int
        /// How much work one connection does.
        package var uses: Int
        /// Who gives work knows how many connections a destination wants: one that was refused is a limit for what waits by
        /// then, and no longer.
        package var isPaced: Bool

        /// All at least 1.
        package init(total: Int, perDestination: Int, uses: Int = .max, isPaced: Bool = false) {
            self.total = total
            self.perDestination = perDestination
            self.uses = uses
            self.isPaced = isPaced
        }
    }

    /// What is to be done. One event never leads to more.
    package enum Action {
        /// Nothing, for the time being.
        case none
        /// The connection is to do the work.
        case start(ConnectionID, Work)
        /// A new connection is to be made, for the work.
        case connect(ConnectionID, Work)
        /// The connection, which is idle, is to be closed, and ``closed(_:)`` to be called then.
        case retire(ConnectionID)
    }

    private enum Phase {
        case connecting, busy, idle, closing
    }

    private struct Connection {
        let destination: Destination
        var phase: Phase
        /// How much work it has done.
        var uses = 0
        /// When it became idle: a number that grows.
        var idleSince: UInt64 = 0
    }

    private struct Entry {
        /// All of its connections, whatever their phase.
        var open = 0
        /// Those whose session is open.
        var established = 0
        /// The last used last.
        var idle: [ConnectionID] = []
        var waiting = CircularBuffer<Work>()
        /// What the destination turned out to allow; nil: our own limit.
        var limit: Int?
    }

    private let limits: Limits
    private var connections: [ConnectionID: Connection] = [:]
    private var entries: [Destination: Entry] = [:]
    /// How many connections the destinations of a group have, whatever their phase.
    private var groups: [Destination.Group: Int] = [:]
    /// The destinations with waiting work; each is in here once, the one that is served next first.
    private var round = CircularBuffer<Destination>()
    private var counter: UInt64 = 0
    /// Whether there are to be no more connections.
    package private(set) var isShutDown = false

    /// A pool without connections.
    package init(_ limits: Limits) { self.limits = limits }

    /// All connections, whatever their phase.
    package var openCount: Int { connections.count }

    /// How many destinations are known.
    var destinationCount: Int { entries.count }

    // MARK: Work

    /// There is work for `destination`. With `isRepeated` a new connection is better than an idle one: one of those has
    /// just failed it.
    package mutating func submit(_ work: Work, for destination: Destination, isRepeated: Bool = false) -> Action {
        var entry = entries[destination] ?? Entry()
        if isRepeated, entry.waiting.isEmpty, mayConnect(destination, entry) {
            entries[destination] = entry
            return connect(destination, work)
        }
        if let id = entry.idle.popLast() {
            connections[id]?.phase = .busy
            entries[destination] = entry
            return .start(id, work)
        }
        if entry.waiting.isEmpty, mayConnect(destination, entry) {
            entries[destination] = entry
            return connect(destination, work)
        }
        if entry.waiting.isEmpty { round.append(destination) }
        entry.waiting.append(work)
        entries[destination] = entry
        // Its place may be taken by a connection that does nothing.
        if entry.open < limit(of: entry), let id = idleInTheWay(of: destination) { return retire(id) }
        return .none
    }

    /// Takes back the first waiting work that `isIt` says yes to; nil if there is none.
    package mutating func withdraw(for destination: Destination, where isIt: (Work) -> Bool) -> Work? {
        guard let index = entries[destination]?.waiting.firstIndex(where: isIt) else { return nil }
        let work = entries[destination]?.waiting.remove(at: index)
        stopWaitingIfDone(destination)
        return work
    }

    // MARK: Connections

    /// The session of a new connection is open.
    package mutating func opened(_ id: ConnectionID) {
        guard let connection = connections[id], connection.phase == .connecting else { return }
        connections[id]?.phase = .busy
        entries[connection.destination]?.established += 1
    }

    /// A new connection, or its session, could not be opened for `work`; ``closed(_:)`` is still to come.
    ///
    /// Returns the work that has failed with it: all that waits for the destination, if nothing else is open there. If
    /// there is, the destination does not want more connections than those, and one of them is to do `work`.
    package mutating func failed(_ id: ConnectionID, work: Work) -> (failed: [Work], action: Action) {
        guard let connection = connections[id], var entry = entries[connection.destination] else {
            return ([work], .none)
        }
        connections[id]?.phase = .closing
        if entry.established > 0, !isShutDown {
            entry.limit = entry.established
            if let idle = entry.idle.popLast() {
                connections[idle]?.phase = .busy
                entries[connection.destination] = entry
                return ([], .start(idle, work))
            }
            if entry.waiting.isEmpty { round.append(connection.destination) }
            entry.waiting.prepend(work)
            entries[connection.destination] = entry
            return ([], .none)
        }
        let failed = [work] + entry.waiting
        entry.waiting.removeAll()
        entries[connection.destination] = entry
        stopWaitingIfDone(connection.destination)
        return (failed, .none)
    }

    /// The connection has done its work: what it does next. With ``Action/none`` it is idle. `isOld`: it is to do no
    /// more.
    package mutating func released(_ id: ConnectionID, isOld: Bool = false) -> Action {
        connections[id]?.uses += 1
        guard let connection = connections[id], connection.phase == .busy, var entry = entries[connection.destination]
        else { return .none }
        let isUsedUp = isOld || connection.uses >= limits.uses
        if isShutDown || isUsedUp || isOwedToOthers(connection.destination, entry) {
            connections[id]?.phase = .closing
            entries[connection.destination]?.established -= 1
            return .retire(id)
        }
        if let work = entry.waiting.popFirst() {
            if limits.isPaced, entry.waiting.isEmpty { entry.limit = nil }
            entries[connection.destination] = entry
            served(connection.destination)
            return .start(id, work)
        }
        if limits.isPaced { entry.limit = nil }
        counter += 1
        connections[id]?.phase = .idle
        connections[id]?.idleSince = counter
        entry.idle.append(id)
        entries[connection.destination] = entry
        return .none
    }

    /// The connection has been idle for long enough; ``Action/none`` if it no longer is.
    package mutating func expired(_ id: ConnectionID) -> Action {
        connections[id]?.phase == .idle ? retire(id) : .none
    }

    /// The connection is closed, for whatever reason: there is room for another.
    package mutating func closed(_ id: ConnectionID) -> Action {
        guard let connection = connections.removeValue(forKey: id) else { return .none }
        let group = connection.destination.group
        let others = groupCount(connection.destination) - 1
        groups[group] = others > 0 ? others : nil
        if var entry = entries[connection.destination] {
            entry.open -= 1
            switch connection.phase {
            case .idle:
                entry.established -= 1
                entry.idle.removeAll { $0 == id }
            case .busy: entry.established -= 1
            case .connecting, .closing: break
            }
            entries[connection.destination] = entry.open == 0 && entry.waiting.isEmpty ? nil : entry
        }
        return serveNext()
    }

    /// No more connections: returns the work that waits, and the idle connections, which are to be closed.
    package mutating func shutDown() -> (waiting: [Work], idle: [ConnectionID]) {
        isShutDown = true
        let waiting = entries.values.flatMap(\.waiting)
        let idle = connections.filter { $0.value.phase == .idle }.map(\.key)
        for id in idle { _ = retire(id) }
        for destination in round {
            entries[destination]?.waiting.removeAll()
            if entries[destination]?.open == 0 { entries[destination] = nil }
        }
        round.removeAll()
        return (waiting, idle)
    }

    // MARK: Rules

    private func limit(of entry: Entry) -> Int { min(entry.limit ?? .max, limits.perDestination) }

    private func groupCount(_ destination: Destination) -> Int { groups[destination.group] ?? 0 }

    private func mayConnect(_ destination: Destination, _ entry: Entry) -> Bool {
        connections.count < limits.total && entry.open < limit(of: entry)
            && groupCount(destination) < limits.perDestination
    }

    private mutating func connect(_ destination: Destination, _ work: Work) -> Action {
        counter += 1
        connections[counter] = Connection(destination: destination, phase: .connecting)
        entries[destination]?.open += 1
        groups[destination.group, default: 0] += 1
        return .connect(counter, work)
    }

    /// An idle connection goes.
    private mutating func retire(_ id: ConnectionID) -> Action {
        guard let connection = connections[id] else { return .none }
        connections[id]?.phase = .closing
        entries[connection.destination]?.idle.removeAll { $0 == id }
        entries[connection.destination]?.established -= 1
        return .retire(id)
    }

    /// The connection that has been idle for longest, if all places are taken: those of the group, or all.
    private func idleInTheWay(of destination: Destination) -> ConnectionID? {
        let isGroupFull = groupCount(destination) >= limits.perDestination
        guard isGroupFull || connections.count >= limits.total else { return nil }
        let idle = connections.filter { _, connection in
            connection.phase == .idle && (!isGroupFull || connection.destination.group == destination.group)
        }
        return idle.min { $0.value.idleSince < $1.value.idleSince }?.key
    }

    /// Whether a connection of `destination` that has done its work is to make room for another destination.
    ///
    /// Only for one that waits for nothing but room, and that has fewer connections: none, if its turn is before
    /// ours or we have no work; else at least two fewer, so that connections do not go back and forth.
    private func isOwedToOthers(_ destination: Destination, _ entry: Entry) -> Bool {
        let isFull = connections.count >= limits.total
        let isGroupFull = groupCount(destination) >= limits.perDestination
        guard isFull || isGroupFull, !round.isEmpty else { return false }
        var isBeforeUs = true
        for other in round {
            if other == destination {
                isBeforeUs = false
                continue
            }
            guard let theirs = entries[other], theirs.open < limit(of: theirs) else { continue }
            // Our place is of use to them if it is one of their group, or their group has room and the rest has not.
            let isOfUse = other.group == destination.group || (isFull && groupCount(other) < limits.perDestination)
            guard isOfUse else { continue }
            if entry.waiting.isEmpty || (theirs.open == 0 && isBeforeUs) || theirs.open + 1 < entry.open { return true }
        }
        return false
    }

    /// Gives room to the first destination whose turn it is and that may connect.
    private mutating func serveNext() -> Action {
        guard connections.count < limits.total else { return .none }
        for destination in round {
            guard var entry = entries[destination], mayConnect(destination, entry), let work = entry.waiting.popFirst()
            else {
                continue
            }
            entries[destination] = entry
            served(destination)
            return connect(destination, work)
        }
        return .none
    }

    /// The destination got something: it goes to the end of the round, or leaves it.
    private mutating func served(_ destination: Destination) {
        guard let index = round.firstIndex(of: destination) else { return }
        round.remove(at: index)
        if entries[destination]?.waiting.isEmpty == false { round.append(destination) }
    }

    private mutating func stopWaitingIfDone(_ destination: Destination) {
        guard let entry = entries[destination], entry.waiting.isEmpty else { return }
        if let index = round.firstIndex(of: destination) { round.remove(at: index) }
        if entry.open == 0 { entries[destination] = nil }
    }
}
