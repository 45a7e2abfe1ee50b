// Who waits for a place at a site: turns go by domain, so that one with much mail does not hold up one with little. A part of
// Site, without tasks and clocks.

import Synchronization

/// A relay, as sites know it: none has more sessions with one than it may have.
struct SiteVisitor: Hashable, Sendable {
    private static let last = Atomic<Int>(0)

    private let id: Int
    /// As many sessions may it have with a site.
    let limit: Int

    /// Another one than all that were made before, whatever their limits.
    init(limit: Int = .max) {
        id = Self.last.wrappingAdd(1, ordering: .relaxed).newValue
        self.limit = limit
    }
}

/// A line with a lane for each domain of each relay.
struct SiteLine: Sendable {
    /// One that waits.
    typealias Ticket = UInt64

    private struct Lane: Hashable {
        let domain: String
        let visitor: SiteVisitor
    }

    private var lanes: [Lane: [Ticket]] = [:]
    /// Those with somebody in them, the one whose turn is next first.
    private var round: [Lane] = []
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// The last one in the lane of `domain`.
    ///
    /// - Parameters:
    ///   - visitor: its relay.
    ///   - capacity: how many may wait. If there are more, one of those with the longest lane has to go: the one that is
    ///     returned, who may be the new one.
    mutating func join(_ ticket: Ticket, for domain: String, _ visitor: SiteVisitor, capacity: Int) -> Ticket? {
        let lane = Lane(domain: domain, visitor: visitor)
        if lanes[lane, default: []].isEmpty { round.append(lane) }
        lanes[lane, default: []].append(ticket)
        count += 1
        guard count > capacity else { return nil }
        let longest = round.max { (lanes[$0]?.count ?? 0) < (lanes[$1]?.count ?? 0) } ?? lane
        // Among equals it is the one who has just come.
        let loser = (lanes[longest]?.count ?? 0) > (lanes[lane]?.count ?? 0) ? longest : lane
        guard let last = lanes[loser]?.last else { return nil }
        remove(last)
        return last
    }

    /// Whether somebody waits whose relay may have another session.
    func hasNext(where mayGo: (SiteVisitor) -> Bool) -> Bool { round.contains { mayGo($0.visitor) } }

    /// Takes out the one whose turn it is, of those whose relay may have another session.
    mutating func next(where mayGo: (SiteVisitor) -> Bool = { _ in true }) -> Ticket? {
        guard let place = round.firstIndex(where: { mayGo($0.visitor) }) else { return nil }
        let lane = round.remove(at: place)
        guard let ticket = lanes[lane]?.removeFirst() else { return nil }
        count -= 1
        if lanes[lane]?.isEmpty ?? true { lanes[lane] = nil } else { round.append(lane) }
        return ticket
    }

    /// One does not wait any more. Whether it did.
    @discardableResult
    mutating func remove(_ ticket: Ticket) -> Bool {
        for (lane, tickets) in lanes {
            guard let place = tickets.firstIndex(of: ticket) else { continue }
            lanes[lane]?.remove(at: place)
            count -= 1
            if tickets.count == 1 {
                lanes[lane] = nil
                round.removeAll { $0 == lane }
            }
            return true
        }
        return false
    }
}
