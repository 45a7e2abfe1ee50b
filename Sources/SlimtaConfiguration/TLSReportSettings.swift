// [tls_report]: whether domains that want to know are told how TLS with their hosts has gone (RFC 8460). Called by
// `Configuration.parse`; the composition root makes TLSReports' settings of it.

package import SlimtaMail

/// `[tls_report]`
package struct TLSReportSettings: Sendable, Equatable {
    /// Somebody reads it: whom reports are from, and whom their readers ask.
    package var contact: Mailbox
    /// Whether a report goes by mail only if a key of the contact's domain signs it.
    package var sign = true

    /// nil: there is no such table, or there is a mistake in it, which was reported.
    init?(_ table: Section) {
        defer { table.refuseUnknownKeys() }
        let contact = table.required("contact", "an address that somebody reads, such as \"tls@example.com\"")?.text(
            "an address such as \"tls@example.com\": of ASCII, at a domain"
        ) { text in
            guard let mailbox = Mailbox(parsing: text, allowsUTF8: false),
                mailbox.domain.utf8.first != UInt8(ascii: "[")
            else { return nil as Mailbox? }
            return mailbox
        }
        let sign = table["sign"]?.bool()
        guard let contact else { return nil }
        self.contact = contact
        self.sign = sign ?? self.sign
    }
}
