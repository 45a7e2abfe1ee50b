// What is known of the hosts that mail goes to, and how much they take, as the daemon tells it to Control.

package import SlimtaMail

/// What is known of a site.
package struct SiteReport: Sendable {
    /// Each nil: there is no limit, or none is known.
    package struct Limits: Hashable, Sendable {
        /// Sessions at a time.
        package var connections: Int?
        /// Messages a second.
        package var rate: Double?
        /// Messages in a session.
        package var messages: Int?
        /// Recipients in a transaction.
        package var recipients: Int?

        /// As its properties say.
        package init(connections: Int?, rate: Double?, messages: Int?, recipients: Int?) {
            self.connections = connections
            self.rate = rate
            self.messages = messages
            self.recipients = recipients
        }
    }

    /// A host that does not answer.
    package struct Host: Sendable {
        /// IP address and port.
        package var address: String
        /// In a row.
        package var failures: Int
        /// When it is tried again.
        package var until: Timestamp

        /// As its properties say.
        package init(address: String, failures: Int, until: Timestamp) {
            self.address = address
            self.failures = failures
            self.until = until
        }
    }

    /// Its hosts by preference, and the port.
    package var name: String
    /// The names of its hosts.
    package var hosts: [String]
    /// Whether the configuration names it as a relay's host.
    package var isFixed: Bool
    /// What an operator has set by command.
    package var set: Limits
    /// What the configuration says.
    package var configured: Limits
    /// What was learned.
    package var learned: Limits
    /// Whether it lets strangers wait.
    package var greylists: Bool
    /// The shortest wait that was enough.
    package var greylistWait: Duration?
    /// Sessions that are open.
    package var sessions: Int
    /// As many as there may be just now; nil: it is not in use.
    package var window: Int?
    /// Messages that wait for a session.
    package var waiting: Int
    /// Nothing goes there before.
    package var pausedUntil: Timestamp?
    /// Hosts that do not answer.
    package var failed: [Host]
    /// When mail was last for it.
    package var lastUsed: Timestamp

    /// As its properties say.
    package init(
        name: String, hosts: [String], isFixed: Bool, set: Limits, configured: Limits, learned: Limits,
        greylists: Bool, greylistWait: Duration?, sessions: Int, window: Int?, waiting: Int, pausedUntil: Timestamp?,
        failed: [Host], lastUsed: Timestamp
    ) {
        self.name = name
        self.hosts = hosts
        self.isFixed = isFixed
        self.set = set
        self.configured = configured
        self.learned = learned
        self.greylists = greylists
        self.greylistWait = greylistWait
        self.sessions = sessions
        self.window = window
        self.waiting = waiting
        self.pausedUntil = pausedUntil
        self.failed = failed
        self.lastUsed = lastUsed
    }

    /// Whether that is its name, or the name of one of its hosts.
    func isNamed(_ text: String) -> Bool {
        name == text || name == text.asciiLowercased() || hosts.contains(text.asciiLowercased())
    }
}

/// Limits that an operator sets; each nil: it stays as it is, .some(nil): there is to be none.
package struct SiteChange: Hashable, Sendable {
    /// Sessions at a time.
    package var connections: Int??
    /// Messages a second.
    package var rate: Double??
    /// Messages in a session.
    package var messages: Int??
    /// Recipients in a transaction.
    package var recipients: Int??
}
