// Kinds of events about TLS reports. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfTLSReports: [Entry] = [
        Entry(
            "66ecec9e68c347ddabebe5d2aa9e9354", "TLS report is sent",
            "How TLS with the hosts of @SLIMTA_DOMAIN@ has gone on @SLIMTA_DAY@ (UTC) was told to @SLIMTA_TO@ (RFC 8460). Where "
                + "that is an address, the report is a message in the queue."),
        Entry(
            "48d7c7302407497cabed66bf007283ca", "TLS report is not taken",
            "Nobody whom @SLIMTA_DOMAIN@ wants its reports to go to has taken that of @SLIMTA_DAY@: @SLIMTA_REASON@. It is "
                + "tried again, for a day."),
        Entry(
            "c210c61fb16249659a2a143f4d608526", "TLS report is dropped",
            "For a day nobody whom @SLIMTA_DOMAIN@ wants its reports to go to has taken that of @SLIMTA_DAY@: "
                + "@SLIMTA_REASON@. It is gone; mail is not concerned."),
        Entry(
            "48d478a761144ac09e8f9c2745797660", "TLS reports begin anew",
            "What was counted for TLS reports, and those that waited, cannot be read from @SLIMTA_FILE@: @SLIMTA_ERROR@. The "
                + "file is now @SLIMTA_KEPT@."),
        Entry(
            "589c8459fb734515a8cb5634036a9e62", "TLS reports cannot be written",
            "What is counted for TLS reports cannot be written to @SLIMTA_FILE@: @SLIMTA_ERROR@. No report is sent before that "
                + "works: a restart would send it again.",
            remedy: "Look at the disk: room (df), errors (dmesg)."),
        Entry(
            "e28fad66e21e40ad8ad9a2beb4c29762", "TLS reports do not go by mail without a key",
            "A domain wants its TLS reports by mail, and no DKIM key signs for @SLIMTA_DOMAIN@, the domain of contact in "
                + "[tls_report]: whoever gets them unsigned has to ignore them (RFC 8460 section 5.3). Reports over HTTPS go on. "
                + "This is told once.",
            remedy:
                "Make a key: a [[dkim]] for @SLIMTA_DOMAIN@, slimtad dkim generate. Or set sign = false in [tls_report], if "
                + "another server signs what leaves."),
    ]
}
