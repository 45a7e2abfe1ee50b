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
        Entry(
            "a87e91456a154779b7ccd0689451e50e", "MTA-STS policy cannot be had",
            "The policy of @SLIMTA_DOMAIN@ (RFC 8461) could not be fetched: @SLIMTA_REASON@. Mail goes on by the one that is "
                + "kept, whose mode is \"@SLIMTA_POLICY@\", or without one where that is \"none\". The server is asked again "
                + "in five minutes at the earliest."),
        Entry(
            "2327ef0b3c6241c099d8fab176bf37c7", "MTA-STS policy cannot be kept",
            "A policy was fetched, and cannot be written to @SLIMTA_FILE@: @SLIMTA_ERROR@. It holds until the next start.",
            remedy: "Look at the disk: room (df), errors (dmesg)."),
        Entry(
            "bbf0846d31e242bea824085adc7196ad", "kept MTA-STS policy cannot be read",
            "The file @SLIMTA_FILE@ below sts of the state directory is damaged: mail for @SLIMTA_DOMAIN@ goes without that "
                + "policy until it is fetched again, with the next message."),
    ]
}
