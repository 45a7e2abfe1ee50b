// The names of SASL mechanisms (RFC 4422 section 3.1), in the order in which servers list them and clients choose. Read by
// whoever offers some of them: configuration, SMTP's machines, back ends.

/// A SASL mechanism. The cases stand in the order of listing: clients that take the first they know take the best.
/// OAuth comes behind passwords, for a client that takes the first would send a password as a token.
package enum SASLMechanism: String, CaseIterable, Sendable {
    /// RFC 7677, bound to the TLS session (RFC 5802 section 6).
    case scramSHA256Plus = "SCRAM-SHA-256-PLUS"
    /// SCRAM with SHA-512, bound to the TLS session.
    case scramSHA512Plus = "SCRAM-SHA-512-PLUS"
    /// RFC 5802, bound to the TLS session.
    case scramSHA1Plus = "SCRAM-SHA-1-PLUS"
    /// RFC 7677.
    case scramSHA256 = "SCRAM-SHA-256"
    /// SCRAM with SHA-512, as the other two have it.
    case scramSHA512 = "SCRAM-SHA-512"
    /// RFC 5802.
    case scramSHA1 = "SCRAM-SHA-1"
    /// RFC 4616.
    case plain = "PLAIN"
    /// What older clients have instead of PLAIN; without an RFC.
    case login = "LOGIN"
    /// RFC 7628.
    case oauthBearer = "OAUTHBEARER"
    /// What Google had before there was RFC 7628.
    case xoauth2 = "XOAUTH2"
    /// RFC 4422 appendix A: who the client is has been said outside of SASL, by a certificate.
    case external = "EXTERNAL"
    /// RFC 2195: needs passwords that are kept in clear, and so stands last.
    case cramMD5 = "CRAM-MD5"

    /// Which keys of a user a SCRAM mechanism needs; nil for the others.
    package var scram: SCRAMHash? {
        switch self {
        case .scramSHA256, .scramSHA256Plus: .sha256
        case .scramSHA512, .scramSHA512Plus: .sha512
        case .scramSHA1, .scramSHA1Plus: .sha1
        case .plain, .login, .oauthBearer, .xoauth2, .external, .cramMD5: nil
        }
    }

    /// Whether its exchange is bound to the TLS session: the -PLUS of SCRAM.
    package var bindsChannel: Bool {
        switch self {
        case .scramSHA256Plus, .scramSHA512Plus, .scramSHA1Plus: true
        default: false
        }
    }

    /// Whether the server speaks first: an initial response is then a mistake of the client's (RFC 4954 section 4).
    package var isServerFirst: Bool { self == .cramMD5 }
}

extension SASLMechanism: Comparable {
    /// Whether `a` is listed before `b`.
    package static func < (a: SASLMechanism, b: SASLMechanism) -> Bool { a.place < b.place }

    private var place: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}
