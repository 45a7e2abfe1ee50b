// Requests of POST /v1/messages: what they mean, and what is said of those that are wrong.

import NIOCore
import SlimtaMail
import SlimtaNet
import Testing

@testable import SlimtaEdge

@Suite struct MessageRequestTests {
    private static let now = Timestamp(milliseconds: 1_795_255_200_000)

    private func read(_ text: String) throws(RequestFaults) -> MessageRequest {
        try MessageRequest(reading: ByteBuffer(string: text), recipientLimit: 5, now: Self.now)
    }

    /// A request that is right but for some members.
    private func request(_ members: String) throws(RequestFaults) -> MessageRequest {
        try read(#"{"from": "a@b.c", "to": "d@e.f", "text": "x""# + (members.isEmpty ? "" : ", \(members)") + "}")
    }

    private func faults(_ text: String) -> [String] {
        do throws(RequestFaults) {
            _ = try read(text)
            return []
        } catch {
            return error.faults.map { "\($0.pointer): \($0.detail)" }
        }
    }

    @Test func whole() throws {
        let request = try read(
            #"""
            {"from": {"email": "a@b.c", "name": " A  B "}, "to": ["C <c@d.e>, d@e.f", {"email": "c@D.E"}], "cc": "x@münchen.de",
             "bcc": ["d@e.f"], "reply_to": "r@r.r", "subject": "S", "text": "T", "html": "H",
             "attachments": [{"filename": "/x/ä.txt", "content": "SGVsbG8=", "content_type": "text/plain", "content_id": "<i>"}],
             "headers": {"X-A": "1", "in-reply-to": "<a@b>"}, "send_at": "2026-11-21T11:00:01+01:00", "metadata": {"k": "v"}}
            """#)
        let draft = request.draft
        #expect(draft.from.name == "A B")
        #expect(draft.to.map(\.mailbox.text) == ["c@d.e", "d@e.f", "c@D.E"])
        // Each once, whatever list it is in, and however its domain is written.
        #expect(request.recipients.map(\.text) == ["c@d.e", "d@e.f", "x@xn--mnchen-3ya.de"])
        #expect((draft.subject, draft.text, draft.html) == ("S", "T", "H"))
        #expect(draft.attachments.map(\.fileName) == ["ä.txt"])
        #expect(draft.attachments.map(\.contentID) == ["i"] && draft.attachments[0].isInline)
        #expect(draft.fields == [.init("X-A", "1"), .init("in-reply-to", "<a@b>")])
        #expect(request.sendAt == Self.now + .seconds(1))
        #expect(request.metadata == [.init("k", .string("v"))])
    }

    @Test(
        arguments: [
            (#""a@b.c""#, nil), (#""A B <a@b.c>""#, "A B"), (#""\"A, B\" <a@b.c>""#, "A, B"), (#"["<a@b.c>"]"#, nil),
            (#"{"email": "a@b.c", "name": ""}"#, nil), (#"[{"email": "a@b.c", "name": "Ä"}]"#, "Ä"),
        ] as [(String, String?)])
    func senders(_ from: String, _ name: String?) throws {
        let address = try read(#"{"from": \#(from), "cc": "d@e.f", "html": ""}"#).draft.from
        #expect(address.name == name && address.mailbox.text == "a@b.c")
    }

    @Test func past() throws {
        #expect(try request(#""send_at": "2026-11-21T10:00:00Z""#).sendAt == nil)
        #expect(try request(#""send_at": "2026-12-21T10:00:00Z""#).sendAt == Self.now + .seconds(30 * 86_400))
    }

    /// All at once, each with its place.
    @Test func manyFaults() {
        #expect(
            faults(
                #"{"form": 1, "to": ["a@b.c", "x", {"emial": "a@b.c"}, 5], "subject": "a\nb", "metadata": {"a/b~": 1}}"#
            ) == [
                "#/form: is unknown; did you mean \"from\"?", "#/from: is needed: who the message is from",
                "#/to/1: is no address such as \"Name <user@example.com>\": found an address without a domain at offset 0",
                "#/to/2/emial: is unknown; did you mean \"email\"?",
                "#/to/2/email: is needed: an address such as \"user@example.com\"",
                "#/to/3: is no address such as \"Name <user@example.com>\", no object with \"email\", and no array of these",
                "#/subject: has a line end or another control character in it",
                "#/text: is needed, or \"html\" or \"attachments\": what the message says",
                "#/metadata/a~1b~0: is no string",
            ])
    }

    @Test(arguments: [
        ("", "#: is not JSON"), ("[]", "#: is no object"),
        (#"{"from": 1, "from": 2}"#, "a name twice"),
        (#"{"from":[[["#, "not JSON"), (#"{"a":[[[[[[[[[]]]]]]]]]}"#, "too deep"),
    ])
    func documents(_ text: String, _ fault: String) { #expect(faults(text).first?.contains(fault) == true) }

    @Test(arguments: [
        (#""HtmlBody": """#, "#/HtmlBody: is unknown; did you mean \"html\"?"),
        (#""scheduled_at": """#, "did you mean \"send_at\"?"),
        (#""zzzzzz": """#, "#/zzzzzz: is unknown; known are from,"),
        (#""subject": null"#, "#/subject: is no string: where there is none"),
        (#""subject": "a\u2028b""#, "#/subject: has a line end"),
        (#""cc": {"email": "a@b.c", "name": "a\r\nBcc: x"}"#, "#/cc/name: has a line end"),
        (#""cc": "a\u0000@b.c""#, "#/cc: has a line end"), (#""cc": []"#, "#/cc: has no address in it"),
        (#""cc": [["a@b.c"]]"#, "#/cc/0: is an array"),
        (#""cc": {"email": "a@b..c"}"#, "#/cc/email: is no address"), (#""cc": "a@\u00FC..de""#, "#/cc: is no address"),
        (#""cc": "a@\u202e.de""#, "#/cc: "),
        (#""cc": ["1@b.c", "2@b.c", "3@b.c", "4@b.c", "5@b.c"]"#, "#/to: are 6 recipients"),
        (#""reply_to": "undisclosed:;""#, "#/reply_to: has no address"),
        (#""send_at": "tomorrow""#, "#/send_at: is no time"),
        (#""send_at": "2026-12-21T10:00:01Z""#, "#/send_at: is more than 30 days"),
        (#""send_at": 1795255200"#, "#/send_at: is no string"), (#""metadata": []"#, "#/metadata: is no object"),
        (#""metadata": {"": "x"}"#, "#/metadata/: has a name of none"), (#""headers": []"#, "#/headers: is no object"),
        (#""headers": {"Subject": "x"}"#, "#/headers/Subject: is not written here: it is made of \"subject\""),
        (#""headers": {"X A": "x"}"#, "#/headers/X%20A: is no name"),
        (#""headers": {"Received": "x"}"#, "#/headers/Received: is not written by clients"),
        (#""headers": {"content-type": "x"}"#, "is not written by clients"),
        (#""headers": {"Resent-To": "x"}"#, "is not written by clients"),
        (#""headers": {"DKIM-Signature": "x"}"#, "is not written by clients"),
        (#""headers": {"X-A": "1", "x-a": "2"}"#, "#/headers/x-a: is there twice"),
        (#""headers": {"X-A": "a\nb"}"#, "#/headers/X-A: has a line end"),
        (#""headers": {"X-A": 1}"#, "#/headers/X-A: is no string"),
        (#""headers": {"Message-ID": "x@y"}"#, "is no message identifier"),
        (#""headers": {"Message-ID": "<a@b> <c@d>"}"#, "is no message identifier"),
        (#""headers": {"References": "<a@b>,<c@d>"}"#, "has something in it"),
        (#""attachments": {}"#, "#/attachments: is no array"),
        (#""attachments": [{}]"#, "#/attachments/0/content: is needed"),
        (#""attachments": [{"content": "a"}]"#, "#/attachments/0/content: is not base64: it is not padded"),
        (#""attachments": [{"content": "_-8="}]"#, "it is the alphabet for URLs"),
        (
            #""attachments": [{"content": "", "type": "x"}]"#,
            "#/attachments/0/type: is unknown; did you mean \"content_type\"?"
        ),
        (#""attachments": [{"content": "", "content_type": "png"}]"#, "#/attachments/0/content_type: is no media type"),
        (#""attachments": [{"content": "", "content_id": "a b"}]"#, "#/attachments/0/content_id: is none"),
        (#""attachments": [{"content": "", "filename": "a\tb"}]"#, "#/attachments/0/filename: has a line end"),
        (#""attachments": [{"content": "", "disposition": "x"}]"#, "#/attachments/0/disposition: is neither"),
        (
            #""attachments": [{"content": "", "content_id": "a"}, {"content": "", "content_id": "a"}]"#,
            "#/attachments/1/content_id: is the same"
        ),
    ])
    func faulty(_ members: String, _ fault: String) {
        let found = faults(#"{"from": "a@b.c", "to": "d@e.f", "text": "x", \#(members)}"#)
        #expect(found.contains { $0.contains(fault) }, "\(found)")
    }

    /// However much is wrong: the answer is no larger than that.
    @Test func bounds() {
        let many = (0..<500).map { "\"x\($0)\": 1" }.joined(separator: ",")
        #expect(faults("{\(many)}").count == MessageRequest.Limits.faults)
        let long = String(repeating: "x", count: MessageRequest.Limits.headerWord + 1)
        #expect(faults(#"{"from": "a@b.c", "to": "d@e.f", "text": "x", "headers": {"X-A": "\#(long)"}}"#).count == 1)
        #expect(faults(#"{"from": "a@b.c", "to": "d@e.f", "text": "x", "headers": {"X-A": "\#(long)ä"}}"#).isEmpty)
    }

    /// What nobody can mean is not looked at to its end: megabytes of it took minutes.
    @Test func whatNobodyCanMean() {
        let limits = MessageRequest.Limits.self
        func found(_ members: String) -> [String] {
            faults(#"{"from": "a@b.c", "to": "d@e.f", "text": "x", \#(members)}"#)
        }
        let values = Array(repeating: "1", count: limits.values(recipients: 5)).joined(separator: ",")
        #expect(found(#""cc": [\#(values)]"#).first?.hasSuffix("too many values") == true)
        let most = limits.addresses(recipients: 5)
        let address = "<d@e.f>" + String(repeating: " ", count: most / 2)
        #expect(found(#""cc": "\#(address)""#).isEmpty)
        #expect(
            found(#""cc": ["\#(address)", "\#(address)", "\#(address)"]"#)
                == ["#/cc/1: has, with what is before it, more than \(most) octets of addresses"])
        let long = String(repeating: "\\u0001", count: 1025)
        #expect(
            found(#""attachments": [{"content": "", "filename": "\#(long)"}]"#)
                == ["#/attachments/0/filename: has 1025 octets; there may be 1024"])
        func many(_ element: (Int) -> String, _ count: Int) -> String {
            (0...count).map(element).joined(separator: ",")
        }
        #expect(
            found(#""attachments": [\#(many({ _ in "1" }, limits.attachments))]"#)
                == ["#/attachments: has 101 elements; there may be 100"])
        #expect(
            found(#""headers": {\#(many({ "\"A\($0)\": 1" }, limits.headers))}"#)
                == ["#/headers: has 101 members; there may be 100"])
        #expect(
            found(#""metadata": {\#(many({ "\"A\($0)\": 1" }, limits.metadata))}"#)
                == ["#/metadata: has 51 members; there may be 50"])
    }
}
