// Names of files, what inotify says, and the envelope of a message in a file: values of the directory edge.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaEdge

@Suite struct PickupValueTests {
    // MARK: Names

    @Test func namesThatAreNoMessages() {
        for name in [
            "a", "a.eml", "reason", "tmp", "a.tmp.eml", "~", "\u{E9}", "a b", String(repeating: "x", count: 255),
        ] {
            #expect(PickupName(name.utf8).mayBeMessage, "\(name)")
        }
        for name in ["", ".", "..", ".a", "a.tmp", "a.TMP", "a.part", "a.lock", "a.bad", "a.reason", ".tmp"] {
            #expect(!PickupName(name.utf8).mayBeMessage, "\(name)")
        }
    }

    @Test func takenNames() throws {
        let id = QueueID(at: .now())
        for name in ["a", "a~b", "\u{E9}.eml", "~"] {
            let file = TakenFile(id: id, name: PickupName(name.utf8))
            #expect(TakenFile(file.path) == file && file.name.octets == Array(name.utf8))
        }
        let long = TakenFile(id: id, name: PickupName(Array(repeating: 0xFF, count: 255)))
        #expect(long.path.octets.count == 255 && TakenFile(long.path) == long)
        for path in ["", "a", "\(id)", "\(id)~", "\(id)-a", "x\(id)~a", ".\(id)~a"] {
            #expect(TakenFile(PickupName(path.utf8)) == nil, "\(path)")
        }
    }

    @Test func namesInLogsAreHarmless() {
        #expect(!PickupName([0x61, 0x0A, 0x1B, 0xFF]).description.utf8.contains { $0 < 0x20 })
    }

    // MARK: inotify

    @Test func events() {
        var changes = FolderChanges()
        #expect(changes.isEmptyForTests)
        var octets = FolderChanges.event(0x80, "a")
        for (mask, name) in [
            (0x100, "b"), (0x2, "b"), (0x2, "b"), (0x8, "b"), (0x80, "c.tmp"), (0x100 | 0x4000_0000, "folder"),
            (0x80, String(repeating: "n", count: 255)),
        ] as [(UInt32, String)] { octets.writeImmutableBuffer(FolderChanges.event(mask, name)) }
        changes.add(&octets)
        #expect(octets.readableBytes == 0)
        #expect(changes.changes.map(\.event) == [.moved, .created, .written, .closed, .moved])
        #expect(changes.changes.prefix(2).map(\.name.description) == ["a", "b"])
        #expect(changes.changes.last?.name.octets.count == 255)
        #expect(!changes.hasLost && !changes.isGone)
    }

    @Test(arguments: [0x400, 0x800, 0x2000, 0x8000] as [UInt32]) func theFolderGoes(_ mask: UInt32) {
        var changes = FolderChanges()
        var octets = FolderChanges.event(mask, "")
        changes.add(&octets)
        #expect(changes.isGone)
    }

    @Test func itsOwnFoldersGo() {
        for (mask, name, isGone) in [
            (0x200, "taken", true), (0x40, "failed", true), (0x200, "other", false), (0x100, "taken", false),
        ] as [(UInt32, String, Bool)] {
            var changes = FolderChanges()
            var octets = FolderChanges.event(mask | 0x4000_0000, name)
            changes.add(&octets)
            #expect(changes.isGone == isGone, "\(mask) \(name)")
        }
    }

    @Test func boundsOfWhatIsKept() {
        var changes = FolderChanges()
        for number in 0..<FolderChanges.limit { changes.tell("\(number)", .moved) }
        #expect(!changes.hasLost)
        changes.tell("one more", .moved)
        #expect(changes.hasLost && changes.changes.count == FolderChanges.limit)
        changes = FolderChanges()
        changes.lose()
        #expect(changes.hasLost && !changes.isGone)
        // What is no whole event is none.
        var cut = FolderChanges.event(0x80, "a").getSlice(at: 0, length: 20) ?? ByteBuffer()
        changes = FolderChanges()
        changes.add(&cut)
        #expect(changes.isEmptyForTests && cut.readableBytes == 20)
    }

