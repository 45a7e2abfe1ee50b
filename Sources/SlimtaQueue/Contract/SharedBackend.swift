// What a storage can tell of the nodes that share its queue, and what operators can do to them. Asked by the control service: what
// one machine has alone does not conform.

/// A storage of a queue that several nodes share.
package protocol SharedBackend: QueueBackend {
    /// The nodes, and the database that they share.
    ///
    /// - Parameter isCounting: whether the envelopes of each are counted: a second for a million of them.
    func sharing(isCounting: Bool) async throws(StorageError) -> SharedQueue

    /// Changes what a node does, or forgets it. Durable when it returns.
    func change(_ node: String, _ change: NodeChange) async throws(NodeRefusal)

    /// Asks the daemons of all other nodes that have not left, each once; returns when all have answered, or have had their time.
    func ask(_ question: NodeQuestion) async throws(StorageError) -> [NodeAnswer]

    /// Who answers what other nodes ask this one; until it is said, they are told that nobody does.
    func onQuestion(_ answer: @escaping @Sendable (NodeQuestion) async -> String)
}

/// What one daemon asks others that share its queue, in words that the storage carries and does not read.
package struct NodeQuestion: Hashable, Sendable {
    /// The words of whoever asks, for his like.
    package var text: String
    /// Who wants to know, as logs have it.
    package var by: String

    /// A question.
    package init(_ text: String, by: String) {
        self.text = text
        self.by = by
    }
}

/// What a node has answered.
package struct NodeAnswer: Hashable, Sendable {
    /// Its name.
    package var node: String
    /// In the words of whoever answers.
    package var text: String?
    /// Why there is no answer, and whether something may have come of the question.
    package var silence: String

    /// An answer, or, without a text, none.
    package init(_ node: String, _ text: String?, silence: String = "") {
        self.node = node
        self.text = text
        self.silence = silence
    }
}

/// What operators do to nodes.
package enum NodeChange: Hashable, Sendable {
    /// It takes no new mail, and gives its part of the queue to the others as attempts end; it stays so over restarts.
    /// `isForced`: also if no other node delivers.
    case drain(isForced: Bool)
    /// The end of that.
    case resume
    /// It has gone for good: it is declared dead if it was not, and known no more.
    case forget
}

/// Why nothing was done to a node.
package enum NodeRefusal: Error, Hashable, Sendable {
    /// There is none of the name.
    case unknown
    /// No other node delivers: what it has would wait.
    case last
    /// It works.
    case works
    /// The database could not be asked.
    case storage(StorageError)
}

/// The nodes of a queue, as their database has them.
package struct SharedQueue: Hashable, Sendable {
    /// One of the nodes.
    package struct Node: Hashable, Sendable {
        /// Unique.
        package var name: String
        /// Grows with each start, and when it is declared dead: what an earlier one records does not count.
        package var incarnation: Int64
        /// Whether it takes mail, and whether it delivers.
        package var isEdge, isRelay: Bool
        /// Nodes with the same word send from the same addresses.
        package var egress: String
        /// Its release.
        package var version: String
        /// Since when it works, and when it was last heard of, by the server's clock.
        package var begun, heard: Duration
        /// It has left, or was declared dead.
        package var isGone: Bool
        /// It was not heard of for longer than a lease.
        package var isSilent: Bool
        /// It takes nothing, and gives away what it has.
        package var isDraining: Bool
        /// Envelopes that it has; nil: they were not counted.
        package var queued: Int?
        /// Parts of the queue that are its.
        package var buckets: Int

        /// All of it.
        package init(
            name: String, incarnation: Int64, isEdge: Bool, isRelay: Bool, egress: String, version: String,
            begun: Duration, heard: Duration, isGone: Bool, isSilent: Bool, isDraining: Bool, queued: Int?, buckets: Int
        ) {
            self.name = name
            self.incarnation = incarnation
            self.isEdge = isEdge
            self.isRelay = isRelay
            self.egress = egress
            self.version = version
            self.begun = begun
            self.heard = heard
            self.isGone = isGone
            self.isSilent = isSilent
            self.isDraining = isDraining
            self.queued = queued
            self.buckets = buckets
        }

        /// How it is, in a word.
        package var state: String {
            isGone ? "gone" : isSilent ? "silent" : isDraining ? buckets > 0 ? "draining" : "drained" : "works"
        }
    }

    /// A server that follows the database's.
    package struct Standby: Hashable, Sendable {
        /// As it calls itself.
        package var name: String
        /// Octets of the log that it has not on its disk; nil: the database's role may not see that.
        package var behind: Int64?
        /// The server's word for what commits wait for it: sync, quorum, potential, async; nil: as above.
        package var mode: String?

        /// All of it.
        package init(name: String, behind: Int64?, mode: String?) {
            self.name = name
            self.behind = behind
            self.mode = mode
        }
    }

    /// By name.
    package var nodes: [Node]
    /// Parts that the queue has, and how many of them are nobody's.
    package var buckets, freeBuckets: Int
    /// Where the log of the server ends.
    package var logPosition: String
    /// Those that are connected.
    package var standbys: [Standby]
    /// How long the oldest transaction is open, of those that the database's role may see; nil: there is none.
    package var oldestTransaction: Duration?

    /// From that age on a transaction keeps so much from being cleaned up that the operator is told.
    package static let oldTransaction = Duration.seconds(600)

    /// All of it.
    package init(
        nodes: [Node], buckets: Int, freeBuckets: Int, logPosition: String, standbys: [Standby],
        oldestTransaction: Duration?
    ) {
        self.nodes = nodes
        self.buckets = buckets
        self.freeBuckets = freeBuckets
        self.logPosition = logPosition
        self.standbys = standbys
        self.oldestTransaction = oldestTransaction
    }
}
