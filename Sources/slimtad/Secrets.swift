// Phase loadSecrets, at start (as root, where slimtad was started as root) and at each reload: everything that is in
// files of its own. All that can be wrong with them is found here, before anything is changed.

import Logging
import SlimtaConfiguration
import SlimtaEdge
import SlimtaSystem
import SlimtaTLS

/// What the configuration's `..._file` keys, `[tls]` and `[auth]` name.
struct Secrets: Sendable {
    /// What is not as it should be and need not keep slimtad from running.
    enum Complaint: Sendable {
        /// The one in use stays.
        case certificate(Certificates.Refusal)
        /// The file does not exist.
        case noUsers(path: String)
        /// A line that is not understood, and ignored.
        case users(path: String, problem: String)

        var isOfCertificate: Bool {
            switch self {
            case .certificate: true
            case .noUsers, .users: false
            }
        }
    }

    /// nil: no edge has TLS.
    var certificates: Certificates?
    /// nil: no edge has AUTH.
    var users: UsersFile?
    /// The relays' passwords by the reference that names them.
    var passwords: [String: String] = [:]
    var complaints: [Complaint] = []

    /// What edges speak TLS with.
    var tls: TLSServerContext? { certificates?.context }

    /// - Parameter previous: at a reload, what was loaded before: a certificate that cannot be used keeps the old one.
    static func load(_ file: ConfigurationFile, keeping previous: Secrets? = nil) throws(Failure) -> Secrets {
        var secrets = Secrets()
        if let tls = file.values.tls, file.values.edges.contains(where: { $0.tls != .cleartext }) {
            let (certificates, refusals) = try Certificates.load(
                tls, keeping: previous?.certificates, service: file.serviceUser)
            secrets.certificates = certificates
            secrets.complaints = refusals.map { .certificate($0) }
        }
        if file.values.edges.contains(where: { $0.auth != .off }) {
            let path = file.values.auth.users
            let octets: [UInt8]
            do throws(SystemError) {
                octets = try SecureFile.read(
                    path, maximum: 64 << 20, mustNotBeReadableByOthers: true, service: file.serviceUser)
            } catch {
                guard error.code == .notFound else { throw Failure(.configuration, "auth.users: \(error)") }
                octets = []
                secrets.complaints.append(.noUsers(path: path))
            }
            guard let text = String(validating: octets, as: UTF8.self) else {
                throw Failure(.configuration, "auth.users: \(path) is not UTF-8")
            }
            let users = UsersFile(text)
            secrets.complaints += users.errors.map { .users(path: path, problem: $0.description) }
            secrets.users = users
        }
        for relay in [file.values.relay] + file.values.routes.map(\.relay) {
            guard case .smtp(_, let login?) = relay.type, secrets.passwords[login.passwordFile] == nil else { continue }
            let octets: [UInt8]
            do throws(SystemError) {
                octets = try SecureFile.secret(login.passwordFile, service: file.serviceUser)
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
}

extension Logger {
    /// Tells of what was found wrong with secrets.
    func log(_ complaint: Secrets.Complaint) {
        switch complaint {
        case .certificate(let refusal):
            error("certificate cannot be used, the old one stays", metadata: refusal.metadata)
        case .noUsers(let path): warning("no users file, nobody can log in", metadata: ["file": "\(path)"])
        case .users(let path, let problem):
            warning("line of the users file is ignored", metadata: ["file": "\(path)", "error": "\(problem)"])
        }
    }
}

extension Certificates.Refusal {
    fileprivate var metadata: Logger.Metadata { ["file": "\(path)", "error": "\(reason)"] }
}

extension Secrets.Complaint: CustomStringConvertible {
    /// For `slimtad check`.
    var description: String {
        switch self {
        case .certificate(let refusal): refusal.reason
        case .noUsers(let path): "auth.users: \(path) does not exist; make a user with: slimtad passwd NAME"
        case .users(let path, let problem): "\(path): \(problem)"
        }
    }
}