    // MARK: The envelope

    struct Read: Equatable, CustomStringConvertible {
        var sender: String
        var recipients: [String]
        var rest: String
        var body = BodyType.sevenBit
        var smtpUTF8 = false

        var description: String { "\(sender) \(recipients) \(rest)" }
    }

    static func read(_ text: String) throws -> Read {
        let head = ByteBuffer(string: text.replacing("\n", with: "\r\n"))
        let envelope = try PickupEnvelope(reading: head, hostname: "here.test")
        let sender =
            switch envelope.sender {
            case .given(let sender): "<\(sender?.text ?? "")>"
            case .header(let author): "header \(author?.text ?? "none")"
            }
        var content = head
        content.moveReaderIndex(forwardBy: envelope.topLength)
        return Read(
            sender: sender, recipients: envelope.recipients.map(\.text),
            rest: String(buffer: content).replacing("\r\n", with: "\n"), body: envelope.body,
            smtpUTF8: envelope.smtpUTF8)
    }

    static let mail = "To: other@x.test\nSubject: s\n\nx\n"

    static let envelopes: [(String, Read)] = [
        // IIS and .NET
        (
            "x-sender: a@x.test\nx-receiver: b@y.test\nx-receiver: c@z.test\n" + mail,
            Read(sender: "<a@x.test>", recipients: ["b@y.test", "c@z.test"], rest: mail)
        ),
        // Exchange
        (
            "X-Sender: <a@x.test> BODY=8bitmime RET=FULL ENVID=x12\n"
                + "X-Receiver: <b@y.test> NOTIFY=FAILURE,DELAY ORcpt=rfc822;b@y.test\n" + mail,
            Read(sender: "<a@x.test>", recipients: ["b@y.test"], rest: mail, body: .eightBitMIME)
        ),
        // Whom it is for alone: it is from whom it would be from without that.
        (
            "X-Envelope-Recipient: b@y.test\nFrom: a@x.test\n" + mail,
            Read(sender: "header a@x.test", recipients: ["b@y.test"], rest: "From: a@x.test\n" + mail)
        ),
        ("X-Sender: <>\nX-Receiver: b@y.test\n" + mail, Read(sender: "<>", recipients: ["b@y.test"], rest: mail)),
        (
            "X-Sender:\nX-Receiver: b@y.test NOTIFY=NEVER\n" + mail,
            Read(sender: "<>", recipients: ["b@y.test"], rest: mail)
        ),
        (
            "X-Sender: <\"a b\"@x.test> SIZE=20\nX-Receiver: <\"x y\"@y.test> NOTIFY=SUCCESS\n\nx",
            Read(sender: "<\"a b\"@x.test>", recipients: ["\"x y\"@y.test"], rest: "\nx")
        ),
        (
            "X-Sender: <\u{E9}@x.test>\nX-Receiver: b@y.test\n" + mail,
            Read(sender: "<\u{E9}@x.test>", recipients: ["b@y.test"], rest: mail, smtpUTF8: true)
        ),
        // ours
        (
            "X-Envelope-Sender: a@x.test\nX-Envelope-Recipient: b@y.test, Some One <c@z.test>\n"
                + "X-Envelope-Recipient: <d@z.test>\n" + mail,
            Read(sender: "<a@x.test>", recipients: ["b@y.test", "c@z.test", "d@z.test"], rest: mail)
        ),
        (
            "X-Envelope-Sender: <>\nX-Envelope-Recipient: b@y.test\n" + mail,
            Read(sender: "<>", recipients: ["b@y.test"], rest: mail)
        ),
        // and those of the message
        (
            "X-Envelope-Sender: a@x.test\nX-Envelope-Recipient: b@y.test\nX-Envelope-End:\n"
                + "X-Envelope-Recipient: c@z.test\nX-Envelope-End:\n" + mail,
            Read(
                sender: "<a@x.test>", recipients: ["b@y.test"],
                rest: "X-Envelope-Recipient: c@z.test\nX-Envelope-End:\n" + mail)
        ),
        // recipients alone: the sender is who the file is of
        ("X-Receiver: b@y.test\n" + mail, Read(sender: "header none", recipients: ["b@y.test"], rest: mail)),
        // as sendmail -t
        (
            "From: Me <a@x.test>\nTo: b@y.test, root\nCc: c@z.test\nBcc: d@z.test\n\nx\n",
            Read(
                sender: "header a@x.test", recipients: ["b@y.test", "root@here.test", "c@z.test", "d@z.test"],
                rest: "From: Me <a@x.test>\nTo: b@y.test, root\nCc: c@z.test\nBcc: d@z.test\n\nx\n")
        ),
        (
            "From: a@x.test\nSender: s@x.test\nTo: b@y.test\n",
            Read(
                sender: "header s@x.test", recipients: ["b@y.test"],
                rest: "From: a@x.test\nSender: s@x.test\nTo: b@y.test\n")
        ),
        // what does not stand first is a field like others
        (
            "To: b@y.test\nX-Receiver: c@z.test\n\nx\n",
            Read(sender: "header none", recipients: ["b@y.test"], rest: "To: b@y.test\nX-Receiver: c@z.test\n\nx\n")
        ),
        // out of a mailbox file
        (
            "From a@x.test Sat Jan  1 00:00:00 2000\nFrom: a@x.test\nTo: b@y.test\n\nx\n",
            Read(sender: "header a@x.test", recipients: ["b@y.test"], rest: "From: a@x.test\nTo: b@y.test\n\nx\n")
        ),
    ]

