// The contract between the queue and who signs: notices, since messages of ours do not pass the policies of clients' mail, and
// what has waited for so long that its signatures no longer count. The queue's driver asks before a notice is made durable, and
// before an attempt; SlimtaPolicy's signer answers.

package import NIOCore
package import SlimtaMail

/// What is to be done about the signatures of a message that is to leave.
package enum SignatureRenewal: Sendable {
    /// It leaves as it is.
    case none
    /// It leaves with this envelope's fields. What is stored stays as it is.
    case renewed(Envelope)
    /// They no longer count, and there can be no others now.
    case impossible
}

/// Signs notices, and anew what has waited.
package protocol NoticeSigner: Sendable {
    /// Whole fields that go on top of a notice; none if it goes unsigned, of which whoever answers has told the log. Never
    /// keeps the event loop waiting that it is called on.
    func fields(for envelope: Envelope, _ message: Message) async -> ByteBuffer

    /// The envelope with signatures of ours that count, where those that it has will have run out when it arrives, or nobody can
    /// verify them any more. Tells the log of what it does; never keeps the event loop waiting.
    func renewal(of envelope: Envelope, _ message: Message, at now: Timestamp) async -> SignatureRenewal
}
