// Kinds of events about logins and what is kept of them. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfLogins: [Entry] = [
        Entry(
            "ceeb85584988d1415fbfe10f199fc755", "authenticated",
            "A client has logged in as @SLIMTA_LOGIN@. SLIMTA_APP, if it is there, names whose password it was."),
        Entry(
            "0baa490c6dbed4821aab6287177791f4", "authentication failed",
            "A client tried to log in as @SLIMTA_LOGIN@ with a wrong password, or there is no such user.",
            remedy: "One of them is a typing error. Many from one address are somebody who guesses: block "
                + "@SLIMTA_CLIENT@ in the firewall."),
        Entry(
            "c1f5e0b83a7d4d0e9d5b2a64f97308ce", "revocation list has ended, certificates of clients are refused",
            "A list of revoked certificates in @SLIMTA_FILE@ has ended: what its authority has issued is not good until there "
                + "is a new one. Clients that log in by certificate (EXTERNAL) cannot.",
            remedy: "Put a new list into the file, behind the authority's certificate, and reload slimtad."),
        Entry(
            "7e4a77f5dfbe4029a883c2ec33a41309", "authentication cancelled",
            "The client has begun to log in as @SLIMTA_LOGIN@ and given up: @SLIMTA_REASON@.",
            remedy:
                "A mail program that always does so cannot use the mechanism that it has chosen. If that is a -PLUS of "
                + "SCRAM, set [auth] channel_binding to \"off\"; else leave the mechanism out of [auth] mechanisms."),
        Entry(
            "8ae7a0c00ac546119e19fe52ec266032", "SCRAM keys learned",
            "@SLIMTA_LOGIN@ has logged in with the right password, and now has keys for SCRAM in the users file too."),
        Entry(
            "b2e0e278adca4511aa747b28ffd77e9b", "SCRAM keys cannot be written",
            "@SLIMTA_LOGIN@ should get keys for SCRAM ([auth] learn_scram), and the users file cannot be written: "
                + "@SLIMTA_ERROR@.",
            remedy:
                "Put the users file into a folder that the service can write, or set learn_scram to false. It is tried "
                + "again for this login after a reload."),
        Entry(
            "f065ab43cb2b4779832ec21dd2a38a17", "last use of passwords is not kept",
            "When applications last used their passwords cannot be written to the state directory: @SLIMTA_ERROR@."),
    ]
}
