// [[milter]] as values. MilterReader reads them, the composition root makes of them what edges ask.

/// `[[milter]]`: a filter that speaks the milter protocol, asked while a session goes on.
package struct MilterSettings: Sendable, Equatable {
    /// What `on_failure` may say: what becomes of mail that the filter has not seen.
    package enum OnFailure: String, Sendable, CaseIterable {
        /// 451.
        case tempfail
        /// It goes on without the filter, for the rest of the session.
        case accept
        /// 550.
        case reject
        /// It is stored and held.
        case quarantine
    }

    /// Its name in the log; no other milter has it. Without `name`, what `to` says.
    package var name: String
    /// Where it listens.
    package var to: ServiceAddress
    /// How long it may take to take a connection.
    package var connectTimeout: Duration = .seconds(3)
    /// How long one reply to a command may take, and the answer to what we offer.
    package var commandTimeout: Duration = .seconds(30)
    /// How long the fields may take, the body, and what it says at the end, each.
    package var contentTimeout: Duration = .seconds(300)
    /// What becomes of mail if it fails.
    package var onFailure = OnFailure.tempfail
    /// Whether a session may go on with the connection of one that is over.
    package var reuseBetweenSessions = false
}
