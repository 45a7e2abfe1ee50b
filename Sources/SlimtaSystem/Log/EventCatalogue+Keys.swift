// Kinds of events about the keys that mail is signed with. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfKeys: [Entry] = [
        Entry(
            "eb245df2bdad4db4853ac8b0196f008c", "DKIM key is made",
            "The key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@ for @SLIMTA_ALGORITHM@ was made. It signs when DNS "
                + "has shown its record for an hour or more.",
            remedy:
                "Publish its record: slimtad dkim show @SLIMTA_DOMAIN@."),
        Entry(
            "f5cdaacbe20f4fa68d7a8b588b05d31f", "DKIM key is in another state",
            "The key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@ for @SLIMTA_ALGORITHM@ was @SLIMTA_FROM@ and is "
                + "@SLIMTA_STATE@: @SLIMTA_REASON@. A key is made, then seen in DNS, active when that has lasted, "
                + "retiring when a newer one is active, old when nothing that it has signed is under way; or "
                + "failing, while its record is wrong: then it does not sign.",
            remedy:
                "Of one that is failing: slimtad dkim show @SLIMTA_DOMAIN@ says what DNS has to have."),
        Entry(
            "740b9db1ae274b819522f510375909fa", "DKIM record may be removed",
            "Nothing that the key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@ for @SLIMTA_ALGORITHM@ has signed is "
                + "under way, and a newer one signs.",
            remedy:
                "Remove the record from DNS. A key that slimtad has made is deleted when that is done; one in a "
                + "file is to be removed with its [[dkim]]."),
        Entry(
            "e99eab01b1614e20bbc30adb8e0da96e", "DKIM record is wrong",
            "DNS does not have what the key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@ for @SLIMTA_ALGORITHM@ "
                + "needs: @SLIMTA_REASON@. If it is the one that signs, it does so for 15 minutes more; mail that "
                + "it has signed is not verified meanwhile.",
            remedy:
                "slimtad dkim show @SLIMTA_DOMAIN@ says what DNS has to have."),
        Entry(
            "9666f4e8168446ee8b40e86de9696902", "DNS says nothing of a DKIM key",
            "For a day DNS has not said whether it has the key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@ for "
                + "@SLIMTA_ALGORITHM@: @SLIMTA_REASON@. What it said last holds.",
            remedy:
                "See whether the name servers of the domain answer, and those of [dns] in slimta.conf."),
        Entry(
            "bd006646ffcd4b3a8826c16e74e7d51a", "DKIM record is for tests",
            "The record of the key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@ for @SLIMTA_ALGORITHM@ has t=y: "
                + "receivers are to treat mail as if it were not signed.",
            remedy:
                "Remove t=y when the tests are over."),
        Entry(
            "a2efd82e76404b84977ae23093db90f8", "DKIM key is deleted",
            "The record of the key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@ for @SLIMTA_ALGORITHM@ is gone from "
                + "DNS, and nobody needs the key, which slimtad had made."),
        Entry(
            "d5c13db4783348a7996580cf8a93c268", "DKIM key cannot be deleted",
            "The key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@ for @SLIMTA_ALGORITHM@ is not needed any more, and "
                + "its file cannot be deleted: @SLIMTA_ERROR@. It is tried again every hour."),
        Entry(
            "345171e8dd5b4bbaaf3d823781510a8f", "states of DKIM keys begin anew",
            "What was known of keys cannot be read from @SLIMTA_FILE@: @SLIMTA_ERROR@. DNS is asked for all "
                + "of them, and none signs before it has shown the key for an hour; until then mail of these "
                + "domains is refused. What was in the file is in @SLIMTA_KEPT@.",
            remedy:
                "Where that is too long: gate = \"off\" in [[dkim]] of slimta.conf for this hour, if the records "
                + "are right (slimtad dkim check)."),
        Entry(
            "910cb91e55ae478e8f43f3f85474f545", "states of DKIM keys cannot be written",
            "What is known of keys cannot be written to @SLIMTA_FILE@: @SLIMTA_ERROR@. It is tried again "
                + "every second; a restart before that works forgets it."),
        Entry(
            "7715057c9aef490cba9df5b246e44557", "mail of a domain is signed again",
            "DNS shows a key of @SLIMTA_DOMAIN@, and has for long enough: its mail is accepted and signed."),
        Entry(
            "3d504b7663a54405a4384a3227cae31c", "mail of a domain is signed before DNS has its key",
            "Mail of @SLIMTA_DOMAIN@ is signed with a key that DNS has not shown for long enough, or does "
                + "not have: gate in [[dkim]] of slimta.conf wants it so.",
            remedy:
                "Publish the record: slimtad dkim show @SLIMTA_DOMAIN@."),
        Entry(
            "90db16eec0c04f22bb6a0881c2c6f79e", "mail of a domain is refused, DNS has no key of it",
            "Nobody could verify a signature for @SLIMTA_DOMAIN@: DNS does not show @SLIMTA_SELECTOR@, or "
                + "not for long enough. Its mail gets 451 4.7.5, and nothing leaves unsigned.",
            remedy:
                "Publish the record that slimtad dkim show @SLIMTA_DOMAIN@ prints, and see what DNS has with "
                + "slimtad dkim check."),
    ]
}
