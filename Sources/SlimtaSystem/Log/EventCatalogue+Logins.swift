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
            remedy:
                "One of them is a typing error. Many from one address are somebody who guesses, and waits for it: slimtad "
                + "guess list. SLIMTA_COUNT is how many failures of @SLIMTA_CLIENT@ are not forgotten yet; where there is "
                + "none, it was the same wrong password again, or not wrong at all."),
        Entry(
            "196f177ed3a5b1ce6e47e2d10ba6fef2", "authentication could not be checked",
            "Whether @SLIMTA_LOGIN@ is who it says could not be found out now, and it was told to try later (454): "
                + "@SLIMTA_REASON@.",
            remedy:
                "If passwords of one address (IPv6: its /64) wait to be checked, somebody may be guessing: see where "
                + "the connections are from. If a back end of [auth] has not answered, see to that one: slimtad check "
                + "asks it."),
        Entry(
            "9d4be7c02f6a4b1d8a35c1e06d7f2b48", "too many passwords wait to be checked",
            "So many clients log in at once that @SLIMTA_WAITING@ passwords wait to be hashed. Of the address (IPv6: its /64) "
                + "with most of them the last ones are told to try later (454), guessers first. Told once a minute at most.",
            remedy:
                "Somebody guesses from many addresses: slimtad guess list. Or there are too few processors for those who log "
                + "in: applications that keep their connections, or passwords of their own (slimtad passwd NAME --app), cost "
                + "no hash."),
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
            "3d0f6a1be8c247f4a2b5c9e07d41f683", "guesses passwords, is turned away",
            "So many logins have failed from @SLIMTA_CLIENT@ and its like that @SLIMTA_NETWORK@ gets 421 until "
                + "@SLIMTA_UNTIL@: @SLIMTA_FAILURES@ failures that count, of about @SLIMTA_LOGINS@ different logins. It is "
                + "the time number @SLIMTA_TIMES@, and each is twice as long as the one before, up to a day.",
            remedy:
                "slimtad guess list shows all of them. If it is one of your own, slimtad guess release @SLIMTA_NETWORK@ lets "
                + "it in again; networks in trusted_networks are never turned away."),
        Entry(
            "a86c2d7f10e94b5bb3f4a1d9ce025e77", "guesser turned away",
            "A client of a network that guesses passwords has connected, and was told to come another time (421)."),
        Entry(
            "5be1c7a94f3d4d0c8e62a0f7b1946d38", "failed logins are not kept",
            "Where logins have succeeded and who is turned away cannot be written to the state directory: "
                + "@SLIMTA_ERROR@. A restart forgets it."),
        Entry(
            "4c9d1f0be27a4e6f9b8357d2a1c06e94", "failed logins begin anew",
            "Where logins have succeeded, and who is turned away, cannot be read from @SLIMTA_FILE@: @SLIMTA_ERROR@. What "
                + "of it could be understood is in use. The file is kept as @SLIMTA_KEPT@.",
            remedy:
                "Who guessed passwords before is let in again, and has to be found out again; logins wait for guesses at "
                + "them where they did not before. When nobody needs the file any more, delete it."),
        Entry(
            "a3f2c6d07b1e4859ae41907f5c38d2b6", "last uses of passwords begin anew",
            "When applications last used their passwords cannot be read from @SLIMTA_FILE@: @SLIMTA_ERROR@. What of it could "
                + "be understood is in use. The file is kept as @SLIMTA_KEPT@.",
            remedy: "Some may be shown as never used that were. When nobody needs the file any more, delete it."),
        Entry(
            "e7b05a9c3d1842f68c0fd9264b7ea153", "SCRAM secret cannot be used, another holds until the end",
            "What the SCRAM keys of names that do not exist are invented from cannot be read from @SLIMTA_FILE@, or not be "
                + "written there: @SLIMTA_ERROR@. Logins go on. But the salts of such names are others after the next start, "
                + "and those of users are not: who asks before and after it can tell which users there are.",
            remedy:
                "Put the file right: 32 octets, mode 0600, of the service's user, the same on all nodes. If it is lost, "
                + "delete it, and slimtad makes another at its next start."),
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
