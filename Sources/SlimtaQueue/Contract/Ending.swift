// The end of an envelope: a part of a commit. Made by AttemptResolution and by operators' changes; ledger and receipts are made
// of it.

package import SlimtaMail

/// An envelope that leaves the queue, with the final fates: the ledger is made of these.
package struct Ending: Hashable, Sendable {
    /// Of the envelope.
    package var id: QueueID
    /// How many recipients ended how, counted over the envelope's whole life.
    package var delivered: UInt32
    /// Refused for good.
    package var bounced: UInt32
    /// Out of time.
    package var expired: UInt32
    /// Taken out by an operator.
    package var removed: UInt32
    /// The operator who took out what is `removed`.
    package var by: String?
    /// How each recipient ended, by its index: for a receipt. Empty where only the numbers are known.
    package var recipients: [RecipientState] = []

    /// The numbers add up to the recipients of the envelope.
    package init(
        id: QueueID, delivered: UInt32 = 0, bounced: UInt32 = 0, expired: UInt32 = 0, removed: UInt32 = 0,
        by: String? = nil
    ) {
        self.id = id
        self.delivered = delivered
        self.bounced = bounced
        self.expired = expired
        self.removed = removed
        self.by = by
    }
}
