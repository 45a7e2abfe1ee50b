// The last balance that was read, where reading one takes long: for `slimtad status`, which monitoring asks every minute.

import SlimtaQueue
import Synchronization

/// What is queued counts in a balance, so all of it is read for each. Of a long queue the last one is good for a while: who
/// proves it reads it again (`slimtad audit`).
final class LedgerShelf: Sendable {
    private let last = Mutex<(ledger: Ledger, end: Int64)?>(nil)

    /// Recipients in the queue up to which it is read each time.
    static let limit: UInt64 = 100_000
    /// How long a balance of a longer one is good, in milliseconds.
    static let lifetime: Int64 = 30_000

    /// The last one, if it is still good at `now`, by the monotonic clock.
    func ledger(at now: Int64) -> Ledger? {
        last.withLock { last in last.flatMap { $0.end > now ? $0.ledger : nil } }
    }

    /// This one was read at `now`.
    func put(_ ledger: Ledger, at now: Int64) {
        let isLong = ledger.total.queued > Self.limit
        last.withLock { $0 = isLong ? (ledger, now + Self.lifetime) : nil }
    }
}
