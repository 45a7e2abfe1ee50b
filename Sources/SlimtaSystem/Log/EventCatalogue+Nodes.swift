// Events of a queue in PostgreSQL.

extension EventCatalogue {
    /// What happens to a queue that several machines share; part of ``entries``.
    static let entriesOfNodes: [Entry] = [
        Entry(
            "0a7d2c9be35f4f0e9f6e3d1b58c6a472", "changes of where the queue is take effect at the next start",
            "[node], or storage or [[queue.postgresql]] of [queue], has changed: the queue cannot change while slimtad runs.",
            remedy: "systemctl restart slimtad"),
        Entry(
            "105d2375f1f94456b9ca81968357624a", "the queue's database is away, nothing is accepted",
            "The database that the queue is in cannot be reached, or does not do what it is asked: "
                + "@SLIMTA_ERROR@. Clients are told 451; what is being delivered is recorded when it is back.",
            remedy: "Look for the server (pg_isready), and for its standby: without one nothing is confirmed "
                + "where synchronous = \"required\"."),
        Entry(
            "71b41b2b36454c4faa292e842ccb4526", "the queue's database is back",
            "Mail is taken and delivered again."),
        Entry(
            "f6db5a87daaf4a9e926950f033ce503b", "nobody knows whether a commit came through",
            "The answer to a commit was lost: @SLIMTA_ERROR@. The clients were told 451; what had been "
                + "stored of theirs is taken out, outcomes are recorded again."),
        Entry(
            "e1e3f524d2c84c11be3d8b95b8b01636",
            "a message was stored though its client was told to send it again, and was taken out",
            "A commit whose answer was lost had come through. Nothing of the message was sent."),
        Entry(
            "a139e6a06816499eb528fd54eba3a673", "this node was declared dead, what it had of the queue is others'",
            "Nothing was heard of this node for longer than [[queue.postgresql]] lease, so others have "
                + "taken what it had. It begins anew. Recipients who got mail meanwhile may get it again.",
            remedy: "See what has held the machine up: a stopped process, a disk, the network to the database."),
        Entry(
            "3769148af520446ba84492e9bb713813", "joined the nodes of the queue",
            "This node works on the queue that is in the database, under incarnation "
                + "@SLIMTA_INCARNATION@."),
        Entry(
            "bf023b5336a64a14b51f211b26299a0f", "a node was declared dead",
            "Nothing was heard of @SLIMTA_NODE@ for longer than [[queue.postgresql]] lease. What it had "
                + "of the queue goes to the others.",
            remedy: "See what has become of that machine."),
        Entry(
            "576741ac93074d1a843267f791bcaf82", "parts of the queue that are this node's",
            "@SLIMTA_BUCKETS@ parts of the queue are delivered by this node."),
        Entry(
            "dcc1d9645afc41cc823cf1b5da293287", "stored mail is unreadable",
            "The record of a message, or its content, cannot be read: @SLIMTA_ERROR@. The message is kept "
                + "and not attempted.",
            remedy: "Restore it from a backup, or remove it (slimtad queue remove) and tell its sender."),
        Entry(
            "c169a9c51ba54641b1778626de322d7f", "the clocks of this machine and of the database differ",
            "They differ by @SLIMTA_OFFSET@. Due times of messages that other nodes have deferred are off "
                + "by that.",
            remedy: "Have both follow a time server."),
        Entry(
            "9476bab9c9fb40418e88aacca6481055", "a transaction keeps the database from cleaning up",
            "The oldest transaction of the database has been open for @SLIMTA_AGE@: rows that were "
                + "deleted meanwhile stay.",
            remedy: "Find it in pg_stat_activity (xact_start) and end it."),
        Entry(
            "59362a8dd6164001822c69bd91c63e36", "the database was not cleaned up, it is tried again",
            "Housekeeping did not come through: @SLIMTA_ERROR@. It is tried again within a minute."),
    ]
}
