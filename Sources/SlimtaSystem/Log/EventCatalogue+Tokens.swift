// Kinds of events about the tokens that relays log in with. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfTokens: [Entry] = [
        Entry(
            "afe3ed604aed4db3989fd976a2f73dab", "no token for a relay, its mail waits",
            "The token endpoint @SLIMTA_RELAY@ gives no token for @SLIMTA_LOGIN@, or the host does not take new ones: "
                + "@SLIMTA_ERROR@. Mail for the host stays in the queue. It is tried again every five minutes.",
            remedy: "See whether client_id, the secret or key, scope and the refresh token are still good: a refresh "
                + "token ends when it is not used for long, and when a password changes. Put a new one into "
                + "refresh_token_file, and reload slimtad."),
        Entry(
            "832b03f52b4e484d93d03eb92414140a", "relay has tokens again",
            "The token endpoint @SLIMTA_RELAY@ gives tokens for @SLIMTA_LOGIN@ again."),
        Entry(
            "a0f58a94ce8d44afac2e898d47bfd275", "no token for the time being",
            "The token endpoint @SLIMTA_RELAY@ has not answered with a token: @SLIMTA_ERROR@. Mail waits, and it is asked "
                + "again after 5 seconds up to 5 minutes."),
        Entry(
            "c9b7628eb05240baafd9ca715810c360", "our names and addresses do not agree",
            "@SLIMTA_REASON@. Many hosts take no mail from an address without a name, or with one that does not lead back.",
            remedy:
                "Have whoever gave you the address set its PTR record to the hostname of slimta.conf, and give that name "
                + "A and AAAA records with the address. slimtad looks again once a day; `slimtad check --dns` at once."),
    ]
}
