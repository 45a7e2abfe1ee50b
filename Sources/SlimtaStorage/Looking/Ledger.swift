// The ledger: how many recipients the queue ever accepted, and what became of them. The index advances it with every
// durable frame, `super` keeps it from checkpoint to checkpoint, status and audit show it.

package import SlimtaMail

/// What became of all recipients that the queue has accepted since it was made.
///
/// Notices (bounces and delay warnings, sent with the null reverse-path) are accepted recipients as well, but nobody
/// submitted them: they have an account of their own.
package struct Ledger: Hashable, Sendable {
    /// Recipients, by what became of them. Each is in exactly one of the fields behind `repeated`.
    package struct Account: Hashable, Sendable {
        /// Accepted: a client was told 250, or a notice was put into the queue.
        package var accepted: UInt64 = 0
        /// Came back into the queue though they may have ended: the records of their end were damaged.
        package var repeated: UInt64 = 0
        package var delivered: UInt64 = 0
        package var bounced: UInt64 = 0
        package var expired: UInt64 = 0
        /// Taken out by an operator.
        package var withdrawn: UInt64 = 0
        /// Lost to damage, and reported when that was found.
        package var lost: UInt64 = 0
        /// Still to be delivered.
        package var queued: UInt64 = 0

        package init() {}

        /// Recipients that nothing accounts for; below zero, that ended more than once. 0 unless there is a fault.
        package var unaccounted: Int64 {
            let known = delivered &+ bounced &+ expired &+ withdrawn &+ lost &+ queued
            return Int64(bitPattern: accepted &+ repeated &- known)
        }

        static func + (a: Account, b: Account) -> Account {
            var sum = a
            sum.accepted &+= b.accepted
            sum.repeated &+= b.repeated
            sum.delivered &+= b.delivered
            sum.bounced &+= b.bounced
            sum.expired &+= b.expired
            sum.withdrawn &+= b.withdrawn
            sum.lost &+= b.lost
            sum.queued &+= b.queued
            return sum
        }

        mutating func add(_ fates: Fates) {
            delivered &+= UInt64(fates.delivered)
            bounced &+= UInt64(fates.bounced)
            expired &+= UInt64(fates.expired)
            withdrawn &+= UInt64(fates.withdrawn)
        }

        mutating func subtract(_ fates: Fates) {
            delivered &-= UInt64(fates.delivered)
            bounced &-= UInt64(fates.bounced)
            expired &-= UInt64(fates.expired)
            withdrawn &-= UInt64(fates.withdrawn)
        }
    }

    /// What clients submitted.
    package var submitted = Account()
    /// What slimtad itself sent: envelopes with the null reverse-path.
    package var notices = Account()
    /// Recipients of envelopes that an operator took out, by the operator's name.
    package var withdrawnBy: [String: UInt64] = [:]
    /// Removals that did not say of each recipient how it ended: each is a fault, also where their sum is right.
    package var mismatched: UInt64 = 0
    /// When counting began.
    package var since: Timestamp

    package init(since: Timestamp) { self.since = since }

    /// Both accounts together.
    package var total: Account { submitted + notices }
    /// Recipients that nothing accounts for; 0 unless there is a fault.
    package var unaccounted: Int64 { total.unaccounted }
    /// Whether every recipient is accounted for, exactly once.
    package var isBalanced: Bool { submitted.unaccounted == 0 && notices.unaccounted == 0 && mismatched == 0 }

    /// Operators that are told apart; what others withdraw is counted under ``others``.
    static let operatorLimit = 32
    /// Octets of an operator's name that are kept.
    static let nameLimit = 64
    static let others = "others"

    subscript(kind: RecipientCount.Kind) -> Account {
        get {
            switch kind {
            case .submitted: submitted
            case .notice: notices
            }
        }
        _modify {
            switch kind {
            case .submitted: yield &submitted
            case .notice: yield &notices
            }
        }
    }

    /// Counts recipients that `name` withdrew.
    mutating func withdrew(_ count: UInt32, by name: String?) {
        if count == 0 { return }
        var name = name ?? ""
        while name.utf8.count > Self.nameLimit { name.removeLast() }
        if withdrawnBy[name] == nil, withdrawnBy.count >= Self.operatorLimit { name = Self.others }
        withdrawnBy[name, default: 0] &+= UInt64(count)
    }

    /// Both together; `since` and who withdrew is taken from `a`.
    static func + (a: Ledger, b: Ledger) -> Ledger {
        var sum = a
        sum.submitted = a.submitted + b.submitted
        sum.notices = a.notices + b.notices
        sum.mismatched &+= b.mismatched
        return sum
    }
}

