// What a storage in PostgreSQL tells the operator. It does not log itself: the composition root turns these events into log
// lines.

package import SlimtaMail

/// Something that an operator must know. Called on threads of the storage.
package enum ClusterEvent: Sendable, Equatable {
    /// The database cannot be reached or does not do what it is asked: nothing is accepted. Told once until `databaseBack`.
    case databaseAway(String)
    /// It works again.
    case databaseBack
    /// A commit was neither confirmed nor refused; what of it came through is being found out.
    case doubt(String)
    /// Messages whose client was told to send them again had been stored after all, and were taken out.
    case takenBack([QueueID])
    /// Messages whose client was told to send them again, and that were not taken out: other nodes may have delivered them, or will.
    case leftInDoubt([QueueID])
    /// Something was recorded of messages that are not in the database any more: a node has taken them back after a doubt, or the
    /// database has lost them.
    case vanished([QueueID])
    /// This node was declared dead by another one, or its name was taken: it has lost all that it owned.
    case fenced
    /// The node has begun to work under a new incarnation.
    case joined(incarnation: Int64)
    /// Another node was not heard of for too long, and its buckets are free.
    case declaredDead(node: String)
    /// No node delivers: what this one, which does not, takes of clients waits. Told once until `relaysBack`.
    case noRelays
    /// One does again.
    case relaysBack
    /// The database passes no calls from node to node, for the given reason: mail that another one delivers waits for its
    /// next beat.
    case callsMissing(String)
    /// The node has so many buckets now.
    case buckets(Int)
    /// An operator has this node drained, or has ended that.
    case draining(Bool)
    /// Limits of destinations are shared by so many nodes from now on, this one among them.
    case sharing(nodes: Int)
    /// A record of an envelope cannot be read, or its content is gone.
    case damaged(id: QueueID, description: String)
    /// The clocks of node and database differ by so much: the database's counts.
    case clock(offset: Duration)
    /// A transaction of somebody else keeps the database from cleaning up.
    case oldTransaction(age: Duration)
    /// Housekeeping did not come through; it is tried again.
    case housekeepingFailed(String)
}