    @Test(arguments: envelopes) func envelope(_ text: String, _ expected: Read) throws {
        #expect(try Self.read(text) == expected)
    }

    @Test(arguments: [
        ("", "No recipients"), ("Subject: x\n\nx\n", "No recipients"),
        ("To: undisclosed-recipients:;\n\n", "No recipients"),
        ("X-Sender: a@x.test\nTo: b@y.test\n\n", "No recipients"),
        ("X-Sender: a@x.test\nX-Envelope-Recipient: b@y.test\n\n", "beside"),
        ("X-Envelope-Sender: a@x.test\nX-Receiver: b@y.test\n\n", "beside"),
        ("X-Sender: a@x.test\nX-Sender: b@x.test\nX-Receiver: b@y.test\n\n", "2 senders"),
        ("X-Sender: a b c\nX-Receiver: b@y.test\n\n", "X-Sender"),
        ("X-Sender: a@x.test\nX-Receiver: <b@y.test> SIZE=3\n\n", "X-Receiver"),
        ("X-Sender: a@x.test\nX-Receiver:\n\n", "X-Receiver"),
        ("X-Sender: <a@x.test> RET=SOME\nX-Receiver: b@y.test\n\n", "malformed RET"),
        ("X-Sender: <a@x.test> ENVID\nX-Receiver: b@y.test\n\n", "malformed ENVID"),
        ("X-Sender: <a@x.test> COLOUR=red\nX-Receiver: b@y.test\n\n", "parameters"),
        ("X-Sender: <a@x.test>\nX-Receiver: <b@y.test> NOTIFY=NEVER,DELAY\n\n", "malformed NOTIFY"),
        ("X-Sender: <a@x.test>\nX-Receiver: <b@y.test> ORCPT=b@y.test\n\n", "malformed ORCPT"),
        ("X-Envelope-Sender: a@x.test, b@x.test\nX-Envelope-Recipient: b@y.test\n\n", "2 addresses"),
        ("X-Envelope-Sender: a@x.test\nX-Envelope-Recipient: b\n\n", "without a domain"),
        ("To: b@\n\n", "To"),
    ]) func noEnvelope(_ text: String, _ reason: String) {
        #expect {
            try Self.read(text)
        } throws: { error in
            (error as? PickupRefusal).map { $0.reply.code == 554 && $0.reply.text.contains(reason) } ?? false
        }
    }
}

extension FolderChanges {
    fileprivate var isEmptyForTests: Bool { self == FolderChanges() }
}
