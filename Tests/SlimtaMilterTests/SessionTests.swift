// What is written when: in one go or as it is asked about, in what pieces, with which macros, and what ends a session.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaMilter

private let client = MilterEvent.connect(
    MilterClient(name: "c.example.net", address: .ip(IPAddress("192.0.2.1")!, port: 25)))
private let mail = MilterEvent.mail(path: "<a@example.com>", parameters: ["SIZE=5"])
private let recipient = MilterEvent.recipient(path: "<b@example.net>", parameters: [])
/// Answers nothing until the end, as rspamd.
private let silentBits: UInt32 = 0xFF080

@Suite struct MilterSessionTests {
    /// Who answers nothing before the end hears nothing before the message, and then all of it at once.
    @Test func inOneGo() {
        var session = MilterSession(bits: silentBits)
        for event in [client, .hello("c"), mail, recipient, .data] {
            #expect(session.ask(event) == .proceed)
            #expect(session.written.readableBytes == 0)
            #expect(session.machine.waitsFor.kind == .nothing)
        }
        session.ask(.message(MilterSession.fields))
        session.body("x\r\n")
        #expect(session.verdicts.count == 5)
        session.endOfBody()
        #expect(session.letters() == "DC C DH H DM M DR R DT T DL L DL L DN N DB B DE E")
        #expect(session.say(.edit(.quarantine(reason: "odd")), .accept) != nil)
        #expect(session.letters() == "A")
        session.submit()
        #expect(session.letters() == "DM M DR R DT T DL L DL L DN N DB B DE E")
    }

    /// What comes to nothing before that is never said.
    @Test func inOneGoOrNotAtAll() {
        var session = MilterSession(bits: silentBits)
        for event in [client, .hello("c"), mail, recipient] { session.ask(event) }
        session.machine.abort()
        for event in [mail, recipient] { session.ask(event) }
        session.machine.quit()
        session.run()
        #expect(session.letters() == "Q")
        #expect(session.isClosed)

        session = MilterSession(bits: silentBits)
        for event in [client, .hello("c"), mail, recipient] { session.ask(event) }
        session.machine.abort()
        session.submit()
        #expect(session.letters() == "DC C DH H DM M DR R DT T DL L DL L DN N DB B DE E")
    }

    /// There is an end to what is kept.
    @Test func inOneGoWithManyRecipients() {
        var session = MilterSession(bits: silentBits)
        for event in [client, .hello("c"), mail] { session.ask(event) }
        var count = 0
        while session.written.readableBytes == 0, count < 20_000 {
            count += 1
            #expect(session.ask(recipient) == .proceed)
        }
        #expect(session.written.readableBytes <= MilterSessionMachine.mostUnwritten + 200)
        _ = session.letters()
        session.machine.abort()
        session.run()
        #expect(session.letters() == "A")
    }

    /// Who answers one of them hears all as it is asked about.
    @Test func live() {
        var session = MilterSession(bits: silentBits & ~(1 << 15))
        #expect(session.ask(client) == .proceed)
        #expect(session.letters() == "DC C")
        #expect(session.ask(.hello("c")) == .proceed)
        #expect(session.ask(mail) == .proceed)
        #expect(session.letters() == "DH H DM M")
        #expect(session.ask(recipient) == nil)
        #expect(session.letters() == "DR R")
        #expect(session.say(.reject) == .refused(.milterRejects))
        #expect(session.ask(recipient) == nil)
        #expect(session.say(.proceed) == .proceed)
        #expect(session.ask(.data) == .proceed)
        session.machine.abort()
        session.run()
        #expect(session.letters() == "DR R DT T A")
    }

