// The words of TLS reports (RFC 8460 sections 4.2 to 4.4): which policy, and what went wrong. SecurityFailure says which of
// them a failure is, TLSReportCounter counts them.

import SlimtaMail
import SlimtaTLS

/// What a session is reported for.
enum TLSPolicyType: String, Hashable, Comparable, Sendable, CaseIterable {
    /// DANE.
    case tlsa
    /// MTA-STS.
    case sts
    /// Neither.
    case noPolicy = "no-policy-found"

    static func < (a: TLSPolicyType, b: TLSPolicyType) -> Bool { a.rawValue < b.rawValue }
}

/// A result type of RFC 8460 section 4.3, with what more there is to say.
struct TLSResult: Hashable, Sendable {
    enum Kind: String, Hashable, Comparable, Sendable, CaseIterable {
        case startTLSNotSupported = "starttls-not-supported"
        case certificateHostMismatch = "certificate-host-mismatch"
        case certificateExpired = "certificate-expired"
        case certificateNotTrusted = "certificate-not-trusted"
        case validationFailure = "validation-failure"
        case tlsaInvalid = "tlsa-invalid"
        case dnssecInvalid = "dnssec-invalid"
        case daneRequired = "dane-required"
        case policyFetchError = "sts-policy-fetch-error"
        case policyInvalid = "sts-policy-invalid"
        case policyWebPKIInvalid = "sts-webpki-invalid"

        static func < (a: Kind, b: Kind) -> Bool { a.rawValue < b.rawValue }
    }

    let kind: Kind
    /// Of which policy it is a failure; nil: of the one that decides, or of none if there is none.
    let policy: TLSPolicyType?
    /// `failure-reason-code`: more than the type says; nil: there is no more.
    let reason: String?

    init(_ kind: Kind, of policy: TLSPolicyType? = nil, reason: String? = nil) {
        (self.kind, self.policy) = (kind, policy)
        // Some of it is what a host has said, and each other text is a detail of its own.
        self.reason = reason?.visibleASCII.cut(toOctets: 200)
    }

    /// The host is not one of those that the policy of MTA-STS names.
    static let mxMismatch = TLSResult(.validationFailure, of: .sts, reason: "mx-mismatch")
    /// TLSA records are there and none is usable: nothing fails for that, and the domain is told.
    static let noUsableTLSA = TLSResult(.tlsaInvalid, of: .tlsa, reason: "all-unusable")

    /// What a report calls a certificate that was not accepted.
    init(_ fault: CertificateFault) {
        switch fault {
        case .name: self.init(.certificateHostMismatch)
        case .date: self.init(.certificateExpired)
        case .chain: self.init(.certificateNotTrusted)
        case .noMatch: self.init(.validationFailure, of: .tlsa, reason: "dane-no-match")
        }
    }
}
