// What `tls` and `tls_memory` of relays, and [[tls_policy]], may say: what is demanded of the TLS of those whom mail goes to.

/// What `tls` of a relay may say.
package enum RelayTLSMode: String, Sendable, CaseIterable {
    /// TLS where it is offered, whatever the certificate (RFC 7435 section 3), else in clear, unless somebody says more: DANE
    /// (RFC 7672), MTA-STS (RFC 8461), what was seen before.
    case opportunistic
    /// No TLS, no delivery.
    case required
    /// And a certificate that the system trusts, for the host's name.
    case verify
    /// And one that the host's own zone names, by DNSSEC all the way.
    case dane
    /// No TLS at all, whoever says what.
    case cleartext = "none"

    /// Whether it is no delivery without TLS.
    var isDemand: Bool {
        switch self {
        case .required, .verify, .dane: true
        case .opportunistic, .cleartext: false
        }
    }
}

/// What `tls_memory` of a relay may say.
package enum RelayTLSMemory: String, Sendable, CaseIterable {
    case enforce, report, off
}

/// `[[tls_policy]]`: what is demanded of the hosts of some domains, instead of `tls` of the relay.
package struct TLSPolicySettings: Sendable, Equatable {
    /// Recipients' domains, or the name of a relay's host; at least one.
    package var domains: [DomainPattern]
    /// Instead of the relay's.
    package var tls: RelayTLSMode
    /// With `verify`: the certificate must have one of these names. Empty: the host's.
    package var names: [String]

    /// With the meaning of its properties.
    package init(domains: [DomainPattern], tls: RelayTLSMode, names: [String]) {
        (self.domains, self.tls, self.names) = (domains, tls, names)
    }
}