    /// A milter that answers DATA alone is told before the message.
    @Test func answersDataAlone() {
        var session = MilterSession(bits: silentBits & ~(1 << 16))
        for event in [client, .hello("c"), mail, recipient] { #expect(session.ask(event) == .proceed) }
        #expect(session.written.readableBytes == 0)
        #expect(session.ask(.data) == nil)
        #expect(session.letters() == "DC C DH H DM M DR R DT T")
        #expect(session.say(.temporary) == .refused(.milterIsTemporary))
        #expect(session.letters() == "A")
        #expect(session.ask(.message([])) == .refused(.milterIsTemporary))
    }

    /// Events that are not wanted leave their macros behind.
    @Test func unwanted() {
        // rspamd's silence, and nothing wanted but the end.
        var session = MilterSession(bits: 0xFF080 | 0x37F)
        for event in [client, .hello("c"), .hello("c")] { session.ask(event) }
        session.submit()
        #expect(session.letters() == "DC DH A DH DM DR DT DE E")
    }

    @Test func oldVersions() {
        for version in UInt32(2)...5 {
            var session = MilterSession(bits: 0xFF47F & ~0x7F, version: version)
            session.go(to: .recipient)
            session.say(.proceed)
            _ = session.letters()
            let verdict = session.ask(.data)
            #expect((verdict == .proceed) == (version < 4), "version \(version)")
            #expect(session.letters() == (version < 4 ? "DT" : "DT T"))
            #expect(!session.machine.canBeReused)
        }
    }

    /// A milter that has answered the offer late: what was asked before is told then.
    @Test func askedEarly() {
        var session = MilterSession(silent: .init(name: "m"))
        #expect(session.ask(client) == nil)
        #expect(session.letters() == "O")
        #expect(session.machine.waitsFor.kind == .negotiation)
        session.negotiate(bits: 0)
        #expect(session.letters() == "DC C")
        #expect(session.say(.proceed) == .proceed)
    }

    /// Accepted at connect or EHLO: no more of the session. At MAIL: no more of the message.
    @Test func accepted() {
        var session = MilterSession()
        session.ask(client)
        #expect(session.say(.accept) == .accepted)
        _ = session.letters()
        for _ in 0..<2 {
            for event in [MilterEvent.hello("c"), mail, recipient, .data] { #expect(session.ask(event) == .accepted) }
            #expect(session.ask(.message(MilterSession.fields)) == .finished(MilterEdits()))
        }
        #expect(session.letters() == "")

        session = MilterSession()
        session.go(to: .mail)
        _ = session.letters()
        #expect(session.say(.accept) == .accepted)
        #expect(session.ask(recipient) == .accepted)
        #expect(session.ask(.message(MilterSession.fields)) == .finished(MilterEdits()))
        #expect(session.letters() == "A")
        #expect(session.ask(mail) == nil)
        #expect(session.letters() == "DM M")
    }

    /// Refused at EHLO: everything up to the end. At MAIL: that transaction.
    @Test func refused() {
        var session = MilterSession()
        session.go(to: .hello)
        #expect(session.say(.reject) == .refused(.milterRejects))
        _ = session.letters()
        for event in [MilterEvent.hello("c"), mail, recipient] {
            #expect(session.ask(event) == .refused(.milterRejects))
        }
        session.machine.abort()
        #expect(session.ask(mail) == .refused(.milterRejects))
        #expect(session.letters() == "")

        session = MilterSession()
        session.go(to: .mail)
        session.say(.temporary)
        #expect(session.ask(recipient) == .refused(.milterIsTemporary))
        session.machine.abort()
        session.run()
        _ = session.letters()
        #expect(session.ask(mail) == nil)
        #expect(session.letters() == "DM M")
    }

    /// Edits of a message that is refused or discarded are none.
    @Test func editsBeforeRefusal() {
        for (reply, verdict) in [
            (MilterReply.reject, MilterVerdict.refused(.milterRejects)), (.discard, .discarded),
        ] {
            var session = MilterSession()
            session.go(to: .end)
            #expect(session.say(.edit(.delete(name: "From", index: 1)), reply) == verdict)
            #expect(session.machine.content.edits.isEmpty)
        }
    }

    @Test func newBody() throws {
        for (pieces, expected) in [
            (["a\r", "\nb"], "a\r\nb\r\n"), (["a\nb\r\r\n"], "a\r\nb\r\n\r\n"), (["\n"], "\r\n"), ([""], ""),
            (["a\r\n"], "a\r\n"), (["a\r"], "a\r\n"), (["\n\n"], "\r\n\r\n"),
        ] {
            var session = MilterSession()
            session.go(to: .end)
            for piece in pieces { session.say(.body(ByteBuffer(string: piece)), .progress) }
            guard case .finished(let edits) = session.say(.proceed) else {
                Issue.record("no verdict")
                continue
            }
            #expect(edits.body.map { String(buffer: $0) } == expected)
        }
        // In pieces with something else between them, and too large.
        var session = MilterSession()
        session.go(to: .end)
        let piece = MilterReply.body(ByteBuffer(string: "x"))
        session.say(piece, .edit(.quarantine(reason: "q")), piece)
        #expect(session.machine.failure?.cause == .fault(.bodyInPieces))
        session = MilterSession(.init(name: "m", mostBody: 5))
        session.go(to: .end)
        session.say(.body(ByteBuffer(string: "12345")))
        session.say(.body(ByteBuffer(string: "6")))
        #expect(session.machine.failure?.cause == .fault(.tooMuch))
        session = MilterSession()
        session.go(to: .end)
        for _ in 0..<20_000 where session.machine.failure == nil { session.say(.edit(.delete(name: "X", index: 1))) }
        #expect(session.machine.failure?.cause == .fault(.tooMuch))
    }

    /// Pieces of the body as long as they can be, however it comes; no more than 256 KiB unwritten.
    @Test func body() throws {
        for size in [1, 1000, 65_535, 65_536, 70_000, 400_000] {
            var session = MilterSession(bits: silentBits)
            let text = [UInt8](repeating: 120, count: 400_000)
            for event in [client, .hello("c"), mail, recipient, .data] { session.ask(event) }
            session.machine.ask(.message([]))
            var rest = ByteBuffer(bytes: text)
            var (written, at, lengths) = (ByteBuffer(), 0, [Int]())
            loop: while true {
                let action = session.machine.next(into: &written)
                #expect(written.writerIndex - at <= MilterSessionMachine.mostUnwritten + 66_000)
                switch action {
                case .write: at = written.writerIndex
                case .wantsBody:
                    if let piece = rest.readSlice(length: min(size, rest.readableBytes)), piece.readableBytes > 0 {
                        session.machine.body(piece)
                    } else {
                        session.machine.endOfBody()
                    }
                default: break loop
                }
                if size == 1, rest.readerIndex > 2000 { rest.moveReaderIndex(to: rest.writerIndex) }
            }
            var reader = MilterPacketReader()
            reader.append(written)
            while let packet = try reader.next() {
                if packet.command == UInt8(ascii: "B") { lengths.append(packet.data.readableBytes) }
            }
            let whole = size == 1 ? 2001 : 400_000
            #expect(lengths.reduce(0, +) == whole)
            #expect(lengths.dropLast().allSatisfy { $0 == 65_535 })
        }
    }

    @Test func emptyBody() {
        var session = MilterSession(bits: silentBits)
        for event in [client, mail, recipient, .data, .message([])] { session.ask(event) }
        session.endOfBody()
        #expect(session.letters() == "DC C DM M DR R DT T DN N DE E")
    }

    // MARK: Macros

    @Test func macros() throws {
        var session = MilterSession(
            bits: 0, lists: [(0, "j {client_addr}"), (2, ""), (5, "{auth_authen} i"), (9, "x")])
        session.machine.ask(
            client, macros: ["j": "mx.example.com", "client_addr": "192.0.2.1", "v": "slimtad", "_": "u\0x"])
        session.run()
        session.say(.proceed)
        session.ask(mail, ["i": "1A", "{auth_authen}": "alice", "mail_addr": "a@example.com"])
        session.say(.proceed)
        session.ask(recipient, ["rcpt_addr": "b@example.net"])
        session.say(.proceed)
        session.ask(recipient)
        session.say(.proceed)
        session.ask(.data)
        session.say(.proceed)
        session.ask(.message([]))
        session.say(.proceed)
        session.endOfBody()
        var reader = MilterPacketReader()
        reader.append(session.written)
        var macros: [String] = []
        while let packet = try reader.next() {
            if packet.command == UInt8(ascii: "D") {
                macros.append(ChunkVerifier.printable(packet.data.readableBytesView).replacing("\\x00", with: " "))
            }
        }
        #expect(
            macros == [
                "Cj mx.example.com {client_addr} 192.0.2.1 ", "Mi 1A {auth_authen} alice {mail_addr} a@example.com ",
                "Ri 1A {rcpt_addr} b@example.net ", "Ri 1A ", "Ti 1A ", "Ni 1A ", "E{auth_authen} alice i 1A ",
            ])
        // The next message has its own.
        session.say(.proceed)
        session.written.clear()
        session.ask(mail)
        #expect(session.letters() == "A DM M")
    }

    /// No value makes two texts of one, none makes a packet too long.
    @Test func strangeMacros() throws {
        var session = MilterSession()
        session.machine.ask(
            client, macros: ["j": "a\0b", "daemon_name": String(repeating: "n", count: 70_000), "daemon_addr": "x"])
        session.run()
        var reader = MilterPacketReader()
        reader.append(session.written)
        let packet = try #require(try reader.next())
        #expect(ChunkVerifier.printable(packet.data.readableBytesView) == "Cj\\x00a?b\\x00")
    }

    // MARK: Fields

    @Test func blanks() throws {
        for (bits, expected) in [(UInt32(0), "v| v|\tv|\n v|v  ||"), (UInt32(1) << 20, " v|  v|\tv|\n v| v  || ")] {
            var session = MilterSession(bits: silentBits | bits)
            let values = [" v", "  v", "\tv", "\r\n v", " v  ", "", " "]
            for event in [client, mail, recipient, .data] { session.ask(event) }
            session.ask(.message(values.map { MilterField(name: "X", value: ByteBuffer(string: $0)) }))
            var reader = MilterPacketReader()
            reader.append(session.written)
            var found: [String] = []
            while let packet = try reader.next() {
                guard packet.command == UInt8(ascii: "L") else { continue }
                found.append(String(decoding: packet.data.readableBytesView.dropFirst(2).dropLast(), as: UTF8.self))
            }
            #expect(found.joined(separator: "|") == expected)
        }
    }

    /// A field that no packet holds.
    @Test func longField() throws {
        let long = MilterField(name: "X-Long", value: ByteBuffer(repeating: 120, count: 70_000))
        for policy in MilterFailurePolicy.allCases {
            var session = MilterSession(bits: silentBits, .init(name: "m", onFailure: policy))
            for event in [client, mail, recipient, .data] { session.ask(event) }
            let verdict = session.ask(.message([long]))
            switch policy {
            case .tempfail, .reject:
                #expect(verdict == .refused(.fieldIsTooLong))
                #expect(session.written.readableBytes == 0 && session.machine.isUsable)
            case .accept, .quarantine:
                session.endOfBody()
                var reader = MilterPacketReader()
                reader.append(session.written)
                while let packet = try reader.next() { #expect(packet.data.readableBytes <= 65_100) }
                #expect(session.machine.takeNotes() == [.fieldCut("X-Long")])
                guard case .finished(let edits) = session.say(.proceed) else {
                    Issue.record("no verdict")
                    continue
                }
                #expect(edits.list.isEmpty == (policy == .accept))
            }
        }
    }

    // MARK: Time

    @Test func deadlines() {
        var session = MilterSession()
        #expect(session.machine.waitsFor.kind == .nothing)
        session.go(to: .mail)
        var wait = session.machine.waitsFor
        #expect(wait.kind == .reply(.mail) && wait.limit == .seconds(30) && wait.wholeLimit == .seconds(600))
        session.say(.progress)
        #expect(session.machine.waitsFor.number != wait.number && session.machine.waitsFor.whole == wait.whole)
        session.say(.proceed)
        #expect(session.machine.waitsFor.kind == .nothing)
        session.ask(recipient)
        session.say(.proceed)
        session.ask(.data)
        session.say(.proceed)
        session.ask(.message(MilterSession.fields))
        wait = session.machine.waitsFor
        #expect(wait.kind == .reply(.field) && wait.limit == .seconds(300))
        session.say(.proceed)
        session.say(.proceed)
        // All fields together have one.
        #expect(session.machine.waitsFor == wait)
        session.say(.proceed)
        #expect(session.last == .wantsBody && session.machine.waitsFor.kind == .reply(.body))
        wait = session.machine.waitsFor
        session.body(String(repeating: "x", count: 65_535))
        session.say(.proceed)
        #expect(session.machine.waitsFor == wait)
        session.endOfBody()
        #expect(session.machine.waitsFor.kind == .reply(.end))
        wait = session.machine.waitsFor
        session.say(.edit(.quarantine(reason: "q")))
        #expect(session.machine.waitsFor == wait)
        session.say(.progress)
        #expect(session.machine.waitsFor.number != wait.number && session.machine.waitsFor.whole == wait.whole)
        session.machine.ended(.timedOut)
        session.run()
        #expect(session.verdicts.last == .refused(.milterIsTemporary))
        #expect(session.machine.failure?.description == "did not answer in time at the end of the message")
    }
}
