// Kinds of events about what is mended in headers. As EventCatalogue+Entries.

extension EventCatalogue {
    /// What is told of the header of a message that is stored.
    static let repairEntries: [Entry] = [
        Entry(
            "6479b59b52be46c4b370a5842864ace4", "header repaired",
            "The header of the message was not as it has to be, and was mended: @SLIMTA_REPAIRS@."),
        Entry(
            "c3f1d7a04e2b4f6c8a95be10d27c6e38", "header not repaired",
            "The header of the message is not as it has to be, and was left alone, for a signature or another host's field "
                + "is about what would have been changed: @SLIMTA_REPAIRS@."),
    ]
}
