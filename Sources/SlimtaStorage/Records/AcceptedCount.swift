// Recipients counted as the journal's frames count them.

import SlimtaQueue
import SlimtaRecords

/// Recipients accepted since the queue was made: every frame says how many there were before it, so that a frame that is
/// lost to damage is missed in the next one.
struct AcceptedCount: Hashable {
    var submitted: UInt64 = 0
    var notices: UInt64 = 0

    static func + (a: AcceptedCount, b: AcceptedCount) -> AcceptedCount {
        AcceptedCount(submitted: a.submitted &+ b.submitted, notices: a.notices &+ b.notices)
    }

    mutating func add(_ recipients: RecipientCount) {
        switch recipients.kind {
        case .submitted: submitted &+= UInt64(recipients.count)
        case .notice: notices &+= UInt64(recipients.count)
        }
    }

    /// Takes back what ``add(_:)`` did. Alone it may wrap: it is added to what there was before.
    mutating func subtract(_ recipients: RecipientCount) {
        switch recipients.kind {
        case .submitted: submitted &-= UInt64(recipients.count)
        case .notice: notices &-= UInt64(recipients.count)
        }
    }

    /// What is missing from `earlier` on; never below zero.
    func missing(since earlier: AcceptedCount) -> AcceptedCount {
        AcceptedCount(
            submitted: submitted > earlier.submitted ? submitted - earlier.submitted : 0,
            notices: notices > earlier.notices ? notices - earlier.notices : 0)
    }
}

extension OutputBuffer {
    /// A field with the recipients that were accepted so far.
    func field(_ tag: UInt8, _ accepted: AcceptedCount) {
        let value = field(tag, size: 16)
        value.store(accepted.submitted)
        value.store(accepted.notices, at: 8)
    }
}

extension Ledger {
    /// What frames tell as the sum.
    var accepted: AcceptedCount {
        AcceptedCount(submitted: submitted.accepted, notices: notices.accepted)
    }

    /// These were accepted.
    mutating func add(_ count: AcceptedCount) {
        submitted.accepted &+= count.submitted
        notices.accepted &+= count.notices
    }
}
