// The ledger: how many recipients the queue ever accepted, and what became of them. Storages count with every commit,
// status and audit show it.

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
        /// A relay has delivered it.
        package var delivered: UInt64 = 0
        /// Refused for good, or given up by an operator: the sender was told.
        package var bounced: UInt64 = 0
        /// Time ran out: the sender was told.
        package var expired: UInt64 = 0
        /// Taken out by an operator.
        package var removed: UInt64 = 0
        /// Lost to damage, and reported when that was found.
        package var lost: UInt64 = 0
        /// Still to be delivered.
        package var queued: UInt64 = 0

        /// Nothing was accepted.
        package init() {}

        /// Recipients that nothing accounts for; below zero, that ended more than once. 0 unless there is a fault.
        package var unaccounted: Int64 {
            let known = delivered &+ bounced &+ expired &+ removed &+ lost &+ queued
            return Int64(bitPattern: accepted &+ repeated &- known)
        }

        /// Both accounts together.
        package static func + (a: Account, b: Account) -> Account {
            var sum = a
            sum.accepted &+= b.accepted
            sum.repeated &+= b.repeated
            sum.delivered &+= b.delivered
            sum.bounced &+= b.bounced
            sum.expired &+= b.expired
            sum.removed &+= b.removed
            sum.lost &+= b.lost
            sum.queued &+= b.queued
            return sum
        }

        /// These recipients have ended so.
        package mutating func add(_ fates: Fates) {
            delivered &+= UInt64(fates.delivered)
            bounced &+= UInt64(fates.bounced)
            expired &+= UInt64(fates.expired)
            removed &+= UInt64(fates.removed)
        }

        /// Takes back what ``add(_:)`` did.
        package mutating func subtract(_ fates: Fates) {
            delivered &-= UInt64(fates.delivered)
            bounced &-= UInt64(fates.bounced)
            expired &-= UInt64(fates.expired)
            removed &-= UInt64(fates.removed)
        }
    }

    /// What clients submitted.
    package var submitted = Account()
    /// What slimtad itself sent: envelopes with the null reverse-path.
    package var notices = Account()
    /// Recipients of envelopes that an operator took out, by the operator's name.
    package var removedBy: [String: UInt64] = [:]
    /// Endings that did not say of each recipient how it ended: each is a fault, also where their sum is right.
    package var mismatched: UInt64 = 0
    /// When counting began.
    package var since: Timestamp

    /// Nothing was accepted, and counting begins at `since`.
    package init(since: Timestamp) { self.since = since }

    /// Both accounts together.
    package var total: Account { submitted + notices }
    /// Recipients that nothing accounts for; 0 unless there is a fault.
    package var unaccounted: Int64 { total.unaccounted }
    /// Whether every recipient is accounted for, exactly once.
    package var isBalanced: Bool { submitted.unaccounted == 0 && notices.unaccounted == 0 && mismatched == 0 }

    /// Operators that are told apart; what others remove is counted under ``others``.
    package static let operatorLimit = 32
    /// Octets of an operator's name that are kept.
    package static let nameLimit = 64
    /// Stands for all operators beyond ``operatorLimit``.
    package static let others = "others"

    /// The two accounts.
    package enum Kind: CaseIterable, Sendable {
        case submitted, notice

        /// The account of an envelope: without a sender it is a notice of ours.
        package init(of envelope: borrowing Envelope) { self = envelope.sender == nil ? .notice : .submitted }
    }

    /// One of the two accounts.
    package subscript(kind: Kind) -> Account {
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

    /// Counts recipients that the operator `name` removed, for ``removedBy``.
    package mutating func countRemoved(_ count: UInt32, by name: String?) {
        if count == 0 { return }
        var name = name ?? ""
        while name.utf8.count > Self.nameLimit { name.removeLast() }
        if removedBy[name] == nil, removedBy.count >= Self.operatorLimit { name = Self.others }
        removedBy[name, default: 0] &+= UInt64(count)
    }

    /// Both together; `since` is taken from `a`.
    package static func + (a: Ledger, b: Ledger) -> Ledger {
        var sum = a
        sum.removedBy.merge(b.removedBy) { $0 &+ $1 }
        sum.submitted = a.submitted + b.submitted
        sum.notices = a.notices + b.notices
        sum.mismatched &+= b.mismatched
        return sum
    }
}

/// How many recipients of an envelope have which final fate.
package struct Fates: Hashable, Sendable {
    /// As in ``Ledger/Account``.
    package var delivered: UInt32 = 0
    /// As in ``Ledger/Account``.
    package var bounced: UInt32 = 0
    /// As in ``Ledger/Account``.
    package var expired: UInt32 = 0
    /// As in ``Ledger/Account``.
    package var removed: UInt32 = 0

    /// Nobody has one.
    package init() {}

    /// The final fates of a state.
    package init(_ state: EnvelopeState) {
        for recipient in state.recipients {
            switch recipient.fate {
            case .pending: break
            case .delivered: delivered += 1
            case .bounced: bounced += 1
            case .expired: expired += 1
            case .removed: removed += 1
            }
        }
    }

    /// What an ending says.
    package init(_ ending: Ending) {
        (delivered, bounced) = (ending.delivered, ending.bounced)
        (expired, removed) = (ending.expired, ending.removed)
    }

    /// The one that all have who have one; nil: there are several, or none.
    package var only: RecipientState.Fate? {
        let fates: [(UInt32, RecipientState.Fate)] = [
            (delivered, .delivered), (bounced, .bounced), (expired, .expired), (removed, .removed),
        ]
        return fates.first { UInt64($0.0) == sum && $0.0 > 0 }?.1
    }

    /// How many recipients have one.
    package var sum: UInt64 { UInt64(delivered) + UInt64(bounced) + UInt64(expired) + UInt64(removed) }
    /// Whether nobody has one.
    package var isNone: Bool { sum == 0 }

    /// Whether all that ended before have still ended so.
    package func follows(_ before: Fates) -> Bool {
        delivered >= before.delivered && bounced >= before.bounced && expired >= before.expired
            && removed >= before.removed
    }
}
