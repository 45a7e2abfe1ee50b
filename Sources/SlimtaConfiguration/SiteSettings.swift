// [[site]] as values. SiteReader reads them, the composition root makes SlimtaRelay's rules of them.

/// `[[site]]`: limits of the sites that have one of these hosts.
package struct SiteSettings: Sendable, Equatable {
    /// Which hosts are meant: names of mail exchangers, or of relays' hosts.
    package var hosts: [DomainPattern]
    /// The most sessions at a time.
    package var connections: Int?
    /// Messages a second.
    package var rate: Double?
    /// Messages in a session; more than ``most`` counts as that.
    package var messagesPerSession: Int?
    /// Recipients in a transaction; more than ``most`` counts as that.
    package var recipientsPerTransaction: Int?

    /// Relays never do more of either.
    package static let most = 100
}
