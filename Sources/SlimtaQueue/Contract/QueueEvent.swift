// What a storage tells the queue by itself: which envelopes are ours to deliver. A storage of one machine tells it at the
// start and never again; one that several nodes share hands parts of the queue from node to node.

package import SlimtaMail

/// What a storage tells the queue by itself.
package enum QueueEvent: Sendable {
    /// These envelopes are ours to deliver from now on. First of all come those that are queued at the start; later what other
    /// nodes put into our part of the queue. Each is told once, for as long as its bucket is ours.
    case acquired([QueuedSummary])
    /// These are to be handed over: nothing more is to be begun for what is in them. The queue answers with
    /// ``QueueStorage/released(_:)`` when nothing of it is in flight; the storage may wait for that or not.
    case releasing(QueueBuckets)
    /// These are not ours any more: another node has them, or the storage has taken them out again after a doubt.
    case withdrawn([QueueID])
    /// Asked on another node, for envelopes that are ours. To be answered once, at any time.
    case command(OperatorCommand, answer: @Sendable (OperatorAnswer) -> Void)
    /// How limits are shared with other nodes from now on. The answer is ``QueueBackend/report(_:)``.
    case sites(SharedLimits)
}

/// Parts of the queue, each of which has one owner at a time.
package struct QueueBuckets: Hashable, Sendable {
    /// As ids have them: see ``SlimtaMail/QueueID/bucket``.
    package var numbers: Set<UInt16>
    /// How many there are in all: see ``SlimtaMail/QueueID/bucket(of:)``.
    package var count: Int

    /// These buckets, and no others.
    package init(numbers: Set<UInt16>, of count: Int = QueueBuckets.most) {
        (self.numbers, self.count) = (numbers, count)
    }

    /// As many as ids can tell.
    package static let most = 1 << 16
    /// Where there are fewer: the bits of ids that are in no bucket. What a node has for itself alone never changes hands.
    package static let none = UInt16.max

    /// Whether the envelope is in one of them.
    package func contains(_ id: QueueID) -> Bool { id.sharedBucket(of: count).map(numbers.contains) ?? false }
}

extension QueueID {
    /// The part of the queue that the envelope is in: the 16 bits behind the time, which are random where nobody has made
    /// them mean something.
    package var bucket: UInt16 { UInt16(truncatingIfNeeded: high) }

    /// The same where there are only `count` buckets: an id that a storage without any has made belongs to one of them too.
    package func bucket(of count: Int) -> UInt16 { UInt16(Int(bucket) % count) }

    /// The same; nil: it is in none, see ``QueueBuckets/none``.
    func sharedBucket(of count: Int) -> UInt16? {
        bucket == QueueBuckets.none && count < QueueBuckets.most ? nil : bucket(of: count)
    }

    /// A new id for a message that is accepted at `time`, in a bucket.
    package init(at time: Timestamp, bucket: UInt16) {
        let random = QueueID(at: time)
        self.init(high: random.high & ~0xFFFF | UInt64(bucket), low: random.low)
    }
}
