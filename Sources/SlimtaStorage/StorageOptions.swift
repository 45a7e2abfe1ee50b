// What the storage can be told: sizes, limits and times. Made by the composition root; tests make everything small.

/// Sizes, limits and times of the storage. The defaults are what a server wants.
package struct StorageOptions: Sendable {
    /// Octets of one journal segment, a multiple of 4096. A commit has to fit into one.
    package var segmentSize = 64 << 20
    /// Octets that all segments together may have: what a start has to read at most.
    package var journalLimit = 2 << 30
    /// Octets after which a batch is closed: what one `pwrite` writes (a larger commit is a batch of its own).
    package var batchSize = 4 << 20
    /// Less free disk than this, in octets: new envelopes are refused as `.full`. So many octets need some inodes too:
    /// see ``minimumInodes``.
    package var minimumFree: UInt64 = 100 << 20
    /// How long a commit with new envelopes waits for room in the journal before it is refused as `.full`.
    package var roomTimeout = Duration.seconds(5)
    /// Closed segments that make a checkpoint begin, at most: see ``checkpointThreshold``. What is delivered before costs
    /// no GDBM, and a start reads a gibibyte in less than a second; fewer segments mean more work for both.
    package var checkpointSegments = 12
    /// The age of the oldest change that only the journal has which makes a checkpoint begin.
    package var checkpointAge = Duration.seconds(30)
    /// The time between a failure (of the journal's disk, of a checkpoint) and the next try.
    package var retryInterval = Duration.seconds(5)
    /// Free segments that were not needed for so long are deleted.
    package var quietTime = Duration.seconds(3600)
    /// How long the journal is idle before it writes down how far it is durable.
    package var markerDelay = Duration.milliseconds(100)
    /// Octets of the file that is given up to get a checkpoint through on a full disk.
    package var reserveSize = 8 << 20
    /// A generation of which less than this percentage is still queued is rewritten.
    package var compactionPercentage = 40
    /// The number of generations with contents above which the smallest are merged.
    package var generationLimit = 24
    /// The number of deltas after which the states of all envelopes are written anew.
    package var deltaLimit = 6
    /// Threads that read and write contents for callers.
    package var ioThreads = 4

    /// What a server wants.
    package init() {}

    /// Fewer free inodes than this: new envelopes are refused as `.full`.
    var minimumInodes: UInt64 { max(64, minimumFree / (100 << 10)) }

    /// What a disk has too little of to accept anything; nil: there is enough.
    func lacks(_ space: (octets: UInt64, inodes: UInt64)) -> StorageEvent.Resource? {
        space.octets < minimumFree ? .octets : space.inodes < minimumInodes ? .inodes : nil
    }

    /// The segments that there may be.
    var segmentLimit: Int { max(3, journalLimit / segmentSize) }

    /// Closed segments that make a checkpoint begin: while it works, the rest of the journal has to last.
    var checkpointThreshold: Int { min(checkpointSegments, max(1, segmentLimit * 3 / 8)) }
}
