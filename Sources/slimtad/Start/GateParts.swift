// What one configuration asks about clients, for all of its edges: rules with their lists, SPF, block lists, counts. A World
// has it; each edge that has anything to ask gets a Gate of it.

import NIOCore
import SlimtaConfiguration
import SlimtaDNS
import SlimtaEdge
import SlimtaMail
import SlimtaMilter
import SlimtaRules

/// The parts that gates are made of.
struct GateParts: Sendable {
    private let rules: RuleSet
    private let spf: SPFEnforcement?
    private let lookups: Lookups?
    private let rates: MessageRates?
    private let services: [Gate.Service]
    private let clients: [PolicyServiceClient]
    private let forwards: ForwardRules
    private let quotas: QuotaBook?
    private let milters: Milters?
    private let filters: [MilterService]

    /// - Parameters:
    ///   - lists: what ``SlimtaRules/RuleSet/lists(of:)`` says that the rules need.
    ///   - zones: what the files of `zone_file` say, by their names.
    ///   - previous: those in use: what they have counted still counts, as far as it is counted now.
    ///   - lease: of `resolver`; sessions that look something up keep it.
    init(
        _ values: Configuration, hostname: String, lists: [ListReference: any TextList], zones: [String: String],
        after previous: GateParts?, resolver: Resolver, lease: Lease, on ground: Ground
    ) throws {
        quotas = values.quota == nil ? nil : ground.quotas.book
        rules = RuleSet(values.rules, lists: lists)
        spf = values.spf.enforcement
        forwards = ForwardRules(values.queue.policies.contains(.forward) ? values.forwards : [])
        let keys = rules.rates
        rates = keys.isEmpty ? nil : MessageRates(for: keys, continuing: previous?.rates)
        clients = try values.policyServices.map { service in
            PolicyServiceClient(try service.settings, group: ground.group, logger: ground.logger)
        }
        services = zip(clients, values.policyServices).map { client, service in
            Gate.Service(client, at: service.stages, keeping: Lease(ground.endings) { await client.close() })
        }
        let filters = try values.milters.map { milter in
            MilterService(try milter.settings(messageSize: values.limits.messageSize), logger: ground.logger)
        }
        self.filters = filters
        milters = Milters(
            filters, hostname: hostname, version: "slimtad \(Version.text)",
            limit: values.limits.dataTimeout.map { TimeAmount($0) },
            keeping: Lease(ground.endings) { for filter in filters { await filter.close() } })
        guard spf != nil || !services.isEmpty || !rules.facts.isEmpty else {
            lookups = nil
            return
        }
        lookups = Lookups(
            values.lookupSettings(hostname: hostname, zones: zones), resolver: resolver, logger: ground.logger,
            keeping: lease)
    }

    /// What the operator has to put right with those who are asked.
    var complaints: [String] {
        clients.compactMap(\.complaint) + filters.compactMap(\.complaint) + (lookups?.complaints ?? [])
    }

    /// Begins to look whether lists are in order.
    func start() { lookups?.start() }

    /// nil: on this edge nobody is asked.
    func gate(of edge: String) -> Gate? {
        Gate(
            rules: rules.forEdge(edge), spf: spf, lookups: lookups, rates: rates, services: services,
            forwards: forwards, quotas: quotas, milters: milters)
    }
}

extension Configuration.PolicyService {
    fileprivate var settings: PolicyServiceClient.Settings {
        get throws {
            PolicyServiceClient.Settings(
                name: name, addresses: [try to.socketAddress], timeout: timeout, onFailure: onFailure, context: context)
        }
    }
}

extension MilterSettings {
    /// As an edge has them.
    ///
    /// - Parameter messageSize: how large a message may be: no new body is larger.
    fileprivate func settings(messageSize: Int) throws -> MilterService.Settings {
        MilterService.Settings(
            session: .init(
                name: name, onFailure: policy, commandLimit: commandTimeout, contentLimit: contentTimeout,
                mostBody: messageSize),
            address: try to.socketAddress, connectTimeout: TimeAmount(connectTimeout), reuses: reuseBetweenSessions)
    }

    private var policy: MilterFailurePolicy {
        switch onFailure {
        case .tempfail: .tempfail
        case .accept: .accept
        case .reject: .reject
        case .quarantine: .quarantine
        }
    }
}

extension Configuration.SPF {
    /// nil: nobody wants a result, rules aside.
    var enforcement: SPFEnforcement? {
        isWanted ? SPFEnforcement(replies: replies, includesAuthenticated: authenticated, addsField: receivedSPF) : nil
    }
}
