// What facts are about, and what is known of them. Shared by SessionLookups, LookupPlan and Lookups.

internal import SlimtaMail
package import SlimtaRules
import Synchronization

/// What is asked about, beside the client: it changes with EHLO, AUTH and MAIL.
package struct LookupSubject: Hashable, Sendable {
    /// What the client said last; nil before EHLO.
    package var ehlo: String?
    /// Of MAIL; nil before it.
    package var sender: Facts.Sender?
    /// Whether the client has logged in.
    package var isAuthenticated: Bool
    /// The number of the message in this session: what failed is tried again for the next one.
    package var transaction: UInt64

    /// Before anything was said, as it is at connect, without arguments.
    package init(
        ehlo: String? = nil, sender: Facts.Sender? = nil, isAuthenticated: Bool = false, transaction: UInt64 = 0
    ) {
        (self.ehlo, self.sender, self.isAuthenticated) = (ehlo, sender, isAuthenticated)
        self.transaction = transaction
    }
}

/// A fact that was looked up, or could not be.
enum LookupValue: Sendable {
    case ptr(PTRFact)
    case spf(SPFFact)
    case listing(ListingFact)

    /// That `fact` could not be found out, and why.
    static func failed(_ fact: Fact, _ reason: String) -> LookupValue {
        switch fact {
        case .ptr: .ptr(PTRFact(failure: reason))
        case .spf: .spf(SPFFact(.temperror, reason: reason))
        case .dnsbl: .listing(.failed(reason))
        }
    }

    /// Whether trying again may find more.
    var hasFailed: Bool {
        switch self {
        case .ptr(let fact): fact.failure != nil
        case .spf(let fact): fact.result == .temperror
        case .listing(.failed): true
        case .listing(.listed), .listing(.notListed): false
        }
    }
}

/// What a lookup knows before it is complete: this counts if its time is over.
final class Interim: Sendable {
    private struct State {
        var value: LookupValue?
        var other: Interim?
    }

    private let state = Mutex(State())

    var value: LookupValue? {
        let (value, other) = state.withLock { ($0.value, $0.other) }
        return value ?? other?.value
    }

    func become(_ value: LookupValue) { state.withLock { $0.value = value } }

    /// From now on it is what the `other`, of a lookup that is shared, is.
    func follow(_ other: Interim) { state.withLock { $0.other = other } }
}
