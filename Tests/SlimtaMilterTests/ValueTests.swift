// Packets, negotiation, replies in words, clients, and edits of a message: what is read and written, and what is refused.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaMilter

@Suite struct MilterValueTests {
    // MARK: Packets

    @Test func packetLengths() throws {
        for (octets, fault) in [
            ([0, 0, 0, 0], MilterFault.emptyPacket), ([0, 1, 0, 1], .packetTooLong(65_537)),
            ([255, 255, 255, 255, 1], .packetTooLong(.max)),
        ] as [([UInt8], MilterFault)] {
            let read = try ChunkVerifier.verify(octets) { chunks -> MilterFault? in
                var reader = MilterPacketReader()
                for chunk in chunks {
                    reader.append(chunk)
                    do throws(MilterFault) { _ = try reader.next() } catch { return error }
                }
                return nil
            }
            #expect(read == fault)
        }
        var reader = MilterPacketReader()
        reader.append(ByteBuffer(bytes: [0, 1, 0, 0]))
        #expect(try reader.next() == nil)
        reader.append(ByteBuffer(repeating: 98, count: 65_536))
        #expect(try reader.next()?.data.readableBytes == 65_535)
        #expect(!reader.hasUnread)
    }

    @Test func longTextsAreCut() throws {
        var out = ByteBuffer()
        out.writeMilterTexts("M", [String(repeating: "x", count: 70_000)])
        var reader = MilterPacketReader()
        reader.append(out)
        let data = try #require(try reader.next()).data
        #expect(data.readableBytes == 65_535 && data.readableBytesView.last == 0)
    }

    // MARK: Negotiation

    private func answer(_ command: Unicode.Scalar = "O", _ octets: [UInt8]) throws -> MilterNegotiation {
        try MilterNegotiation(
            answer: MilterPacket(command: UInt8(ascii: command), data: ByteBuffer(bytes: octets)))
    }

    private func answer(_ version: UInt32, _ actions: UInt32, _ bits: UInt32, _ more: [UInt8] = []) throws
        -> MilterNegotiation
    {
        var data = ByteBuffer()
        for number in [version, actions, bits] { data.writeInteger(number) }
        return try answer("O", Array(data.readableBytesView) + more)
    }

