// How many questions to PAM a client may have there at once.

import Testing

@testable import SlimtaEdge

@Suite struct PAMSharesTests {
    private let one = ConnectionLimiter.Source(user: 1)
    private let other = ConnectionLimiter.Source(user: 2)

    /// How many of ten questions may be asked.
    private func asked(
        by client: ConnectionLimiter.Source?, _ shares: inout PAMShares, _ standing: PAMShares.Standing = .stranger
    ) -> Int {
        var count = 0
        for _ in 1...10 where shares.enter(client, standing) { count += 1 }
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
        #expect(counts == [10, 2])
        for _ in 1...10 { shares.leave(nil) }
        for _ in 1...2 { shares.leave(one) }
        let again = asked(by: one, &shares)
        #expect(again == 8)
    }

    /// Two hundred addresses that ask for what hangs, again and again: who has failed has half, strangers have three quarters
    /// with them, and who is known there has the rest.
    @Test func aFloodFromManyAddressesLeavesRoom() {
        var shares = PAMShares()
        var hanging: [ConnectionLimiter.Source] = []
        for user in 10..<210 {
            let client = ConnectionLimiter.Source(user: UInt32(user))
            while shares.enter(client, .guesser) { hanging.append(client) }
        }
        #expect(hanging.count == 8)
        let strangers = (300..<500).map { ConnectionLimiter.Source(user: $0) }.filter { shares.enter($0) }
        #expect(strangers.count == 4)
        let counts = [
            asked(by: one, &shares), asked(by: one, &shares, .familiar), asked(by: other, &shares, .familiar),
        ]
        // For more than there are processes the helper has an answer of its own.
        #expect(counts == [0, 4, 4])
        for client in hanging { shares.leave(client, .guesser) }
        for client in strangers { shares.leave(client) }
        let again = asked(by: ConnectionLimiter.Source(user: 3), &shares, .guesser)
        #expect(again == 4)
    }
}
