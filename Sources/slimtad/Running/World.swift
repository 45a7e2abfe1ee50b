// All that one configuration makes. The daemon builds one at start, and at a reload another beside it: what is wrong is
// found before anything has changed. Then it switches. Of the old one each part lasts as long as somebody has it: sessions
// keep the settings that they began with, attempts their relays.

import Logging
import SlimtaConfiguration
import SlimtaControl
import SlimtaDNS
import SlimtaEdge
import SlimtaPolicy
import SlimtaQueue
import SlimtaSASL
import SlimtaSystem

/// slimta.conf, and what was made of it.
struct World: Sendable {
    let file: ConfigurationFile
    /// `hostname`, or the machine's name.
    let hostname: String
    /// Users and certificates are renewed without a reload.
    var secrets: Secrets
    /// One for all worlds: a login that was changed is changed for sessions that have begun as well. nil: no edge has had
    /// AUTH.
    private let credentials: FileCredentials?
    /// nil: it is not asked.
    private let dovecot: DovecotBackEnd?
    /// As `credentials`: all worlds write to the same files.
    private let records: LoginRecords?
    private let oauth: OAuthBackEnd?
    private let pam: PAMBackEnd?
    private let guesses: GuessWatch
    private let logger: Logger
    /// What looks names up for this configuration; those who use it hold a lease of it, as the relays do.
    let resolver: SlimtaDNS.Resolver
    let relays: RelaySet
    let policies: PolicyChain
    /// What edges ask about their clients.
    private let gates: GateParts
    let queue: SlimtaQueue.Queue.Configuration
    /// The connections that there can be.
    var share: FileBudget.Share

    /// What the file says.
    var values: Configuration { file.values }

    /// Returns when its resolver has started. Nothing that is in use is touched, and what was begun ends if this throws.
    ///
    /// - Parameters:
    ///   - inUse: how many files are open besides those of this world.
    ///   - previous: the one in use.
    static func build(
        _ file: ConfigurationFile, _ secrets: Secrets, inUse: Int, after previous: World? = nil, on ground: Ground
    ) async throws(Failure) -> World {
        let share = try file.values.share(of: ground.budget, inUse: inUse)
        // libunbound ends the process if it finds no file for its threads.
        guard FileLimits.hasRoom(for: FileBudget.resolverFiles) else {
            throw Failure(
                .unavailable, "relay: too many files are open for another resolver: at most \(ground.budget.limit)")
        }
        var records = previous?.records
        if records == nil, file.values.hasAuth {
            records = LoginRecords(file.stateDirectory, ground.guesses, ground.logger)
        }
        let world = try World(file, secrets, share, records, previous, ground)
        await world.resolver.waitUntilStarted()
        world.gates.start()
        return world
    }

    /// What cannot be made is told as what it is of slimta.conf.
    private static func make<Part>(_ table: String, _ body: () throws -> Part) throws(Failure) -> Part {
        do { return try body() } catch { throw Failure(.unavailable, "\(table): \(error)") }
    }

    private init(
        _ file: ConfigurationFile, _ secrets: Secrets, _ share: FileBudget.Share, _ records: LoginRecords?,
        _ previous: World?, _ ground: Ground
    ) throws(Failure) {
        let values = file.values
        self.file = file
        let hostname = file.hostname
        self.hostname = hostname
        self.secrets = secrets
        self.share = share
        self.records = records
        logger = ground.logger
        guesses = ground.guesses
        credentials =
            previous?.credentials
            ?? secrets.users.map {
                FileCredentials(
                    $0, foldsCase: values.auth.foldCase, certificates: values.auth.certificateLogin,
                    checks: ground.passwordChecks,
                    observer: Self.observer(file, records, ground.logger))
            }
        dovecot = try Self.make("auth.dovecot") {
            try values.auth.dovecotBackEnd(keeping: previous.map { ($0.values.auth, $0.dovecot) }, on: ground)
        }
        let resolver = try Self.make("dns") { try values.makeResolver(sockets: ground.budget.resolverSockets) }
        self.resolver = resolver
        let lease = Lease(ground.endings) { await resolver.close() }
        relays = try Self.make("relay") {
            try RelaySet(
                file, hostname: hostname, passwords: secrets.passwords, keys: secrets.relayKeys,
                connections: share.relayConnections, resolver: resolver, lease: lease, on: ground)
        }
        pam = try Self.make("auth.pam") { try file.pamBackEnd(group: ground.group) }
        oauth = try Self.make("auth.oauth") {
            try values.oauthBackEnd(secrets, after: previous?.oauth, resolver: resolver, lease: lease, on: ground)
        }
        gates = try Self.make("policy_service") {
            try GateParts(
                values, hostname: hostname, lists: secrets.lists.all, zones: secrets.zones, after: previous?.gates,
                resolver: resolver, lease: lease, on: ground)
        }
        let signer = values.signing.keys.isEmpty ? nil : MailSigner(ground.signing, logger: ground.logger)
        policies = try Self.make("spamassassin") {
            try values.policyChain(signer: signer, group: ground.group, logger: ground.logger)
        }
        var queue = values.queueConfiguration(hostname: hostname, share)
        queue.signer = signer
        self.queue = queue
    }

