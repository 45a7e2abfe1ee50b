// Policies without the chain: what one of them does, and not what is mended besides.

import NIOCore
import SlimtaMail

@testable import SlimtaPolicy

/// What a message becomes by the check of its header, by the removal of Bcc, and by these, in the chain's order.
func applying(
    _ policies: [any QueuePolicy], to envelope: Envelope, _ content: ByteBuffer, _ context: PolicyContext, hops: Int
) throws(PolicyRefusal) -> PolicyMail {
    var mail = PolicyMail(envelope: envelope, message: Message(head: content))
    let all: [any QueuePolicy] = [HeaderCheck(receivedHops: hops), BccRemoval()] + policies
    for step in PolicyChain.ordered(all.map { .immediate($0) }) {
        guard case .immediate(let policy) = step else { continue }
        try policy.apply(to: &mail, context)
    }
    return mail
}
