// Which database, and as whom: made of slimta.conf by the composition root, and by tests.

/// Where the database is.
package struct PostgresOptions: Hashable, Sendable, CustomStringConvertible {
    /// libpq's words, or a URI ("Connection Strings" in PostgreSQL's manual). Never with a password: it is for everybody to
    /// see. Unless it says something else of `target_session_attrs`, only a server that can be written to is taken.
    package var connection: String
    /// What proves the role, if the server wants to know.
    package var password: String?
    /// What the server's list of its sessions shows, unless `connection` says something else.
    package var applicationName: String
    /// How long the connection to one address may take; `connect_timeout` of `connection` counts if that is less.
    package var connectTimeout: Duration

    /// With the defaults of a daemon.
    package init(
        connection: String, password: String? = nil, applicationName: String = "slimtad",
        connectTimeout: Duration = .seconds(5)
    ) {
        self.connection = connection
        self.password = password
        self.applicationName = applicationName
        self.connectTimeout = connectTimeout
    }

    /// Without the password.
    package var description: String { connection }
}
