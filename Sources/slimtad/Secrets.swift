// Phase loadSecrets, at start (as root, where slimtad was started as root) and at each reload: everything that is in
// files of its own. All that can be wrong with them is found here, before anything is changed.

import SlimtaConfiguration
import SlimtaEdge
import SlimtaSystem
import SlimtaTLS

/// What the configuration's `..._file` keys, `[tls]` and `[auth]` name.
struct Secrets: Sendable {
    var tls: TLSServerContext?
    /// nil: no edge has AUTH.
    var users: UsersFile?
    /// The relays' passwords by the reference that names them.
    var passwords: [String: String] = [:]
    /// What is not as it should be and need not keep slimtad from running.
    var warnings: [String] = []

    /// - Parameter previous: at a reload, what was loaded before: a certificate that cannot be used keeps the old one.
    static func load(_ file: ConfigurationFile, keeping previous: Secrets? = nil) throws(Failure) -> Secrets {
        var secrets = Secrets()
        if let tls = file.values.tls, file.values.edges.contains(where: { $0.tls != .cleartext }) {
            do throws(Failure) {
                secrets.tls = try context(tls)
            } catch {
                guard let old = previous?.tls else { throw error }
                secrets.tls = old
                secrets.warnings.append("the certificate in use stays: \(error.message)")
            }
        }
        if file.values.edges.contains(where: { $0.auth != .off }) {
            let path = file.values.auth.users
            let octets: [UInt8]
            do throws(SystemError) {
                octets = try SecureFile.read(path, maximum: 64 << 20, mustNotBeReadableByOthers: true)
            } catch {
                guard error.code == .notFound else { throw Failure(.configuration, "auth.users: \(error)") }
                octets = []
                secrets.warnings.append("auth.users: \(path) does not exist; make a user with: slimtad passwd NAME")
            }
            guard let text = String(validating: octets, as: UTF8.self) else {
                throw Failure(.configuration, "auth.users: \(path) is not UTF-8")
            }
            let users = UsersFile(text)
            secrets.warnings += users.errors.map { "\(path): \($0)" }
            secrets.users = users
        }
        for relay in [file.values.relay] + file.values.routes.map(\.relay) {
            guard case .smtp(_, let login?) = relay.type, secrets.passwords[login.passwordFile] == nil else { continue }
            let octets: [UInt8]
            do throws(SystemError) {
                octets = try SecureFile.secret(login.passwordFile)
            } catch {
                throw Failure(.configuration, "password_file: \(error)")
            }
            guard let password = String(validating: octets, as: UTF8.self) else {
                throw Failure(.configuration, "password_file: \(login.passwordFile) is not UTF-8")
            }
            secrets.passwords[login.passwordFile] = password
        }
        return secrets
    }

    private static func context(_ tls: Configuration.TLS) throws(Failure) -> TLSServerContext {
        let certificate: [UInt8]
        let key: [UInt8]
        do throws(SystemError) {
            certificate = try SecureFile.read(
                try SecureFile.resolve(tls.certificate), maximum: 1 << 20, mustNotBeReadableByOthers: false)
        } catch {
            throw Failure(.configuration, "tls.certificate: \(error)")
        }
        do throws(SystemError) {
            key = try SecureFile.read(
                try SecureFile.resolve(tls.key), maximum: 1 << 20, mustNotBeReadableByOthers: true)
        } catch {
            throw Failure(.configuration, "tls.key: \(error)")
        }
        do throws(TLSError) {
            return try TLSServerContext(
                certificatePEM: certificate, keyPEM: key, minimum: tls.minimum == .tls13 ? .v1_3 : .v1_2)
        } catch {
            throw Failure(.configuration, "tls: \(tls.certificate) and \(tls.key): \(error)")
        }
    }
}
