// A TLS report as a message (RFC 8460 section 5.3): multipart/report, compressed. It is signed by the submitter's domain like
// other mail, and enters the queue like other mail; its own sessions are not reported on.

import NIOCore
import SlimtaMail

/// Writes the message that brings a report.
struct TLSReportMail {
    let report: TLSReport
    /// The report's JSON, compressed by gzip (RFC 1952).
    let compressed: [UInt8]
    let recipient: Mailbox
    let date: Timestamp
    let zoneOffset: Int
    /// The queue's name of the message, for Message-ID.
    let id: QueueID
    /// Nothing that could be in the message.
    let boundary: String

    /// All octets of it: ASCII, in lines that end with CRLF.
    var octets: ByteBuffer {
        let submitter = report.submitter
        var text = ""
        func line(_ line: String = "") { text += line + "\r\n" }
        line("From: \(submitter.contact)")
        line("To: \(recipient)")
        line("Date: \(date.mailDate(offset: zoneOffset))")
        line("Message-ID: <\(id)@\(submitter.domain)>")
        // RFC 8460 section 5.3: folded where blanks are, for names may be long.
        line("Subject: Report Domain: \(report.domain)")
        line(" Submitter: \(submitter.domain)")
        line(" Report-ID: <\(report.id)>")
        line("TLS-Report-Domain: \(report.domain)")
        line("TLS-Report-Submitter: \(submitter.domain)")
        // So that broken TLS does not keep the report from those who have to know of it (RFC 8460 section 3).
        line("TLS-Required: No")
        line("Auto-Submitted: auto-generated")
        line("MIME-Version: 1.0")
        line("Content-Type: multipart/report; report-type=\"tlsrpt\";")
        line(" boundary=\"\(boundary)\"")
        line()
        line("--\(boundary)")
        line("Content-Type: text/plain; charset=us-ascii")
        line()
        line("This is a report of TLS sessions (RFC 8460) with the mail hosts of")
        line("\(report.domain),")
        line("from \(report.begin.isoDate.prefix(10)), by \(submitter.domain).")
        line()
        line("--\(boundary)")
        line("Content-Type: application/tlsrpt+gzip;")
        line(" name=\"\(report.fileName)\"")
        line("Content-Disposition: attachment;")
        line(" filename=\"\(report.fileName)\"")
        line("Content-Transfer-Encoding: base64")
        line()
        var rest = Base64.encode(compressed)[...]
        while !rest.isEmpty {
            line(String(rest.prefix(76)))
            rest = rest.dropFirst(76)
        }
        line("--\(boundary)--")
        return ByteBuffer(string: text)
    }
}
