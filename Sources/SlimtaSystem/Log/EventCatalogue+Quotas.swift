// Kinds of events about how much logins send, and who is held. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfQuotas: [Entry] = [
        Entry(
            "0c1df30ab66d4643b43178343a6a5487", "soft limit exceeded",
            "@SLIMTA_LOGIN@ sends more than [quota.soft] in slimta.conf expects: @SLIMTA_REASON@. Nothing is refused for "
                + "that. It is told once, until it has been less again.",
            remedy:
                "See slimtad login show @SLIMTA_LOGIN@. If it is meant to send as much, give it limits of its own with "
                + "[[quota.except]]."),
        Entry(
            "2ef2755434834b6cba4d816e36676316", "login is held",
            "@SLIMTA_LOGIN@ suddenly sends otherwise than it did: @SLIMTA_REASON@. Most likely somebody else has its "
                + "password. It can still log in and send; all of it is kept in the queue and held, with what it has sent "
                + "within the hour before and is not delivered yet. With [quota] action = \"refuse\" it gets 450 instead.",
            remedy:
                "Look at what is held: slimtad queue list --login @SLIMTA_LOGIN@ --state held. If it was its owner: "
                + "slimtad login release @SLIMTA_LOGIN@. If not: slimtad passwd --disable, or another password, then "
                + "slimtad queue remove --login @SLIMTA_LOGIN@ --reason breaker, and release the login."),
        Entry(
            "0621e29dc9184d8c944089c6951582c8", "recent mail of a login is held",
            "@SLIMTA_MESSAGES@ messages that @SLIMTA_LOGIN@ had sent within the hour before it was held were not delivered "
                + "yet, and are held too."),
        Entry(
            "14d7fe413de74f9383509db7b213037e", "recent mail of a login is not held",
            "@SLIMTA_LOGIN@ is held, but not all that it had sent within the hour before and was not delivered yet: "
                + "@SLIMTA_ERROR@. It is tried again every few seconds; what becomes due meanwhile is delivered.",
            remedy: "See what is left with slimtad queue list --login @SLIMTA_LOGIN@."),
        Entry(
            "e8e6a43c7e644374a0618e9537ca3244", "mail of a released login stays held",
            "The message @SLIMTA_QUEUE_ID@ was stored as held while its login was released, and could not be released: "
                + "@SLIMTA_ERROR@.",
            remedy: "When the reason is gone: slimtad queue release @SLIMTA_QUEUE_ID@."),
        Entry(
            "071e75d908e04abd912ba538643f334c", "notice of a held login queued",
            "@SLIMTA_RECIPIENT@ is told by mail that @SLIMTA_LOGIN@ is held, as notify of [quota] has it."),
        Entry(
            "07dc88bb451c4649983789c275696285", "quotas begin anew",
            "What was counted of logins, and who is held, cannot be read from @SLIMTA_FILE@: @SLIMTA_ERROR@. All are taken "
                + "to have sent nothing yet, and nobody to be held. What was in the file is in @SLIMTA_KEPT@.",
            remedy:
                "Hold again who was held: slimtad login hold. What is held in the queue stays so: slimtad queue list "
                + "--reason breaker."),
        Entry(
            "5461d90e4c384f8d96b9b5f8d854d488", "quotas cannot be written",
            "What was counted of logins, and who is held, cannot be written to @SLIMTA_FILE@: @SLIMTA_ERROR@. It is tried "
                + "again every few seconds; a restart before that works forgets it."),
    ]
}
