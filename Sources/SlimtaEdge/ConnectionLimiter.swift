// How many connections there may be, in all and from one address. All edges share one; sessions enter and leave it.

internal import SlimtaMail
import Synchronization

/// Counts connections.
package final class ConnectionLimiter: Sendable {
    /// `[limits] connections` and `connections_per_address`.
    package struct Limits: Hashable, Sendable {
        /// Of all edges together.
        package var total: Int
        /// From one IPv4 address or one IPv6 /64: the smallest network that a customer gets.
        package var perAddress: Int

        /// Both are counts of open connections, 0: nobody is let in.
        package init(total: Int, perAddress: Int) {
            self.total = total
            self.perAddress = perAddress
        }
    }

    /// What connections are counted by.
    package struct Source: Hashable, Sendable {
        private let network: IPAddress

        /// nil for what has no address, such as a UNIX socket: that is not limited by address.
        init?(_ client: ConnectionFacts.Endpoint) {
            guard let address = client.address else { return nil }
            network = address.customerNetwork
        }
    }

    private struct State {
        var limits: Limits
        var total = 0
        var bySource: [Source: Int] = [:]
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
            guard state.total < state.limits.total else { return false }
            if let source {
                guard state.bySource[source, default: 0] < state.limits.perAddress else { return false }
                state.bySource[source, default: 0] += 1
            }
            state.total += 1
            return true
        }
    }

    /// A counted connection is gone.
    func leave(_ source: Source?) {
        state.withLock { state in
            state.total -= 1
            guard let source, let count = state.bySource[source] else { return }
            state.bySource[source] = count > 1 ? count - 1 : nil
        }
    }
}
