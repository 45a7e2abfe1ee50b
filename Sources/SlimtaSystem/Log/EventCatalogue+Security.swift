// Kinds of events about how securely mail leaves. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfSecurity: [Entry] = [
        Entry(
            "28d07d3d8d0a40e796327d697286d59f", "host is not encrypted any more",
            "Mail for @SLIMTA_DOMAIN@ went in clear to @SLIMTA_RELAY@, which was encrypted on @SLIMTA_DAYS@ days, last "
                + "@SLIMTA_LAST@. Somebody on the way may take STARTTLS out of what it offers. It is not held up, since "
                + "tls_memory is \"report\".",
            remedy:
                "Ask those who run the host. With tls_memory = \"enforce\" such mail waits; slimtad tls forget "
                + "@SLIMTA_DOMAIN@ has it forgotten what was."),
        Entry(
            "c446de19047e467d989a62b7bdb1aa41", "TLS memory begins anew",
            "What was remembered of the TLS of hosts cannot be read whole from @SLIMTA_FILE@: @SLIMTA_ERROR@. What was "
                + "understood holds; the rest is learned again, which takes three days. The file is now @SLIMTA_KEPT@."),
        Entry(
            "3ac529cdadea48998d39659659352172", "TLS memory cannot be written",
            "What is remembered of the TLS of hosts cannot be written to @SLIMTA_FILE@: @SLIMTA_ERROR@. It is tried again "
                + "every minute; a restart before that works forgets what is new.",
            remedy: "Look at the disk: room (df), errors (dmesg)."),
    ]
}
