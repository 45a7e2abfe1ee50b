// What the log says of sites: the hosts that take mail for a domain, and how much of it they take. A part of EventCatalogue.

extension EventCatalogue {
    /// What is told of sites.
    static let entriesOfSites: [Entry] = [
        Entry(
            "f1bb5f6f7cd64e4c8f6a90a35f0d2c1e", "postponed",
            "The site of @SLIMTA_RECIPIENT@ takes no mail now, or no more of it: @SLIMTA_REPLY@. The message waits "
                + "@SLIMTA_NEXT@; that was no attempt, and is no step towards the next one."),
        Entry(
            "2c7709762306461f9e14d7224d554f67", "site takes no more sessions",
            "@SLIMTA_SITE@ refuses one more session (@SLIMTA_REPLY@): it gets @SLIMTA_SESSIONS@ at a time, and one more "
                + "after ten minutes.",
            remedy: "Nothing. Where its operator has told you a number, set it: connections of [[site]]."),
        Entry(
            "839fcd8df7374c9b862da7bc0a272e84", "site limits the rate",
            "@SLIMTA_SITE@ takes only so many messages in a time. It is left alone for @SLIMTA_NEXT@, then it gets "
                + "@SLIMTA_RATE@ (a minute), and a tenth more each minute until it refuses that.",
            remedy: "Nothing. Where its operator has told you a number, set it: rate of [[site]]."),
        Entry(
            "c94a91fd1b5048a783cbf078c26929c2", "site limits recipients",
            "@SLIMTA_SITE@ takes only @SLIMTA_RECIPIENTS@ recipients in a transaction; the others go in further ones."),
        Entry(
            "88764fd300724791a145d2378fcb7d1f", "site limits messages",
            "@SLIMTA_SITE@ takes only so many messages in one session; sessions with it end after @SLIMTA_MESSAGES@."),
        Entry(
            "fb55751e907043d99c1f5bfe9da5225d", "site lets strangers wait",
            "@SLIMTA_SITE@ greylists: it takes nothing from a sender before that one has come a second time. Messages "
                + "come back there when that is most likely over."),
        Entry(
            "5452de8e83f14960a5ab683669534d23", "what is known of sites begins anew",
            "What hosts were found to allow cannot be read from @SLIMTA_FILE@: @SLIMTA_ERROR@. What of it could be "
                + "understood is in use. The file is kept as @SLIMTA_KEPT@.",
            remedy: "What slimtad site set had set may have to be set again. When nobody needs the file any more, "
                + "delete it."),
        Entry(
            "3a5b19c9ab91497e82e7da0141732a96", "what is known of sites is not kept",
            "What hosts were found to allow cannot be written to the state directory: @SLIMTA_ERROR@. A restart forgets "
                + "it."),
    ]
}
