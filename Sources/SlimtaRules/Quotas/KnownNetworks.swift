// The networks that a login has sent from within a day: many at once are not one person. QuotaAccount has one.

/// Networks with the time of the last message from each: of IPv4 the /24, of IPv6 the /48 (``IPAddress/accessNetwork``).
///
/// Eight octets for each, 32 bits of its digest and the time: that two of 256 look alike has a chance of one in 130,000.
struct KnownNetworks: Hashable, Sendable {
    /// So many are told apart; of more the oldest go.
    static let most = 256

    /// In the order of the last message: the digest's first 32 bits, then seconds since 1970.
    var entries: [UInt64] = []

    /// A message came from a network at `now`.
    mutating func note(_ digest: UInt64, at now: UInt32) {
        entries.removeAll { $0 >> 32 == digest >> 32 || !Self.isWithin(86400, $0, now) }
        if entries.count == Self.most { entries.removeFirst() }
        entries.append(digest & 0xFFFF_FFFF_0000_0000 | UInt64(now))
    }

    /// How many there were within the window that ends at `now`.
    func count(_ window: QuotaWindow, at now: UInt32) -> Int {
        let length: UInt32 = window == .hour ? 3600 : 86400
        return entries.count { Self.isWithin(length, $0, now) }
    }

    /// The clock may have been put back: what is of the future counts for as long.
    private static func isWithin(_ length: UInt32, _ entry: UInt64, _ now: UInt32) -> Bool {
        let time = UInt32(truncatingIfNeeded: entry)
        return (time > now ? time - now : now - time) < length
    }
}
