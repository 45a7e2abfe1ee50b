// How sessions with hosts are made, and who may use which: what was decided of a host's TLS, and what a relay has for it. The
// pool shares connections by the plan and SMTPClientDriver does what it says.

import NIOCore
import SlimtaNet
import SlimtaSASL
import SlimtaSMTP
import SlimtaTLS

/// All of how a session is made that another session with the same host may not have in common with it.
///
/// A policy of the host's own (DANE, MTA-STS), a client certificate or a source address has its place here, so that it is
/// never forgotten where sessions are shared: what is not in the plan is the same for all of a relay's sessions.
struct SessionPlan: Hashable, Sendable {
    /// What is demanded of TLS, and what the server is told of it.
    var demand: TLSPlan
    /// Whether a session in clear may follow at once when TLS failed; false where nothing goes in clear.
    var mayGoInClear = false
    /// Versions, ciphers and the certificates that are trusted; nil only where nothing is encrypted.
    var tls: TLSClientContext?
    /// Who we are for the server; nil: no AUTH.
    var credentials: SASLClient.Credentials?
    /// Who has the tokens of ``credentials``, which have none themselves: a session outlives its token, and is shared by
    /// those who begin with another one.
    var tokens: TokenSource?
    /// The address that we come from; nil: what the system chooses.
    var source: SocketAddress?

    /// Without TLS, whatever is offered.
    static let inClear = SessionPlan(demand: TLSPlan(.never, serverName: nil))

    /// Whether the session is encrypted.
    var security: SMTPClientMachine.Security {
        switch demand.encryption {
        case .never: .none
        case .ifOffered: .opportunistic
        case .always: .required
        }
    }

    /// What is asked of the server's certificate.
    var verification: TLSVerification {
        if let dane = demand.dane {
            return .dane(
                DANEDemand(base: dane.base, names: dane.names, records: dane.records, pkixName: demand.pkixName))
        }
        return demand.pkixName.map { .system(host: $0, others: demand.otherNames) } ?? .none
    }
}

/// What two jobs must have in common to share a session.
///
/// The address alone is not enough: the host's name is told in logs, outcomes and bounces, and by SNI to the server, and a
/// session that was made with less care must not carry what asks for more. One made with more does not carry what asks for
/// less either: a server may choose its certificate, and what it does, by what it was told.
struct ConnectionKey: PoolDestination {
    let host: MailHost
    let plan: SessionPlan

    /// However many names and plans lead there, an address gets no more connections.
    var group: SocketAddress { host.address }
}

/// A relay's rules for sessions, as the operator set them.
struct SessionPolicy: Sendable {
    /// What sessions are made with: by what is asked of the server's certificate.
    private struct Contexts: Sendable {
        let anything: TLSClientContext
        let trusting: TLSClientContext
        let comparing: TLSClientContext

        init(trustFile: String?, _ identity: TLSIdentity?) throws(TLSError) {
            anything = try TLSClientContext(verifies: false, identity: identity)
            trusting = try TLSClientContext(verifies: true, trustFile: trustFile, identity: identity)
            comparing = try TLSClientContext(comparingRecordsBeside: trusting, identity: identity)
        }
    }

    private let floor: TLSFloor
    private let demands: [TLSDemand]
    private let clearTextAfter: Duration
    /// nil: nothing is ever encrypted.
    private let contexts: Contexts?
    /// Who we are for every host; nil: no AUTH.
    let credentials: SASLClient.Credentials?
    /// Who has the tokens of ``credentials``; nil: they need none.
    let tokens: TokenSource?

    /// - Parameters:
    ///   - demands: those of some domains; the first that is for one counts.
    ///   - login: who we are for every host.
    ///   - trustFile: the certificates to trust (PEM), instead of the system's, where one is verified.
    ///
    /// Throws if there can be no TLS.
    init(
        _ options: RelayOptions, demands: [TLSDemand] = [], login: RelayLogin? = nil, trustFile: String? = nil
    ) throws(TLSError) {
        floor = options.security
        self.demands = demands
        clearTextAfter = options.clearTextAfter
        credentials = login?.credentials
        tokens = login?.tokens
        let isNever = floor == .none && demands.isEmpty && login == nil
        contexts = isNever ? nil : try Contexts(trustFile: trustFile, options.identity)
    }

    /// What counts for all hosts of a domain, with what the operator demands for it.
    ///
    /// - Parameters:
    ///   - domain: the recipient's, the fixed host's name, or an address.
    func domain(
        _ origin: RelayOrigin, _ domain: String, canonicalDomain: String? = nil, isImplicit: Bool = false,
        isTrusted: Bool, sts: STSStanding = .none, message: MessageDemand = .nothing
    ) -> DomainSecurity {
        let demand = demands.first { $0.matches(domain) }
        return DomainSecurity(
            origin, domain, canonicalDomain: canonicalDomain, isImplicit: isImplicit, isTrusted: isTrusted, sts: sts,
            floor: demand?.floor ?? floor, names: demand?.names ?? [], hasCredentials: credentials != nil,
            message: message)
    }

    /// Has the roots that certificates are verified by; nil: nothing is ever encrypted.
    var trusting: TLSClientContext? { contexts?.trusting }

    /// How a session is to be made for a message that has waited for so long. A message that is young waits for TLS that fails
    /// by chance, or because of somebody on the way, to work again.
    func session(_ demand: TLSPlan, age: Duration) -> SessionPlan {
        var tls: TLSClientContext?
        if demand.encryption != .never {
            tls = demand.pkixName == nil ? contexts?.anything : contexts?.trusting
            if demand.dane != nil { tls = contexts?.comparing }
        }
        // A password never goes in clear.
        let mayGoInClear = demand.mayGoInClear && credentials == nil && age >= clearTextAfter
        return SessionPlan(
            demand: demand, mayGoInClear: mayGoInClear, tls: tls, credentials: credentials, tokens: tokens)
    }
}

/// What the operator demands of TLS with the hosts of some domains: `[[tls_policy]]`.
package struct TLSDemand: Sendable {
    let matches: @Sendable (String) -> Bool
    let floor: TLSFloor
    let names: [String]

    /// - Parameters:
    ///   - floor: instead of the relay's.
    ///   - names: where a certificate is verified because of that, it must have one of these names instead of the host's;
    ///     empty: the host's.
    ///   - matches: whether it is for this domain, in lower case.
    package init(_ floor: TLSFloor, names: [String] = [], matches: @escaping @Sendable (String) -> Bool) {
        (self.floor, self.names, self.matches) = (floor, names, matches)
    }
}
