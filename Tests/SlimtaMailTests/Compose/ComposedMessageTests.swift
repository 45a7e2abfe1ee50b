// Whole messages: which fields and parts they have, how bodies are encoded. Python reads them back in Tests/Interop/test_compose.py.

import NIOCore
import Testing

@testable import SlimtaMail

@Suite struct ComposedMessageTests {
    private let frame = ComposedMessage.Frame(
        hostname: "h.example", date: Timestamp(milliseconds: 1_795_255_200_000), zoneOffset: 3600,
        id: QueueID(high: 1, low: 2), boundary: (0, 0xAB))

    private func draft(_ change: (inout MailDraft) -> Void = { _ in }) throws -> MailDraft {
        var draft = MailDraft(from: .init(name: "A", try #require(Mailbox(parsing: "a@b.c"))))
        draft.to = [.init(try #require(Mailbox(parsing: "d@e.f")))]
        change(&draft)
        return draft
    }

    private func compose(_ draft: MailDraft) -> String {
        let message = ComposedMessage(draft, frame)
        var whole = ByteBuffer()
        for var piece in message { whole.writeBuffer(&piece) }
        #expect(whole.readableBytes == message.size)
        return String(buffer: whole)
    }

    private func file(_ text: String, id: String? = nil) -> MailDraft.Attachment {
        MailDraft.Attachment(
            fileName: "f", type: .octets, content: Base64Text(encoding: Array(text.utf8)), contentID: id,
            isInline: id != nil)
    }

    @Test func whole() throws {
        let text = compose(
            try draft {
                $0.subject = "Hello"
                $0.text = "Hi\nthere"
                $0.fields = [.init("X-One", "1")]
            })
        #expect(
            text == """
                Date: Sat, 21 Nov 2026 11:00:00 +0100\r
                From: A <a@b.c>\r
                To: d@e.f\r
                Subject: Hello\r
                Message-ID: <00000000000000010000000000000002@h.example>\r
                X-One: 1\r
                MIME-Version: 1.0\r
                Content-Type: text/plain; charset=utf-8\r
                Content-Transfer-Encoding: 7bit\r
                \r
                Hi\r
                there\r

                """)
    }

    /// Nobody is told of blind copies; a Message-ID of the client's is the only one.
    @Test func recipientsAndIdentifiers() throws {
        var hidden = try draft { $0.text = "" }
        hidden.to = []
        hidden.fields = [.init("message-id", "<x@y>")]
        let text = compose(hidden)
        #expect(text.contains("\r\nTo: undisclosed-recipients:;\r\n"))
        #expect(text.contains("\r\nmessage-id: <x@y>\r\n") && !text.contains("Message-ID"))
        hidden.cc = [.init(try #require(Mailbox(parsing: "c@c.c")))]
        #expect(!compose(hidden).contains("To:"))
    }

    /// Each level only where it is needed, the text first.
    @Test func structure() throws {
        func types(_ change: (inout MailDraft) -> Void) throws -> [String] {
            compose(try draft(change)).split(separator: "\r\n").filter { $0.hasPrefix("Content-Type: ") }
                .map { String($0.dropFirst(14).prefix { $0 != ";" }) }
        }
        #expect(try types { $0.text = "x" } == ["text/plain"])
        #expect(try types { $0.html = "x" } == ["text/html"])
        #expect(try types { ($0.text, $0.html) = ("x", "y") } == ["multipart/alternative", "text/plain", "text/html"])
        #expect(
            try types {
                ($0.text, $0.html) = ("x", "y")
                $0.attachments = [file("1"), file("2", id: "i")]
            } == [
                "multipart/mixed", "multipart/related", "multipart/alternative", "text/plain", "text/html",
                "application/octet-stream", "application/octet-stream",
            ])
        #expect(
            try types {
                $0.html = "y"
                $0.attachments = [file("2", id: "i")]
            } == ["multipart/related", "text/html", "application/octet-stream"])
        // Without HTML nothing can refer to it.
        #expect(
            try types {
                $0.text = "y"
                $0.attachments = [file("2", id: "i")]
            } == ["multipart/mixed", "text/plain", "application/octet-stream"])
        #expect(try types { $0.attachments = [file("2")] } == ["multipart/mixed", "application/octet-stream"])
    }

    @Test func boundaries() throws {
        let text = compose(
            try draft {
                $0.text = "x"
                $0.attachments = [file("1")]
            })
        let boundary = "=_000000000000000000000000000000ab-1"
        #expect(text.contains("Content-Type: multipart/mixed;\r\n boundary=\"\(boundary)\"\r\n\r\n--\(boundary)\r\n"))
        #expect(text.hasSuffix("\r\n--\(boundary)--\r\n"))
    }

    /// RFC 2045 section 6.4: parts of parts may not be in base64.
    @Test func compositeAttachments() throws {
        let text = compose(
            try draft {
                $0.attachments = [file("x")]
                $0.attachments[0].type = MediaType("message/rfc822") ?? .octets
            })
        #expect(!text.contains("message/rfc822"))
    }

    @Test(arguments: [
        ("", "7bit", ""), ("a\rb\nc\r\nd", "7bit", "a\r\nb\r\nc\r\nd\r\n"), ("a\n\n", "7bit", "a\r\n\r\n"),
        ("a ", "quoted-printable", "a=20\r\n"), ("a\t\nb", "quoted-printable", "a=09\r\nb\r\n"),
        ("From x", "quoted-printable", "=46rom x\r\n"), ("a\u{0}", "quoted-printable", "a=00\r\n"),
        ("caf\u{E9}", "quoted-printable", "caf=C3=A9\r\n"),
        (".\u{E9}a.a.a.a", "quoted-printable", "=2E=C3=A9a.a.a.a\r\n"),
        ("\u{65E5}\u{672C}", "base64", "5pel5pysDQo=\r\n"),
    ])
    func bodies(_ body: String, _ encoding: String, _ lines: String) throws {
        let text = compose(try draft { $0.text = body })
        #expect(text.hasSuffix("\r\nContent-Transfer-Encoding: \(encoding)\r\n\r\n\(lines)"))
    }

    @Test func longLines() throws {
        let fits = String(repeating: "x", count: 998)
        #expect(compose(try draft { $0.text = fits }).hasSuffix("7bit\r\n\r\n\(fits)\r\n"))
        let lines = compose(try draft { $0.text = fits + "x" }).utf8.split(separator: 10)
        #expect(lines.allSatisfy { $0.count <= 77 })
    }

    /// An address that needs SMTPUTF8 makes the message one; the text beside it stays ASCII.
    @Test func international() throws {
        let mailbox = try #require(Mailbox(parsing: "\u{FC}@b.c"))
        let message = try draft {
            $0.cc = [.init(name: "\u{DC}", mailbox)]
            $0.subject = "\u{DC}"
            $0.text = "\u{DC}"
        }
        #expect(ComposedMessage(message, frame).needsSMTPUTF8)
        let text = compose(message)
        #expect(text.contains("Cc: \u{DC} <\u{FC}@b.c>\r\nSubject: =?utf-8?b?w5w=?=\r\n"))
    }

    /// A text of any size is read in pieces, too: who hands them on is not to have all of it in the hand.
    @Test(arguments: [59_000, 60_000, 200_000], ["x", "=", "\u{E4}"])
    func largeTexts(count: Int, character: String) throws {
        let text = Array(repeating: String(repeating: character, count: 70), count: count / 70).joined(separator: "\n")
        let message = ComposedMessage(try draft { $0.text = text }, frame)
        #expect(message.allSatisfy { (1...60_000).contains($0.readableBytes) })
        #expect(message.reduce(0) { $0 + $1.readableBytes } == message.size)
        let whole = compose(try draft { $0.text = text })
        #expect(whole.utf8.count == message.size && whole.hasSuffix("\r\n"))
        guard character == "x" else { return }
        #expect(whole.hasSuffix(text.replacing("\n", with: "\r\n") + "\r\n"))
    }

    /// Attachments are read in pieces, whose lines are as long as ever.
    @Test func largeAttachments() throws {
        for count in [56, 57, 58, 43_775, 43_776, 43_777, 200_000] {
            let octets = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
            let message = ComposedMessage(
                try draft { $0.attachments = [.init(content: Base64Text(encoding: octets))] }, frame)
            #expect(message.allSatisfy { $0.readableBytes <= 60_000 })
            let text = compose(try draft { $0.attachments = [.init(content: Base64Text(encoding: octets))] })
            let body = try #require(text.split(separator: "base64\r\n\r\n").last).split(separator: "\r\n\r\n--")[0]
            let lines = body.split(separator: "\r\n")
            #expect(lines.dropLast().allSatisfy { $0.utf8.count == 76 })
            #expect(Base64.decode(lines.joined().utf8) == octets)
        }
    }
}
