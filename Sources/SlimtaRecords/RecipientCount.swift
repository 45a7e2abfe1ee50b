// Recipients counted as storages count them: four octets for each envelope. What became of them is in the ledger
// (SlimtaQueue).

package import SlimtaMail
package import SlimtaQueue

/// How many recipients an envelope has, and which account they are in. Four octets in memory and on disk.
@frozen @usableFromInline package struct RecipientCount: Hashable {
    /// As it is written down: the number, and the highest bit for notices.
    @usableFromInline package let raw: UInt32

    /// What was written down.
    @inlinable package init(raw: UInt32) { self.raw = raw }

    /// `count` recipients of that kind of mail.
    package init(_ count: Int, _ kind: Ledger.Kind) {
        raw = UInt32(min(count, 0x7FFF_FFFF)) | (kind == .notice ? 0x8000_0000 : 0)
    }

    /// The recipients that `envelope` has.
    package init(_ envelope: borrowing Envelope) {
        self.init(envelope.recipients.count, envelope.sender == nil ? .notice : .submitted)
    }

    /// How many there are.
    @inlinable package var count: UInt32 { raw & 0x7FFF_FFFF }
    /// The account that they are in.
    package var kind: Ledger.Kind { raw >> 31 == 1 ? .notice : .submitted }
}
