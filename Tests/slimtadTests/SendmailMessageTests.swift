// What sendmail makes of a message: where it ends, what its header gets, what came of it.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaSystem
import TestKit
import Testing

@testable import slimtad

@Suite struct SendmailMessageTests {
    // MARK: A dot

    static let dots: [(input: String, message: String, isFound: Bool)] = [
        ("", "", false), ("a\n", "a\n", false), ("a\n.\nb\n", "a\n", true), (".\n", "", true), (".\r\n", "", true),
        ("a\r\n.\r\nb", "a\r\n", true), ("a\n.", "a\n", false), ("a\n..\nb\n", "a\n..\nb\n", false),
        (".a\n.b", ".a\n.b", false),
        ("a.\n.\r", "a.\n.\r", false), (".\rx\n", ".\rx\n", false), ("a\n. \n", "a\n. \n", false),
        ("\n.\n", "\n", true),
        ("..\n.\n", "..\n", true), ("a\n.\n.\n", "a\n", true), ("x.\n", "x.\n", false),
    ]

    @Test(arguments: dots) func dot(_ input: String, _ message: String, _ isFound: Bool) throws {
        struct Read: Equatable {
            var octets: [UInt8] = []
            var isFound = false
        }
        let read = try ChunkVerifier.verify(Array(input.utf8)) { chunks in
            var (dot, read) = (DotEnd(), Read())
            for chunk in chunks { read.octets += dot.read(chunk).readableBytesView }
            read.octets += dot.finish().readableBytesView
            read.isFound = dot.isFound
            return read
        }
        #expect(read == Read(octets: Array(message.utf8), isFound: isFound))
    }

    // MARK: Input

    private func read(_ octets: String, stopsAtDot: Bool = false) throws -> (String, rest: Int) {
        let pipe = Pipe()
        let writer = Thread { [end = pipe.fileHandleForWriting] in
            end.write(Data(octets.utf8))
            try? end.close()
        }
        writer.start()
        var input = SendmailInput(pipe.fileHandleForReading.fileDescriptor, stopsAtDot: stopsAtDot)
        var text = ""
        defer { input.drain() }
        while let piece = try input.next() { text += String(buffer: piece) }
        input.drain()
        return (text, pipe.fileHandleForReading.availableData.count)
    }

    @Test func endsOfLines() throws {
        #expect(try read("a\nb\r\nc").0 == "a\r\nb\r\nc\r\n")
        #expect(try read("a\n.\nb\n").0 == "a\r\n.\r\nb\r\n")
        #expect(try read("a\n.\nb\n", stopsAtDot: true).0 == "a\r\n")
        #expect(try read("").0 == "")
        // Nobody who writes on is killed for it.
        let long = String(repeating: "x\n", count: 200_000)
        #expect(try read("a\n.\n\(long)", stopsAtDot: true) == ("a\r\n", 0))
    }

    @Test(arguments: ["a\rb\n", "a\u{0}b\n"])
    func data(_ text: String) {
        let error = #expect(throws: Failure.self) { try read(text) }
        #expect(error?.status == .data)
    }

    @Test func unreadable() throws {
        var closed = SendmailInput(-1, stopsAtDot: false)
        #expect(#expect(throws: Failure.self) { try closed.next() }?.status == .noInput)
        let folder = open("/tmp", O_RDONLY)
        defer { close(folder) }
        var input = SendmailInput(folder, stopsAtDot: false)
        #expect(#expect(throws: Failure.self) { try input.next() }?.status == .noInput)
    }

    /// A large message is in a file, and comes back as it was.
    @Test func content() throws {
        let content = SendmailContent()
        var octets: [UInt8] = []
        var generator = SeededGenerator(seed: 7)
        for size in [0, 1, 65_536, 1 << 20, 1, 300_000, 0, 70_000] {
            let piece = generator.octets(size)
            octets += piece
            try content.append(ByteBuffer(bytes: piece))
        }
        #expect(content.size == octets.count)
        #expect(!content.isInMemory)
        var back: [UInt8] = []
        try content.forEach { piece throws(Failure) in back += piece.readableBytesView }
        #expect(back == octets)
    }

    // MARK: Header

    private let caller = SendmailCaller(
        mailbox: Mailbox(localPart: "joe", domain: "h.example"), fullName: "Joe Q. Public", hostname: "h.example")

    private func complete(_ text: String, sender: String? = "joe@h.example", name: String? = nil) -> String {
        let head = ByteBuffer(string: text.replacingOccurrences(of: "\n", with: "\r\n"))
        let named = SendmailCaller(
            mailbox: caller.mailbox, fullName: name ?? caller.fullName, hostname: caller.hostname)
        let header = SendmailHeader(
            caller: named, sender: sender.flatMap { Mailbox(parsing: $0) }, now: Timestamp(milliseconds: 0))
        let result = String(buffer: header.complete(HeaderBlock(scanning: head), head))
        return result.replacingOccurrences(of: "\r\n", with: "\n")
            .replacing(/Date: Thu, 1 Jan 1970 .*\n/, with: "Date: D\n")
    }

