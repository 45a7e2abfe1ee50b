// What storages tell people: status, pages of the queue, an audit, and why one could not be opened. The control service and
// the commands show it.

package import SlimtaMail

/// What the storage is doing: for `slimtad status`, metrics, and the watchdog.
package struct StorageStatus: Sendable, Equatable {
    /// Octets of the journal's segments that a start would read.
    package var journalOctets = 0
    /// Sealed files in use.
    package var generations = 0
    /// The number of the last checkpoint.
    package var checkpoint: UInt64 = 0
    /// Free disk at the last look, in octets.
    package var freeOctets: UInt64 = 0
    /// Free inodes at the last look; `UInt64.max`: the file system does not count them.
    package var freeInodes: UInt64 = 0
    /// Whether new envelopes are refused for want of room.
    package var isFull = false
    /// Why nothing can be committed; nil if it can.
    package var failure: String?
    /// What of it is away though mail is taken: each in words, with the reason.
    package var away: [String] = []
    /// Mail that was found to be lost, in words, until ``QueueBackend/acknowledgeLosses()``.
    package var losses: [String] = []
    /// Grows whenever the writer has done something. Standing still while `isBusy`: it hangs.
    package var progress: UInt64 = 0
    /// Whether the writer has something to do.
    package var isBusy = false
    /// Of a queue that several machines share: which of them this one is, and what it has of it.
    package var node: NodeStatus?

    /// One of the machines that share a queue.
    package struct NodeStatus: Sendable, Equatable {
        /// Its name.
        package var name: String
        /// Counted up whenever somebody begins to work under the name; 0: it is no node now.
        package var incarnation: Int64
        /// How many parts of the queue are its.
        package var buckets: Int
        /// Whether it takes no mail, and gives away what it has.
        package var isDraining: Bool
        /// How many nodes deliver, itself among them; nil: it does not know yet.
        package var relays: Int?

        /// What it is called and what it has.
        package init(name: String, incarnation: Int64, buckets: Int, isDraining: Bool = false, relays: Int? = nil) {
            self.name = name
            self.incarnation = incarnation
            self.buckets = buckets
            self.isDraining = isDraining
            self.relays = relays
        }
    }

    /// Nothing is done.
    package init() {}
}

/// An envelope and its state, without its message.
package struct QueuedEnvelope: Sendable {
    /// As it was accepted.
    package var envelope: Envelope
    /// As it is now.
    package var state: EnvelopeState

    /// What a storage has read.
    package init(envelope: Envelope, state: EnvelopeState) {
        self.envelope = envelope
        self.state = state
    }
}

/// One page of a walk through the queue.
package struct QueuedPage: Sendable {
    /// In the order of their ids, which begin with the time of arrival.
    package var envelopes: [QueuedEnvelope]
    /// Those that are queued and cannot be read, with the reason.
    package var unreadable: [(id: QueueID, reason: String)]
    /// The last id that was looked at: where the next page begins. nil: there is no more.
    package var next: QueueID?

    /// A page; the empty one is what there is behind the last.
    package init(
        envelopes: [QueuedEnvelope] = [], unreadable: [(id: QueueID, reason: String)] = [], next: QueueID? = nil
    ) {
        self.envelopes = envelopes
        self.unreadable = unreadable
        self.next = next
    }
}

/// What an audit found.
package struct StorageAudit: Sendable {
    /// Something that an operator should know.
    package struct Finding: Hashable, Sendable {
        /// The envelope that it is about, if that is known.
        package var id: QueueID?
        /// What was found, for a person.
        package var text: String
        /// Whether it means that mail is lost, unreadable or not accounted for; false: it does no harm.
        package var isFault: Bool
    }

    /// The balance, computed from storage alone.
    package var ledger: Ledger
    /// What the daemon's own counters said at the same moment; nil: none runs.
    package var running: Ledger?
    /// Envelopes whose records were read, all of them.
    package var envelopes = 0
    /// Octets of their messages.
    package var octets: Int64 = 0
    /// Files of the spool that were read.
    package var spooled = 0
    /// At most ``findingLimit``; `omitted` more were found.
    package private(set) var findings: [Finding] = []
    /// How many findings are not in ``findings``.
    package private(set) var omitted = 0

    /// Findings that are kept.
    package static let findingLimit = 1000

    /// An audit that has found nothing yet.
    package init(ledger: Ledger) { self.ledger = ledger }

    /// Whether every recipient is accounted for and every record readable.
    package var isClean: Bool { ledger.isBalanced && omitted == 0 && !findings.contains { $0.isFault } }

    /// Something was found, about the envelope `id` if that is known.
    package mutating func add(_ text: String, _ id: QueueID? = nil, isFault: Bool = true) {
        if findings.count < Self.findingLimit {
            findings.append(Finding(id: id, text: text, isFault: isFault))
        } else {
            omitted += 1
        }
    }

    /// Another storage was audited as well.
    package mutating func add(_ other: StorageAudit) {
        ledger = ledger + other.ledger
        running = running.flatMap { own in other.running.map { own + $0 } }
        envelopes += other.envelopes
        octets += other.octets
        spooled += other.spooled
        for finding in other.findings { add(finding.text, finding.id, isFault: finding.isFault) }
        omitted += other.omitted
    }
}

/// Why a queue could not be opened.
package enum StorageOpenError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Another process has it; its id if it could be read. Exit status 75.
    case inUse(processID: Int32?)
    /// Another one, somewhere, works under the name of this node. Exit status 75.
    case nameInUse(String)
    /// The directory is not what we trust a queue to: whose it is, or how open. Exit status 77.
    case unsafe(String)
    /// It was written by a newer slimtad. Exit status 78.
    case newerFormat(String)
    /// What tells which files count is gone or unreadable. Exit status 69.
    case damaged(String)
    /// The system refused. Exit status 73.
    case system(String)

    /// In words, for who asked.
    package var description: String {
        switch self {
        case .inUse(let processID?): "another slimtad (process \(processID)) uses the queue"
        case .inUse(nil): "another slimtad uses the queue"
        case .nameInUse(let name):
            "another slimtad works as node \(name): [node] name has to be another one on each machine"
        case .unsafe(let text), .newerFormat(let text), .damaged(let text), .system(let text): text
        }
    }
}
