// From configuration values to the settings of the parts: what the file calls something, and what a target calls it.

import NIOCore
import SlimtaConfiguration
import SlimtaDNS
import SlimtaEdge
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaSASL
import SlimtaSMTP
import SlimtaSystem
import SlimtaTLS

extension Configuration {
    /// The settings of an edge's sessions.
    func edgeSettings(
        _ edge: Edge, hostname: String, tls: TLSServerContext?, credentials: (any Authenticator)?, gate: Gate?,
        queue: any LocalQueue
    ) -> EdgeSettings {
        switch edge.type {
        case .smtp(let smtp):
            var settings = smtpSettings(edge, smtp, hostname, tls, credentials)
            settings.gate = gate
            return .smtp(settings)
        case .http(let http):
            return .http(httpSettings(edge, http, hostname, tls, credentials, gate))
        case .sendmail(let sendmail): return .http(sendmailSettings(edge, sendmail, hostname, gate, queue))
        case .directory(let directory):
            let submission = SubmissionSettings(
                name: edge.name, hostname: hostname,
                rules: TransactionRules(
                    authentication: .none, messageSize: limits.messageSize, recipients: limits.recipients,
                    senders: senders),
                trust: edge.trust, gate: gate)
            let owners = LocalUsers(hostname: hostname, trusted: directory.trustedUsers) { Accounts.user($0)?.name }
            return .directory(
                DirectoryEdgeSettings(
                    submission: submission, path: directory.path, owners: directory.ownerLogin ? owners : nil,
                    settle: directory.settle, expire: self.queue.expire))
        }
    }

    /// HTTP in clear, between processes of one machine; who they are the kernel says.
    private func sendmailSettings(
        _ edge: Edge, _ sendmail: Edge.Sendmail, _ hostname: String, _ gate: Gate?, _ queue: any LocalQueue
    ) -> HTTPEdgeSettings {
        let users = LocalUsers(hostname: hostname, trusted: sendmail.trustedUsers) { Accounts.user($0)?.name }
        let rules = TransactionRules(
            authentication: .none, messageSize: limits.messageSize, recipients: limits.recipients, senders: senders)
        var settings = HTTPEdgeSettings(
            SubmissionSettings(name: edge.name, hostname: hostname, rules: rules, trust: edge.trust, gate: gate),
            tls: nil,
            authenticator: .process { process in
                await users.user(process.uid).map { .user($0) } ?? .forbidden(.noUser)
            },
            resources: [SendmailResource(), LocalQueueResource(queue)],
            commandTimeout: TimeAmount(limits.commandTimeout),
            transfer: TransferWatch.Limits(
                leastRate: limits.leastRate, stallTimeout: TimeAmount(limits.stallTimeout)),
            dataTimeout: limits.dataTimeout.map { TimeAmount($0) })
        (settings.commands, settings.errors) = (limits.commands, limits.errors)
        return settings
    }

    private func httpSettings(
        _ edge: Edge, _ http: Edge.HTTP, _ hostname: String, _ tls: TLSServerContext?,
        _ credentials: (any Authenticator)?, _ gate: Gate?
    ) -> HTTPEdgeSettings {
        let access = http.access
        let submission = SubmissionSettings(
            name: edge.name, hostname: hostname,
            rules: TransactionRules(
                authentication: access.auth.machineMode, messageSize: limits.messageSize, recipients: limits.recipients,
                senders: senders),
            trust: edge.trust, credentials: access.auth == .off ? nil : credentials, gate: gate)
        var settings = HTTPEdgeSettings(
            submission, tls: access.tls == .cleartext ? nil : tls,
            authenticator: access.auth == .off ? .none : .credentials,
            resources: [MessageResource(path: http.path)]
                + (http.json ? [JSONResource(version: Version.text, messageSize: limits.messageSize)] : []),
            commandTimeout: TimeAmount(limits.commandTimeout),
            transfer: TransferWatch.Limits(
                leastRate: limits.leastRate, stallTimeout: TimeAmount(limits.stallTimeout)),
            dataTimeout: limits.dataTimeout.map { TimeAmount($0) },
            handshakeTimeout: TimeAmount(limits.handshakeTimeout))
        (settings.proxies, settings.serverNames) = (access.proxyProtocol, http.serverNames)
        (settings.commands, settings.errors) = (limits.commands, limits.errors)
        return settings
    }

