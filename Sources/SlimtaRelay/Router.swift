// Which relay is for whom: the [[route]] tables of the configuration. Made by the composition root, called by the queue.

package import SlimtaMail
package import SlimtaQueue

/// What a route is for: a domain, all domains below one, or all.
package struct DomainPattern: Hashable, Sendable {
    private enum Kind: Hashable {
        case all
        case exactly(String)
        case below(String)
    }

    private let kind: Kind

    /// A pattern as it is in the configuration: "example.net" (that domain alone), "*.example.org" (every domain below
    /// example.org, at any depth, and not example.org itself) or "*"; nil if a "*" stands anywhere else, or if there
    /// is nothing.
    package init?(_ text: String) {
        let folded = text.asciiLowercased()
        if folded == "*" {
            kind = .all
        } else if folded.hasPrefix("*.") {
            kind = .below(String(folded.dropFirst(1)))
        } else {
            kind = .exactly(folded)
        }
        let name = folded.hasPrefix("*.") ? folded.dropFirst(2) : folded[...]
        if folded != "*", name.isEmpty || name.utf8.contains(UInt8(ascii: "*")) { return nil }
    }

    /// Whether `domain`, which is in lower case, is meant.
    func matches(_ domain: String) -> Bool {
        switch kind {
        case .all: true
        case .exactly(let name): domain.utf8.elementsEqual(name.utf8)
        case .below(let suffix):
            domain.utf8.count > suffix.utf8.count
                && domain.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
        }
    }
}

/// Sends each recipient's mail by the first route whose patterns match the domain, else by the relay for all others.
package struct Router: Relay {
    package struct Route: Sendable {
        let patterns: [DomainPattern]
        let relay: any Relay

        package init(_ patterns: [DomainPattern], _ relay: any Relay) {
            self.patterns = patterns
            self.relay = relay
        }
    }

    private let routes: [Route]
    private let otherwise: any Relay

    package init(_ routes: [Route], otherwise: any Relay) {
        self.routes = routes
        self.otherwise = otherwise
    }

    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        if routes.isEmpty { return await otherwise.attempt(delivery) }
        // By the number of the route; that of no route is behind all others.
        var positions: [Int: [Int]] = [:]
        for (position, index) in delivery.recipients.enumerated() {
            let domain = delivery.envelope.recipients[index].foldedDomain
            let route = routes.firstIndex { $0.patterns.contains { $0.matches(domain) } } ?? routes.count
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
