// How many connections there may be, in all and from one address. All edges share one; sessions enter and leave it.

internal import SlimtaMail
import Synchronization

/// Counts connections.
package final class ConnectionLimiter: Sendable {
    /// `[limits] connections` and `connections_per_address`.
    package struct Limits: Hashable, Sendable {
        /// Of all edges together.
        package var total: Int
        /// From one IPv4 address or one IPv6 /64, the smallest network that a customer gets; and of one user of this machine
        /// where users are told apart.
        package var perAddress: Int

        /// Both are counts of open connections, 0: nobody is let in.
        package init(total: Int, perAddress: Int) {
            self.total = total
            self.perAddress = perAddress
        }
    }

    /// What connections are counted by.
    package struct Source: Hashable, Sendable {
        private enum Kind: Hashable {
            case network(IPAddress)
            case user(UInt32)
        }

        private let kind: Kind

        /// nil for what has no address, such as a UNIX socket: that is not limited by address.
        init?(_ client: ConnectionFacts.Endpoint) {
            guard let address = client.address else { return nil }
            kind = .network(address.customerNetwork)
        }

        /// A user of this machine.
        init(user: UInt32) { kind = .user(user) }
    }

    private struct State {
        var limits: Limits
        var total = 0
        var bySource: [Source: Int] = [:]
        var byProxy: [IPAddress: Int] = [:]

        /// What one proxy may have: most of it, for all clients may come through it, and not all, so that a proxy that
        /// has gone wrong does not shut out the others.
        var perProxy: Int { limits.total - limits.total / 10 }

        mutating func add(_ source: Source?) -> Bool {
            guard let source else { return true }
            guard bySource[source, default: 0] < limits.perAddress else { return false }
            bySource[source, default: 0] += 1
            return true
        }

        mutating func remove(_ source: Source?) {
            guard let source, let count = bySource[source] else { return }
            bySource[source] = count > 1 ? count - 1 : nil
        }
    }

    private let state: Mutex<State>

    /// Begins with no connections.
    package init(_ limits: Limits) { state = Mutex(State(limits: limits)) }

    /// Takes effect for connections that come from now on.
    package func setLimits(_ limits: Limits) { state.withLock { $0.limits = limits } }

    /// How many connections there are.
    package var count: Int { state.withLock { $0.total } }

    /// Counts a connection; false, and not counted, if there are too many.
    func enter(_ source: Source?) -> Bool {
        state.withLock { state in
            guard state.total < state.limits.total, state.add(source) else { return false }
            state.total += 1
            return true
        }
    }

    /// Counts a connection from a proxy, whose client is not known yet; false, and not counted, if there are too many.
    func enter(behind proxy: IPAddress) -> Bool {
        state.withLock { state in
            guard state.total < state.limits.total, state.byProxy[proxy, default: 0] < state.perProxy else {
                return false
            }
            state.total += 1
            state.byProxy[proxy, default: 0] += 1
            return true
        }
    }

    /// Counts the client of a connection that is counted already; false, and not counted, if there are too many of it.
    func admit(_ client: Source?) -> Bool { state.withLock { $0.add(client) } }

    /// A client that was admitted is gone; its connection is counted by who has it.
    func dismiss(_ client: Source) { state.withLock { $0.remove(client) } }

    /// A connection from a proxy is gone.
    ///
    /// - Parameter client: as it was admitted; nil: it was not.
    func leave(_ client: Source?, behind proxy: IPAddress) {
        state.withLock { state in
            state.total -= 1
            state.remove(client)
            guard let count = state.byProxy[proxy] else { return }
            state.byProxy[proxy] = count > 1 ? count - 1 : nil
        }
    }

    /// A counted connection is gone.
    func leave(_ source: Source?) {
        state.withLock { state in
            state.total -= 1
            state.remove(source)
        }
    }
}
