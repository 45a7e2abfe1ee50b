// The connections of a pool and who does what: ConnectionPoolMachine under a lock, with the connections themselves by their
// numbers. What follows from a decision is done outside of the lock, by the pools: SlimtaRelay's ConnectionPool, HTTPClientPool.

internal import NIOCore
import Synchronization

/// What a pool's connections do, one at a time.
package protocol PooledWork: AnyObject, Sendable {
    /// Where it leads.
    associatedtype Destination: PoolDestination
    /// Connections of equal keys may do it.
    var key: Destination { get }
    /// Whether nobody waits for it any more: it need not be begun.
    var isOver: Bool { get }
}

/// Shares out `Connection`s among `Work`, by the rules of ``ConnectionPoolMachine``.
package final class PooledConnections<Work: PooledWork, Connection: Sendable>: Sendable {
    /// The rules.
    package typealias Machine = ConnectionPoolMachine<Work.Destination, Work>
    /// The number of a connection, which is never used again.
    package typealias ID = Machine.ConnectionID

    /// What a pool is to do.
    package enum Step {
        /// Nothing, for the time being.
        case none
        /// The connection is to do the work.
        case start(Connection, Work)
        /// The connection that was to do the work has closed meanwhile: to be submitted again.
        case again(Work)
        /// A new connection is to be made for the work.
        case connect(ID, Work)
        /// The idle connection is to be closed.
        case retire(Connection)
    }

    /// What a connection that has done its work does next.
    package enum Next {
        case idle
        case start(Work)
        case retire
    }

    /// Where work is that is no longer wanted.
    package enum Place {
        /// With this connection, which is to end it.
        case at(Connection)
        /// With nobody yet: it was waiting, or a connection was being made for it.
        case waiting
        /// It is over.
        case nowhere
    }

    private struct State {
        var machine: Machine
        /// Those that are connected.
        var connections: [ID: Connection] = [:]
        /// Which connection does what, or is to be made for it.
        var assigned: [ObjectIdentifier: ID] = [:]
        /// Who waits for the last connection to be closed.
        var drained: [CheckedContinuation<Void, Never>] = []

        /// Writes down who does what, in the same breath in which it was decided.
        mutating func note(_ action: Machine.Action) -> Step {
            switch action {
            case .none: return .none
            case .connect(let id, let work):
                assigned[ObjectIdentifier(work)] = id
                return .connect(id, work)
            case .start(let id, let work):
                assigned[ObjectIdentifier(work)] = id
                // One that was closed since: that was told to the machine, or will be.
                return connections[id].map { .start($0, work) } ?? .again(work)
            case .retire(let id): return connections[id].map { .retire($0) } ?? .none
            }
        }
    }

    private let state: Mutex<State>

    /// None yet, and as many as `limits` allow.
    package init(_ limits: Machine.Limits) { state = Mutex(State(machine: Machine(limits))) }

    /// How many connections there are, in any phase.
    package var openCount: Int { state.withLock { $0.machine.openCount } }

    /// Whether no more work is taken.
    package var isShutDown: Bool { state.withLock(\.machine.isShutDown) }

    // MARK: For who has work

    /// Has the work done as soon as a connection is free for it; nil: it is over, or no more is taken.
    ///
    /// - Parameter isRepeated: a connection has given it back untouched: it comes first.
    package func submit(_ work: Work, isRepeated: Bool) -> Step? {
        state.withLock { state in
            state.assigned[ObjectIdentifier(work)] = nil
            guard !state.machine.isShutDown, !work.isOver else { return nil }
            return state.note(state.machine.submit(work, for: work.key, isRepeated: isRepeated))
        }
    }

    /// The work is no longer wanted. What is still being connected for it finds out when it is there.
    ///
    /// - Parameter mark: makes the work ``PooledWork/isOver``, so that it is not begun meanwhile; called under the lock.
    package func withdraw(_ work: Work, mark: () -> Void = {}) -> Place {
        state.withLock { state in
            mark()
            guard let id = state.assigned[ObjectIdentifier(work)] else {
                return state.machine.withdraw(for: work.key) { $0 === work } == nil ? .nowhere : .waiting
            }
            return state.connections[id].map { .at($0) } ?? .waiting
        }
    }

    /// No more work: what waited for a connection, and the connections that are to be closed.
    package func shutDown() -> (waiting: [Work], idle: [Connection]) {
        state.withLock { state in
            let (waiting, idle) = state.machine.shutDown()
            return (waiting, idle.compactMap { state.connections[$0] })
        }
    }

    /// Returns when all connections are closed.
    package func drain() async {
        await withCheckedContinuation { continuation in
            let isDrained = state.withLock { state in
                if state.machine.openCount > 0 { state.drained.append(continuation) }
                return state.machine.openCount == 0
            }
            if isDrained { continuation.resume() }
        }
    }

    // MARK: For connections, on their event loops

    /// A new connection is there.
    package func connected(_ id: ID, _ connection: Connection) { state.withLock { $0.connections[id] = connection } }

    /// The connection is gone, and another is made in its place.
    package func disconnected(_ id: ID) { state.withLock { $0.connections[id] = nil } }

    /// The connection can work.
    package func opened(_ id: ID) { state.withLock { $0.machine.opened(id) } }

    /// The connection could not be opened, and ``closed(_:)`` follows: what fails with it, and what is to be done.
    package func failed(_ id: ID, _ work: Work) -> (failed: [Work], step: Step) {
        state.withLock { state in
            state.assigned[ObjectIdentifier(work)] = nil
            let result = state.machine.failed(id, work: work)
            return (result.failed, state.note(result.action))
        }
    }

    /// The work is done, and the connection may be used again, unless it `isOld`.
    package func released(_ id: ID, from work: Work, isOld: Bool) -> Next {
        state.withLock { state in
            state.assigned[ObjectIdentifier(work)] = nil
            switch state.machine.released(id, isOld: isOld) {
            case .start(_, let next):
                state.assigned[ObjectIdentifier(next)] = id
                return .start(next)
            case .retire: return .retire
            case .none, .connect: return .idle
            }
        }
    }

    /// Whether a connection that has been idle for long enough is to be closed, and not just about to be used.
    package func expires(_ id: ID) -> Bool {
        state.withLock { state in
            if case .retire = state.machine.expired(id) { true } else { false }
        }
    }

    /// The work is no longer the connection's, which is about to close.
    package func abandoned(_ work: Work) { state.withLock { $0.assigned[ObjectIdentifier(work)] = nil } }

    /// The connection is closed. Who waits for the last one goes on when `perform` has done what is to be done.
    package func closed(_ id: ID, perform: (Step) -> Void) {
        let (step, drained) = state.withLock { state in
            state.connections[id] = nil
            let step = state.note(state.machine.closed(id))
            guard state.machine.openCount == 0 else { return (step, [CheckedContinuation<Void, Never>]()) }
            defer { state.drained = [] }
            return (step, state.drained)
        }
        perform(step)
        for continuation in drained { continuation.resume() }
    }
}
