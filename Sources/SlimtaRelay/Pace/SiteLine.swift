// Who waits for a place at a site: turns go by domain, so that one with much mail does not hold up one with little. A part of
// Site, without tasks and clocks.

/// A line with a lane for each domain.
struct SiteLine: Sendable {
    /// One that waits.
    typealias Ticket = UInt64

    private var lanes: [String: [Ticket]] = [:]
    /// The domains with somebody in their lane, the one whose turn is next first.
    private var round: [String] = []
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// The last one in the lane of `domain`.
    ///
    /// - Parameter capacity: how many may wait. If there are more, one of those with the longest lane has to go: the one
    ///   that is returned, who may be the new one.
    mutating func join(_ ticket: Ticket, for domain: String, capacity: Int) -> Ticket? {
        if lanes[domain, default: []].isEmpty { round.append(domain) }
        lanes[domain, default: []].append(ticket)
        count += 1
        guard count > capacity else { return nil }
        let longest = round.max { (lanes[$0]?.count ?? 0) < (lanes[$1]?.count ?? 0) } ?? domain
        // Among equals it is the one who has just come.
        let lane = (lanes[longest]?.count ?? 0) > (lanes[domain]?.count ?? 0) ? longest : domain
        guard let last = lanes[lane]?.last else { return nil }
        remove(last)
        return last
    }

    /// Takes out the one whose turn it is.
    mutating func next() -> Ticket? {
        guard !round.isEmpty else { return nil }
        let domain = round.removeFirst()
        guard let ticket = lanes[domain]?.removeFirst() else { return nil }
        count -= 1
        if lanes[domain]?.isEmpty ?? true { lanes[domain] = nil } else { round.append(domain) }
        return ticket
    }

    /// One does not wait any more. Whether it did.
    @discardableResult
    mutating func remove(_ ticket: Ticket) -> Bool {
        for (domain, lane) in lanes {
            guard let place = lane.firstIndex(of: ticket) else { continue }
            lanes[domain]?.remove(at: place)
            count -= 1
            if lane.count == 1 {
                lanes[domain] = nil
                round.removeAll { $0 == domain }
            }
            return true
        }
        return false
    }
}
