// What a milter says (reference/content.md section 2.4): verdicts, signs of life, and edits. Read by MilterSessionMachine,
// which knows what it may say when.

internal import NIOCore
internal import SlimtaMail

/// A reply of a milter.
enum MilterReply: Hashable, Sendable {
    /// c: go on.
    case proceed
    /// a: no more of this message, or of this session.
    case accept
    /// r, t: the standard replies.
    case reject, temporary
    /// y: a reply of its own; nil: one that must not reach a client.
    case text(Reply?)
    /// d: say yes, store nothing.
    case discard
    /// s: no more events of this kind.
    case skip
    /// p: it is still at it.
    case progress
    /// 4, f: close the connection to the client.
    case shutDown
    /// An edit of the message.
    case edit(MilterEdit)
    /// b: a piece of the new body.
    case body(ByteBuffer)
    /// l: macros that it wants from now on.
    case macroList(UInt32, ByteBuffer)

    /// Reads a packet. `keepsBlanks`: values of fields come with what stands behind the colon.
    init(_ packet: MilterPacket, keepsBlanks: Bool) throws(MilterFault) {
        if let simple = Self.simple(packet.command) {
            guard packet.data.readableBytes == 0 else { throw .dataBehind(packet.command) }
            self = simple
            return
        }
        var data = MilterReplyData(packet)
        switch Unicode.Scalar(packet.command) {
        case "b":
            self = .body(packet.data)
            return
        case "y": self = .text(Reply(milterText: Array(try data.text().readableBytesView)))
        case "h":
            let name = try data.name()
            self = .edit(.append(try data.field(name, keepsBlanks: keepsBlanks)))
        case "i":
            let index = try data.number()
            let name = try data.name()
            self = .edit(.insert(try data.field(name, keepsBlanks: keepsBlanks), at: index))
        case "m":
            let index = max(1, try data.number())
            let name = try data.name()
            // Nothing at all deletes; with LEADSPC a blank alone is a value.
            if data.isEmptyText {
                _ = try data.text()
                self = .edit(.delete(name: name, index: index))
            } else {
                self = .edit(.change(try data.field(name, keepsBlanks: keepsBlanks), index: index))
            }
        case "+": self = .edit(.addRecipient(try data.mailbox(), parameters: []))
        case "2":
            let mailbox = try data.mailbox()
            self = .edit(.addRecipient(mailbox, parameters: try data.recipientParameters()))
        case "-": self = .edit(.removeRecipient(try data.path()))
        case "e":
            let sender = try data.sender()
            self = .edit(.sender(sender, parameters: try data.words()))
        case "q":
            let reason = String(decoding: try data.text().readableBytesView, as: UTF8.self)
            self = .edit(.quarantine(reason: reason.cut(toOctets: 500).visible))
        case "l":
            let stage = try UInt32(data.number())
            self = .macroList(stage, try data.text())
        default: throw .unknownReply(packet.command)
        }
        try data.end()
    }

    /// Replies that are a letter, and no more.
    private static func simple(_ letter: UInt8) -> MilterReply? {
        switch Unicode.Scalar(letter) {
        case "c": .proceed
        case "a": .accept
        case "r": .reject
        case "t": .temporary
        case "d": .discard
        case "s": .skip
        case "p": .progress
        case "4", "f": .shutDown
        default: nil
        }
    }
}

/// The data of a reply, read from beginning to end.
private struct MilterReplyData {
    /// The longest line of a message (RFC 5322 section 2.1.1).
    private static let longestLine = 998

    private let letter: UInt8
    private var data: ByteBuffer

    init(_ packet: MilterPacket) {
        letter = packet.command
        data = packet.data
    }

    /// Whether the next text is there, and empty.
    var isEmptyText: Bool { data.readableBytesView.first == 0 }

    mutating func text() throws(MilterFault) -> ByteBuffer {
        guard let text = data.readMilterText() else { throw .malformed(letter) }
        return text
    }

    mutating func number() throws(MilterFault) -> Int {
        guard let number = data.readInteger(as: UInt32.self) else { throw .malformed(letter) }
        return Int(number)
    }

    /// Nothing is to be left.
    func end() throws(MilterFault) {
        if data.readableBytes > 0 { throw .malformed(letter) }
    }

    /// The name of a field (RFC 5322 section 3.6.8): printable octets without colon.
    mutating func name() throws(MilterFault) -> String {
        let name = try text().readableBytesView
        guard !name.isEmpty, name.allSatisfy({ (33...126).contains($0) && $0 != UInt8(ascii: ":") }) else {
            throw .fieldName
        }
        return String(decoding: name, as: UTF8.self)
    }

    /// A value, as it is to stand behind the colon: its line ends are LF, and a blank has to follow on each.
    mutating func field(_ name: String, keepsBlanks: Bool) throws(MilterFault) -> MilterField {
        let given = try text().readableBytesView
        var value = ByteBuffer()
        value.reserveCapacity(given.count + 16)
        if !keepsBlanks { value.writeInteger(UInt8(ascii: " ")) }
        var room = Self.longestLine - name.utf8.count - 1 - value.readableBytes
        for (index, line) in given.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
            if index > 0 {
                guard line.first == UInt8(ascii: " ") || line.first == UInt8(ascii: "\t") else { throw .fieldValue }
                value.writeInteger(0x0D0A as UInt16)
                room = Self.longestLine
            }
            guard line.count <= room, !line.contains(UInt8(ascii: "\r")) else { throw .fieldValue }
            value.writeBytes(line)
        }
        return MilterField(name: name, value: value)
    }

    /// An address, in angle brackets or without.
    mutating func path() throws(MilterFault) -> String {
        let text = String(decoding: try text().readableBytesView, as: UTF8.self)
        return text.hasPrefix("<") && text.hasSuffix(">") ? String(text.dropFirst().dropLast()) : text
    }

    mutating func mailbox() throws(MilterFault) -> Mailbox {
        let text = try path()
        guard let mailbox = Mailbox(parsing: text) else { throw .address(text) }
        return mailbox
    }

    /// A sender; `<>` is the null reverse-path.
    mutating func sender() throws(MilterFault) -> Mailbox? {
        let text = try path()
        if text.isEmpty { return nil }
        guard let mailbox = Mailbox(parsing: text) else { throw .address(text) }
        return mailbox
    }

    /// The texts that are left, as words.
    mutating func words() throws(MilterFault) -> [String] {
        var words: [String] = []
        while data.readableBytes > 0 {
            let text = String(decoding: try text().readableBytesView, as: UTF8.self)
            words += text.split(separator: " ").map(String.init)
        }
        return words
    }

    /// Parameters of RCPT that a recipient may be added with: those of RFC 3461 section 4.
    mutating func recipientParameters() throws(MilterFault) -> [String] {
        let words = try words()
        for word in words {
            let keyword = word.prefix { $0 != "=" }.uppercased()
            guard keyword == "NOTIFY" || keyword == "ORCPT", word.isASCII, word.hasNoASCIIControl else {
                throw .parameter(word)
            }
        }
        return words
    }
}
