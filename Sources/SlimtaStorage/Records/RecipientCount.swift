// Recipients counted as the index and the journal's frames count them. What became of them is in the ledger (SlimtaQueue).

import SlimtaMail
import SlimtaQueue

/// How many recipients an envelope has, and which account they are in. Four octets in the index.
struct RecipientCount: Hashable {
    let raw: UInt32

    init(raw: UInt32) { self.raw = raw }

    init(_ count: Int, _ kind: Ledger.Kind) {
        raw = UInt32(min(count, 0x7FFF_FFFF)) | (kind == .notice ? 0x8000_0000 : 0)
    }

    var count: UInt32 { raw & 0x7FFF_FFFF }
    var kind: Ledger.Kind { raw >> 31 == 1 ? .notice : .submitted }
}

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

    /// What is missing from `earlier` on; never below zero.
    func missing(since earlier: AcceptedCount) -> AcceptedCount {
        AcceptedCount(
            submitted: submitted > earlier.submitted ? submitted - earlier.submitted : 0,
            notices: notices > earlier.notices ? notices - earlier.notices : 0)
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

/// Neighbouring recipients with the same folded domain.
struct DomainRun: Hashable {
    var count: UInt32
    var domain: String
}

extension RecipientCount {
    init(_ envelope: borrowing Envelope) {
        self.init(envelope.recipients.count, envelope.sender == nil ? .notice : .submitted)
    }

    /// What an envelope with recipients in `domains` has.
    init(_ domains: [DomainRun], isNotice: Bool) {
        self.init(domains.reduce(0) { $0 + Int($1.count) }, isNotice ? .notice : .submitted)
    }
}