    /// What the sessions of an edge are like that begin from now on.
    ///
    /// - Parameter queue: what users of this machine may ask of the queue.
    func settings(of edge: Configuration.Edge, _ queue: any LocalQueue) -> EdgeSettings {
        values.edgeSettings(
            edge, hostname: hostname, tls: secrets.tls, credentials: authenticator, gate: gates.gate(of: edge.name),
            queue: queue)
    }

    /// Whom sessions ask who clients are; nil: no edge has AUTH.
    private var authenticator: BackEnds? {
        guard let records else { return nil }
        let auth = values.auth
        let backEnds = auth.backends.compactMap { name -> (any CredentialBackEnd)? in
            switch name {
            case .file: credentials
            case .pam: pam
            case .dovecot: dovecot
            case .oauth: oauth
            }
        }
        return BackEnds(
            backEnds, mechanisms: auth.mechanisms, binding: auth.channelBinding,
            context: SASLContext(
                listed: [], inventing: records.inventing, iterations: auth.scramIterations,
                // Dovecot folds case unless it is told not to.
                foldsCase: auth.foldCase || auth.backends.contains(.dovecot), hostname: hostname,
                tokenHint: auth.tokenHint),
            guesses: guesses)
    }

    /// Whom somebody means by the name of a login, which may be spelled in any way in which a client may spell it. May wait.
    var knownLogins: @Sendable (String) -> KnownLogin {
        let asked = values.hasAuth ? values.auth.backends : []
        let hasLocalUsers = values.edges.contains {
            switch $0.type {
            case .smtp, .http: false
            case .sendmail, .directory: true
            }
        }
        let (credentials, pam) = (asked.contains(.file) ? credentials : nil, pam)
        return { name in
            let user = credentials?.user(of: name)
            if let user, user.isThere { return KnownLogin(name: user.name, isThere: true) }
            if hasLocalUsers, Privileges.userID(name) != nil { return KnownLogin(name: name, isThere: true) }
            // The others cannot be asked whether they have somebody.
            let isNobody = asked.allSatisfy { $0 == .file }
            return KnownLogin(name: pam?.login(of: name) ?? user?.name ?? name, isThere: isNobody ? false : nil)
        }
    }

    private static func observer(
        _ file: ConfigurationFile, _ records: LoginRecords?, _ logger: Logger
    ) -> FileCredentials.Observer {
        var observer = FileCredentials.Observer(used: { login, app in records?.uses.used(login, app) })
        if file.values.auth.learnSCRAM {
            let learning = SCRAMLearning(file, logger)
            observer.learn = { login, user, password in learning.learn(login, user, password) }
        }
        return observer
    }

    /// What the operator has to put right with those who are asked about clients.
    var complaints: [String] {
        let dovecot = dovecot?.complaint.map {
            "auth.dovecot: no connection to Dovecot: \($0); whom it knows cannot log in"
        }
        let issuer = oauth?.verifier.complaint.map {
            "auth.oauth: the issuer says nothing of tokens: \($0); logins by token may fail"
        }
        return [dovecot, issuer].compactMap(\.self) + gates.complaints
    }

    /// Ends what it keeps with those who know logins, at the stop of the daemon: before the threads end, which would be told
    /// of as a loss of theirs.
    func endBackEnds() async {
        await dovecot?.end()
        await oauth?.verifier.end()
    }

    /// Keeps what is new of logins. Slow.
    func keepRecords() { records?.keep(of: guesses) }

    /// Has sessions ask the users file as it was last read, those that have begun as well.
    func useUsers() {
        guard let users = secrets.users else { return }
        credentials?.replace(
            users, foldsCase: values.auth.foldCase, certificates: values.auth.certificateLogin,
            observer: Self.observer(file, records, logger))
    }
}

extension World {
    /// What the operator is told where there are fewer connections than configured; nil: there are as many.
    func fewFiles(_ budget: FileBudget) -> String? {
        share == values.wantedShare
            ? nil
            : "only \(budget.limit) files may be open: at most \(share.connections) connections of clients and "
                + "\(share.relayConnections) of each relay"
    }

    /// The same in the log.
    func warnOfFewFiles(_ ground: Ground) {
        guard share != values.wantedShare else { return }
        ground.logger.warning(
            "fewer connections than configured, few files may be open",
            metadata: [
                "limit": "\(ground.budget.limit)", "connections": "\(share.connections)",
                "relay_connections": "\(share.relayConnections)",
            ])
    }
}
