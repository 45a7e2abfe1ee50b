// Who a header says that a message is for: the table of `sendmail -t`.

import NIOCore
import TestKit
import Testing

@testable import SlimtaMail

@Suite struct HeaderEnvelopeTests {
    private func read(_ text: String, _ domain: String? = nil) throws(HeaderEnvelope.Fault) -> HeaderEnvelope {
        let buffer = ByteBuffer(string: text)
        return try HeaderEnvelope(reading: HeaderBlock(scanning: buffer), in: buffer, qualifiedWith: domain)
    }

    static let table: [(String, [String])] = [
        ("", []), ("Subject: x\r\n\r\nTo: a@b\r\n", []), ("To: a@b\r\n\r\n", ["a@b"]), ("TO : a@b\r\n\r\n", ["a@b"]),
        ("to:a@b", ["a@b"]), ("To: a@b\n\nx", ["a@b"]),
        ("Bcc: c@d\r\nTo: a@b, One <e@f>\r\nCc: g@h\r\n\r\n", ["c@d", "a@b", "e@f", "g@h"]),
        ("To: a@b\r\nTo: c@d\r\n\r\n", ["a@b", "c@d"]), ("To: a@b,\r\n c@d\r\n\r\n", ["a@b", "c@d"]),
        ("To: a@b, a@B\r\nCc: a@b\r\n\r\n", ["a@b"]), ("To: x:;\r\nBcc: a@b\r\n\r\n", ["a@b"]), ("Bcc:\r\n\r\n", []),
        ("From: x@y\r\nSender: x@y\r\nReply-To: x@y\r\nTo: a@b\r\n\r\n", ["a@b"]),
        ("Apparently-To: x@y\r\nX-To: x@y\r\nTo: a@b\r\n\r\n", ["a@b"]),
    ]

    @Test(arguments: table) func recipients(_ text: String, _ expected: [String]) throws {
        let envelope = try read(text)
        #expect(envelope.recipients.map(\.text) == expected)
        #expect(!envelope.isResent)
    }

    static let resent: [(String, [String])] = [
        ("Resent-To: r@s\r\nTo: a@b\r\nBcc: c@d\r\n\r\n", ["r@s"]),
        ("To: a@b\r\nResent-To: r@s\r\nResent-Cc: t@u\r\nResent-Bcc: v@w\r\n\r\n", ["r@s", "t@u", "v@w"]),
        ("Resent-From: x@y\r\nResent-To: r@s\r\nResent-From: p@q\r\nResent-To: o@n\r\nTo: a@b\r\n\r\n", ["r@s"]),
        ("Resent-To: r@s\r\nReceived: from x\r\nResent-To: o@n\r\nTo: a@b\r\n\r\n", ["r@s"]),
        ("Resent-To: r@s\r\nResent-Cc: t@u\r\nResent-To: o@n\r\n\r\n", ["r@s", "t@u"]),
        // Sent on to nobody: not to those who have it.
        ("Resent-From: x@y\r\nTo: a@b\r\n\r\n", []),
        ("Resent-Date: x\r\nReceived: from x\r\nResent-To: o@n\r\n\r\n", []),
    ]

    @Test(arguments: resent) func newestResentBlock(_ text: String, _ expected: [String]) throws {
        let envelope = try read(text)
        #expect(envelope.recipients.map(\.text) == expected)
        #expect(envelope.isResent)
    }

    @Test func faults() throws {
        #expect(throws: HeaderEnvelope.Fault(field: "To", offset: 4, reason: .noDomain)) {
            try read("To: root\r\n\r\n")
        }
        #expect(try read("To: root (Admin)\r\n\r\n", "h.example").recipients.map(\.text) == ["root@h.example"])
        #expect(throws: HeaderEnvelope.Fault(field: "cC", offset: 21, reason: .noAddress)) {
            try read("To: a@b\r\ncC : x@y,\r\n c d@e\r\n\r\n")
        }
        // A fault elsewhere is not ours to find.
        #expect(try read("From: (\r\nReply-To: @\r\nTo: a@b\r\n\r\n").recipients.map(\.text) == ["a@b"])
        #expect(try read("To: (\r\nResent-To: a@b\r\n\r\n").recipients.map(\.text) == ["a@b"])
    }

    /// The octets before a buffer's reader index are no part of the message.
    @Test func readerIndex() throws {
        var buffer = ByteBuffer(string: "From x\r\nTo: a@b\r\nBcc: c@d\r\n\r\n")
        buffer.moveReaderIndex(forwardBy: 8)
        let header = HeaderBlock(scanning: buffer)
        #expect(try HeaderEnvelope(reading: header, in: buffer).recipients.map(\.text) == ["a@b", "c@d"])
        #expect(header.fields.map { $0.name(in: buffer) } == ["To", "Bcc"])
        #expect(header.fields.map { String(decoding: $0.value(in: buffer), as: UTF8.self) } == [" a@b", " c@d"])
    }

    @Test func blindFields() {
        let buffer = ByteBuffer(
            string: "Bcc: a@b\r\nTo: a@b\r\nresent-BCC: c@d\r\nX-Bcc: x\r\nBCC : e@f,\r\n g@h\r\n\r\nBcc: body\r\n")
        let header = HeaderBlock(scanning: buffer)
        #expect(
            HeaderEnvelope.blindFields(of: header, in: buffer).map { $0.name(in: buffer) } == [
                "Bcc", "resent-BCC", "BCC",
            ])
    }
}
