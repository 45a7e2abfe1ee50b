// A notice goes through every host: ASCII, and no line over 998 octets, whatever was said and whatever it is about.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaQueue

private let start = Timestamp(milliseconds: 1_795_255_200_000)
private let umlauts = String(repeating: "gr\u{FC}\u{DF}e ", count: 30)

private func stored(
    _ content: [UInt8], to recipient: String = "b@x.test", from sender: String = "a@example.com",
    prepended: String = "Received: here\r\n"
) -> StoredEnvelope {
    let envelope = Envelope(
        id: QueueID(at: start), sender: Mailbox(parsing: sender)!, recipients: [Mailbox(parsing: recipient)!],
        received: start, client: ClientInfo(address: "192.0.2.1", name: "c", protocolWord: "ESMTP"),
        prependedFields: ByteBuffer(string: prepended))
    return StoredEnvelope(
        envelope: envelope, state: EnvelopeState(of: envelope, due: start),
        message: Message(head: ByteBuffer(bytes: content)))
}

private func notice(
    _ mail: StoredEnvelope, saying text: String = "no such user", isDelay: Bool = false, relay: String = "mx.test"
) -> Notice {
    let outcome = Outcome(
        isDelay ? .temporary : .permanent, Reply(isDelay ? 450 : 550, nil, text), isRemote: true, relay: relay,
        remoteHost: relay)
    let age = AttemptAge(begun: .seconds(700), ended: .seconds(700))
    return AttemptResolution(
        mail, outcomes: [outcome], age, now: start + .seconds(700),
        schedule: RetrySchedule(intervals: [.seconds(60)], expire: .seconds(3600), warn: .seconds(600)),
        notices: NoticeBuilder(hostname: "mail.example.com", zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
    ).notices[0]
}

@Suite struct NoticeFormTests {
    static let texts = [
        "no such user", umlauts, String(repeating: "\u{FC}", count: 5000), String(repeating: "x", count: 5000),
        String(repeating: "e\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}", count: 700),
        "a\u{0}b\u{1B}[2Jc\u{7F}\u{85}\u{9B}",
        "bad\r\nTo: victim@x.test\r\n\r\n.\r\n", "\u{202E}txt.exe\u{2028}", "\u{FFFD}\u{FFFD}", "\u{1F4E7}", "",
        "From here\r\n.\r\nFrom there",
    ]

    static let originals: [[UInt8]] =
        [
            "Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n\r\ngr\u{FC}n\r\n", "Subject: gr\u{FC}n\r\n\r\nbody\r\n",
            "Subject: x\r\nContent-Type: text/html; charset=utf-8\r\nMIME-Version: 1.0\r\n"
                + "Content-Transfer-Encoding: 8bit\r\n\r\n<p>gr\u{FC}n\r\n",
            "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ngr\u{FC}n\r\n--b--\r\n",
            "Subject: x\r\n\r\n" + String(repeating: "y", count: 5000) + "\r\n",
            "X-Long: " + String(repeating: "x", count: 1000) + "\r\nSubject: s\r\n\r\nbody",
            "Subject: " + String(repeating: "\u{FC}", count: 600) + "\r\n\r\nbody", "", "\r\n", "\r\n\u{FC}",
            "no header",
            "Subject: x\r\n\r\n" + String(repeating: "0123456789\r\n", count: 6000),
            "Subject: gr\u{FC}n\r\n\r\n" + String(repeating: "gr\u{FC}n\r\n", count: 12_000),
        ].map { Array($0.utf8) } + [
            Array("Subject: \u{FC}".utf8) + [0xFC, 0xFF, 0x0D, 0x0A, 0x0D, 0x0A, 0xFE],
            [0x41, 0x3A, 0x0A, 0x0D, 0x0A, 0xFF],
            Array("Subject: x\r\n\r\nnul".utf8) + [0, 0x0D, 0x41, 0x0A],
        ]

    /// The product of all that can be said and all that it can be about.
    @Test(arguments: originals.indices) func isASCIIInShortLines(_ index: Int) {
        for text in Self.texts {
            for (recipient, isDelay) in [("b@x.test", false), ("b\u{FC}@x.test", false), ("b@x.test", true)] {
                let notice = notice(
                    stored(Self.originals[index], to: recipient), saying: text, isDelay: isDelay, relay: "mx " + text)
                #expect(notice.message.head.isSafeText)
                #expect(notice.envelope.body == .sevenBit && !notice.envelope.smtpUTF8)
                let content = String(buffer: notice.message.head)
                #expect(!content.contains("\r\nTo: victim"))
            }
        }
    }

    @Test func aTextComesBackInQuotedPrintable() {
        let text = String(buffer: notice(stored(Self.originals[3])).message.head)
        #expect(text.contains("The message is returned below"))
        #expect(
            text.contains(
                "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nReceived: here\r\nSubject: x\r\n"
                    + "Content-Type: text/html; charset=utf-8\r\nMIME-Version: 1.0\r\n"
                    + "Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>gr=C3=BCn\r\n"))
        // Without a word about its form.
        let bare = String(buffer: notice(stored(Self.originals[1])).message.head)
        #expect(
            bare.contains(
                "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                    + "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BCn\r\n"))
        // Long lines as well.
        #expect(String(buffer: notice(stored(Self.originals[5])).message.head).contains("yyyy=\r\nyyyy"))
    }

    /// Headers and parts as a host without 8BITMIME would get them.
    @Test func allOfItComesBackInSevenBits() {
        let header = String(buffer: notice(stored(Self.originals[2])).message.head)
        #expect(header.contains("The message is returned below"))
        #expect(
            header.contains(
                "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nReceived: here\r\n"
                    + "Subject: =?utf-8?b?Z3LDvG4=?=\r\n\r\nbody\r\n"))
        let parts = String(buffer: notice(stored(Self.originals[4])).message.head)
        #expect(parts.contains("Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BCn\r\n--b--\r\n"))
        let latin = String(buffer: notice(stored(Self.originals[Self.originals.count - 3])).message.head)
        #expect(latin.contains("Subject: =?unknown-8bit?b?w7z8/w==?=\r\n"))
        #expect(latin.contains("Content-Type: text/plain; charset=unknown-8bit\r\n"))
        // Of a large one the header alone, in the same form.
        let large = String(buffer: notice(stored(Self.originals[13])).message.head)
        #expect(large.contains("Its header is returned below"))
        #expect(
            large.contains(
                "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\nReceived: here\r\n"
                    + "Subject: =?utf-8?b?Z3LDvG4=?=\r\n"))
    }

    /// Of what is signed, and of a line that cannot be folded, the header.
    @Test func whatCannotBeConverted() {
        let long = String(buffer: notice(stored(Self.originals[6])).message.head)
        #expect(long.contains("Subject: s\r\n"))
        let signed = Array(
            ("Subject: x\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\ngr\u{FC}n\r\n--b--\r\n").utf8)
        let text = String(buffer: notice(stored(signed)).message.head)
        #expect(text.contains("Its header is returned below"))
        #expect(text.contains("Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n"))
        #expect(text.contains("Content-Type: multipart/signed; boundary=b\r\n") && !text.contains("--b\r\n"))
    }

    /// RFC 6532 section 3.7, RFC 6533 section 4: a header that needs SMTPUTF8 is another type, which may be encoded.
    @Test func internationalHeaders() {
        let from = "From: \u{FC}@x.test\r\nSubject: x\r\n"
        let whole = notice(stored(Array((from + "\r\nbody\r\n").utf8)))
        #expect(whole.message.head.isSafeText && !whole.envelope.smtpUTF8)
        #expect(
            String(buffer: whole.message.head).contains(
                "Content-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nReceived: here\r\n"
                    + "From: =C3=BC@x.test\r\nSubject: x\r\n\r\nbody\r\n"))
        let large = Array((from + "\r\n" + String(repeating: "0123456789\r\n", count: 12_000)).utf8)
        #expect(
            String(buffer: notice(stored(large)).message.head).contains(
                "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                    + "Received: here\r\nFrom: =C3=BC@x.test\r\n"))
        // What is no UTF-8 is none of these types.
        let latin = Array("From: ".utf8) + [0xFC] + Array("@x.test\r\n\r\nbody\r\n".utf8)
        #expect(
            String(buffer: notice(stored(latin)).message.head).contains(
                "Content-Type: text/rfc822-headers; charset=unknown-8bit\r\n"))
    }

    @Test func wordsOfTheHostAreThereForPeople() {
        let text = String(buffer: notice(stored(Self.originals[0]), saying: "gr\u{FC}n").message.head)
        #expect(text.contains("charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"))
        #expect(text.contains("550 gr=C3=BCn\r\n"))
        #expect(text.contains("Diagnostic-Code: smtp; 550 gr?n\r\n"))
        let plain = String(buffer: notice(stored(Self.originals[0])).message.head)
        #expect(plain.contains("charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n"))
    }

    /// RFC 6533 section 3: an address that is not ASCII, where SMTPUTF8 is not needed for it.
    @Test func internationalRecipients() {
        let text = String(buffer: notice(stored(Self.originals[0], to: "b\u{FC}+x=1@m\u{FC}nchen.test")).message.head)
        #expect(text.contains("Content-Type: message/delivery-status\r\n"))
        #expect(text.contains("Final-Recipient: utf-8; b\\x{FC}\\x{2B}x\\x{3D}1@m\\x{FC}nchen.test\r\n"))
        #expect(text.contains("  <b=C3=BC+x=3D1@m=C3=BCnchen.test>\r\n"))
        let longest = "\"" + String(repeating: "\u{FC}", count: 120) + "\"@x.test"
        #expect(notice(stored(Self.originals[0], to: longest)).message.head.isSafeText)
    }

    /// Only the sender's own address can make it need SMTPUTF8; the rest stays as it is.
    @Test func internationalSenders() {
        let notice = notice(stored(Self.originals[2], from: "\u{FC}@example.com"))
        #expect(notice.envelope.smtpUTF8 && notice.envelope.body == .eightBitMIME)
        let text = String(buffer: notice.message.head)
        #expect(text.contains("To: <\u{FC}@example.com>\r\n"))
        #expect(text.unicodeScalars.count { !$0.isASCII } == 1)
    }
}
