// Messages that are to be forgotten though their clients hear that all is well: who filters mail may want that. Intake calls it.

internal import NIOCore
package import SlimtaMail

extension Queue {
    /// Has the ledger count the recipients of an envelope as accepted and taken out by `name`, in one commit, and keeps nothing of
    /// the message; with a `receipt` its sender may learn that.
    ///
    /// `completion` is called on a thread of the storage and must not block: the 250 waits for it.
    package func discard(
        _ envelope: Envelope, by name: String, receipt: Receipt? = nil,
        completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
    ) {
        var commit = QueueCommit(
            accepted: [QueueCommit.Acceptance(envelope, due: envelope.received)], message: Message(head: ByteBuffer()))
        let ending = EnvelopeState(of: envelope, due: envelope.received).removed(by: name)
        commit.ended = [ending]
        if var receipt = receipt?.of([envelope]) {
            for place in receipt.envelopes.indices {
                receipt.envelopes[place].fates = Fates(ending)
                for index in receipt.envelopes[place].recipients.indices {
                    receipt.envelopes[place].recipients[index].fate = .removed
                }
            }
            commit.receipts = [receipt]
        }
        commit.isForOthers = !storage.keeps(envelope.id)
        storage.commit(commit, completion: completion)
    }
}
