// Milters that say anything: their packets, what these do to a message, and the machine that asks them.

import NIOCore
import SlimtaMail

@testable import SlimtaMilter

extension FuzzTarget {
    /// Replies: what is read is the same however it comes, and whatever edits do to a message, its header is one. The first
    /// octet says whether values come with their blanks.
    static let milterReply = FuzzTarget(name: "milter-reply", maximumLength: 1500) { octets in
        let keepsBlanks = (octets.first ?? 0) & 1 == 1
        let replies = try anyCut(Array(octets.dropFirst())) { chunks -> [Result<MilterReply, MilterFault>] in
            var reader = MilterPacketReader()
            var replies: [Result<MilterReply, MilterFault>] = []
            for chunk in chunks {
                reader.append(chunk)
                do throws(MilterFault) {
                    while let packet = try reader.next() {
                        replies.append(
                            Result { () throws(MilterFault) in try MilterReply(packet, keepsBlanks: keepsBlanks) })
                    }
                } catch {
                    return replies + [.failure(error)]
                }
            }
            return replies
        }
        let head = ByteBuffer(string: "Received: x\r\nFrom: a@b\r\nX-A: 1\r\n 2\r\nX-A: 3\r\n\r\nbody\r\n")
        var mail = MilterMail(head: head, sender: nil, recipients: [Mailbox(localPart: "b", domain: "example.net")])
        var edits = MilterEdits()
        for reply in replies {
            switch reply {
            case .success(.edit(let edit)): try? edits.take(edit)
            case .success(.body(let piece)): try? edits.take(body: piece, most: 1000)
            case .success(.text(let reply?)):
                try hold(reply.isTemporary || reply.isPermanent, "\(reply)")
                try hold(UInt16(reply.effectiveStatus.statusClass) == reply.code / 100, "\(reply)")
                try hold(
                    reply.lines.allSatisfy { $0.isASCII && $0.hasNoASCIIControl && $0.utf8.count <= 480 }, "\(reply)")
            case .success, .failure: break
            }
        }
        mail.apply(edits.completed())
        var written = mail.fieldsAboveReceived
        let applied = mail.applied(to: Message(head: head))
        written.writeImmutableBuffer(applied.head)
        let block = HeaderBlock(scanning: written)
        try hold(block.isWellFormed && block.isComplete, "\(String(buffer: written))")
        try same(block.fields.count, mail.fields.count, "fields that are shown, and written")
        for (field, shown) in zip(block.fields, mail.fields) {
            try same(field.name(in: written), shown.name, "names")
            let lines = String(
                buffer: written.getSlice(at: field.range.lowerBound, length: field.range.count) ?? ByteBuffer()
            )
            .split(separator: "\r\n", omittingEmptySubsequences: false)
            try hold(
                lines.allSatisfy { $0.utf8.count <= 998 && !$0.utf8.contains(13) && !$0.utf8.contains(10) }, shown.name)
        }
        if mail.body != nil {
            let body = String(buffer: mail.shownBody(of: Message(head: head)))
            let rest = body.replacing("\r\n", with: "")
            try hold(!rest.utf8.contains(13) && !rest.utf8.contains(10), "line ends in \(body)")
        }
    }

    /// A session: one verdict a question, events in their order, no more than one reply owed, and an end.
    static let milter = FuzzTarget(name: "milter", maximumLength: 500) { octets in
        var whole = MilterFuzzSession(octets, cutsReplies: false)
        try whole.run()
        var cut = MilterFuzzSession(octets, cutsReplies: true)
        try cut.run()
        // Half a reply takes the next one in.
        if !whole.isDisordered, !cut.isDisordered {
            try same(whole.transcript, cut.transcript, "replies whole, and cut")
        }
    }
}

/// A session whose milter, client and driver an input makes up.
private struct MilterFuzzSession {
    private static let events: [MilterEvent] = [
        .connect(MilterClient(name: nil, address: .ip(IPAddress("192.0.2.1")!, port: 7))), .hello("c.example.net"),
        .mail(path: "<a@example.com>", parameters: ["SIZE=1"]), .recipient(path: "<b@example.net>", parameters: []),
        .data,
        .message([
            MilterField(name: "From", value: ByteBuffer(string: " a@b")),
            MilterField(name: "X", value: ByteBuffer(string: "\r\n 1")),
        ]),
    ]

    private var choices: Choices
    private let cutsReplies: Bool
    private var machine: MilterSessionMachine
    private(set) var transcript: [String] = []
    /// The milter has said what nobody asked for: what answers what is open from then on.
    private(set) var isDisordered = false
    private var isOpen = false
    private var isClosed = false
    private var wantsBody = false
    private var isWritten = false
    /// The last event of a message that was written, for its order.
    private var place = 0
    private var reader = MilterPacketReader()
    private var macrosFor: UInt8?

    init(_ octets: [UInt8], cutsReplies: Bool) {
        choices = Choices(octets)
        self.cutsReplies = cutsReplies
        machine = MilterSessionMachine(
            .init(
                name: "m", onFailure: choices.one(of: Array(MilterFailurePolicy.allCases)), mostBody: 100))
    }

