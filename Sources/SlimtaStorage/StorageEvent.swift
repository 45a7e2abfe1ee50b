// What the storage tells: events for the operator, a status for who asks, errors of the start. The storage itself does
// not log; the composition root turns these into log lines.

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

    /// What a disk can run out of.
    package enum Resource: String, Sendable { case octets, inodes }
}

/// What the storage is doing: for `slimtad status`, metrics, and the watchdog.
package struct StorageStatus: Sendable, Equatable {
    /// Envelopes in the queue.
    package var queued: Int
    /// Octets of the journal's segments that a start would read.
    package var journalOctets: Int
    /// Sealed files in use.
    package var generations: Int
    /// The number of the last checkpoint.
    package var checkpoint: UInt64
    /// Free disk at the last look, in octets.
    package var freeOctets: UInt64
    /// Free inodes at the last look; `UInt64.max`: the file system does not count them.
    package var freeInodes: UInt64
    /// Whether new envelopes are refused for want of room.
    package var isFull: Bool
    /// Why nothing can be committed; nil if it can.
    package var failure: String?
    /// Mail that was found to be lost, in words, until ``JournaledStorage/acknowledgeLosses()``.
    package var losses: [String] = []
    /// Grows whenever the writer has done something. Standing still while `isBusy`: it hangs.
    package var progress: UInt64
    /// Whether the writer has something to do.
    package var isBusy: Bool
}

/// Why a queue directory could not be opened.
package enum StorageOpenError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Another process has it; its id if it could be read. Exit status 75.
    case inUse(processID: Int32?)
    /// The directory is not what we trust a queue to: whose it is, or how open. Exit status 77.
    case unsafe(String)
    /// It was written by a newer slimtad. Exit status 78.
    case newerFormat(String)
    /// What tells which files count is gone or unreadable. Exit status 69.
    case damaged(String)
    /// The system refused. Exit status 73.
    case system(String)

    package var description: String {
        switch self {
        case .inUse(let processID?): "another slimtad (process \(processID)) uses the queue"
        case .inUse(nil): "another slimtad uses the queue"
        case .unsafe(let text), .newerFormat(let text), .damaged(let text), .system(let text): text
        }
    }
}
