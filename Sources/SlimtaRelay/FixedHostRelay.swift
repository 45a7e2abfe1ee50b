// The relays of type "smtp" and "lmtp": everything to one host, such as a provider's submission server or the server that
// has the mailboxes. Made by the composition root.

package import Logging
package import NIOCore
package import SlimtaDNS
package import SlimtaMail
package import SlimtaQueue
import SlimtaSMTP
import Synchronization

/// Delivers to a fixed host, over TLS by `options.security`, with AUTH if there are credentials. What is spoken there is
/// `options.dialect`.
///
/// With credentials the host's certificate is verified, because a password goes over the connection; without, TLS only
/// encrypts. Whatever is wrong with the host itself (its name, its certificate, AUTH, no session) is for the operator
/// to put right: it is temporary, and no message bounces for it.
package final class FixedHostRelay: ConnectingRelay {
    /// Where all mail goes.
    package enum Place: Hashable, Sendable, CustomStringConvertible {
        /// A name in lower case, or an IP address without brackets, and a port.
        case host(String, port: Int)
        /// A UNIX socket, by its path: nothing else is there, and nobody who listens in.
        case socket(String)

        /// For logs, and the name of the destination. No domain has a colon in its name.
        package var description: String {
            switch self {
            case .host(let host, let port): "\(host):\(port)"
            case .socket(let path): "unix:\(path)"
            }
        }
    }

    private let places: [Place]
    private let isInOrder: Bool
    private let name: String
    /// By port.
    private let decisions: [Int: HostDecisions]
    private let shared: RelaySecurity
    /// Which of the places is the first for the next message.
    private let turn = Atomic(0)
    private let policy: SessionPolicy
    private let pool: ConnectionPool
    private let sites: Sites
    let siteKey: SiteKey
    private let doubts = DoubtMemory()
    private let watch: LoginWatch

    /// - Parameters:
    ///   - places: at least one; one after the other is asked, until one takes the message or refuses it for good.
    ///   - isInOrder: each message begins with the first of them; else they take turns.
    ///   - login: nil: the host wants none.
    ///   - trustFile: the certificates to trust (PEM), instead of the system's.
    ///   - security: what it has in common with other relays; nil: nothing.
    ///   - demands: what is demanded of TLS for some hosts.
    ///   - sites: what is known of the paces of hosts; nil: it begins with nothing, and is the relay's own.
    ///
    /// Throws if a source address is not an IP address, or if there can be no TLS.
    package init(
        _ options: RelayOptions, to places: [Place], isInOrder: Bool = false, login: RelayLogin? = nil,
        trustFile: String? = nil, resolver: Resolver, security: RelaySecurity? = nil, demands: [TLSDemand] = [],
        sites: Sites? = nil, group: any EventLoopGroup, logger: Logger
    ) throws {
        self.places = places
        self.isInOrder = isInOrder
        self.sites = sites ?? Sites(logger: logger)
        siteKey = Self.siteKey(of: places)
        name = places.map(\.description).joined(separator: ",")
        watch = LoginWatch(relay: name, logger: logger)
        let shared = security ?? RelaySecurity(logger: logger)
        self.shared = shared
        let ports = Set(places.compactMap { if case .host(_, let port) = $0 { port } else { nil } })
        decisions = Dictionary(
            uniqueKeysWithValues: ports.map { port in
                let lookup = HostLookup(resolver, port: port)
                return (port, HostDecisions(lookup: lookup, shared: shared, use: options.tlsMemory))
            })
        policy = try SessionPolicy(options, demands: demands, login: login, trustFile: trustFile)
        pool = try ConnectionPool(options, group: group, logger: logger)
    }

    /// How many connections there are.
    package var connectionCount: Int { pool.openCount }

    /// What the operator has to put right: the host refused our login, and has taken no mail since. nil: nothing.
    package var complaint: String? { policy.tokens?.complaint ?? watch.complaint }

    /// Closes all connections, as ``MXRelay/shutDown()`` does.
    package func shutDown() async { await pool.shutDown() }

    /// Of all hosts, of this relay and of others.
    package func forgetFailures() { sites.forgetFailures() }

    /// All mail goes to the same hosts, so all of it shares limits and back-off.
    package func destination(for domain: String) -> String { name }

    /// Asks the host's addresses one after the other, for a hundred recipients at a time (RFC 5321 section 4.5.3.1.8). Never throws
    /// and never bounces for what is wrong with the host; the attempt's task may be cancelled.
    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        let message = OutgoingMessage(delivery, convertsToSevenBit: pool.options.convertsToSevenBit)
        let distinct = DistinctRecipients(delivery)
        let outcomes = await attemptInParts(
            distinct.mailboxes.count, atMost: HostTrial.maximumRecipients, by: { _ in true }
        ) { _, positions in
            await self.attempt(message, positions.map { distinct.mailboxes[$0] }) { index, outcome in
                for recipient in distinct.recipients[positions[index]] { delivery.report(recipient, outcome) }
            }
        }
        watchLogin(outcomes)
        return distinct.positions.map { Self.forOperator(outcomes[$0]) }
    }

    private func attempt(
        _ message: OutgoingMessage, _ recipients: [Mailbox], _ report: @escaping @Sendable (Int, Outcome) -> Void
    ) async -> [Outcome] {
        guard let tokens = policy.tokens else { return await ask(message, recipients, report) }
        for isLast in [false, true] {
            let token: String
            switch await tokens.token() {
            case .success(let found): token = found
            case .failure(let missing):
                let outcome = Outcome.failed(454, 4, 7, 0, "no token for \(name): \(missing.why)")
                return Array(repeating: outcome.ofHost, count: recipients.count)
            }
            let outcomes = await ask(message, recipients, report)
            // One that the host refuses is thrown away: the next may be better.
            let isRefused = outcomes.allSatisfy { $0.result == .temporary && Self.isOfLogin($0.reply) }
            guard !isLast, isRefused, tokens.current != token, !Task.isCancelled else { return outcomes }
        }
        return []
    }

    /// All places are one site: mail for any of them waits for the pace of them all. A token needs no place there.
    private func ask(
        _ message: OutgoingMessage, _ recipients: [Mailbox], _ report: @escaping @Sendable (Int, Outcome) -> Void
    ) async -> [Outcome] {
        let site = sites.site(siteKey, connections: pool.visitor.limit)
        return await site.visit(for: recipients[0].foldedDomain, recipients.count, pool.visitor) {
            await ask(message, recipients, site, report)
        }
    }

    private static func siteKey(of places: [Place]) -> SiteKey {
        if case .socket(let path)? = places.first { return SiteKey(socket: path) }
        return SiteKey(
            fixed: places.compactMap { place -> (host: String, port: Int)? in
                guard case .host(let host, let port) = place else { return nil }
                return (host: host, port: port)
            })
    }

    /// The same, with a place there.
    private func ask(
        _ message: OutgoingMessage, _ recipients: [Mailbox], _ site: Site,
        _ report: @escaping @Sendable (Int, Outcome) -> Void
    ) async -> (outcomes: [Outcome], hasSent: Bool) {
        var trial = HostTrial(
            pool: pool, policy: policy, shared: shared, site: site, doubts: doubts, message: message,
            recipients: recipients, isByOperator: true, report: report)
        for place in order {
            if let outcomes = await trial.attempt(await hosts(of: place, message, &trial)) {
                return (outcomes, trial.hasSent)
            }
            if Task.isCancelled { break }
        }
        let failed = await trial.finish() ?? Array(repeating: SMTPJob.cancelled, count: recipients.count)
        return (failed, trial.hasSent)
    }

    /// The places as this message tries them.
    private var order: [Place] {
        guard places.count > 1, !isInOrder else { return places }
        let first = Int(UInt(bitPattern: turn.wrappingAdd(1, ordering: .relaxed).oldValue) % UInt(places.count))
        return Array(places[first...] + places[..<first])
    }

    /// Where a place is now.
    private func hosts(
        of place: Place, _ message: OutgoingMessage, _ trial: inout HostTrial
    ) async -> [SecuredHost] {
        func unnamed(_ address: SocketAddress, _ text: String) -> [SecuredHost] {
            let host = MailHost(address: address, name: nil)
            return [HostDecisions.host(host, text, in: policy.domain(.literal, text, isTrusted: true))]
        }
        switch place {
        case .socket(let path):
            if let address = try? SocketAddress(unixDomainSocketPath: path) { return unnamed(address, path) }
            trial.note(.failed(451, 4, 4, 1, "the path of \(place) is too long"))
        case .host(let host, let port):
            if let address = try? SocketAddress(ipAddress: host, port: port) {
                return unnamed(address, host)
            }
            guard let decisions = decisions[port] else { return [] }
            switch await decisions.lookup.addresses(of: host) {
            case .found(let found):
                let sts = message.isTLSReport ? .none : await shared.policy(of: host)
                let domain = policy.domain(.fixedHost, host, isTrusted: true, sts: sts, message: message.demand)
                let hosts = await decisions.hosts(host, at: found, in: domain)
                let options = pool.options
                let chosen = options.addresses.chosen(hosts, at: \.host.address)
                if chosen.isEmpty, let first = hosts.first { trial.note(options.addresses.lacking(first.host.label)) }
                return chosen
            case .none: trial.note(.failed(451, 4, 4, 4, "the relay host \(host) has no address"))
            case .unknown(let error):
                trial.note(.failed(451, 4, 4, 3, "DNS lookup of the relay host \(host) failed: \(error.reason)"))
            }
        }
        return []
    }

    /// How mail would go to the first host now.
    package func explain(_ domain: String) async -> TLSExplanation? {
        guard case .host(let host, let port)? = places.first,
            (try? SocketAddress(ipAddress: host, port: port)) == nil, let decisions = decisions[port]
        else { return nil }
        let sts = await shared.policy(of: host, isCounted: false)
        return await decisions.explain([host], in: policy.domain(.fixedHost, host, isTrusted: true, sts: sts))
    }

    /// Whether the login is refused is a matter of the operator, and of all mail: told once, and until it is over.
    private func watchLogin(_ outcomes: [Outcome]) {
        guard policy.credentials != nil else { return }
        watch.note(
            refused: outcomes.first { Self.isOfLogin($0.reply) }?.reply,
            isTaken: outcomes.contains { $0.result == .delivered })
    }

    /// RFC 4954 section 6; 454 4.7.0 is how our client puts what came of AUTH.
    private static func isOfLogin(_ reply: Reply) -> Bool {
        loginRefusals.contains(reply.code) || reply.code == 454 && reply.status == EnhancedStatus(4, 7, 0)
    }

    private static let loginRefusals: Set<UInt16> = [530, 534, 535, 538]

    /// 530 and its like speak of us, not of the message (RFC 4954 section 6).
    private static func forOperator(_ outcome: Outcome) -> Outcome {
        var outcome = outcome
        if outcome.result == .permanent, loginRefusals.contains(outcome.reply.code) {
            outcome.result = .temporary
        }
        return outcome
    }
}

extension Outcome {
    /// The same, as one that other messages for the host would have as well.
    fileprivate var ofHost: Outcome {
        var outcome = self
        outcome.isHostFailure = true
        return outcome
    }
}