    mutating func run() throws {
        try step()
        if choices.flag() { try ask() }
        let version = choices.one(of: [6, 6, 6, 6, 4, 3, 2, 7] as [UInt32])
        let bits = choices.integer(UInt32.self) & (choices.flag() ? 0x1F_FFFF : 0x1F_FF80)
        try say(
            packet(
                "O",
                [version, 0x1FF, bits].flatMap { number in
                    (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * $0)) }
                }))
        var steps = 0
        while !choices.isAtEnd, steps < 300 {
            steps += 1
            switch choices.number(below: 12) {
            case 0: try end()
            case 1:
                machine.abort()
                isOpen = false
                try step()
            case 2 where choices.number(below: 8) == 0:
                machine.quit()
                isOpen = false
                try step()
            case 3 where !isOpen:
                if machine.canBeReused { place = 0 }
                machine.reuse()
                try step()
            case 4: try say(choices.octets().prefix(60) + [], isDisorder: true)
            case 5...8 where !isOpen: try ask()
            default:
                if wantsBody { try giveBody() } else { try say(reply()) }
            }
        }
        if isOpen { machine.ended(.closed) }
        try step()
        try hold(!isOpen, "a question without a verdict: \(transcript)")
        machine.quit()
        try step()
        try hold(isClosed, "a session without an end: \(transcript)")
    }

    private mutating func ask() throws {
        let event = choices.one(of: Self.events)
        isOpen = true
        machine.ask(event, macros: choices.flag() ? ["i": choices.text(), "{auth_authen}": "a"] : [:])
        try step()
    }

    private mutating func giveBody() throws {
        if choices.flag() {
            machine.endOfBody()
        } else {
            machine.body(ByteBuffer(repeating: 120, count: choices.one(of: [0, 1, 65_535, 300_000])))
        }
        try step()
    }

    private mutating func end() throws {
        guard choices.number(below: 4) == 0 else { return }
        machine.ended(choices.one(of: [.closed, .timedOut, .broken("x"), .unreachable("y")]))
        try step()
    }

    private func packet(_ letter: Unicode.Scalar, _ data: [UInt8] = []) -> [UInt8] {
        var out = ByteBuffer()
        out.writeMilterPacket(letter) { $0.writeBytes(data) }
        return Array(out.readableBytesView)
    }

    private mutating func reply() -> [UInt8] {
        switch choices.number(below: 24) {
        case 0: packet("a")
        case 1: packet("r")
        case 2: packet("t")
        case 3: packet("d")
        case 4: packet("s")
        case 5: packet("p")
        case 6: packet("4")
        case 7: packet("y", Array("550 5.7.1 no\0".utf8))
        case 8: packet("h", Array("X-New\0v\0".utf8))
        case 9: packet("i", [0, 0, 0, 1] + Array("X-New\0v\0".utf8))
        case 10: packet("m", [0, 0, 0, 1] + Array("From\0\0".utf8))
        case 11: packet("b", Array("new\n".utf8))
        case 12: packet("+", Array("<c@example.org>\0".utf8))
        case 13: packet("q", Array("odd\0".utf8))
        default: packet("c")
        }
    }

    private mutating func say(_ octets: [UInt8], isDisorder: Bool = false) throws {
        if isDisorder || machine.waitsFor.kind == .nothing { isDisordered = true }
        if cutsReplies {
            for octet in octets {
                machine.received(ByteBuffer(integer: octet))
                try step()
            }
        } else {
            machine.received(ByteBuffer(bytes: octets))
            try step()
        }
    }

    /// Performs what the machine wants until it waits.
    private mutating func step() throws {
        wantsBody = false
        var turns = 0
        while true {
            turns += 1
            try hold(turns < 5000, "the machine goes on for ever: \(transcript)")
            var out = ByteBuffer()
            let action = machine.next(into: &out)
            try check(out)
            switch action {
            case .wait:
                try hold(!isOpen || machine.waitsFor.kind != .nothing, "a question without a deadline: \(transcript)")
                return
            case .wantsBody:
                wantsBody = true
                try hold(isOpen, "wants a body of no message")
                return
            case .write: continue
            case .verdict(let verdict):
                try hold(isOpen, "a verdict on nothing: \(verdict), \(transcript)")
                isOpen = false
                transcript.append("\(verdict)")
            case .close:
                try hold(!isClosed, "closes twice")
                isClosed = true
                transcript.append("close")
            }
        }
    }

    /// What is written: packets in their order.
    private mutating func check(_ out: ByteBuffer) throws {
        guard out.readableBytes > 0 else { return }
        try hold(!isClosed, "writes behind the end")
        reader.append(out)
        while let packet = try reader.next() {
            let letter = Unicode.Scalar(packet.command)
            transcript.append("\(letter) \(packet.data.readableBytes)")
            if letter == "D" {
                macrosFor = packet.data.readableBytesView.first
                let texts = packet.data.readableBytesView.count { $0 == 0 }
                try hold(texts % 2 == 0, "a name without its value")
                continue
            }
            let order = Array("MRTLNBE".unicodeScalars)
            if let now = order.firstIndex(of: letter) {
                try hold(macrosFor == packet.command, "\(letter) without its macros: \(transcript)")
                let repeats = letter == "R" || letter == "L" || letter == "B"
                // Whoever drives the machine may ask in any order; a message is in its own.
                if now >= 3 {
                    try hold(
                        place < 3 || now > place || (repeats && now == place), "\(letter) out of order: \(transcript)")
                }
                place = letter == "E" ? 0 : now
            }
            if letter == "A" || letter == "K" { place = 0 }
            macrosFor = nil
        }
        try hold(!reader.hasUnread, "writes half a packet")
    }
}
