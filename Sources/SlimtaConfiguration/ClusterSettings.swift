// [node] and [[queue.postgresql]] as values: a queue that several machines share, and who of them this one is. ClusterReader
// reads them, the composition root makes of them what a node is told.

/// `[node]`: this machine among those that share a queue.
package struct NodeSettings: Sendable, Equatable {
    /// What `roles` may have in it.
    package enum Role: String, Sendable, CaseIterable {
        /// Takes mail of clients.
        case edge
        /// Delivers.
        case relay
    }

    /// Its name, which no other machine of the queue has; nil: the machine's.
    package var name: String?
    /// What it does; at least one.
    package var roles: Set<Role> = Set(Role.allCases)
    /// Nodes with the same word send from the same addresses, and share limits of destinations; nil: no other node has it.
    package var egress: String?
}

/// `[[queue.postgresql]]`: the database that the queue is in.
package struct PostgreSQLSettings: Sendable, Equatable {
    /// What `synchronous` may say.
    package enum Synchronous: String, Sendable, CaseIterable {
        /// Nothing is acknowledged that no standby has.
        case required
        /// What the server does is enough.
        case optional
    }

    /// What `when_away` may say.
    package enum WhenAway: String, Sendable, CaseIterable {
        /// Clients are told to come again.
        case refuse
        /// The machine's own journal takes new mail, which is delivered from there.
        case local
    }

    /// Where it is, in libpq's words; no secret is in it.
    package var connection: String
    /// `password_file`: an absolute path or `credential:NAME`; nil: libpq needs none, or finds it itself.
    package var passwordFile: String?
    /// A node that was not heard of for so long is taken for dead.
    package var lease: Duration = .seconds(15)
    /// How long a commit may take until it is in doubt.
    package var commitTimeout: Duration = .seconds(10)
    /// Whether mail is taken without a synchronous standby.
    package var synchronous = Synchronous.required
    /// What becomes of new mail while it is away.
    package var whenAway = WhenAway.refuse
}

/// `[queue] storage`: where the queue is.
package enum QueuePlacement: Sendable, Equatable {
    /// In the state directory.
    case local
    /// In a database.
    case postgresql(PostgreSQLSettings)

    /// Whether there is a journal in the state directory.
    package var hasJournal: Bool {
        switch self {
        case .local: true
        case .postgresql(let settings): settings.whenAway == .local
        }
    }

    /// What the file says for it.
    enum Word: String, CaseIterable {
        case local, postgresql
    }
}
