// Where `slimtad check` says that nobody can log in, nobody can: all back ends, mechanisms and settings on each kind of edge, and
// what sessions are offered there by the back ends themselves.

import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaSASL
import Testing

@testable import SlimtaConfiguration
@testable import SlimtaEdge
@testable import slimtad

@Suite struct LoginOfferTests {
    private static let user = "u@example.org"
    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private static let fingerprint = [UInt8](repeating: 7, count: 32)

    /// One of each kind, with a name that says who is there: who connects himself, who comes through a proxy, or both.
    private static let edges = """
        [[edge]]
        name = "starttls"
        type = "smtp"
        listen = ["192.0.2.1:587"]
        [[edge]]
        name = "immediate"
        type = "smtp"
        listen = ["192.0.2.1:465"]
        tls = "immediate"
        [[edge]]
        name = "clear"
        type = "smtp"
        listen = ["127.0.0.1:587"]
        tls = "none"
        plaintext_auth = true
        [[edge]]
        name = "both"
        type = "smtp"
        listen = ["192.0.2.1:588"]
        proxy_protocol = ["192.0.2.0/24"]
        [[edge]]
        name = "proxy"
        type = "smtp"
        listen = ["127.0.0.1:588"]
        proxy_protocol = ["127.0.0.1"]
        [[edge]]
        name = "web"
        type = "http"
        listen = ["192.0.2.1:443"]
        [[edge]]
        name = "clear-web"
        type = "http"
        listen = ["127.0.0.1:80"]
        tls = "none"
        plaintext_auth = true

        """

    /// RFC 8037 appendix A.2.
    private static let keys =
        #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#

    private static let mechanisms: [[SASLMechanism]] =
        SASLMechanism.allCases.map { [$0] } + [
            Configuration.Auth().mechanisms, [.scramSHA256Plus, .scramSHA256], [.scramSHA512Plus, .oauthBearer],
            [.scramSHA1, .external], [.external, .plain], [.scramSHA256Plus, .external, .login],
        ]

    @Test(arguments: [["file"], ["pam"], ["oauth"], ["file", "oauth"], ["pam", "oauth"], ["file", "pam"]])
    func nobodyIsNobody(backEnds: [String]) async throws {
        let credentials = Self.credentials()
        defer { withExtendedLifetime(credentials) {} }
        var found: [String: Int] = [:]
        for mechanisms in Self.mechanisms {
            for binding in ChannelBindingMode.allCases {
                for trust in ["", "client_ca = \"/ca\"", "fingerprint"] {
                    let hasDigests = trust == "fingerprint"
                    guard !hasDigests || mechanisms.contains(.external) else { continue }
                    let text =
                        Self.edges + "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n\(hasDigests ? "" : trust)\n[auth]\n"
                        + "backends = \(backEnds)\nmechanisms = \(mechanisms.map(\.rawValue))\n"
                        + "channel_binding = \"\(binding.rawValue)\"\n"
                        + (hasDigests ? "certificate_login = \"fingerprint\"\n" : "")
                        + (backEnds.contains("oauth")
                            ? "[auth.oauth]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"/k\"\n" : "")
                    let configuration = try Configuration.parse(text, file: "f")
                    let asked = try self.backEnds(configuration, credentials)
                    for edge in configuration.edges {
                        let expected = verdict(of: edge, configuration, asked)
                        let warnings = configuration.warnings.filter {
                            $0.keyPath == "auth.mechanisms" && $0.text.contains("on edge \"\(edge.name)\"")
                        }
                        let said = warnings.map { String($0.text.split(separator: " can log in", maxSplits: 1)[0]) }
                        #expect(said == (expected.map { [$0] } ?? []), "\(edge.name): \(text)")
                        found[expected ?? "somebody", default: 0] += 1
                    }
                }
            }
        }
        #expect((found["somebody"] ?? 0) > 50 && (found["nobody"] ?? 0) > 50, "\(found)")
    }

    /// What clients of an edge are offered by the back ends; nil: all can log in by something.
    private func verdict(of edge: Configuration.Edge, _ configuration: Configuration, _ backEnds: BackEnds) -> String? {
        let direct = edge.name == "proxy" ? [] : [false]
        let kinds = direct + (edge.access.proxyProtocol.isEmpty ? [] : [true])
        let shutOut = kinds.filter { isBehindProxy in
            let peer = ConnectionFacts.Endpoint.ip(IPAddress("198.51.100.1")!, port: 1)
            var facts = AuthenticationFacts(
                connection: isBehindProxy
                    ? ConnectionFacts(peer: peer, local: .unknown, proxy: ProxyFacts(endpoint: .unknown))
                    : ConnectionFacts(peer: nil, local: nil), edge: edge.name, session: "1")
            if edge.access.tls != .cleartext {
                facts.connection.tls = TLSFacts(TLSDescription(version: "TLSv1.3", cipher: "x"))
                if let tls = configuration.tls, tls.clientCA != nil || tls.asksClients {
                    facts.certificate = CertificateIdentity(
                        emailAddresses: [Self.user], hostNames: [], commonName: "", fingerprint: Self.fingerprint,
                        isVerified: tls.clientCA != nil)
                }
            }
            let listed = backEnds.mechanisms(on: facts)
            // HTTP takes Basic where PLAIN is listed, and a token of who knows tokens.
            return edge.type.name == "http"
                ? !listed.contains(.plain) && !backEnds.all.contains { $0.mechanisms(on: facts).contains(.oauthBearer) }
                : listed.isEmpty
        }
        return shutOut.isEmpty ? nil : shutOut.count == kinds.count ? "nobody" : "nobody who comes through a proxy"
    }

    /// As World makes them.
    private func backEnds(_ configuration: Configuration, _ credentials: FileCredentials) throws -> BackEnds {
        let auth = configuration.auth
        credentials.replace(Self.users(), foldsCase: false, certificates: auth.certificateLogin)
        let all = try auth.backends.map { name -> any CredentialBackEnd in
            switch name {
            case .file, .dovecot: credentials
            case .pam:
                PAMBackEnd(
                    at: try SocketAddress(unixDomainSocketPath: "/none"), socket: "/none", timeout: .seconds(1),
                    names: PAMNames(domain: nil, hostname: "h"), systemErrorsRefuse: false,
                    group: MultiThreadedEventLoopGroup.singleton)
            case .oauth:
                OAuthBackEnd(
                    TokenVerifier(
                        TokenRules(issuer: "i", audience: ["a"]), .file(try JSONWebKeys(Self.keys.utf8)),
                        logger: Self.logger), logger: Self.logger, keeping: 0)
            }
        }
        return BackEnds(
            all, mechanisms: auth.mechanisms, binding: auth.channelBinding,
            context: SASLContext(listed: [], inventing: SecretOctets([1]), hostname: "h"))
    }

    private static func users() -> UsersFile {
        var file = UsersFile("")
        var user = UsersFile.User(hash: PasswordHash("$5$abcdefgh$x")!)
        for hash in SCRAMHash.allCases { user.keys[hash] = SCRAMKeys(password: "x".utf8, hash, iterations: 4096) }
        user.certificates = [fingerprint]
        file.set(Self.user, user)
        return file
    }

    private static func credentials() -> FileCredentials {
        FileCredentials(users(), checks: PasswordChecks(threads: 1, logger: logger))
    }
}
