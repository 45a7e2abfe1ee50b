// What a caller with -oem gets when its message is refused: cron has no terminal to say it on.

import NIOCore
import SlimtaMail

/// A message from us to who called sendmail: why, and its own message, which nobody else has.
struct SendmailNotice {
    let caller: SendmailCaller
    let complaints: [String]
    /// What was refused, of which as much is returned as is in memory.
    let quote: SendmailContent
    let now: Timestamp

    /// Header and body.
    var content: ByteBuffer {
        let octets = quote.head
        let isText = String(validating: octets.readableBytesUInt8Span) != nil
        var text = ByteBuffer()
        text.writeString("Your message could not be sent from \(caller.hostname):\r\n\r\n")
        for complaint in complaints { text.writeString("  \(complaint.visible)\r\n") }
        text.writeString(
            "\r\nIt was not kept. This is \(quote.isInMemory && !quote.isCut ? "all of it" : "how it began"):\r\n\r\n")
        text.writeImmutableBuffer(quote.head)
        var content = ByteBuffer()
        content.writeString(
            """
            From: Mail System <MAILER-DAEMON@\(caller.hostname)>\r
            To: \(caller.mailbox)\r
            Subject: Your message was refused\r
            Date: \(now.mailDate(offset: now.localOffset))\r
            Auto-Submitted: auto-replied\r
            MIME-Version: 1.0\r
            Content-Type: text/plain; charset=\(isText ? "utf-8" : "unknown-8bit")\r
            Content-Transfer-Encoding: quoted-printable\r
            \r

            """)
        content.writeImmutableBuffer(QuotedPrintable.encode(text.readableBytesView))
        return content
    }
}
