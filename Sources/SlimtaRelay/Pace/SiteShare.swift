// What this node has of a site's limits, where other nodes have some of them. A part of Site; see Site+Sharing.swift.

import SlimtaQueue

/// What a site's relays and operators want of it, and what this node has of that.
struct SiteShare: Sendable {
    /// The most sessions with the site, of all nodes together; 0: no relay has come yet.
    var limit = 0
    /// How many nodes there are, and nothing of any site.
    var nodes = SharedLimits.alone
    /// What was said of this site.
    var advice: SiteAdvice?

    /// The most sessions that this node may have.
    var sessions: Int { nodes.share(of: limit, by: advice) }
    /// What it may have of a rate.
    var part: Double { nodes.part(by: advice) }
}
