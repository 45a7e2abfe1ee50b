// Where a storage keeps its queue, as the suite sees it: whoever wants a storage to pass StorageSuite writes one of these.

package import SlimtaQueue

/// A place for one queue: a directory, a simulated disk, a database.
package protocol StoragePlace: Sendable {
    /// A storage of what the last one left here; not started.
    func open() async throws -> any QueueBackend

    /// Ends a storage as a kill does: without `close`, and with whatever is under way.
    func crash(_ storage: any QueueBackend) async
}

/// A place that several storages have at once, each with a part of the queue.
package protocol SharedPlace: StoragePlace {
    /// The storage of a node; not started. One that is alone owns all.
    func open(node name: String) async throws -> any QueueBackend

    /// The storage of a node that takes mail and delivers none; not started.
    func open(edge name: String) async throws -> any QueueBackend

    /// Buckets are to change hands: their owner is asked for them first.
    func move(_ buckets: QueueBuckets, to name: String) async

    /// A node is taken for dead though it works, and `heir` gets all that it had.
    func fence(_ name: String, heir: String) async

    /// The node cannot reach the queue for the given reason; nil: it can again.
    func setAway(_ name: String, _ reason: String?) async

    /// What is said of the node's next commit is that it is in doubt, and in truth it came through, or did not.
    func doubtNext(_ name: String, cameThrough: Bool) async
}

/// What a storage does is not what the contract says.
package struct Breach: Error, CustomStringConvertible {
    package let description: String
}

/// Throws a breach unless `isKept`.
func demand(_ isKept: Bool, _ rule: @autoclosure () -> String) throws(Breach) {
    if !isKept { throw Breach(description: rule()) }
}
