// What nodes of one queue that send from the same addresses tell each other of destinations and sites, so that limits hold for
// all of them together. QueueMachine and Sites report and obey, the storage carries; nothing is asked for a single attempt.

package import SlimtaMail

/// Whose limits are shared: a destination, or a site.
package struct SiteSubject: Hashable, Sendable {
    /// As it is stored.
    package let text: String

    /// What is longer is not told to others: it stays at its even share.
    private static let longest = 800

    /// A destination by its name; nil: nobody is told of it.
    package init?(destination name: String) { self.init(checking: "d:\(name)") }

    /// A site by its key; nil: nobody is told of it.
    package init?(site key: String) { self.init(checking: "s:\(key)") }

    /// As it was stored.
    package init(stored text: String) { self.text = text }

    private init?(checking text: String) {
        guard text.utf8.count <= Self.longest, !text.utf8.contains(0) else { return nil }
        self.text = text
    }

    /// The name of the destination; nil: it is none.
    package var destination: String? { text.hasPrefix("d:") ? String(text.dropFirst(2)) : nil }
}

/// What its hosts fail with.
package struct SiteFailure: Hashable, Sendable {
    /// As the last attempt that tried them found it.
    package var reason: Outcome
    /// When that attempt began, by the system's clock.
    package var tried: Timestamp

    /// Both are known.
    package init(_ reason: Outcome, tried: Timestamp) { (self.reason, self.tried) = (reason, tried) }
}

/// Whether the hosts of a destination answer a node.
package enum SiteHealth: Hashable, Sendable {
    /// The node has found out that they do not.
    case backsOff(SiteFailure)
    /// It believes another node that says so.
    case follows(SiteFailure)
    /// They did not, and now do.
    case answers
}

/// What a node says of a destination or site that is limited or backs off.
package struct SiteDemand: Hashable, Sendable {
    /// Which.
    package var subject: SiteSubject
    /// As much may be done at once, by all nodes with the same addresses.
    package var limit: Int
    /// As much the node would do at once if it were alone; at most `limit`.
    package var wanted: Int
    /// As much it does.
    package var used: Int
    /// Whether something waits for nothing but the node's share.
    package var isLimited: Bool
    /// nil: there is nothing to tell.
    package var health: SiteHealth?

    /// All of it.
    package init(
        _ subject: SiteSubject, limit: Int, wanted: Int, used: Int, isLimited: Bool, health: SiteHealth? = nil
    ) {
        self.subject = subject
        self.limit = limit
        self.wanted = wanted
        self.used = used
        self.isLimited = isLimited
        self.health = health
    }
}

/// What a node is to do about a destination or site.
package struct SiteAdvice: Hashable, Sendable {
    /// What is to be done about a destination that backs off.
    package enum BackOff: Hashable, Sendable {
        /// Another node finds out whether its hosts answer again.
        case leaveAlone(SiteFailure)
        /// This node does.
        case probe
        /// They do.
        case answers
    }

    /// As much may the node do at once.
    package var share: Int
    /// What it may have of a rate: 0 to 1.
    package var part: Double
    /// nil: nobody has anything to say.
    package var backOff: BackOff?

    /// All of it.
    package init(share: Int, part: Double, backOff: BackOff? = nil) {
        self.share = share
        self.part = part
        self.backOff = backOff
    }
}

/// How limits are shared with other nodes, as of now.
package struct SharedLimits: Hashable, Sendable {
    /// How many nodes send from the same addresses, this one among them.
    package var nodes: Int
    /// For those that somebody has told of. Each other one is shared evenly.
    package var advice: [SiteSubject: SiteAdvice]
    /// How long advice to leave a destination alone holds if nothing more is heard.
    package var hold: Duration

    /// As it was told.
    package init(nodes: Int, advice: [SiteSubject: SiteAdvice] = [:], hold: Duration = .zero) {
        self.nodes = nodes
        self.advice = advice
        self.hold = hold
    }

    /// Of a node that shares with nobody.
    package static let alone = SharedLimits(nodes: 1)

    /// Whether there is anybody to share with.
    package var isAlone: Bool { nodes <= 1 }

    /// The even share of a limit: at least 1.
    package static func even(_ limit: Int, among nodes: Int) -> Int { nodes <= 1 ? limit : max(1, limit / nodes) }

    /// The node's share of a limit.
    package func share(of limit: Int, by advice: SiteAdvice?) -> Int {
        isAlone ? limit : min(limit, advice?.share ?? Self.even(limit, among: nodes))
    }

    /// The node's part of a rate.
    package func part(by advice: SiteAdvice?) -> Double { isAlone ? 1 : advice?.part ?? 1 / Double(nodes) }
}
