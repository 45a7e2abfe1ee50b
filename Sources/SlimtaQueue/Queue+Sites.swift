// How the queue shares limits and back-offs with other nodes: what it is told goes to the scheduler, and what that has to tell
// comes back. Called by the storage's events, and by whoever answers them.

import SlimtaMail
import Synchronization

extension Queue {
    /// Limits and back-offs as the nodes share them.
    func advised(_ limits: SharedLimits) {
        let clock = clock.read()
        for change in state.withLock({ $0.machine.advised(limits, clock) }) { log(change) }
    }

    /// What other nodes are to know of destinations that are limited or back off.
    package func siteReports() -> [SiteDemand] {
        let clock = clock.read()
        return state.withLock { $0.machine.siteReports(clock) }
    }
}
