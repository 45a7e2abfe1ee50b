// The name of an envelope in the queue: in the 250 reply, in Received, in every log line, as the key of its records.

import Glibc
import Synchronization

/// Identifies one envelope in the queue: 48 bits of milliseconds since the epoch, then 80 random bits.
///
/// Ids sort by the time of acceptance, or by that at which a message is to be sent first, if that is later. Printed as 32 lower-case hex digits, as slimta printed its ids.
package struct QueueID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The first eight octets, big-endian: the time and 16 random bits.
    package let high: UInt64
    /// The last eight octets, big-endian.
    package let low: UInt64

    /// An id from its two halves, as they were stored.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A new id for a message accepted at `time`.
    package init(at time: Timestamp) {
        let milliseconds = UInt64(truncatingIfNeeded: time.milliseconds) & 0xFFFF_FFFF_FFFF
        let random = Self.random.withLock { $0.next() }
        high = milliseconds << 16 | (random.0 & 0xFFFF)
        low = random.1
    }

    /// The system's random numbers, fetched for many ids at a time: a call of the kernel for each costs a microsecond.
    private struct RandomNumbers {
        private var left: [UInt64] = []

        mutating func next() -> (UInt64, UInt64) {
            if left.isEmpty {
                left = [UInt64](repeating: 0, count: 32)
                // 256 octets come whole; it fails only where the kernel has none to give.
                precondition(getentropy(&left, 256) == 0, "no random numbers")
            }
            return (left.removeLast(), left.removeLast())
        }
    }

    private static let random = Mutex(RandomNumbers())

    /// The id that `description` printed; nil if `text` is not 32 hex digits.
    package init?(_ text: some StringProtocol) {
        var halves: (UInt64, UInt64) = (0, 0)
        var count = 0
        for octet in text.utf8 {
            guard let digit = octet.hexadecimalValue.map(UInt64.init) else { return nil }
            if count < 16 { halves.0 = halves.0 << 4 | digit } else { halves.1 = halves.1 << 4 | digit }
            count += 1
            if count > 32 { return nil }
        }
        guard count == 32 else { return nil }
        (high, low) = halves
    }

    /// All ids whose text begins with `text`, hex digits, in either case; nil if it is empty, too long or has anything
    /// else in it.
    package static func all(beginningWith text: some StringProtocol) -> ClosedRange<QueueID>? {
        let missing = 32 - text.utf8.count
        guard !text.isEmpty, missing >= 0 else { return nil }
        guard let first = QueueID(text + String(repeating: "0", count: missing)),
            let last = QueueID(text + String(repeating: "f", count: missing))
        else { return nil }
        return first...last
    }

    /// The id before this one; nil for the first.
    package var predecessor: QueueID? {
        if low > 0 { return QueueID(high: high, low: low - 1) }
        return high > 0 ? QueueID(high: high - 1, low: .max) : nil
    }

    /// The time of acceptance, or of the first attempt if that was to be later, that is part of the id.
    package var time: Timestamp { Timestamp(milliseconds: Int64(high >> 16)) }

    /// 32 hexadecimal digits in lower case.
    package var description: String {
        String(unsafeUninitializedCapacity: 32) { digits in
            var index = 0
            for half in [high, low] {
                var shift = 60
                while shift >= 0 {
                    digits[index] = UInt8(hexadecimalDigit: UInt8(truncatingIfNeeded: half >> UInt64(shift)))
                    index += 1
                    shift -= 4
                }
            }
            return 32
        }
    }

    /// Written out to be inlined elsewhere: tables compare ids all the time.
    @inlinable package static func == (a: QueueID, b: QueueID) -> Bool { a.low == b.low && a.high == b.high }

    /// By the time of acceptance, then by the random bits: as the texts sort.
    package static func < (a: QueueID, b: QueueID) -> Bool {
        a.high == b.high ? a.low < b.low : a.high < b.high
    }
}
