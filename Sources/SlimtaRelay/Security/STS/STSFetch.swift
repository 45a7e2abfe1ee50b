// What comes of asking a domain's web server for its policy (RFC 8461 section 3.3): where it is asked for, and which answers
// are one. The connection is somebody else's.

import SlimtaMail

/// The request for a policy, and what its answer is.
enum STSFetch {
    /// The host, by SNI and in its certificate as well, also where it is an alias.
    static func host(of domain: String) -> String { "mta-sts.\(domain)" }

    /// On port 443, without a redirect, without any cache on the way.
    static let path = "/.well-known/mta-sts.txt"

    /// The name of the TXT record: the recipient's domain, never its parent and never what it is an alias of.
    static func recordName(of domain: String) -> String { "_mta-sts.\(domain)" }

    /// Why there is no policy.
    enum Failure: Error, Hashable, Sendable, CustomStringConvertible {
        /// The server's certificate, or no TLS at all.
        case tls(String)
        /// No address, no connection, no answer in time, too long an answer, or one that is none.
        case transport(String)
        case contents(STSPolicyFault)

        var description: String {
            switch self {
            case .tls(let why), .transport(let why): why
            case .contents(let fault): "the policy is broken: \(fault)"
            }
        }

        /// How it is reported (RFC 8460 section 4.3.2.2).
        var result: TLSResult {
            switch self {
            case .tls(let why): TLSResult(.policyWebPKIInvalid, of: .sts, reason: why)
            case .transport(let why): TLSResult(.policyFetchError, of: .sts, reason: why)
            case .contents(let fault): TLSResult(.policyInvalid, of: .sts, reason: fault.description)
            }
        }
    }

    /// The policy in an answer that came whole.
    ///
    /// - Parameters:
    ///   - mediaType: the Content-Type field, with its parameters, which mean nothing here; nil: there is none.
    static func policy(status: Int, mediaType: String?, body: [UInt8]) throws(Failure) -> STSPolicy {
        // RFC 8461 section 3.3: redirects MUST NOT be followed, and 200 is the only success.
        guard status == 200 else { throw .transport("HTTP status \(status)") }
        let type = mediaType?.utf8.prefix {
            $0 != UInt8(ascii: ";") && $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\t")
        }
        guard type.map({ $0.elementsEqual("text/plain".utf8) { $0.asciiLowercased() == $1 } }) ?? false else {
            throw .transport("media type \((mediaType ?? "none").prefix(80)), not text/plain")
        }
        do throws(STSPolicyFault) { return try STSPolicy(parsing: body) } catch {
            throw error == .tooLong ? .transport(error.description) : .contents(error)
        }
    }
}
