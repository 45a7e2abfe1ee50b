// What a lookup gives, or why it gives nothing: values that Resolver makes for the relays, and what it is told to do about
// DNSSEC.

/// The records of one name and type.
package struct DNSAnswer<Record: Sendable & Hashable>: Hashable, Sendable {
    /// In no particular order; empty if the name exists and has no records of this type (NODATA).
    package let records: [Record]
    /// Whether DNSSEC proved the answer, the empty one too.
    package let security: DNSSECState
    /// For how many more seconds the answer holds.
    package let ttl: UInt32
    /// The name that CNAME records led to, in lower case and without the dot at its end; nil if there were none.
    package let canonicalName: String?

    /// What a resolver was told; tests make answers too.
    package init(records: [Record], security: DNSSECState, ttl: UInt32, canonicalName: String? = nil) {
        self.records = records
        self.security = security
        self.ttl = ttl
        self.canonicalName = canonicalName
    }
}

/// What DNSSEC says of an answer that it does not call forged.
package enum DNSSECState: Hashable, Sendable {
    /// Signed, all the way down from the root.
    case secure
    /// Not signed, or nobody checks.
    case insecure
}

/// Why there is no answer.
package enum DNSError: Error, Hashable, Sendable {
    /// The name does not exist (NXDOMAIN), or that at the end of its CNAME records does not.
    case noSuchName
    /// Nobody could answer: no server reached, SERVFAIL, a lookup cancelled. Another time may be better.
    case temporary(String)
    /// DNSSEC says that the answer is forged.
    case bogus(String)
    /// The name asked for is none: a label of no or more than 63 octets, more than 253 in all, or octets other than
    /// letters, digits, hyphens and underscores. A name beyond ASCII has to be converted first (RFC 5891 section 5).
    case invalidName

    /// Why, in words for logs and bounces.
    package var reason: String {
        switch self {
        case .noSuchName: "the name does not exist"
        case .temporary(let reason), .bogus(let reason): reason
        case .invalidName: "not a domain name"
        }
    }
}

/// A mail exchanger (RFC 1035 section 3.3.9).
package struct MXRecord: Hashable, Sendable {
    /// The lowest is to be tried first.
    package let preference: UInt16
    /// A host in lower case without the dot at its end; empty for the root, which says "no mail here" (RFC 7505 section 3).
    package let exchanger: String

    /// Takes a host's name in the form that ``exchanger`` has.
    package init(preference: UInt16, exchanger: String) {
        self.preference = preference
        self.exchanger = exchanger
    }
}

/// The start of a zone's authority (RFC 1035 section 3.3.13).
package struct SOARecord: Hashable, Sendable {
    /// For how many seconds it may be remembered that something is not there, if the record's own TTL is not less (RFC 2308
    /// section 4).
    package let minimum: UInt32

    /// As an answer has it.
    package init(minimum: UInt32) { self.minimum = minimum }
}

/// An IP address of a host.
package struct ResolvedAddress: Hashable, Sendable {
    /// As in "192.0.2.1" or "2001:db8::1".
    package let text: String
    /// Which family ``text`` is of: AAAA (RFC 3596) or A (RFC 1035 section 3.4.1).
    package let isIPv6: Bool

    /// Takes the text as it is: it is not parsed here.
    package init(text: String, isIPv6: Bool) {
        self.text = text
        self.isIPv6 = isIPv6
    }
}

/// What is done about DNSSEC.
package enum DNSSECMode: Sendable {
    /// Answers are validated if that works on this network, which is tried at start. If not, they are not, and
    /// ``Resolver/validation`` says why. It is tried again from time to time; where it has worked once, it stays.
    case auto
    /// Answers are validated. As long as that does not work on this network, every lookup fails with
    /// ``DNSError/temporary(_:)``. Domains that are provably not signed are still ``DNSSECState/insecure``.
    case required
    /// Nothing.
    case off
}

/// Whether answers are validated, and why not.
package enum ValidationState: Hashable, Sendable {
    case working
    /// As configured.
    case off
    /// It was asked for and does not work, for this reason.
    case unavailable(String)
}
