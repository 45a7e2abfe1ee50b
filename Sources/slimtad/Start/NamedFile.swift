// The files that slimta.conf names, but for the lists of rules: how each is read, and what has to be in it. Start and reload
// read them so, and `slimtad check` does too, so that it is green for just those files that slimtad starts with.

import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaSystem

/// A file with a certificate, a key, a password or the like, and the key that names it.
struct NamedFile: Sendable {
    /// What is in it.
    enum Use: Sendable {
        case certificate
        case key
        case clientCA
        case users
        case password
        case zone
        case issuerKeys
    }

    let use: Use
    /// A path, or "credential:NAME".
    let reference: String
    /// Such as "tls.certificate".
    let key: String

    init(_ use: Use, _ reference: String, _ key: String) {
        self.use = use
        self.reference = reference
        self.key = key
    }

    /// The longest that it may be, in octets.
    var maximum: Int {
        switch use {
        case .certificate, .key, .clientCA: 1 << 20
        case .issuerKeys: JSONWebKeys.limit
        case .users: 64 << 20
        case .password, .zone: 4096
        }
    }

    /// Whether nobody else may read it.
    var isSecret: Bool {
        switch use {
        case .certificate, .clientCA, .issuerKeys: false
        case .key, .users, .password, .zone: true
        }
    }

    /// What is in it.
    ///
    /// - Parameter service: who may own a secret besides root and the process.
    func read(service: UInt32?) throws(SystemError) -> [UInt8] {
        try SecureFile.read(
            try SecureFile.resolve(reference), maximum: maximum, mustNotBeReadableByOthers: isSecret, service: service)
    }

    /// As ``read(service:)``, for a command, to which systemd passes no credentials: where the unit has them from, or while the
    /// service runs.
    func readAnywhere(service: UInt32?) throws(SystemError) -> [UInt8] {
        for path in credentialPlaces(ServiceUnit()) where access(path, F_OK) == 0 {
            return try SecureFile.read(path, maximum: maximum, mustNotBeReadableByOthers: false)
        }
        return try read(service: service)
    }

    /// Where a credential may be found; none of a path.
    func credentialPlaces(_ unit: ServiceUnit?) -> [String] {
        guard reference.hasPrefix("credential:") else { return [] }
        let name = String(reference.dropFirst("credential:".count))
        return [
            try? SecureFile.resolve(reference), unit?.credential(name), "/run/credentials/slimtad.service/\(name)",
        ].compactMap(\.self)
    }

    /// The password or the zone that such a file has in it; never part of an error.
    func text(in content: [UInt8]) throws(SystemError) -> String {
        let octets = try SecureFile.secret(in: content, of: reference)
        switch use {
        case .zone:
            if let zone = Configuration.DNSBL.zone(inFile: octets) { return zone }
            throw SystemError(.invalid, "in \(reference) is no domain name")
        case .certificate, .key, .clientCA, .users, .password, .issuerKeys:
            if let text = String(validating: octets, as: UTF8.self) { return text }
            throw SystemError(.invalid, "\(reference) is not UTF-8")
        }
    }
}

extension Configuration.TLS {
    /// The certificates, that without a name first, each with its files.
    var files: [(pair: Pair, certificate: NamedFile, key: NamedFile)] {
        ([main] + others).enumerated().map { index, pair in
            let table = index == 0 ? "tls" : "tls.certificates[\(index - 1)]"
            return (
                pair, NamedFile(.certificate, pair.certificate, "\(table).certificate"),
                NamedFile(.key, pair.key, "\(table).key")
            )
        }
    }

    /// `client_ca`.
    var clientFile: NamedFile? { clientCA.map { NamedFile(.clientCA, $0, "tls.client_ca") } }
}

extension Configuration {
    /// The relays' passwords and tokens, ours at the issuer of tokens, and that of the database.
    var passwordFiles: [NamedFile] {
        relays.compactMap { table, relay in
            if case .http(let server) = relay.type, let file = server.tokenFile {
                return NamedFile(.password, file, "\(table).token_file")
            }
            guard let login = relay.type.login else { return nil }
            return login.passwordFile.map { NamedFile(.password, $0, "\(table).password_file") }
        } + relays.flatMap { table, relay in relay.type.login?.tokens?.textFiles(table) ?? [] }
            + [auth.clientSecretFile, databasePasswordFile].compactMap(\.self)
    }

    /// The password of the role that we are in the queue's database; nil: none is given, or there is none.
    var databasePasswordFile: NamedFile? {
        guard case .postgresql(let settings) = queue.placement else { return nil }
        return settings.passwordFile.map { NamedFile(.password, $0, "queue.postgresql[0].password_file") }
    }

    /// The relays' keys and certificates.
    var relayKeyFiles: [NamedFile] {
        relays.flatMap { table, relay in
            let pair = relay.clientCertificate.map { pair in
                [
                    NamedFile(.certificate, pair.certificate, "\(table).client_certificate"),
                    NamedFile(.key, pair.key, "\(table).client_key"),
                ]
            }
            guard case .key(let file)? = relay.type.login?.tokens?.proof else { return pair ?? [] }
            return (pair ?? []) + [NamedFile(.key, file, "\(table).client_key_file")]
        }
    }

    private var relays: [(table: String, relay: Relay)] {
        [("relay", relay)] + routes.enumerated().map { ("route[\($0)]", $1.relay) }
    }

    /// The zones of `[[dnsbl]]` that have a key in them.
    var zoneFiles: [NamedFile] {
        dnsbls.enumerated().compactMap { index, list in
            guard case .file(let reference) = list.zone else { return nil }
            return NamedFile(.zone, reference, "dnsbl[\(index)].zone_file")
        }
    }

    /// All that may be a credential of systemd.
    var credentialFiles: [NamedFile] {
        (tls?.files ?? []).flatMap { [$0.certificate, $0.key] } + passwordFiles + relayKeyFiles + zoneFiles
            + signingKeyFiles
    }
}

extension Configuration.Auth {
    /// `jwks_file`, where the back end of tokens is asked.
    var issuerKeysFile: NamedFile? {
        guard case .file(let path) = usedOAuth?.source else { return nil }
        return NamedFile(.issuerKeys, path, "auth.oauth.jwks_file")
    }

    /// `client_secret_file`, likewise.
    fileprivate var clientSecretFile: NamedFile? {
        guard case .introspection(_, _, let file) = usedOAuth?.source else { return nil }
        return NamedFile(.password, file, "auth.oauth.client_secret_file")
    }

    /// `[auth.oauth]`; nil: the back end is not asked.
    var usedOAuth: OAuthSettings? { backends.contains(.oauth) ? oauth : nil }
}

extension RelayTokens {
    /// The refresh token, and our secret at the endpoint.
    fileprivate func textFiles(_ table: String) -> [NamedFile] {
        var files: [NamedFile] = []
        if case .refreshToken(let file) = grant {
            files.append(NamedFile(.password, file, "\(table).refresh_token_file"))
        }
        if case .secret(let file) = proof { files.append(NamedFile(.password, file, "\(table).client_secret_file")) }
        return files
    }
}
