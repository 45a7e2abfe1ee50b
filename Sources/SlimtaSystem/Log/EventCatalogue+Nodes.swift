// Events of a queue in PostgreSQL, and of outcomes that were recorded or were not, wherever the queue is.

extension EventCatalogue {
    /// What happens to a queue that several machines share; part of ``entries``.
    static let entriesOfNodes: [Entry] = [
        Entry(
            "5c1f7ae2d0934b68b2d4e96a7f30c815", "outcome recorded",
            "What came of an attempt for @SLIMTA_QUEUE_ID@ is stored. An attempt without this line does not count, and is made "
                + "again."),
        Entry(
            "e83b05d94c7142a6915dfc2b60a7348e", "outcome was not recorded before the end",
            "What came of an attempt for @SLIMTA_QUEUE_ID@ could not be stored before slimtad ended. The attempt is made again "
                + "after the start, or by another node: whom it has reached gets the message twice.",
            remedy: "The lines before say why nothing could be stored."),
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
            "3c52f0d69a1b4e7f8d0b6a94e7215cd3", "the queue's database is away, new mail goes into the local queue",
            "The database that the queue is in cannot be reached, or does not do what it is asked: "
                + "@SLIMTA_ERROR@. As when_away = \"local\" says, this machine's own journal takes new mail, which is on one "
                + "disk only, and delivers it; what is in the database waits.",
            remedy: "Look for the server (pg_isready), and for its standby: without one nothing is confirmed "
                + "where synchronous = \"required\"."),
        Entry(
            "71b41b2b36454c4faa292e842ccb4526", "the queue's database is back",
            "Mail is taken and delivered again."),
        Entry(
            "f6db5a87daaf4a9e926950f033ce503b", "nobody knows whether a commit came through",
            "The answer to a commit was lost: @SLIMTA_ERROR@. The clients were told 451; what had been "
                + "stored of theirs is taken out, but for what other nodes deliver and a client's key protects; outcomes are "
                + "recorded again."),
        Entry(
            "e1e3f524d2c84c11be3d8b95b8b01636",
            "a message was stored though its client was told to send it again, and was taken out",
            "A commit whose answer was lost had come through. Nothing of the message was sent, unless it was for another "
                + "node to deliver and that had begun: then its recipients may get it twice."),
        Entry(
            "3f1c259506195e2373313f10338ea1c1",
            "a message may be delivered though its client was told to send it again",
            "The answer to the commit of @SLIMTA_QUEUE_ID@ was lost, and the message was not taken out: it may never have been "
                + "stored, or another node delivers it or has done so. Whoever comes again with the key of a submission, and a "
                + "directory edge, finds what is there; of any other client the recipients may get it twice."),
        Entry(
            "1f5fe101de1d2bc03b94fadd0dc8c8b7", "a message is not in the database any more",
            "What came of an attempt for @SLIMTA_QUEUE_ID@, or what an operator has done to it, was to be stored, and the "
                + "message is not there. Either the node that took it has taken it out after a doubt, and said so; or "
                + "somebody has deleted it, or the database has lost what it had confirmed, and with it accepted mail.",
            remedy: "Without such a line of another node: see whether the database has failed over to a standby that "
                + "lacked something, and set synchronous = \"required\"."),
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
            "76ef12bd2b4f464db182bcd7ac52a510", "no node delivers, mail waits",
            "This node takes mail and delivers none ([node] roles), and no node with the role relay works. What it takes "
                + "is stored and waits for one.",
            remedy: "Start a node with the role relay; slimtad database status shows which there are."),
        Entry(
            "02bfa93d42c448b792856718bd241da9", "a node delivers again",
            "A node with the role relay works, and delivers what has waited."),
        Entry(
            "38a74e4cd172422f8a9dc2bf93b474e6", "nodes cannot call each other by the database",
            "The database does not do LISTEN and NOTIFY: @SLIMTA_ERROR@. Mail that another node delivers waits for up to a "
                + "fifth of [[queue.postgresql]] lease before it does."),
        Entry(
            "576741ac93074d1a843267f791bcaf82", "parts of the queue that are this node's",
            "@SLIMTA_BUCKETS@ parts of the queue are delivered by this node."),
        Entry(
            "4f0c6a8e1d3b4c57a2e98b60d17f35c1", "this node is drained: it takes no mail and gives away what it has",
            "An operator wants it so (slimtad node drain). Clients are told 451; what is queued here goes to the other nodes "
                + "when no attempt is made for it.",
            remedy: "slimtad node resume, when it is to take mail again."),
        Entry(
            "b83d5e72c9a04160852f6d0b4ae71c39", "this node takes mail again",
            "An operator has ended its draining (slimtad node resume)."),
        Entry(
            "2267400130fb464abb0d552d4d1afc8c", "limits of destinations are shared by nodes",
            "So many nodes that live have the same [node] egress, this one among them: @SLIMTA_NODES@. What "
                + "connections_per_destination and [[site]] say holds for all of them together."),
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
