// Kinds of events about milters. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfMilters: [Entry] = [
        Entry(
            "c36268256394447c84834d35b1ea4c01", "milter cannot be asked, it is left alone for a while",
            "The milter @SLIMTA_MILTER@ takes no connection, or does not answer the first word: @SLIMTA_ERROR@. For 1 to 30 "
                + "seconds no session tries, then one does for all. What becomes of mail meanwhile is said by its on_failure: "
                + "@SLIMTA_ON_FAILURE@.",
            remedy:
                "See whether it runs, and listens where `to` of its [[milter]] says; a socket has to be one that slimtad's user "
                + "may write to. `slimtad check` looks."),
        Entry(
            "e402e76f69fb416f9b94cf21f84b7c27", "milter answers again",
            "The milter @SLIMTA_MILTER@ takes connections again, and is asked."),
        Entry(
            "d213b6bb0f71492e88e47708719609ac", "milter has failed",
            "The milter @SLIMTA_MILTER@ was asked in a session, and @SLIMTA_ERROR@. For this message, or this command, its on_failure "
                + "counts: @SLIMTA_ON_FAILURE@. The next message gets a new connection, unless that is accept.",
            remedy:
                "The log of the milter may say more. One that needs long for large messages needs a longer content_timeout."
        ),
        Entry(
            "35f980e2cd8a46b89875b4b64e7a6071", "field is too long for a milter",
            "The header field @SLIMTA_FIELD@ of a message is longer than 65,000 octets, which is more than a packet of the milter "
                + "protocol has room for. The milter @SLIMTA_MILTER@ has seen its beginning."),
        Entry(
            "bee9ab40f15b421ba6828021abdf5cce", "reply of a milter is none",
            "The milter @SLIMTA_MILTER@ has worded a reply to a client that is none: no code of 4xx or 5xx, several codes, or a line "
                + "end where there can be none. The client was told 451 4.7.1 instead."),
        Entry(
            "0d8e4a5c6b7f4f0b9c39d4f7c1a2e683", "parameters of a milter are not used",
            "The milter @SLIMTA_MILTER@ has given parameters with a recipient that it adds, or with a sender, of which nothing "
                + "comes: @SLIMTA_PARAMETERS@. Of a recipient ORCPT with the address of a mailbox is used, for notices and the log, and "
                + "NOTIFY, but for SUCCESS in it: the sender is not told of that."),
        Entry(
            "70fa11b2144f4ef5a5b1c3c95a218009", "discarded",
            "The milter @SLIMTA_MILTER@ has had the message @SLIMTA_QUEUE_ID@ discarded, or has left it no recipient. The client was "
                + "told that it is queued, and nothing of it was kept; the ledger counts its recipients as removed by the milter."
        ),
    ]
}
