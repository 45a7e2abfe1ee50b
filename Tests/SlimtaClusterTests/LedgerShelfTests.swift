// A balance of a long queue is read once in a while, one of a short queue each time.

import SlimtaMail
import SlimtaQueue
import Testing

@testable import SlimtaCluster

@Suite struct LedgerShelfTests {
    private static func ledger(queued: UInt64) -> Ledger {
        var ledger = Ledger(since: Timestamp(milliseconds: 0))
        ledger[.submitted].accepted = queued
        ledger[.submitted].queued = queued - 1
        ledger[.notice].queued = 1
        return ledger
    }

    @Test func aShortQueueIsReadEachTime() {
        let shelf = LedgerShelf()
        #expect(shelf.ledger(at: 0) == nil)
        shelf.put(Self.ledger(queued: LedgerShelf.limit), at: 1000)
        #expect(shelf.ledger(at: 1000) == nil)
    }

    @Test func theBalanceOfALongOneIsGoodForAWhile() {
        let shelf = LedgerShelf()
        let long = Self.ledger(queued: LedgerShelf.limit + 1)
        shelf.put(long, at: 1000)
        #expect(shelf.ledger(at: 1000) == long)
        #expect(shelf.ledger(at: 999 + LedgerShelf.lifetime) == long)
        #expect(shelf.ledger(at: 1000 + LedgerShelf.lifetime) == nil)
    }

    @Test func aQueueThatHasBecomeShortIsReadEachTimeAgain() {
        let shelf = LedgerShelf()
        shelf.put(Self.ledger(queued: LedgerShelf.limit + 1), at: 0)
        shelf.put(Self.ledger(queued: 1), at: 1)
        #expect(shelf.ledger(at: 1) == nil)
    }
}
