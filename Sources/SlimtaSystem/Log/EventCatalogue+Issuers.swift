// Kinds of events about issuers of OAuth tokens. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfIssuers: [Entry] = [
        Entry(
            "8d6ccd45a9542d36784511a3c6953337", "token refused",
            "A client has shown a token that does not let it in. The client is not told what it was: @SLIMTA_REASON@.",
            remedy: "\"audience\" means that the issuer makes its tokens for another service: it has to add that of "
                + "[auth.oauth]. \"key\" and \"signature\" mean that somebody else made the token."),
        Entry(
            "9d9b0c5e3d991c371151f71db112f1cc", "keys of the OAuth issuer cannot be had",
            "The keys that tokens are checked with cannot be fetched: @SLIMTA_ERROR@. Those that were fetched before "
                + "hold for 24 hours; where there are none, clients with tokens are to try again later.",
            remedy:
                "See whether jwks_url of [auth.oauth] is right and the issuer answers: `slimtad check` asks it too. "
                + "It is tried again every 30 seconds."),
        Entry(
            "3623a17c846aba96ad846ad3e39c4234", "keys of the OAuth issuer can be had again",
            "The keys that tokens are checked with were fetched."),
        Entry(
            "9b19738ace1597afd196f81b15598de0", "OAuth issuer says nothing of tokens",
            "The issuer does not say whether tokens are right: @SLIMTA_ERROR@. Clients are to try again later.",
            remedy: "See whether introspection_url, client_id and client_secret_file of [auth.oauth] are right and the "
                + "issuer answers."),
        Entry(
            "5208f5ce3feb5ab0f95e7e9607bc2a95", "OAuth issuer answers again",
            "The issuer says again whether tokens are right."),
    ]
}
