// Events as a milter sees them, and the bits by which it says of each what it wants (reference/content.md section 2.2). Used by
// everything in this room.

/// What a milter may ask for at the end of a message.
package struct MilterActions: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// All there are: we offer them all, for rspamd asks for what it wants whatever was offered.
    package static let all = MilterActions(rawValue: 0x1FF)
    /// To name the macros that it wants.
    package static let macroLists = MilterActions(rawValue: 0x100)
}

/// Bits of the protocol, as a milter sets them: what is to be left out, and what it understands.
package struct MilterProtocolBits: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// All there are.
    package static let all = MilterProtocolBits(rawValue: 0x1F_FFFF)
    /// It may say that it wants no more of the body, or of the fields.
    package static let skip = MilterProtocolBits(rawValue: 1 << 10)
    /// It wants to see recipients that were refused, too.
    package static let rejectedRecipients = MilterProtocolBits(rawValue: 1 << 11)
    /// Values of fields go both ways with what stands behind the colon, the blank as well.
    package static let leadingBlanks = MilterProtocolBits(rawValue: 1 << 20)

    /// Those that a version knows: 6 has SKIP, the missing replies and the blanks, 4 has DATA, 3 unknown commands.
    static func known(to version: UInt32) -> MilterProtocolBits {
        switch version {
        case 6...: .all
        case 4...5: MilterProtocolBits(rawValue: 0x3FF)
        case 3: MilterProtocolBits(rawValue: 0x1FF)
        default: MilterProtocolBits(rawValue: 0xFF)
        }
    }
}

/// An event as the milter sees it: a stage of SMTP's session, or a part of a message.
package enum MilterStep: UInt8, CaseIterable, Hashable, Sendable, CustomStringConvertible {
    case connect, hello, mail, recipient, data, field, endOfFields, body, end

    /// The letter of its packet.
    package var letter: Unicode.Scalar {
        switch self {
        case .connect: "C"
        case .hello: "H"
        case .mail: "M"
        case .recipient: "R"
        case .data: "T"
        case .field: "L"
        case .endOfFields: "N"
        case .body: "B"
        case .end: "E"
        }
    }

    /// As logs call it.
    package var description: String {
        switch self {
        case .connect: "connect"
        case .hello: "EHLO"
        case .mail: "MAIL"
        case .recipient: "RCPT"
        case .data: "DATA"
        case .field: "a field"
        case .endOfFields: "the end of the header"
        case .body: "the body"
        case .end: "the end of the message"
        }
    }

    /// Set: the milter does not want the event. There is none for the end.
    var unwanted: MilterProtocolBits {
        switch self {
        case .connect: MilterProtocolBits(rawValue: 1 << 0)
        case .hello: MilterProtocolBits(rawValue: 1 << 1)
        case .mail: MilterProtocolBits(rawValue: 1 << 2)
        case .recipient: MilterProtocolBits(rawValue: 1 << 3)
        case .data: MilterProtocolBits(rawValue: 1 << 9)
        case .field: MilterProtocolBits(rawValue: 1 << 5)
        case .endOfFields: MilterProtocolBits(rawValue: 1 << 6)
        case .body: MilterProtocolBits(rawValue: 1 << 4)
        case .end: []
        }
    }

    /// Set: the milter does not answer the event. The end it always answers.
    var unanswered: MilterProtocolBits {
        switch self {
        case .connect: MilterProtocolBits(rawValue: 1 << 12)
        case .hello: MilterProtocolBits(rawValue: 1 << 13)
        case .mail: MilterProtocolBits(rawValue: 1 << 14)
        case .recipient: MilterProtocolBits(rawValue: 1 << 15)
        case .data: MilterProtocolBits(rawValue: 1 << 16)
        case .field: MilterProtocolBits(rawValue: 1 << 7)
        case .endOfFields: MilterProtocolBits(rawValue: 1 << 18)
        case .body: MilterProtocolBits(rawValue: 1 << 19)
        case .end: []
        }
    }
}
