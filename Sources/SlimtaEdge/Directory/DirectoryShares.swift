// Which part of `taken` each owner of files has. DirectoryMachine asks.

/// How many files of each owner are in `taken`. Of a number of places each owner who has files there has the same part: whoever
/// has many that are put off has no place of others; and with very many owners there are no more than some times as many.
struct DirectoryShares {
    private var counts: [UInt32: Int] = [:]
    private let limit: Int

    /// - Parameters:
    ///   - owners: of each file in `taken`.
    ///   - limit: the places.
    init(_ owners: [UInt32], of limit: Int) {
        self.limit = limit
        for owner in owners { counts[owner, default: 0] += 1 }
    }

    /// Whether one more may be taken.
    func hasRoom(_ owner: UInt32) -> Bool {
        guard let count = counts[owner] else { return counts.count < limit }
        return count < limit / counts.count
    }

    /// One more is taken; false: there is no room for it.
    mutating func take(_ owner: UInt32) -> Bool {
        guard hasRoom(owner) else { return false }
        counts[owner, default: 0] += 1
        return true
    }
}