    @Test func offer() {
        var out = ByteBuffer()
        MilterNegotiation.writeOffer(into: &out)
        #expect(
            Array(out.readableBytesView) == [0, 0, 0, 13, 79, 0, 0, 0, 6, 0, 0, 1, 0xFF, 0, 0x1F, 0xFF, 0xFF])
    }

    @Test func answers() throws {
        #expect(throws: MilterFault.noNegotiation(UInt8(ascii: "c"))) { try answer("c", []) }
        for count in 0..<12 {
            #expect(throws: MilterFault.malformedNegotiation) {
                try answer("O", [0, 0, 0, 6, 0, 0, 1, 0xFF, 0, 0, 0].prefix(count) + [])
            }
        }
        for version in UInt32(0)...8 {
            if (2...6).contains(version) {
                #expect(try answer(version, 0, 0).version == version)
            } else {
                #expect(throws: MilterFault.version(version)) { try answer(version, 0, 0) }
            }
        }
        #expect(throws: MilterFault.actions(0x200)) { try answer(6, 0x200, 0) }
        #expect(throws: MilterFault.protocolBits(0x20_0000)) { try answer(6, 0, 0x20_0000) }
        #expect(throws: MilterFault.malformedNegotiation) { try answer(6, 0x100, 0, [0, 0, 0, 1, 105]) }
        #expect(throws: MilterFault.malformedNegotiation) { try answer(6, 0x100, 0, [0, 0, 1]) }
        // A stage that there is not says nothing.
        #expect(try answer(6, 0x100, 0, [0, 0, 0, 7, 105, 0]).macroLists == MilterMacroLists())
        #expect(
            try answer(6, 0x100, 0, [0, 0, 0, 0, 106, 44, 32, 123, 105, 125, 0]).macroLists[.connect] == ["j", "i"])
    }

    /// Each bit leaves out one event, or its reply.
    @Test func bits() throws {
        let unwanted: [MilterStep: UInt32] = [
            .connect: 0, .hello: 1, .mail: 2, .recipient: 3, .body: 4, .field: 5, .endOfFields: 6, .data: 9,
        ]
        let unanswered: [MilterStep: UInt32] = [
            .field: 7, .connect: 12, .hello: 13, .mail: 14, .recipient: 15, .data: 16, .endOfFields: 18, .body: 19,
        ]
        for bit in UInt32(0)..<21 {
            let agreed = try answer(6, 0x1FF, 1 << bit)
            for step in MilterStep.allCases {
                #expect(agreed.wants(step) == (unwanted[step] != bit))
                #expect(agreed.owesReply(to: step) == (unwanted[step] != bit && unanswered[step] != bit))
            }
            #expect(agreed.isLive)
            #expect(agreed.wantsRejectedRecipients == (bit == 11))
            // Versions before 6 know of no such silence.
            let old = try answer(4, 0, 1 << bit)
            for step in MilterStep.allCases where step != .field {
                #expect(old.owesReply(to: step) == (unwanted[step] != bit))
            }
        }
        #expect(try !answer(6, 0, 0xF).isLive)
        #expect(try !answer(6, 0, 0xF000).isLive)
        #expect(try answer(6, 0, 0xE000).isLive)
    }

    // MARK: Replies in words

    @Test(
        arguments: [
            ("550 5.7.1 no", "550 5.7.1 no"), ("451 4.7.9 100%% %d", "451 4.7.9 100% %d"), ("550 no", "550 5.7.1 no"),
            ("550", "550 5.7.1 "), ("421 4.7.0 bye\r\n", "421 4.7.0 bye"), ("550 5.7.1 ", "550 5.7.1 "),
            ("451-4.7.9 one\r\n451 4.7.9 two", "451 4.7.9 one two"), ("451-4.7.9 one\r\n451 two", "451 4.7.9 one two"),
            ("550 5.7.1 caf\u{e9}", "550 5.7.1 caf\\u00e9"), ("550 5.7.1 a\u{1b}[2J", "550 5.7.1 a\\x1b[2J"),
            ("550 5.7.1\u{0}", "550 5.7.1 5.7.1\\x00"),
            ("250 2.0.0 yes", nil), ("354 go", nil), ("600 no", nil), ("55", nil), ("", nil), ("no", nil),
            ("\r\n", nil),
            ("550 4.7.1 no", nil), ("451 5.7.1 no", nil), ("550 2.0.0 yes", nil), ("550\t5.7.1 no", nil),
            ("550 5.7.1 a\nb", nil), ("550 5.7.1 a\rb", nil), ("550-5.7.1 a\n550 5.7.1 b", nil), ("550-5.7.1 no", nil),
            ("550 5.7.1 a\r\n550 5.7.1 b", nil), ("550-5.7.1 a\r\n551 5.7.1 b", nil),
            ("550-5.7.1 a\r\n550 4.7.1 b", nil),
            ("550 5.7.1 a\r\n\r\n250 2.0.0 b", nil), ("5505.7.1 no", nil), ("\u{663}50 no", nil),
        ] as [(String, String?)]) func replyText(_ text: String, _ expected: String?)
    {
        #expect(Reply(milterText: Array(text.utf8))?.description == expected)
    }

    @Test func longReplies() {
        let lines = { (count: Int) in
            (0..<count).map { "550\($0 == count - 1 ? " " : "-")5.7.1 x" }.joined(separator: "\r\n")
        }
        #expect(Reply(milterText: Array(lines(32).utf8))?.lines.count == 32)
        #expect(Reply(milterText: Array(lines(33).utf8)) == nil)
        let long = Reply(milterText: Array("550 5.7.1 \(String(repeating: "x", count: 2000))".utf8))
        #expect(long?.text.utf8.count == 480)
    }

    // MARK: Clients

    @Test(arguments: [
        (
            MilterClient(name: nil, address: .ip(IPAddress("192.0.2.1")!, port: 258)),
            "[192.0.2.1]\\x004\\x01\\x02192.0.2.1\\x00"
        ),
        (
            MilterClient(name: "h", address: .ip(IPAddress("2001:db8::1")!, port: 1)),
            "h\\x006\\x00\\x012001:db8::1\\x00"
        ),
        (MilterClient(name: nil, address: .local(path: "/run/x")), "localhost\\x00L\\x00\\x00/run/x\\x00"),
        (MilterClient(name: nil, address: .unknown), "unknown\\x00U"),
    ]) func clients(_ client: MilterClient, _ expected: String) {
        var out = ByteBuffer()
        out.writeMilterClient(client)
        #expect(ChunkVerifier.printable(out.readableBytesView.dropFirst(5)) == expected)
    }

    // MARK: Edits

    private func field(_ name: String, _ value: String) -> MilterField {
        MilterField(name: name, value: ByteBuffer(string: " \(value)"))
    }

    private func edited(_ head: String, _ edits: MilterEdit...) -> (above: String, head: String) {
        let message = Message(head: ByteBuffer(string: head))
        var mail = MilterMail(head: message.head, sender: nil, recipients: [])
        var all = MilterEdits()
        for edit in edits { all.add(edit) }
        mail.apply(all)
        return (String(buffer: mail.fieldsAboveReceived), String(buffer: mail.applied(to: message).head))
    }

    @Test func places() {
        let head = "A: 1\r\nB: 2\r\nA: 3\r\n\r\nbody"
        #expect(edited(head).head == head)
        #expect(edited(head, .insert(field("X", "v"), at: 0)) == ("X: v\r\n", head))
        #expect(edited(head, .insert(field("X", "v"), at: 1)) == ("", "X: v\r\n" + head))
        #expect(edited(head, .insert(field("X", "v"), at: 3)).head == "A: 1\r\nB: 2\r\nX: v\r\nA: 3\r\n\r\nbody")
        #expect(edited(head, .insert(field("X", "v"), at: .max)).head == "A: 1\r\nB: 2\r\nA: 3\r\nX: v\r\n\r\nbody")
        // A field above Received moves the places below it.
        #expect(
            edited(head, .insert(field("X", "v"), at: 0), .insert(field("Y", "w"), at: 1)) == (
                "X: v\r\nY: w\r\n", head
            ))
        #expect(edited(head, .delete(name: "a", index: 1), .delete(name: "A", index: 1)).head == "B: 2\r\n\r\nbody")
        #expect(edited(head, .delete(name: "A", index: 3), .delete(name: "AB", index: 1)).head == head)
        #expect(edited(head, .change(field("a", "new"), index: 2)).head == "A: 1\r\nB: 2\r\na: new\r\n\r\nbody")
        #expect(edited(head, .change(field("C", "c"), index: 1)).head == "A: 1\r\nB: 2\r\nA: 3\r\nC: c\r\n\r\nbody")
    }

    /// Our Received is never counted; one of the client's is.
    @Test func received() {
        let head = "Received: theirs\r\nA: 1\r\n\r\n"
        #expect(edited(head, .delete(name: "Received", index: 1)).head == "A: 1\r\n\r\n")
        #expect(
            edited(head, .insert(field("Received", "x"), at: 0), .delete(name: "received", index: 2)) == (
                "Received: x\r\n", "A: 1\r\n\r\n"
            ))
    }

    /// Messages without a header, without a body, and with a line that is no field.
    @Test func shapes() {
        #expect(edited("\r\nbody", .append(field("X", "v"))).head == "X: v\r\n\r\nbody")
        #expect(edited("body\r\n", .append(field("X", "v"))).head == "X: v\r\n\r\nbody\r\n")
        #expect(edited("A: 1\r\nno field\r\n", .append(field("X", "v"))).head == "A: 1\r\nX: v\r\n\r\nno field\r\n")
        #expect(edited("A: 1\r\n", .append(field("X", "v"))).head == "A: 1\r\nX: v\r\n")
        #expect(edited("A: 1", .append(field("X", "v"))).head == "A: 1\r\nX: v\r\n")
        #expect(edited("", .append(field("X", "v"))).head == "X: v\r\n")
        #expect(edited("A : 1\r\n 2\r\n\r\n", .change(field("a", "v"), index: 1)).head == "a: v\r\n\r\n")
    }

    @Test func newBody() throws {
        let message = Message(head: ByteBuffer(string: "A: 1\r\n\r\nold"))
        var mail = MilterMail(head: message.head, sender: nil, recipients: [])
        #expect(String(buffer: mail.shownBody(of: message)) == "old")
        var edits = MilterEdits()
        try edits.take(body: ByteBuffer(string: "new"), most: 10)
        mail.apply(edits.completed())
        #expect(String(buffer: mail.shownBody(of: message)) == "new\r\n")
        #expect(String(buffer: mail.applied(to: message).head) == "A: 1\r\n\r\nnew\r\n")
    }

    @Test func envelope() throws {
        let client = try #require(Mailbox(parsing: "b@example.net"))
        let quoted = try #require(Mailbox(parsing: "\"a.b\"@example.net"))
        let other = try #require(Mailbox(parsing: "c@example.org"))
        var mail = MilterMail(head: ByteBuffer(), sender: client, recipients: [client, quoted])
        var edits = MilterEdits()
        for edit in [
            MilterEdit.addRecipient(client, parameters: ["NOTIFY=NEVER"]),
            .addRecipient(other, parameters: ["NOTIFY=NEVER"]),
            .addRecipient(other, parameters: []), .removeRecipient("a.b@example.net"),
            .removeRecipient("B@example.net"),
            .removeRecipient("nobody"), .sender(nil, parameters: []), .quarantine(reason: "one"),
            .quarantine(reason: "two"),
        ] { edits.add(edit) }
        mail.apply(edits)
        #expect(
            mail.recipients == [
                .init(mailbox: client, parameters: []), .init(mailbox: other, parameters: ["NOTIFY=NEVER"]),
            ])
        #expect(mail.sender == nil && mail.heldBecause == "one")
    }
}
