// Which hosts may have which messages. A relay has one, for hours at most; asked and told by HostTrial. What hosts are like is
// known to Site.

import NIOCore
import SlimtaMail
import Synchronization

/// A message that a host may have goes there again only if nobody else takes it.
final class DoubtMemory: Sendable {
    private static let time = TimeAmount.hours(6)

    private struct Copy: Hashable {
        let message: QueueID
        let host: SocketAddress
    }

    private let doubts = Mutex(ExpiringCache<Copy, Bool>(capacity: 4096))

    /// Whether the host may have the message.
    func isInDoubt(_ message: QueueID, at key: ConnectionKey) -> Bool {
        let copy = Copy(message: message, host: key.host.address)
        return doubts.withLock { $0.value(for: copy, at: .now()) } != nil
    }

    /// The host was sent the message whole, and said nothing.
    func note(_ message: QueueID, at key: ConnectionKey) {
        let now = NIODeadline.now()
        let copy = Copy(message: message, host: key.host.address)
        doubts.withLock { $0.insert(true, for: copy, until: now + Self.time, at: now) }
    }
}
