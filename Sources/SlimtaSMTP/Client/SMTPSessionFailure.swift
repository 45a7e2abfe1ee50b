// Why a client's session has nothing to offer: said by SMTPClientMachine, for its driver and those who decide which host is next.

package import SlimtaMail

/// Why a session did not come to be.
package struct SMTPSessionFailure: Hashable, Sendable {
    /// What it means for every recipient, if no other server is to be had.
    package var outcome: Outcome
    /// Whether to try in clear, on a new connection, because TLS was begun and failed.
    package enum InClear: Hashable, Sendable {
        case no
        case now
        /// When the message has waited for longer: nothing else is wrong with the host.
        case later
    }

    /// What of TLS did not come about.
    package enum TLSFault: Hashable, Sendable {
        /// The server does not offer it.
        case notOffered
        /// It does, and refuses it with these words.
        case refused(Reply)
        /// It was begun, and failed.
        case failed
    }

    /// Whether the job may be done on a connection without TLS.
    package var inClear: InClear
    /// The host said nothing in time.
    package var isTimeout: Bool
    /// What failed is TLS or AUTH, as they were asked for: who asks for less may have a session.
    package var isOfSecurity: Bool
    /// What of TLS is to blame; nil: it is not TLS.
    package var fault: TLSFault?
    /// The server does not take our token, and may take a newer one.
    package var isTokenStale: Bool

    /// Why no session came about.
    package init(
        outcome: Outcome, inClear: InClear = .no, isTimeout: Bool = false, isOfSecurity: Bool = false,
        fault: TLSFault? = nil, isTokenStale: Bool = false
    ) {
        self.outcome = outcome
        self.inClear = inClear
        self.isTimeout = isTimeout
        self.isOfSecurity = isOfSecurity
        self.fault = fault
        self.isTokenStale = isTokenStale
    }
}
