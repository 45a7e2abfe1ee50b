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
        /// `[auth] fold_case` takes these names for one.
        case alike(path: String, names: String)
        /// The file was changed and cannot be used: the users in use stay.
        case usersStay(reason: String)

        var isOfCertificate: Bool {
            switch self {
            case .certificate: true
            case .noUsers, .users, .alike, .usersStay: false
            }
        }

        var isOfUsers: Bool { !isOfCertificate }

        /// What is wrong within the users file that `file` names.
        static func about(_ users: UsersFile, _ file: ConfigurationFile) -> [Complaint] {
            let auth = file.values.auth
            return users.errors.map { .users(path: auth.users, problem: $0.description) }
                + (auth.foldCase ? users.alike : []).map { .alike(path: auth.users, names: $0.joined(separator: ", ")) }
        }
    }

    /// nil: no edge has TLS.
    var certificates: Certificates?
    /// nil: no edge has AUTH.
    var users: UsersFile?
    /// The users file as it was when it was read, and when it was last looked at.
    private var (usersRead, usersSeen): (FileStamp?, FileStamp?)
    /// The relays' passwords by the reference that names them.
    var passwords: [String: String] = [:]
    /// The relays' keys and certificates, likewise.
    var relayKeys: [String: [UInt8]] = [:]
    var complaints: [Complaint] = []

    /// The lists of rules.
    private(set) var lists = Lists()
    /// `jwks_file` of `[auth.oauth]`; nil: tokens are not checked by such a file.
    private(set) var issuerKeys: JSONWebKeys?
    /// The keys of `[[dkim]]`.
    private(set) var signingKeys: [SigningKey] = []
    /// The zones of block lists that are in files, by the reference that names them.
    private(set) var zones: [String: String] = [:]

    /// What edges speak TLS with.
    var tls: TLSServerContext? { certificates?.context }

    /// - Parameter previous: at a reload, what was loaded before: a certificate that cannot be used keeps the old one.
    static func load(_ file: ConfigurationFile, keeping previous: Secrets? = nil) throws(Failure) -> Secrets {
        var secrets = Secrets()
        secrets.lists = try Lists.load(file)
        secrets.zones = try file.readZones()
        if let tls = file.values.tls, file.values.edges.contains(where: { $0.access.tls != .cleartext }) {
            let (certificates, refusals) = try Certificates.load(
                tls, keeping: previous?.certificates, service: file.serviceUser)
            secrets.certificates = certificates
            secrets.complaints = refusals.map { .certificate($0) }
        }
        if file.values.hasAuth, file.values.auth.backends.contains(.file) {
            try secrets.loadUsers(file, mayBeMissing: true)
        }
        secrets.passwords = try file.texts(in: file.values.passwordFiles)
        secrets.relayKeys = try file.contents(of: file.values.relayKeyFiles)
        secrets.issuerKeys = try file.readIssuerKeys()
        secrets.signingKeys = try file.readSigningKeys()
        return secrets
    }

    /// Reads the users file; a mistake leaves everything as it was.
    mutating func loadUsers(_ file: ConfigurationFile, mayBeMissing: Bool) throws(Failure) {
        let path = file.values.auth.users
        // Before it is read: what is changed meanwhile is seen as changed.
        let stamp = FileStamp(of: path)
        var found: [Complaint] = []
        let octets: [UInt8]
        do throws(SystemError) {
            octets = try NamedFile(.users, path, "auth.users").read(service: file.serviceUser)
        } catch {
            guard mayBeMissing, error.code == .notFound else { throw Failure(.configuration, "auth.users: \(error)") }
            octets = []
            // Others may know users.
            if file.values.auth.backends == [.file] { found.append(.noUsers(path: path)) }
        }
        guard let text = String(validating: octets, as: UTF8.self) else {
            throw Failure(.configuration, "auth.users: \(path) is not UTF-8")
        }
        let users = UsersFile(text)
        found += Complaint.about(users, file)
        complaints = complaints.filter { !$0.isOfUsers } + found
        self.users = users
        usersRead = stamp
    }

    /// Whether the users file is another than that which was read, and has rested since it was last looked at: what is
    /// being written is read when it is whole.
    mutating func isUsersFileChanged(_ path: String) -> Bool {
        let now = FileStamp(of: path)
        defer { usersSeen = now }
        return now != usersRead && now == usersSeen
    }

    /// The changed users file cannot be used: it is not looked at again before it has changed again.
    mutating func keepUsers(reason: String) {
        usersRead = usersSeen
        complaints = complaints.filter { !$0.isOfUsers } + [.usersStay(reason: reason)]
    }
}

extension ConfigurationFile {
    /// The zones of `[[dnsbl]]` that are in files, by the reference that names them: they have a key in them.
    func readZones() throws(Failure) -> [String: String] {
        try texts(in: values.zoneFiles)
    }

    /// The keys in `jwks_file` of `[auth.oauth]`.
    fileprivate func readIssuerKeys() throws(Failure) -> JSONWebKeys? {
        guard let named = values.auth.issuerKeysFile else { return nil }
        let octets: [UInt8]
        do throws(SystemError) { octets = try named.read(service: serviceUser) } catch {
            throw Failure(.configuration, "\(named.key): \(error)")
        }
        do throws(JSONWebKeys.Fault) { return try JSONWebKeys(octets) } catch {
            throw Failure(.configuration, "\(named.key): \(named.reference): \(error)")
        }
    }

    /// What is in these files, by the references that name them.
    fileprivate func contents(of files: [NamedFile]) throws(Failure) -> [String: [UInt8]] {
        var contents: [String: [UInt8]] = [:]
        for file in files where contents[file.reference] == nil {
            do throws(SystemError) {
                contents[file.reference] = try file.read(service: serviceUser)
            } catch {
                throw Failure(.configuration, "\(file.key): \(error)")
            }
        }
        return contents
    }

    fileprivate func texts(in files: [NamedFile]) throws(Failure) -> [String: String] {
        var texts: [String: String] = [:]
        for file in files where texts[file.reference] == nil {
            do throws(SystemError) {
                texts[file.reference] = try file.text(in: try file.read(service: serviceUser))
            } catch {
                throw Failure(.configuration, "\(file.key): \(error)")
            }
        }
        return texts
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
        case .alike(let path, let names):
            warning("users differ by case only", metadata: ["file": "\(path)", "users": "\(names)"])
        case .usersStay(let reason):
            error("users file cannot be used, the users in use stay", metadata: ["error": "\(reason)"])
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
        case .alike(let path, let names):
            "\(path): \(names) differ by case only; with auth.fold_case each logs in as it is spelled there, and no "
                + "other way"
        case .usersStay(let reason): "\(reason); the users that were read before stay"
        }
    }
}
