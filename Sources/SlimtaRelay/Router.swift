// Which relay is for whom: the [[route]] tables of the configuration. Made by the composition root, called by the queue.

package import SlimtaMail
package import SlimtaQueue

/// Sends each recipient's mail by the first route that is for its domain and for who sends it, else by the relay for all
/// others.
package struct Router: Relay {
    /// Some mail and the relay that is for it.
    package struct Route: Sendable {
        let matches: @Sendable (String) -> Bool
        let isFor: (@Sendable (Envelope) -> Bool)?
        let relay: any Relay

        /// - Parameters:
        ///   - matches: whether the route is for this domain, which is in lower case.
        ///   - isFor: whether it is for who sends this envelope; nil: it is for everybody.
        package init(
            matches: @escaping @Sendable (String) -> Bool, isFor: (@Sendable (Envelope) -> Bool)? = nil,
            _ relay: any Relay
        ) {
            self.matches = matches
            self.isFor = isFor
            self.relay = relay
        }

        fileprivate func takes(_ domain: String, of envelope: Envelope) -> Bool {
            matches(domain) && isFor.map { $0(envelope) } ?? true
        }
    }

    private let routes: [Route]
    private let otherwise: any Relay

    /// - Parameters:
    ///   - routes: asked in this order, the first that matches counts.
    ///   - otherwise: for domains that no route matches.
    package init(_ routes: [Route], otherwise: any Relay) {
        self.routes = routes
        self.otherwise = otherwise
    }

    /// What the domain's relay says, where nobody knows who sends: all mail of one destination shares its limits and its
    /// back-off.
    package func destination(for domain: String) -> String {
        let relay = routes.first { $0.isFor == nil && $0.matches(domain) }?.relay ?? otherwise
        return relay.destination(for: domain)
    }

    /// What the relay of the domain and of who sends says.
    package func destination(for domain: String, of envelope: Envelope) -> String {
        let relay = routes.first { $0.takes(domain, of: envelope) }?.relay ?? otherwise
        return relay.destination(for: domain, of: envelope)
    }

    /// What the domain's relays say, whoever sends.
    package func destinations(for domain: String) -> Set<String> {
        var names: Set<String> = []
        for route in routes where route.matches(domain) {
            names.formUnion(route.relay.destinations(for: domain))
            if route.isFor == nil { return names }
        }
        return names.union(otherwise.destinations(for: domain))
    }

    /// Of all hosts that mail goes to from here.
    package func forgetFailures() {
        for route in routes { route.relay.forgetFailures() }
        otherwise.forgetFailures()
    }

    /// The parts of the delivery at once, each by its relay.
    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        if routes.isEmpty { return await otherwise.attempt(delivery) }
        let recipients = delivery.recipients
        // By the number of the route; that of no route is behind all others.
        return await attemptInParts(recipients.count) { position in
            let domain = delivery.envelope.recipients[recipients[position]].foldedDomain
            return routes.firstIndex { $0.takes(domain, of: delivery.envelope) } ?? routes.count
        } _: { route, positions in
            var part = delivery
            part.recipients = positions.map { recipients[$0] }
            return await relay(route).attempt(part)
        }
    }

    private func relay(_ route: Int) -> any Relay { route < routes.count ? routes[route].relay : otherwise }
}
