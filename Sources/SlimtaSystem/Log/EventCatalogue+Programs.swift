// Kinds of events about other programs that mail goes to or that are asked about it. As EventCatalogue+Entries.

extension EventCatalogue {
    /// All kinds.
    static let entries =
        entriesOfSlimtad + entriesOfLogins + entriesOfPrograms + folderEntries + entriesOfIssuers + entriesOfQuotas
        + entriesOfSignatures + entriesOfKeys + entriesOfContent + entriesOfMilters + entriesOfSecurity
        + entriesOfTLSReports
        + entriesOfTokens + entriesOfSites + entriesOfNodes

    /// Part of ``entries``.
    static let entriesOfPrograms: [Entry] = [
        Entry(
            "d0c1a47fb0f24c0e9f7a52d6b1e8a93c", "command of a pipe cannot be started, its mail waits",
            "@SLIMTA_RELAY@ is configured and is not run: @SLIMTA_REASON@. Mail for it stays in the queue and is tried "
                + "again.",
            remedy: "`slimtad check` says what is wrong with command and user. Under systemd: `systemctl enable --now "
                + "slimtad-pipe.socket`; a slimtad that was started otherwise has to be started again if it had no pipe "
                + "when it started."),
        Entry(
            "5f6a0b5bb4c44cf7a7a2d3a0d7be02f1", "command of a pipe is started again",
            "@SLIMTA_RELAY@ runs again, and its mail is delivered."),
        Entry(
            "b7f0c1d2a96e4b8cb0fd41e6c3a95d77", "no helper for the commands of pipes",
            "The process that runs the commands of pipes cannot be started: @SLIMTA_ERROR@. Mail for pipes stays in the "
                + "queue; all other mail goes on.",
            remedy: "Correct what it says, and start slimtad again."),
        Entry(
            "6e0d3f9c51b84a27b2c8f4170ad9e365", "no helper to ask PAM",
            "The process that asks PAM cannot be started: @SLIMTA_ERROR@. Clients that only PAM knows are to try again later "
                + "(454).",
            remedy: "Correct what it says, and start slimtad again."),
        Entry(
            "c2d84f7b1e5a4906a3b76d0f98e1c54a", "helper has ended",
            "The process `slimtad @SLIMTA_COMMAND@`, which this slimtad had started with the rights that it does not keep "
                + "itself, is no more. Without pipe-helper mail for pipes stays in the queue; without pam-helper clients that "
                + "only PAM knows are to try again later (454).",
            remedy: "Start slimtad again. The kernel's log says whether it was killed for want of memory."),
        Entry(
            "3d1c0f6b7a524e1fb7a9c4a2f0e8d615", "checked for spam",
            "SpamAssassin was shown the message @SLIMTA_QUEUE_ID@ before it was queued, and gave it the score "
                + "@SLIMTA_SCORE@. What follows from that is in [spamassassin] of slimta.conf."),
        Entry(
            "84e2a9d05c3b4f7d9a61b0e7d2f4c853", "spamd gives no verdict",
            "SpamAssassin was to be asked about the message @SLIMTA_QUEUE_ID@: @SLIMTA_ERROR@. on_failure of "
                + "[spamassassin] says what becomes of such messages: @SLIMTA_ON_FAILURE@; where too many come at once they "
                + "are refused for now, whatever it says.",
            remedy: "See whether spamd runs and listens where `to` of [spamassassin] says, and has processes enough."),
        Entry(
            "1b34938f720137877366c6b6133bccb8", "connected to Dovecot",
            "Dovecot is asked who clients are. It offers @SLIMTA_MECHANISMS@; clients are offered those of them that "
                + "mechanisms of [auth] names."),
        Entry(
            "683b9cf7f8abcf48291f16a903659436", "no connection to Dovecot",
            "Dovecot cannot be asked who clients are: @SLIMTA_ERROR@. Clients that only Dovecot knows are to try again "
                + "later (454). slimtad tries to connect every 5 seconds at most, and tells when it has.",
            remedy: "See whether Dovecot runs, and whether socket of [auth.dovecot] is that of its service auth, which "
                + "slimtad's user must be able to write to: `slimtad check` asks it too."),
    ]
}
