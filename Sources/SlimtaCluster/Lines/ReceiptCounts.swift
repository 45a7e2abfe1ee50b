// How many receipts each owner has at most, as far as this node knows: who may have too many is looked at in the transaction
// that adds one.

import SlimtaQueue

/// Upper bounds of what owners have. Other nodes add as well: what is known is forgotten after a time.
struct ReceiptCounts {
    struct Count: Hashable {
        var number: Int
        var octets: Int
    }

    private var known: [Receipt.Owner: Count] = [:]
    private var since: Int64 = 0

    /// Owners of whom is remembered, and for how many milliseconds.
    private static let limit = 10_000
    private static let lifetime: Int64 = 60_000

    /// These receipts are about to be added; the owners that have to be looked at.
    mutating func adding(_ receipts: [(owner: Receipt.Owner, octets: Int)], now: Int64) -> [Receipt.Owner] {
        if receipts.isEmpty { return [] }
        if known.count > Self.limit || now - since > Self.lifetime { (known, since) = ([:], now) }
        var doubtful: [Receipt.Owner] = []
        for (owner, octets) in receipts {
            guard var count = known[owner] else {
                if !doubtful.contains(owner) { doubtful.append(owner) }
                continue
            }
            count.number += 1
            count.octets += octets
            known[owner] = count
            if (count.number > Receipt.ownerLimit || count.octets > Receipt.ownerOctets), !doubtful.contains(owner) {
                doubtful.append(owner)
            }
        }
        return doubtful
    }

    /// What a look at an owner has found.
    mutating func found(_ owner: Receipt.Owner, _ count: Count) { known[owner] = count }

    /// Nothing is known any more: a transaction may not have happened.
    mutating func forget() { known = [:] }
}
