// What an edge asks about its clients beyond the protocol: rules, SPF, policy services. The composition root makes one of
// each configuration for each edge that has any of it; a session that begins gets its SessionGate here.

internal import SlimtaMail
package import SlimtaRules
package import SlimtaSMTP
import Synchronization

/// What is asked about the clients of one edge. Sessions keep the one that they began with.
package final class Gate: Sendable {
    /// A policy service, and where it is asked.
    package struct Service: Sendable {
        let client: PolicyServiceClient
        let stages: Set<Stage>
        private let keeping: (any Sendable)?

        /// `stages` of ``SlimtaRules/PolicyRequest/stages``.
        ///
        /// - Parameter keeping: what has to live as long as a session may ask it.
        package init(_ client: PolicyServiceClient, at stages: Set<Stage>, keeping: (any Sendable)? = nil) {
            self.client = client
            self.keeping = keeping
            self.stages = stages
        }
    }

    let rules: RuleSet
    let spf: SPFEnforcement?
    let lookups: Lookups?
    /// In the order in which they are asked.
    let services: [Service]
    /// Who is refused, or given to others behind DATA.
    let forwards: ForwardRules
    private let rates: MessageRates?
    /// nil: nobody has a quota.
    let quotas: QuotaBook?
    /// nil: there are none.
    let milters: Milters?
    /// What is looked up as soon as it can be: somebody may need it, and then it has been under way for a while.
    private let facts: Set<Fact>
    /// The same for who has logged in.
    private let factsOfAuthenticated: Set<Fact>
    /// Where a session has to ask.
    package let stages: SMTPStages
    /// Those of them where more is asked than quotas and milters.
    let judged: SMTPStages

    /// nil: nobody is asked anything on this edge, nor is anything counted.
    ///
    /// - Parameters:
    ///   - rules: those of the edge.
    ///   - lookups: nil only if no rule needs any, SPF is not asked, and there are no services, which are told the client's
    ///     name.
    ///   - rates: of all edges; nil: no rule of any edge compares them.
    ///   - forwards: whom they refuse is refused at RCPT.
    ///   - quotas: of all edges; asked before everybody else, at MAIL and RCPT.
    ///   - milters: told of all that the others let through.
    package init?(
        rules: RuleSet, spf: SPFEnforcement?, lookups: Lookups?, rates: MessageRates?, services: [Service] = [],
        forwards: ForwardRules = ForwardRules(), quotas: QuotaBook? = nil,
        milters: Milters? = nil
    ) {
        self.quotas = quotas
        self.milters = milters
        self.services = services
        self.forwards = forwards
        self.rules = rules
        self.spf = spf
        self.lookups = lookups
        self.rates = rates
        var facts = rules.facts
        var stages = SMTPStages(rules.stages)
        if let spf, !spf.stages.isEmpty {
            facts.insert(.spf)
            stages.formUnion(SMTPStages(spf.stages))
        }
        if !services.isEmpty { facts.insert(.ptr) }
        for service in services { stages.formUnion(SMTPStages(service.stages)) }
        if forwards.canRefuse { stages.insert(.recipient) }
        for fact in facts {
            switch fact {
            case .ptr: stages.insert(.connect)
            case .spf: stages.insert(.mail)
            case .dnsbl: stages.formUnion([.connect, .hello, .mail])
            }
        }
        self.facts = facts
        // `[spf]` may be about the others alone. A whole check is up to a hundred questions of the sender's choice: none is
        // begun that nobody wants to know.
        let asksOfAll = rules.facts.contains(.spf) || spf?.includesAuthenticated == true
        factsOfAuthenticated = asksOfAll ? facts : facts.subtracting([.spf])
        judged = stages
        if quotas != nil { stages.formUnion([.mail, .recipient]) }
        if milters != nil { stages.formUnion([.connect, .hello, .mail, .recipient, .data]) }
        self.stages = stages
        if stages.isEmpty, rates == nil { return nil }
    }

    /// What is looked up as soon as it can be: somebody may need it, and then it has been under way for a while.
    func facts(isAuthenticated: Bool) -> Set<Fact> { isAuthenticated ? factsOfAuthenticated : facts }

    /// How many messages the client and the login have sent lately.
    func rates(client: IPAddress?, login: String?, at now: Timestamp) -> RateFacts {
        rules.rates.isEmpty ? RateFacts() : rates?.facts(client: client, login: login, at: now) ?? RateFacts()
    }

    /// The queue has taken a message.
    func accepted(from client: IPAddress?, login: String?) {
        rates?.accepted(from: client, login: login, at: .now())
    }
}

/// The counts of all sessions of all edges: how many messages were accepted of whom.
package final class MessageRates: Sendable {
    private final class Shared: Sendable {
        let counters: Mutex<RateCounters>

        init(_ counters: RateCounters) { self.counters = Mutex(counters) }
    }

    private let keys: Set<RateFacts.Key>
    private let shared: Shared

    /// Counts for `keys`: from now on, or, what is counted by `previous` already, going on with its counts. Both count in one
    /// place: sessions that have begun with `previous` count for those that begin now, and the other way round.
    package init(for keys: Set<RateFacts.Key>, continuing previous: MessageRates? = nil) {
        self.keys = keys
        shared = previous?.shared ?? Shared(RateCounters(for: keys))
        // What `previous` alone wants is kept until the next reload: this one may yet fail.
        if let previous { shared.counters.withLock { $0.keep(keys.union(previous.keys)) } }
    }

    func facts(client: IPAddress?, login: String?, at now: Timestamp) -> RateFacts {
        shared.counters.withLock { $0.facts(client: client, login: login, at: now) }
    }

    func accepted(from client: IPAddress?, login: String?, at now: Timestamp) {
        shared.counters.withLock { $0.accepted(from: client, login: login, at: now) }
    }
}

extension SMTPStages {
    /// The words of slimta.conf as the machine has them.
    init(_ stages: Set<Stage>) {
        self = []
        for stage in stages {
            switch stage {
            case .connect: insert(.connect)
            case .ehlo: insert(.hello)
            case .starttls: insert(.startTLS)
            case .auth: insert(.login)
            case .mail: insert(.mail)
            case .rcpt: insert(.recipient)
            case .data: insert(.data)
            case .message: insert(.message)
            }
        }
    }
}
