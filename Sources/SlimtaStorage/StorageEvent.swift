// What the storage tells the operator. It does not log itself: the composition root turns these events into log lines.

package import SlimtaMail

/// Something that an operator must know. Called on threads of the storage.
package enum StorageEvent: Sendable, Equatable {
    /// The journal ended in a write that was never acknowledged (power cut, kill). Its octets are in the file
    /// `quarantine`, nil if they could not be copied.
    case tornTail(segment: UInt64, offset: Int, quarantine: String?)
    /// Acknowledged records are unreadable. `id` and `description` tell what is known of the envelope.
    case damaged(what: String, id: QueueID?, description: String, quarantine: String?)
    /// A file that has to be there is not: acknowledged mail may be lost with it.
    case missing(what: String, description: String)
    /// Records of a damaged file of states were rebuilt: these recipients may get the message again.
    case resurrected(QueueID)
    /// One of the two copies of `super` is unreadable, or older than the other after a crash; it is written anew.
    case superblockRepaired(String)
    /// The journal's disk failed: nothing is accepted until `journalRecovered`.
    case journalFailed(String)
    /// The journal works again, in a new segment.
    case journalRecovered
    /// A checkpoint did not come through; everything is still in the journal. It will be tried again.
    case checkpointFailed(String)
    /// Less disk is free than the limit: new envelopes are refused. `UInt64.max` inodes: they are not counted.
    case diskFull(lacks: Resource, freeOctets: UInt64, freeInodes: UInt64)
    /// There is room again.
    case diskRoom(freeOctets: UInt64, freeInodes: UInt64)
    /// A file that nothing needs could not be deleted; it is tried again.
    case leftover(String)

    /// What submissions have left behind is forgotten before its time, as there is more than this limit has room for. Told
    /// once for each limit.
    case receiptsForgotten(ReceiptLimit)

    /// Whose receipts are too many.
    package enum ReceiptLimit: String, Sendable { case owner, all }

    /// What a disk can run out of.
    package enum Resource: String, Sendable { case octets, inodes }
}
