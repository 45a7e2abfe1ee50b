// Where mail goes that its node does not deliver itself: a value, of what the node's thread has just read.

/// Buckets for mail of a node that has none of its own.
struct Placement: Equatable {
    /// Nodes that deliver.
    let relays: Int
    /// Into these it goes, all alike: shares are equal, so that is fair. Where nobody delivers it waits in any.
    let buckets: [UInt16]

    init(members: [Sharing.Member], buckets: [Sharing.Bucket]) {
        let takers = Set(members.filter(\.takes).map(\.name))
        relays = takers.count
        let owned = buckets.filter { bucket in bucket.owner.map(takers.contains) ?? false }
        self.buckets = (owned.isEmpty ? buckets : owned).map(\.number)
    }
}
