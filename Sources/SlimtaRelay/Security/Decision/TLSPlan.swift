// How one session with one host is to be made secure, and who else may use it: the result of HostSecurity's decision. It is
// part of SessionPlan, by which sessions are shared.

import SlimtaTLS

/// All that is demanded of a session's TLS.
///
/// Two messages may share a session only if their plans are equal. A session that was made with more care does not carry
/// what asks for less either: by SNI a server chooses its certificate, and perhaps whose mail it is. So the name, the
/// records and the names to match are all in it (Exim holds other domains' mail back from a DANE session, Postfix hashes
/// the records into its cache's key; a pool keyed by MX set alone let a stranger's broken policy stop a provider's mail:
/// KumoMTA issue 484). Whether a message needs REQUIRETLS is not: it is said with each MAIL command.
struct TLSPlan: Hashable, Sendable {
    /// Whether there is TLS.
    enum Encryption: Hashable, Sendable, CaseIterable {
        case never
        /// Where STARTTLS is offered.
        case ifOffered
        /// Nothing of a message goes in clear.
        case always
    }

    /// What DANE demands of the certificate (RFC 7672 section 3).
    struct DANE: Hashable, Sendable {
        /// The name at which the records are: the first name to match, and what SNI says.
        let base: String
        /// Further names that a certificate below a DANE-TA record may have; none where there is no such record, since
        /// DANE-EE matches no names.
        let names: [String]
        /// The usable records, each once and in their order: the same set is the same plan.
        let records: [TLSARecord]

        init(base: String, names: [String], records: [TLSARecord]) {
            self.base = base
            self.records = Set(records).sorted()
            var seen: Set<String> = [base]
            let hasNames = records.contains { $0.usage == TLSARecord.trustAnchor }
            self.names = hasNames ? names.filter { seen.insert($0).inserted } : []
        }
    }

    let encryption: Encryption
    /// nil: the certificate is not compared with TLSA records.
    let dane: DANE?
    /// The name that the certificate must have, and lead to a root that the system trusts; nil: neither is looked at.
    let pkixName: String?
    /// Names that are as good as that one: the operator's.
    let otherNames: [String]
    /// What SNI says; nil for addresses, and where there is no TLS.
    let serverName: String?

    init(
        _ encryption: Encryption, dane: DANE? = nil, pkixName: String? = nil, otherNames: [String] = [],
        serverName: String?
    ) {
        (self.encryption, self.dane, self.pkixName, self.serverName) = (encryption, dane, pkixName, serverName)
        self.otherNames = otherNames
    }

    /// Whether a certificate can be a reason to fail.
    var authenticates: Bool { dane != nil || pkixName != nil }

    /// Whether a session in clear may follow a failed handshake, for a message that was tried before: never where anybody
    /// demands TLS. That the message is old enough is for who asks.
    var mayGoInClear: Bool { encryption == .ifOffered }
}
