// The relay of type "mx": straight to the mail exchangers of each recipient's domain. Made by the composition root.

package import Logging
package import NIOCore
package import SlimtaDNS
package import SlimtaMail
package import SlimtaQueue
import SlimtaSMTP

/// Delivers to the hosts that DNS names for a domain (RFC 5321 section 5.1), as securely as the domain, its
/// hosts and our operator want it (HostSecurity); nobody says anything: with opportunistic TLS.
///
/// In one attempt the addresses of the mail exchangers are tried until one takes the message or refuses it for good: by
/// preference, at random within one, IPv6 and IPv4 in turn, those that could not be used a moment ago last. What a
/// host only puts off, and what is lost on the way there, goes to the next one, unless the host may have the whole
/// message: HostTrialMachine has the rules.
package final class MXRelay: ConnectingRelay {
    private let options: RelayOptions
    private let lookup: HostLookup
    private let decisions: HostDecisions
    private let own: OwnAddresses
    private let policy: SessionPolicy
    private let pool: ConnectionPool
    private let sites: Sites
    private let doubts = DoubtMemory()
    /// In lower case.
    private let ownNames: Set<String>

    /// - Parameters:
    ///   - security: what it has in common with other relays; nil: nothing.
    ///   - demands: what is demanded of TLS for some domains.
    ///   - sites: what is known of the paces of hosts; nil: it begins with nothing, and is the relay's own.
    ///   - trustFile: the certificates to trust (PEM), instead of the system's.
    ///
    /// Throws if a source address is not an IP address, or if there can be no TLS.
    package init(
        _ options: RelayOptions, resolver: Resolver, own: OwnAddresses, security: RelaySecurity? = nil,
        demands: [TLSDemand] = [], sites: Sites? = nil, trustFile: String? = nil, group: any EventLoopGroup,
        logger: Logger
    ) throws {
        self.sites = sites ?? Sites(logger: logger)
        self.options = options
        self.own = own
        ownNames = Set(options.otherNames.union([options.hostname]).map { $0.asciiLowercased() })
        lookup = HostLookup(resolver, port: options.port)
        decisions = HostDecisions(
            lookup: lookup, shared: security ?? RelaySecurity(logger: logger), use: options.tlsMemory)
        policy = try SessionPolicy(options, demands: demands, trustFile: trustFile)
        pool = try ConnectionPool(options, group: group, logger: logger)
    }

    /// How many connections there are.
    package var connectionCount: Int { pool.openCount }

    /// Closes all connections, idle ones with QUIT; attempts that still wait get a temporary outcome. Returns when all
    /// are closed: to be called when attempts have ended or were cancelled.
    package func shutDown() async { await pool.shutDown() }

    /// Of all hosts, of this relay and of others.
    package func forgetFailures() { sites.forgetFailures() }

    /// All domains at once, each for a hundred recipients at a time (RFC 5321 section 4.5.3.1.8). Temporary where DNS does
    /// not answer; 556 5.1.10 for a null MX (RFC 7505 section 4); 554 5.4.6 where the mail would come back to us, or go
    /// where none is sent.
    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        let message = OutgoingMessage(delivery, convertsToSevenBit: options.convertsToSevenBit)
        let recipients = delivery.recipients.map { delivery.envelope.recipients[$0] }
        return await attemptInParts(
            recipients.count, atMost: HostTrial.maximumRecipients, by: { recipients[$0].foldedDomain }
        ) { domain, positions in
            await self.attempt(domain, message, positions.map { recipients[$0].forNextHop })
        }
    }

    /// One domain, and no more recipients than fit in a transaction.
    private func attempt(_ domain: String, _ message: OutgoingMessage, _ recipients: [Mailbox]) async -> [Outcome] {
        let exchangers: Exchangers?
        if domain.utf8.first == UInt8(ascii: "[") {
            exchangers = nil
        } else {
            switch await self.exchangers(of: domain, message) {
            case .failed(let outcome): return Array(repeating: outcome, count: recipients.count)
            case .named(let found): exchangers = found
            }
        }
        // Those that the domain's policy leaves out are of the site all the same: they share its limits.
        let key = SiteKey(exchangers?.groups ?? [[domain]], port: options.port)
        let site = sites.site(key, connections: pool.visitor.limit)
        return await site.visit(for: domain, recipients.count, pool.visitor) {
            var trial = HostTrial(
                pool: pool, policy: policy, shared: decisions.shared, site: site, doubts: doubts, message: message,
                recipients: recipients, leftOut: exchangers?.leftOut ?? [])
            let outcomes = await attempt(domain, exchangers, recipients.count, &trial)
            if !trial.hasSent, let exchangers {
                decisions.shared.count(leftOut: exchangers.leftOut, of: exchangers.security)
            }
            return (outcomes, trial.hasSent)
        }
    }

    /// The same, with a place at its site.
    ///
    /// - Parameter exchangers: nil: the domain is an address literal.
    private func attempt(
        _ domain: String, _ exchangers: Exchangers?, _ count: Int, _ trial: inout HostTrial
    ) async -> [Outcome] {
        func all(_ outcome: Outcome) -> [Outcome] { Array(repeating: outcome, count: count) }
        var isOurs = false
        if let exchangers {
            for group in exchangers.groups {
                let hosts: [SecuredHost]
                switch await self.hosts(group, exchangers.permitted, exchangers.security, &trial) {
                case .ours:
                    isOurs = true
                    hosts = []
                case .hosts(let found): hosts = found
                }
                // RFC 5321 section 5.1: neither the preference at which we are ourselves, nor any behind it.
                if isOurs { break }
                if let outcomes = await trial.attempt(hosts) { return outcomes }
            }
        } else {
            guard let address = AddressLiteral.parse(domain, port: options.port) else {
                return all(.failed(550, 5, 1, 3, "\(domain) is not an address"))
            }
            if let refused = refused(address, of: domain) { return all(refused) }
            if own.contains(address) {
                isOurs = true
            } else if let outcomes = await trial.attempt([literal(address, domain)]) {
                return outcomes
            }
        }
        if let outcomes = await trial.finish() { return outcomes }
        if Task.isCancelled { return all(SMTPJob.cancelled) }
        if isOurs { return all(.failed(554, 5, 4, 6, "mail for \(domain) would come back to this host")) }
        return all(.failed(550, 5, 1, 2, "\(domain) has no host that takes mail"))
    }

    private func literal(_ address: SocketAddress, _ domain: String) -> SecuredHost {
        HostDecisions.host(
            MailHost(address: address, name: nil), address.ipAddress ?? domain,
            in: policy.domain(.literal, domain, isTrusted: true))
    }

    /// Who takes a domain's mail.
    private struct Exchangers {
        /// By preference.
        let groups: [[String]]
        /// What counts for all of them.
        let security: DomainSecurity
        /// Those that may be asked.
        let permitted: Set<String>
        /// Those that the domain's policy does not name.
        let leftOut: [String]
    }

    private enum ExchangerAnswer {
        case named(Exchangers)
        case failed(Outcome)
    }

    /// Who takes the domain's mail, and what the domain and DNS say of them all.
    ///
    /// - Parameter message: what is to go there; nil: nothing, somebody only wants to know.
    private func exchangers(of domain: String, _ message: OutgoingMessage?) async -> ExchangerAnswer {
        let demand = message?.demand ?? .nothing
        let isCounted = message?.isTLSReport == false
        let (groups, state, canonicalName, isImplicit): ([[String]], DNSSECState, String?, Bool)
        // Asked at once: one of them is as far away as the other.
        async let sts = policy(of: domain, demand, isCounted: isCounted)
        switch await lookup.exchangers(of: domain) {
        case .groups(let named, let security, let canonical):
            (groups, state, canonicalName, isImplicit) = (named, security, canonical, false)
        case .implicit(let security): (groups, state, canonicalName, isImplicit) = ([[domain]], security, nil, true)
        // RFC 7505 section 4.
        case .null: return .failed(.failed(556, 5, 1, 10, "\(domain) takes no mail"))
        case .noSuchDomain: return .failed(.failed(550, 5, 1, 2, "\(domain) does not exist"))
        case .invalid: return .failed(.failed(550, 5, 1, 2, "\(domain) is not a domain name"))
        case .unknown(let error):
            var outcome = Outcome.failed(451, 4, 4, 3, "DNS lookup of \(domain) failed: \(error.reason)")
            outcome.isHostFailure = true
            if isCounted { count(error, of: policy.domain(.domain, domain, isTrusted: false)) }
            return .failed(outcome)
        }
        let security = policy.domain(
            .domain, domain, canonicalDomain: state == .secure ? canonicalName : nil, isImplicit: isImplicit,
            isTrusted: state == .secure, sts: await sts, message: demand)
        let finding = isImplicit ? ExchangerFinding.implicit : .hosts(groups.flatMap(\.self))
        if isCounted { decisions.shared.count(finding, of: security) }
        switch security.hosts(of: finding) {
        case .hosts(let names, let leftOut):
            return .named(Exchangers(groups: groups, security: security, permitted: Set(names), leftOut: leftOut))
        case .failed(let failure):
            var outcome = Outcome(.temporary, failure.reply)
            outcome.isHostFailure = true
            return .failed(outcome)
        case .permanent(let reply): return .failed(Outcome(.permanent, reply))
        }
    }

    /// What a message that is held up by no policy needs to know of one is nothing.
    private func policy(of domain: String, _ demand: MessageDemand, isCounted: Bool) async -> STSStanding {
        demand == .tlsNotRequired ? .none : await decisions.shared.policy(of: domain, isCounted: isCounted)
    }

    /// DNS does not say who takes a domain's mail, or where somebody is who does: if it is forged, the domain is told.
    private func count(_ error: DNSError, of domain: DomainSecurity) {
        guard case .bogus = error else { return }
        decisions.shared.count(.failed(why: error.reason, isBogus: true), of: domain)
    }

    /// How mail for a domain would go now, by the same questions and the same decision.
    package func explain(_ domain: String) async -> TLSExplanation? {
        guard domain.utf8.first != UInt8(ascii: "[") else { return nil }
        switch await exchangers(of: domain, nil) {
        case .failed(let outcome): return TLSExplanation(error: outcome.reply)
        case .named(let found):
            let names = found.groups.flatMap(\.self)
            let kept = await decisions.explain(names.filter(found.permitted.contains), in: found.security)
            let leftOut = names.filter { !found.permitted.contains($0) }.map {
                TLSExplanation.Host(
                    $0, error: SecurityFailure.notInPolicy(host: $0, domain: found.security.domain).reply)
            }
            return TLSExplanation(isTrusted: kept.isTrusted, policy: kept.policy, hosts: kept.hosts + leftOut)
        }
    }

    private enum Group {
        case ours
        case hosts([SecuredHost])
    }

    /// Where the hosts of one preference are, in the order in which they are to be tried.
    private func hosts(
        _ names: [String], _ permitted: Set<String>, _ domain: DomainSecurity, _ trial: inout HostTrial
    ) async -> Group {
        if names.contains(where: { ownNames.contains($0) }) { return .ours }
        let names = names.filter(permitted.contains)
        // More than can be tried need not be looked up.
        let order = names.count == 1 ? names : Array(names.shuffled().prefix(HostTrialMachine.maximumHosts))
        let answers = await inOrder(order.count) { index -> (HostLookup.Addresses, [SecuredHost]) in
            let answer = await self.lookup.addresses(of: order[index])
            guard case .found(let found) = answer else { return (answer, []) }
            return (answer, await self.decisions.hosts(order[index], at: found, in: domain))
        }
        var hosts: [SecuredHost] = []
        for (name, (answer, secured)) in zip(order, answers) {
            switch answer {
            case .found:
                for one in secured {
                    if let refused = refused(one.host.address, of: name) {
                        trial.note(refused)
                    } else if own.contains(one.host.address) {
                        return .ours
                    } else {
                        hosts.append(one)
                    }
                }
            case .none: break
            case .unknown(let error):
                if domain.appliesPolicies { count(error, of: domain) }
                trial.note(.failed(451, 4, 4, 3, "DNS lookup of \(name) failed: \(error.reason)"))
            }
        }
        let chosen = options.addresses.chosen(hosts, at: \.host.address)
        if chosen.isEmpty, let one = hosts.first { trial.note(options.addresses.lacking(one.host.label)) }
        return .hosts(chosen)
    }

    /// What is said of an address where no mail is sent; nil if it may be.
    private func refused(_ address: SocketAddress, of name: String) -> Outcome? {
        guard let ip = IPAddress(address), !options.networks.permit(ip) else { return nil }
        return .failed(554, 5, 4, 6, "\(name) is at \(ip), where no mail is sent")
    }
}

extension AddressChoice {
    /// What is said of a host without an address of the family that is used.
    func lacking(_ host: String) -> Outcome {
        .failed(451, 4, 4, 4, "\(host) is the only address, and by ip = \"\(rawValue)\" it is not used")
    }
}

extension Outcome {
    /// An outcome that is ours: temporary or permanent by the code.
    static func failed(_ code: UInt16, _ statusClass: UInt8, _ subject: UInt16, _ detail: UInt16, _ text: String)
        -> Outcome
    {
        let reply = Reply(code, EnhancedStatus(statusClass, subject, detail), text)
        return Outcome(Outcome.result(of: reply), reply)
    }
}
