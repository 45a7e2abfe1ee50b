// What one configuration asks about clients, for all of its edges: rules with their lists, SPF, block lists, counts. A World
// has it; each edge that has anything to ask gets a Gate of it.

import NIOCore
import SlimtaConfiguration
import SlimtaDNS
import SlimtaEdge
import SlimtaMail
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
        guard spf != nil || !services.isEmpty || !rules.facts.isEmpty else {
            lookups = nil
            return
        }
        lookups = Lookups(
            values.lookupSettings(hostname: hostname, zones: zones), resolver: resolver, logger: ground.logger,
            keeping: lease)
    }

    /// What the operator has to put right with those who are asked.
    var complaints: [String] { clients.compactMap(\.complaint) + (lookups?.complaints ?? []) }

    /// Begins to look whether lists are in order.
    func start() { lookups?.start() }

    /// nil: on this edge nobody is asked.
    func gate(of edge: String) -> Gate? {
        Gate(
            rules: rules.forEdge(edge), spf: spf, lookups: lookups, rates: rates, services: services,
            forwards: forwards, quotas: quotas)
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

extension Configuration.SPF {
    /// nil: nobody wants a result, rules aside.
    var enforcement: SPFEnforcement? {
        isWanted ? SPFEnforcement(replies: replies, includesAuthenticated: authenticated, addsField: receivedSPF) : nil
    }
}
