// What is said when security keeps mail from a host: the reply of the attempt, and what a TLS report calls it (RFC 8460
// section 4.3). Made by DomainSecurity and HostSecurity before a connection, by a session after it.

import SlimtaMail
import SlimtaTLS

/// Why a host, or a domain, is not used now.
///
/// All are temporary, but for REQUIRETLS (``RequireTLSTally``): policies come and go, and name servers are mended. The text
/// says what, for which host, and why, since it is all that whoever has to mend it gets to see.
enum SecurityFailure: Hashable, Sendable {
    /// MX records or addresses of a name.
    case lookup(String, why: String, isBogus: Bool)
    /// TLSA records of a host whose addresses are proved.
    case tlsaLookup(host: String, question: String, why: String)
    /// DANE authenticated the host a few days ago, and now nobody validates.
    case unvalidated(host: String)
    /// The operator's floor.
    case daneRequired(host: String)
    /// The host is not in a policy of mode `enforce`.
    case notInPolicy(host: String, domain: String)
    /// None of the domain's hosts is.
    case noHostInPolicy(domain: String)
    /// STARTTLS is not offered where it has to be.
    case notOffered(host: String)
    /// It is offered, and refused with these words.
    case refused(host: String, reply: String)
    case handshake(host: String, why: String)
    case certificate(host: String, CertificateFault, why: String)
    /// STARTTLS is not offered, and always was.
    case notOfferedAnyMore(host: String, domain: String, MemoryStanding.Encrypted)
    /// REQUIRETLS cannot be served there.
    case lacksRequireTLS(host: String, why: String)

    /// What the attempt says, if nothing more telling comes of another host.
    var reply: Reply {
        switch self {
        case .lookup(let name, let why, _):
            Reply(451, EnhancedStatus(4, 4, 3), "\(name) cannot be looked up: \(why)")
        case .tlsaLookup(let host, let question, let why):
            Self.notNow("\(host) is signed by DNSSEC, and TLSA \(question) is not answered: \(why)")
        case .unvalidated(let host):
            Self.notNow("\(host) was authenticated by DANE a few days ago, and DNSSEC cannot be validated now")
        case .daneRequired(let host):
            Self.notNow("\(host) has no TLSA records of use that DNSSEC proves, which tls = \"dane\" demands")
        case .notInPolicy(let host, let domain):
            Self.notNow("\(host) is not in the MTA-STS policy of \(domain)")
        case .noHostInPolicy(let domain):
            Self.notNow("no mail exchanger of \(domain) is in its MTA-STS policy")
        case .notOffered(let host):
            Reply(451, EnhancedStatus(4, 7, 4), "\(host) does not offer STARTTLS, which is demanded of it")
        case .refused(let host, let reply):
            Reply(451, EnhancedStatus(4, 7, 4), "\(host) refuses STARTTLS, which is demanded of it: \(reply)")
        case .handshake(let host, let why):
            Self.notNow("TLS with \(host) failed: \(why)")
        case .certificate(let host, _, let why):
            Self.notNow("the certificate of \(host) is not accepted: \(why)")
        case .notOfferedAnyMore(let host, let domain, let known):
            Self.notNow(
                "\(host) does not offer STARTTLS; it was encrypted on \(known.days) days, last \(known.lastDate); "
                    + "slimtad tls forget \(domain)")
        case .lacksRequireTLS(let host, let why):
            Reply(451, EnhancedStatus(4, 7, 30), "\(host) cannot take a message with REQUIRETLS: \(why)")
        }
    }

    private static func notNow(_ text: String) -> Reply { Reply(451, EnhancedStatus(4, 7, 5), text) }

    /// What a report calls it; nil: it is no matter of TLS reports.
    var result: TLSResult? {
        switch self {
        case .lookup(_, _, isBogus: true): TLSResult(.validationFailure, of: .noPolicy)
        case .lookup, .unvalidated, .lacksRequireTLS: nil
        case .tlsaLookup: TLSResult(.dnssecInvalid, of: .tlsa)
        case .daneRequired: TLSResult(.daneRequired)
        case .notInPolicy, .noHostInPolicy: .mxMismatch
        case .notOffered, .refused, .notOfferedAnyMore: TLSResult(.startTLSNotSupported)
        case .handshake(_, let why): TLSResult(.validationFailure, reason: why)
        case .certificate(_, let fault, _): TLSResult(fault)
        }
    }
}

/// Whether a message with REQUIRETLS bounces: only if every host of the domain was asked, and none can take it. Mail that
/// waits for a host that is down is not given up for it (RFC 8689 section 4.2.1).
struct RequireTLSTally: Sendable {
    private var lacking: [(host: String, why: String)] = []
    private var hasUnasked = false

    /// The host was reached and cannot, or what is known of it says so.
    mutating func lacks(_ host: String, why: String) { lacking.append((host, why)) }

    /// The host could not be asked: no connection, no answer.
    mutating func unreached() { hasUnasked = true }

    /// What is said when no host is left; nil: none was found lacking, and what else was said counts.
    var reply: Reply? {
        guard let last = lacking.last else { return nil }
        let text = "REQUIRETLS: \(last.host): \(last.why)"
        return hasUnasked
            ? Reply(451, EnhancedStatus(4, 7, 30), text)
            : Reply(550, EnhancedStatus(5, 7, 30), lacking.count == 1 ? text : "no host can take it; \(text)")
    }
}