    private func smtpSettings(
        _ edge: Edge, _ smtp: Edge.SMTP, _ hostname: String, _ tls: TLSServerContext?,
        _ credentials: (any Authenticator)?
    ) -> SMTPEdgeSettings {
        let access = smtp.access
        var server = SMTPServerConfiguration(
            hostname: hostname, greeting: smtp.banner.reply(hostname: hostname),
            tls: access.tls.machineMode, authentication: access.auth.machineMode,
            mechanisms: auth.mechanisms,
            allowsPlaintextAuthentication: access.plaintextAuth, messageSize: limits.messageSize,
            recipients: limits.recipients, errors: limits.errors, commands: limits.commands,
            lenientPaths: limits.lenientPaths)
        server.senders = senders
        var settings = SMTPEdgeSettings(
            name: edge.name, server: server, tls: access.tls == .cleartext ? nil : tls,
            credentials: access.auth == .off ? nil : credentials,
            trust: edge.trust,
            commandTimeout: TimeAmount(limits.commandTimeout),
            transfer: TransferWatch.Limits(
                leastRate: limits.leastRate, stallTimeout: TimeAmount(limits.stallTimeout)),
            dataTimeout: limits.dataTimeout.map { TimeAmount($0) },
            handshakeTimeout: TimeAmount(limits.handshakeTimeout))
        settings.greetDelay = TimeAmount(smtp.greetDelay)
        settings.proxies = access.proxyProtocol
        return settings
    }

    /// The connections that are wanted, as far as files go.
    var wantedShare: FileBudget.Share {
        FileBudget.Share(connections: limits.connections, relayConnections: relay.connections)
    }

    /// What there can be of ``wantedShare`` where `inUse` files are open for other things.
    func share(of budget: FileBudget, inUse: Int) throws(Failure) -> FileBudget.Share {
        let folders = edges.count { if case .directory = $0.type { true } else { false } }
        let questions = signing.keys.isEmpty ? 0 : DKIMQuestions.files
        guard
            let share = budget.share(
                wantedShare, inUse: inUse + folders * DirectoryEdge.files + questions, relays: connectingRelays,
                filters: milters.count)
        else {
            throw Failure(
                .system,
                "only \(budget.limit) files may be open, and that is not enough for connections: raise LimitNOFILE= of "
                    + "the unit, or ulimit -n")
        }
        return share
    }

    /// How many relays have connections.
    private var connectingRelays: Int {
        ([relay] + routes.map(\.relay)).count(where: \.type.connects)
    }

    func connectionLimits(_ share: FileBudget.Share) -> ConnectionLimiter.Limits {
        // Where there are fewer than was meant, one address must not have them all.
        let perAddress = share.connections < limits.connections ? max(1, share.connections / 2) : .max
        return ConnectionLimiter.Limits(
            total: share.connections, perAddress: min(limits.connectionsPerAddress, perAddress))
    }

    func queueConfiguration(hostname: String, _ share: FileBudget.Share) -> SlimtaQueue.Queue.Configuration {
        SlimtaQueue.Queue.Configuration(
            schedule: RetrySchedule(intervals: queue.retry, expire: queue.expire, warn: queue.warn),
            limits: QueueMachine.Limits(
                attempts: share.relayConnections, attemptsPerDestination: relay.connectionsPerDestination),
            delivers: queue.deliver, hostname: hostname)
    }

    func makeResolver(sockets: Int) throws(DNSError) -> SlimtaDNS.Resolver {
        let mode: DNSSECMode =
            switch dns.dnssec {
            case .auto: .auto
            case .required: .required
            case .off: .off
            }
        return try SlimtaDNS.Resolver(servers: dns.servers.map { ($0.host, $0.port) }, dnssec: mode, sockets: sockets)
    }
}

extension Configuration.Edge.Access.TLSMode {
    fileprivate var machineMode: SMTPServerConfiguration.TLSMode {
        switch self {
        case .starttls: .startTLS
        case .immediate: .immediate
        case .cleartext: .none
        }
    }
}

extension Configuration.Edge.Access.AuthMode {
    /// What the machine calls it.
    var machineMode: SMTPServerConfiguration.Authentication {
        switch self {
        case .required: .required
        case .optional: .optional
        case .off: .none
        }
    }
}
