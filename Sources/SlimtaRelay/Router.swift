// Which relay is for whom: the [[route]] tables of the configuration. Made by the composition root, called by the queue.

package import SlimtaMail
package import SlimtaQueue

/// Sends each recipient's mail by the first route that is for its domain, else by the relay for all others.
package struct Router: Relay {
    package struct Route: Sendable {
        let matches: @Sendable (String) -> Bool
        let relay: any Relay

        /// - Parameter matches: whether the route is for this domain, which is in lower case.
        package init(matches: @escaping @Sendable (String) -> Bool, _ relay: any Relay) {
            self.matches = matches
            self.relay = relay
        }
    }

    private let routes: [Route]
    private let otherwise: any Relay

    package init(_ routes: [Route], otherwise: any Relay) {
        self.routes = routes
        self.otherwise = otherwise
    }

    package func destination(for domain: String) -> String {
        let relay = routes.first { $0.matches(domain) }?.relay ?? otherwise
        return relay.destination(for: domain)
    }

    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        if routes.isEmpty { return await otherwise.attempt(delivery) }
        // By the number of the route; that of no route is behind all others.
        var positions: [Int: [Int]] = [:]
        for (position, index) in delivery.recipients.enumerated() {
            let domain = delivery.envelope.recipients[index].foldedDomain
            let route = routes.firstIndex { $0.matches(domain) } ?? routes.count
            positions[route, default: []].append(position)
        }
        let parts = positions.map { (relay: relay($0.key), positions: $0.value) }
        if parts.count == 1 { return await parts[0].relay.attempt(delivery) }
        let results = await HostTrial.inOrder(parts.count) { number in
            var part = delivery
            part.recipients = parts[number].positions.map { delivery.recipients[$0] }
            return await parts[number].relay.attempt(part)
        }
        var outcomes: [Outcome?] = Array(repeating: nil, count: delivery.recipients.count)
        for (part, result) in zip(parts, results) {
            for (position, outcome) in zip(part.positions, result) { outcomes[position] = outcome }
        }
        return outcomes.compactMap(\.self)
    }

    private func relay(_ route: Int) -> any Relay { route < routes.count ? routes[route].relay : otherwise }
}