    @Test func missingFields() {
        let from = "From: \"Joe Q. Public\" <joe@h.example>\n"
        #expect(complete("") == "Date: D\n\(from)")
        #expect(complete("\nHello\n") == "Date: D\n\(from)\nHello\n")
        // no header at all: an empty line
        #expect(complete("Hello you\nSubject: x\n") == "Date: D\n\(from)\nHello you\nSubject: x\n")
        #expect(complete("Subject: x\n\nHello\n") == "Subject: x\nDate: D\n\(from)\nHello\n")
        #expect(complete("Date: x\nFROM: a@b\n\nHello\n") == "Date: x\nFROM: a@b\n\nHello\n")
        #expect(complete("Resent-To: a@b\nDate: x\n\n") == "Resent-To: a@b\nDate: x\n\(from)\n")
        // the sender that -f names, and nobody for the null one
        #expect(complete("Date: x\n\n", sender: "a@b", name: "") == "Date: x\nFrom: a@b\n\n")
        #expect(complete("Date: x\n\n", sender: nil, name: "") == "Date: x\nFrom: joe@h.example\n\n")
        #expect(complete("Date: x\n\n", name: "J\u{F6}rg") == "Date: x\nFrom: =?utf-8?b?SsO2cmc=?= <joe@h.example>\n\n")
        #expect(complete("Date: x\n\n", name: "a\r\nBcc: b") == "Date: x\nFrom: \"aBcc: b\" <joe@h.example>\n\n")
    }

    @Test func domains() {
        #expect(
            complete("Date: x\nFrom: root (Cron Daemon)\nTo: root, x <joe>, a@b\nSubject: to: root\n\nTo: root\n")
                == "Date: x\nFrom: root@h.example (Cron Daemon)\nTo: root@h.example, x <joe@h.example>, a@b\n"
                + "Subject: to: root\n\nTo: root\n")
        #expect(complete("Date: x\nFrom: a@b\nTo: (\n\n") == "Date: x\nFrom: a@b\nTo: (\n\n")
    }

    // MARK: What came of it

    private func result(_ status: Int, _ json: String) throws -> SendmailResult {
        SendmailResult(status, try JSON(parsing: Array(json.utf8)))
    }

    @Test func statuses() throws {
        let stored = try result(200, #"{"reply": "250 2.6.0 Message accepted", "id": "01", "refused": []}"#)
        #expect((stored.status, stored.complaints, stored.id) == (.success, [], "01"))
        #expect(stored.reply == Reply(250, .init(2, 6, 0), "Message accepted"))
        let some = try result(
            200, #"{"reply": "250 Ok", "id": "01", "refused": [{"address": "a@b", "reply": "550 5.1.1 No"}]}"#)
        #expect((some.status, some.complaints) == (.success, ["<a@b>: 550 5.1.1 No"]))
        let none = try result(
            422, #"{"reply": "550 5.1.1 No", "id": null, "refused": [{"address": "a@b", "reply": "550 5.1.1 No"}]}"#)
        #expect((none.status, none.complaints) == (.noUser, ["<a@b>: 550 5.1.1 No"]))
        let later = try result(
            422, #"{"reply": "550 5.1.1 No", "refused": [{"address": "a@b", "reply": "450 4.2.0 Later"}]}"#)
        #expect(later.status == .temporary)
        #expect(try result(503, #"{"reply": "452 4.3.1 Full"}"#).status == .temporary)
        #expect(try result(422, #"{"reply": "554 5.6.0 Bad header"}"#).status == .data)
        #expect(try result(422, #"{"reply": "552 5.3.4 Too large"}"#).status == .unavailable)
        let forbidden = try result(403, #"{"reply": "553 5.7.1 <a@b> is not a sender that login u may use"}"#)
        #expect(forbidden.status == .notPermitted)
        #expect(
            forbidden.complaints == ["the message is refused: 553 5.7.1 <a@b> is not a sender that login u may use"])
        #expect(try result(403, #"{"error": "user 65534 has no name"}"#).status == .notPermitted)
        #expect(SendmailResult(500, .null).status == .temporary)
        #expect(SendmailResult(notice: "later").status == .success)
    }

    @Test func notice() throws {
        let quote = SendmailContent()
        try quote.append(ByteBuffer(string: "Subject: x\r\n\r\n.J\u{F6}rg\r\n"))
        let text = String(
            buffer: SendmailNotice(
                caller: caller, complaints: ["<a@b>: 550 5.1.1 No\u{1B}"], quote: quote, now: Timestamp(milliseconds: 0)
            ).content)
        #expect(text.contains("To: joe@h.example\r\n"))
        #expect(
            text.contains(
                "\r\n\r\nYour message could not be sent from h.example:\r\n\r\n  <a@b>: 550 5.1.1 No\\x1b\r\n"))
        #expect(text.hasSuffix("Subject: x\r\n\r\n=2EJ=C3=B6rg\r\n"))
    }
}
