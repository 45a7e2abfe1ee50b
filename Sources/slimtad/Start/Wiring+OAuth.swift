// The back end of tokens, from `[auth.oauth]`: what the file calls something, and what SlimtaEdge calls it.

import Logging
import NIOCore
import SlimtaConfiguration
import SlimtaDNS
import SlimtaEdge
import SlimtaMail
import SlimtaSASL
import SlimtaTLS

extension Configuration {
    /// The back end "oauth", which begins at once to fetch what it needs; nil: it is not asked.
    ///
    /// - Parameters:
    ///   - previous: the one in use: what it has of the issuer holds on.
    ///   - lease: of `resolver`, which the back end keeps.
    func oauthBackEnd(
        _ secrets: Secrets, after previous: OAuthBackEnd?, resolver: SlimtaDNS.Resolver, lease: Lease, on ground: Ground
    ) throws -> OAuthBackEnd? {
        guard let oauth = auth.usedOAuth else { return nil }
        let source: TokenVerifier.Source
        switch oauth.source {
        case .file:
            guard let keys = secrets.issuerKeys else { return nil }
            source = .file(keys)
        case .keys(let url):
            source = .keys(try oauth.client(url, resolver: resolver, group: ground.group))
        case .introspection(let url, let id, let file):
            source = .introspection(
                try oauth.client(url, resolver: resolver, group: ground.group), id: id,
                secret: secrets.passwords[file] ?? "")
        }
        let verifier = TokenVerifier(oauth.rules, source, after: previous?.verifier, logger: ground.logger)
        verifier.start()
        return OAuthBackEnd(
            verifier, logger: ground.logger,
            keeping: Lease(ground.endings) {
                await verifier.end()
                withExtendedLifetime(lease) {}
            })
    }
}

extension Configuration.Auth {
    /// What a client is told whose token is not good.
    var tokenHint: SASLContext.TokenHint {
        guard let oauth = usedOAuth else { return .init() }
        let scope = oauth.requiredScopes.isEmpty ? nil : oauth.requiredScopes.joined(separator: " ")
        // OpenID Connect Discovery section 4: behind the issuer's name, without its last slash.
        let base = oauth.issuer.map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 }
        let configuration = base.flatMap { WebAddress($0) == nil ? nil : $0 + "/.well-known/openid-configuration" }
        return .init(scope: scope, configuration: configuration)
    }
}

extension OAuthSettings {
    /// The issuer's server.
    func client(
        _ url: WebAddress, resolver: SlimtaDNS.Resolver, group: any EventLoopGroup
    ) throws(TLSError) -> IssuerClient {
        try IssuerClient(
            IssuerEndpoint(
                isSecure: url.isSecure, host: url.host.host, port: url.host.port, target: url.target,
                trustFile: trustFile),
            resolver: resolver, group: group)
    }

    fileprivate var rules: TokenRules {
        var rules = TokenRules(issuer: issuer, audience: audience)
        rules.algorithms = Set(algorithms.compactMap { TokenAlgorithm(rawValue: $0.rawValue) })
        rules.claim = claim
        rules.sendersClaim = sendersClaim
        rules.requiredScopes = requiredScopes
        rules.clients = clients
        rules.isStrictAboutType = strictType
        rules.takesUnverifiedEmail = unverifiedEmail
        return rules
    }
}
