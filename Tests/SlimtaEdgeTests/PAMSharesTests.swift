// How many questions to PAM a client may have there at once.

import Testing

@testable import SlimtaEdge

@Suite struct PAMSharesTests {
    private let one = ConnectionLimiter.Source(user: 1)
    private let other = ConnectionLimiter.Source(user: 2)

    /// How many of ten questions may be asked.
    private func asked(by client: ConnectionLimiter.Source?, _ shares: inout PAMShares) -> Int {
        var count = 0
        for _ in 1...10 where shares.enter(client) { count += 1 }
        return count
    }

    @Test func oneClientHasHalfAtMostAndTheOthersTheirShare() {
        var shares = PAMShares()
        let counts = [asked(by: one, &shares), asked(by: other, &shares)]
        #expect(counts == [8, 4])
        shares.leave(one)
        let again = shares.enter(one)
        #expect(!again)
        shares.leave(other)
        let next = shares.enter(other)
        #expect(next)
    }

    @Test func whoIsNotCountedTakesPartOfAll() {
        var shares = PAMShares()
        let counts = [asked(by: nil, &shares), asked(by: one, &shares)]
        #expect(counts == [10, 4])
        for _ in 1...10 { shares.leave(nil) }
        for _ in 1...4 { shares.leave(one) }
        let again = asked(by: one, &shares)
        #expect(again == 8)
    }
}
