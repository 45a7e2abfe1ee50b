// STARTTLS: nothing that was said in clear counts afterwards, and clients that speak something else than SMTP.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerTLSTests {
    /// CVE-2011-0411: whatever comes in clear behind STARTTLS ends the session, a whole command or an octet of one.
    @Test(arguments: [
        "NOOP\r\n", "MAIL FROM:<evil@x.org>\r\nRCPT TO:<v@y.org>\r\n", "N", "\r\n", "\0", "\u{16}\u{3}\u{1}",
    ])
    func injection(_ injected: String) {
        var session = SMTPSession()
        session.send("EHLO c\r\n")
        _ = session.taken()
        session.send("STARTTLS\r\n" + injected)
        #expect(
            session.taken() == [
                "S: 554 5.5.1 Nothing may be sent behind STARTTLS before its reply",
                "close \(SMTPServerMachine.CloseReason.protocolViolation("octets in clear behind STARTTLS"))",
            ])
    }

    /// Octets that a driver still hands over between STARTTLS and the end of the handshake are never commands.
    @Test func octetsDuringTheHandshake() {
        var session = SMTPSession()
        session.send("EHLO c\r\nSTARTTLS\r\n")
        _ = session.taken()
        session.send("MAIL FROM:<evil@x.org>\r\n")
        #expect(session.taken() == [])
        session.establishTLS()
        #expect(session.taken() == [] && session.machine.unreadCount == 0)
    }

    /// RFC 3207 section 4.2: name, transaction and login of before are forgotten, and half a line too.
    @Test func everythingIsForgotten() {
        var session = SMTPSession(.test(plaintext: true))
        session.send("EHLO before\r\nAUTH PLAIN AHUAcA==\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nSTARTTLS\r\n")
        #expect(session.machine.user != nil)
        session.establishTLS()
        _ = session.taken()
        #expect(session.machine.user == nil)
        let sequence = "S: 503 5.5.1 Bad sequence of commands"
        for line in ["MAIL FROM:<a@x.org>", "RCPT TO:<b@y.org>", "DATA", "AUTH PLAIN AHUAcA=="] {
            session.send(line + "\r\n")
            #expect(session.taken() == [sequence])
        }
        session.send("EHLO after\r\nMAIL FROM:<a@x.org>\r\nAUTH PLAIN AHUAcA==\r\nSTARTTLS\r\n")
        #expect(
            session.taken().suffix(5) == [
                "S: 250 SIZE 100000", "S: 530 5.7.0 Authentication required", "password u:p",
                "S: 235 2.7.0 Authentication successful", "S: 503 5.5.1 TLS is already established",
            ])
        session.send("MAIL FROM:<c@x.org>\r\nRCPT TO:<d@y.org>\r\nDATA\r\n.\r\n")
        #expect(session.taken().contains("message <c@x.org> <d@y.org> after ESMTPSA login=u tls: "))
    }

    /// The words of RFC 3848 and RFC 6531 for what a session was.
    @Test(arguments: [
        (false, false, false, "ESMTP"), (true, false, false, "ESMTPS"), (false, true, false, "ESMTPA"),
        (true, true, false, "ESMTPSA"), (false, false, true, "UTF8SMTP"), (true, false, true, "UTF8SMTPS"),
        (false, true, true, "UTF8SMTPA"), (true, true, true, "UTF8SMTPSA"),
    ])
    func protocolWord(_ tls: Bool, _ login: Bool, _ utf8: Bool, _ word: String) {
        var session = SMTPSession(.test(authentication: .optional, plaintext: true))
        session.send("EHLO c\r\n")
        if tls {
            session.send("STARTTLS\r\n")
            session.establishTLS()
            session.send("EHLO c\r\n")
        }
        if login { session.send("AUTH PLAIN AHUAcA==\r\n") }
        session.send("MAIL FROM:<a@x.org>\(utf8 ? " SMTPUTF8" : "")\r\nRCPT TO:<b@y.org>\r\nDATA\r\n.\r\n")
        #expect(
            session.taken().contains {
                $0.hasPrefix("message <a@x.org> <b@y.org> c \(word) ")
                    || $0.hasPrefix("message <a@x.org> <b@y.org> c \(word):")
            })
    }

    @Test func immediate() throws {
        var session = SMTPSession(.test(tls: .immediate))
        #expect(session.machine.waitsFor.kind == .handshake)
        #expect(session.taken() == [])
        session.establishTLS()
        #expect(session.taken() == ["S: 220 mx.example.org ESMTP Mail Gateway"])
        session.send("EHLO c\r\nAUTH PLAIN AHUAcA==\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n.\r\n")
        #expect(session.taken().contains("message <a@x.org> <b@y.org> c ESMTPSA login=u tls: "))
    }

    // MARK: Something else than SMTP

    /// A client that begins TLS where none is expected would wait for ever, as we would for its CRLF.
    @Test func clientHelloInClear() {
        for mode in [SMTPServerConfiguration.TLSMode.startTLS, .none] {
            var session = SMTPSession(.test(tls: mode))
            _ = session.taken()
            session.send(ByteBuffer(bytes: [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]))
            #expect(session.taken().first?.hasPrefix("close protocolViolation") == true)
        }
        // Within TLS these are octets as any others.
        var session = SMTPSession(.test(tls: .immediate))
        session.establishTLS()
        _ = session.taken()
        session.send(ByteBuffer(bytes: [0x16, 3, 1]))
        #expect(session.taken() == [] && session.closed == nil)
    }

    /// A browser that was made to talk to us: nothing in its request is a command, and it gets no answer to show.
    @Test(arguments: [
        "GET / HTTP/1.1", "POST /x HTTP/1.0", "PUT / HTTP/1.1", "HEAD / HTTP/1.1", "OPTIONS * HTTP/1.1",
        "CONNECT mx:25 HTTP/1.1", "DELETE / HTTP/1.1", "PATCH / HTTP/1.1", "TRACE / HTTP/1.1",
    ])
    func http(_ request: String) throws {
        let octets = Array("\(request)\r\nHost: mx\r\n\r\nEHLO c\r\nMAIL FROM:<a@x.org>\r\n".utf8)
        let events = try ChunkVerifier.verify(octets) { chunks in
            var session = SMTPSession(.test(authentication: .none))
            _ = session.taken()
            for chunk in chunks { session.send(chunk) }
            return session.taken()
        }
        #expect(events.count == 1 && events[0].hasPrefix("close protocolViolation"))
    }
}
