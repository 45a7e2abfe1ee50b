// What a node is told of itself and of its database. Made by the composition root of [node] and [queue]; tests make all
// times small.

/// Where the queue is, who this node is, and how patient it is.
package struct ClusterOptions: Sendable {
    /// The database that the node is at home in.
    package var database: PostgresOptions
    /// The node's name: unique among those of the database.
    package var node: String
    /// Tells this machine from others: a name that another machine has is not taken from it while that works.
    package var machine: String
    /// What the node does.
    package var roles: NodeRoles = [.edge, .relay]
    /// Nodes with the same word send from the same addresses: limits of destinations are theirs together.
    package var egress: String
    /// The release, for who looks at the nodes.
    package var version = ""
    /// A node that was not heard of for so long is taken for dead. It tells of itself five times in that time.
    package var lease = Duration.seconds(15)
    /// How long a commit, or a read, may take before it is in doubt.
    package var commitTimeout = Duration.seconds(10)
    /// Whether a commit counts only if a synchronous standby is configured for it.
    package var needsStandby = true
    /// Threads that read, each with a connection.
    package var readers = 2
    /// How often somebody sees to the house.
    package var housekeeping = Duration.seconds(60)
    /// How long one content table is written, at most; and how many octets.
    package var ringPeriod = Duration.seconds(900)
    /// See ``ringPeriod``.
    package var ringOctets = 8 << 30
    /// How long a content table that is not written any more is left alone: no message may take longer to arrive.
    package var ringHold = Duration.seconds(7200)
    /// How long a large message may take to arrive: later, the table that it is in may be emptied before it is committed.
    var arrivalLimit: Duration { ringHold * 3 / 4 }
    /// Whether nodes call each other when they put mail into a part of the queue that is another's: see NodeCalls.
    var calls = true
    /// Summaries that are read at once.
    var summaryPage: Int32 = 2000
    /// Whether the node asks others for its share of the queue. Tests move buckets themselves.
    package var balances = true

    /// With the defaults that slimta.conf(5) tells.
    package init(database: PostgresOptions, node: String, machine: String, egress: String? = nil) {
        self.database = database
        self.node = node
        self.machine = machine
        self.egress = egress ?? node
    }
}

/// What a node does; its number is stored.
package struct NodeRoles: OptionSet, Hashable, Sendable {
    /// As `node.roles` has it.
    package let rawValue: Int32
    /// As it was stored.
    package init(rawValue: Int32) { self.rawValue = rawValue }

    /// Takes mail of clients.
    package static let edge = NodeRoles(rawValue: 1)
    /// Delivers: it owns buckets.
    package static let relay = NodeRoles(rawValue: 2)
}
