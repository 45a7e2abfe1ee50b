// Kinds of events about signatures that mail leaves with. As EventCatalogue+Entries.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfSignatures: [Entry] = [
        Entry(
            "6d25a3c8f1b04e97ad1c70e95b84f2d6", "mail of a domain goes unsigned",
            "No [[dkim]] of slimta.conf is for @SLIMTA_DOMAIN@, which the first author (From) of the message "
                + "@SLIMTA_QUEUE_ID@ is of, and such mail goes unsigned. Told once a domain and day.",
            remedy: "If mail of this domain is to be signed, give it a [[dkim]]. If nobody here is to write in its "
                + "name, say so by senders in the users file, or have it refused."),
        Entry(
            "f0b9d7e24c6a4183b5e2a96c0d37f814", "message could not be signed",
            "The message @SLIMTA_QUEUE_ID@ was to be signed for @SLIMTA_DOMAIN@, and could not be: @SLIMTA_ERROR@. "
                + "Nothing was stored, and the client was told to try again (451).",
            remedy: "What it says is a fault of the disk or of the key. `slimtad check` looks at the keys."),
        Entry(
            "2c8e5f70ba3d49d1964f1e0b7ca6d853", "signature of a message does not hold",
            "The message @SLIMTA_QUEUE_ID@ was signed for @SLIMTA_DOMAIN@, and what was made of it could not be "
                + "verified before it was stored: @SLIMTA_ERROR@. The client was told to try again (451). Ten such messages are "
                + "kept, held, for whoever looks into it: SLIMTA_KEPT says whether this one is.",
            remedy: "This is a mistake of slimtad: please report it with the message, which `slimtad queue show "
                + "--content @SLIMTA_QUEUE_ID@` writes, and remove it then. It cannot be released: the client comes with it again."
        ),
        Entry(
            "1e6dfdf15b6a41fcbda4d1844bc41889", "message is signed anew",
            "The message @SLIMTA_QUEUE_ID@ had waited until its signature was about to run out, or until nobody could "
                + "verify it any more. It leaves with a new one, by the key @SLIMTA_SELECTOR@ of @SLIMTA_DOMAIN@."),
        Entry(
            "1c35d553c4da4546b6d055a6808bbee2", "message cannot be signed anew",
            "The message @SLIMTA_QUEUE_ID@ has waited so long that its signature by @SLIMTA_SELECTOR@ of "
                + "@SLIMTA_DOMAIN@ no longer counts, and it got no new one: @SLIMTA_ERROR@. Where it should have one it "
                + "waits in the queue, as if its recipients' hosts did not answer.",
            remedy: "`slimtad dkim show` tells what DNS has to have."),
        Entry(
            "9a417bd6e05c4f3c8d20f7b6e1c5a398", "notice goes unsigned",
            "The notice @SLIMTA_QUEUE_ID@ to a sender could not be signed, and goes without a signature: "
                + "@SLIMTA_ERROR@.",
            remedy: "Notices are signed for the name of this host (hostname of slimta.conf): a [[dkim]] is to be for "
                + "it or for a domain above it, and its key is to be one that may sign."),
    ]
}
