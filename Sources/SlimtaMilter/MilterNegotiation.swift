// What both sides agree upon before the first event (reference/content.md section 2.2): version, what the milter may ask for,
// which events it wants and which it answers, and the macros that it wants with them.

package import NIOCore

/// What was agreed upon.
package struct MilterNegotiation: Hashable, Sendable {
    /// The newest version that we speak, and the oldest.
    package static let versions: ClosedRange<UInt32> = 2...6

    /// The version of the protocol.
    package let version: UInt32
    /// What the milter may ask for.
    package let actions: MilterActions
    /// What it wants to see and to answer; without bits that its version does not know.
    package let bits: MilterProtocolBits
    /// The macros that it wants, where it named them.
    package let macroLists: MilterMacroLists

    /// Reads the answer to our offer.
    package init(answer packet: MilterPacket) throws(MilterFault) {
        guard packet.command == UInt8(ascii: "O") else { throw .noNegotiation(packet.command) }
        var data = packet.data
        guard let version = data.readInteger(as: UInt32.self), let actions = data.readInteger(as: UInt32.self),
            let bits = data.readInteger(as: UInt32.self)
        else { throw .malformedNegotiation }
        guard Self.versions.contains(version) else { throw .version(version) }
        guard actions & ~MilterActions.all.rawValue == 0 else { throw .actions(actions) }
        guard bits & ~MilterProtocolBits.all.rawValue == 0 else { throw .protocolBits(bits) }
        var lists = MilterMacroLists()
        while data.readableBytes > 0 {
            guard let stage = data.readInteger(as: UInt32.self), let names = data.readMilterText() else {
                throw .malformedNegotiation
            }
            lists.replace(stage, with: names.readableBytesView)
        }
        self.version = version
        self.actions = MilterActions(rawValue: actions)
        self.bits = MilterProtocolBits(rawValue: bits).intersection(.known(to: version))
        macroLists = lists
    }

    /// Writes what we offer: all of it.
    package static func writeOffer(into out: inout ByteBuffer) {
        out.writeMilterPacket("O") { data in
            data.writeInteger(versions.upperBound)
            data.writeInteger(MilterActions.all.rawValue)
            data.writeInteger(MilterProtocolBits.all.rawValue)
        }
    }

    /// Whether the event is sent. Versions before 4 have no DATA.
    package func wants(_ step: MilterStep) -> Bool {
        if step == .data, version < 4 { return false }
        return step.unwanted.isEmpty || !bits.contains(step.unwanted)
    }

    /// Whether the event is sent and a reply comes.
    package func owesReply(to step: MilterStep) -> Bool {
        wants(step) && (step.unanswered.isEmpty || !bits.contains(step.unanswered))
    }

    /// Whether events have to be sent while the client's commands arrive, because what the milter says can be an answer to
    /// one of them. Else everything goes out at the end of data, in one go.
    package var isLive: Bool {
        [MilterStep.connect, .hello, .mail, .recipient].contains(where: owesReply)
    }

    /// Whether recipients that were refused are to be shown as well.
    package var wantsRejectedRecipients: Bool { bits.contains(.rejectedRecipients) }
}