/// How many recipients of an envelope have which final fate.
struct Fates: Hashable {
    var delivered: UInt32 = 0
    var bounced: UInt32 = 0
    var expired: UInt32 = 0
    var withdrawn: UInt32 = 0

    var sum: UInt64 { UInt64(delivered) + UInt64(bounced) + UInt64(expired) + UInt64(withdrawn) }
    var isNone: Bool { sum == 0 }

    /// Whether all that ended before have still ended so.
    func follows(_ before: Fates) -> Bool {
        delivered >= before.delivered && bounced >= before.bounced && expired >= before.expired
            && withdrawn >= before.withdrawn
    }
}

/// How many recipients an envelope has, and which account they are in. Four octets in the index.
struct RecipientCount: Hashable {
    enum Kind: CaseIterable { case submitted, notice }

    let raw: UInt32

    init(raw: UInt32) { self.raw = raw }

    init(_ count: Int, _ kind: Kind) {
        raw = UInt32(min(count, 0x7FFF_FFFF)) | (kind == .notice ? 0x8000_0000 : 0)
    }

    var count: UInt32 { raw & 0x7FFF_FFFF }
    var kind: Kind { raw >> 31 == 1 ? .notice : .submitted }
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

/// How the ledger is written in `super`: accounts of eight counters of eight octets in the order of the fields (what is
/// queued is counted anew at each start, so its place is zero), mismatched, since, operators { u64 count, u8 length, name }.
enum LedgerCodec {
    static func encode(_ ledger: Ledger, into output: OutputBuffer) {
        for account in [ledger.submitted, ledger.notices] {
            for counter in [
                account.accepted, account.repeated, account.delivered, account.bounced, account.expired,
                account.withdrawn, account.lost, 0,
            ] { output.append(counter) }
        }
        output.append(ledger.mismatched)
        output.append(ledger.since.milliseconds)
        output.append(UInt32(ledger.withdrawnBy.count))
        for (name, count) in ledger.withdrawnBy.sorted(by: { $0.key < $1.key }) {
            output.append(count)
            output.append(UInt8(truncatingIfNeeded: name.utf8.count))
            output.append(name)
        }
    }

    static func decode(_ cursor: inout InputCursor) throws(FormatError) -> Ledger {
        var ledger = Ledger(since: Timestamp(milliseconds: 0))
        for kind in [RecipientCount.Kind.submitted, .notice] {
            var account = Ledger.Account()
            account.accepted = try cursor.number()
            account.repeated = try cursor.number()
            account.delivered = try cursor.number()
            account.bounced = try cursor.number()
            account.expired = try cursor.number()
            account.withdrawn = try cursor.number()
            account.lost = try cursor.number()
            _ = try cursor.number(UInt64.self)
            ledger[kind] = account
        }
        ledger.mismatched = try cursor.number()
        ledger.since = Timestamp(milliseconds: try cursor.number())
        let count: UInt32 = try cursor.number()
        for _ in 0..<count {
            let withdrawn: UInt64 = try cursor.number()
            let length: UInt8 = try cursor.number()
            ledger.withdrawnBy[String(decoding: try cursor.octets(Int(length)), as: UTF8.self)] = withdrawn
        }
        return ledger
    }
}
