// The first of two passes through a message that has to become 7-bit: it decides for each part. Used by whoever has a
// message for a host without 8BITMIME; SevenBitConverter makes the second pass.

package import NIOCore
internal import SlimtaMail

/// Decides how a message becomes 7-bit, while it passes. Memory has what is decided of each part.
///
/// The octets are those that will be sent: with the fields that were prepended, with all ends of lines.
package struct ConversionPlanner {
    private var walker = MIMEWalker(PlanVisitor())

    /// For one message.
    package init() {}

    /// The next octets, cut anywhere.
    package mutating func read(_ octets: ByteBuffer) { walker.read(octets) }

    /// The message is over.
    package mutating func finish() -> ConversionAnswer {
        walker.finish()
        return walker.visitor.answer(isBeyondLimits: !walker.exceeded.isEmpty)
    }
}
