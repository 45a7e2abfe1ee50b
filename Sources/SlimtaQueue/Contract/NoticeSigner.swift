// The contract between the queue and who signs its notices: messages of ours do not pass the policies of clients' mail. The
// queue's driver asks before a notice is made durable; SlimtaPolicy's signer answers.

package import NIOCore
package import SlimtaMail

/// Signs notices.
package protocol NoticeSigner: Sendable {
    /// Whole fields that go on top of a notice; none if it goes unsigned, of which whoever answers has told the log. Never
    /// keeps the event loop waiting that it is called on.
    func fields(for envelope: Envelope, _ message: Message) async -> ByteBuffer
}
