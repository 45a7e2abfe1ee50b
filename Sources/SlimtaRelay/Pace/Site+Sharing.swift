// A site whose limits are shared with other nodes that send from the same addresses: what each node has of them, and what it has
// to tell. Only what somebody has set is shared: what a site has refused to a node is what that node had of it. Called by Sites.

package import SlimtaQueue
import Synchronization

extension Site {
    /// The site, as others know it; nil: its name is too long.
    var subject: SiteSubject? { SiteSubject(site: key.stored) }

    /// Takes effect for what begins from now on. Who waits, and may go now, goes.
    func share(_ limits: SharedLimits) {
        let advice = subject.flatMap { limits.advice[$0] }
        change { state, now in
            guard state.share.nodes.nodes != limits.nodes || state.share.advice != advice else { return }
            state.share.nodes = SharedLimits(nodes: limits.nodes)
            state.share.advice = advice
            guard state.share.limit > 0 else { return }
            var settings = state.machine.settings
            (settings.connections, settings.part) = (state.share.sessions, state.share.part)
            state.machine.configure(settings, at: now)
        }
    }

    /// What others are to know of it; nil: nothing waits or is done there.
    func siteReport() -> SiteDemand? {
        guard let subject else { return nil }
        return state.withLock { state in
            let limit = state.share.limit
            // A session that waits for its next message is one, as the site counts.
            let used = max(state.machine.places, state.machine.established + max(0, state.connecting))
            guard limit > 0, used + state.lineCount > 0 else { return nil }
            return SiteDemand(
                subject, limit: limit, wanted: min(limit, max(state.machine.places, used) + state.lineCount),
                used: used, isLimited: state.lineCount > 0)
        }
    }

    /// Whether there are more sessions than this node's share.
    var hasTooMany: Bool {
        state.withLock { state in
            state.share.limit > 0 && !state.share.nodes.isAlone && state.machine.established > state.share.sessions
        }
    }
}

extension Sites {
    /// How limits are shared with other nodes from now on.
    package func advised(_ limits: SharedLimits) {
        for site in share(limits) { site.share(limits) }
    }

    /// What other nodes are to know.
    package func siteReports() -> [SiteDemand] { sharedSites.compactMap { $0.siteReport() } }
}
