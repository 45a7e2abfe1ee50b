// [log]. Configuration has it, the daemon and its commands log by it.

/// `[log]`: what is logged, and where to.
package struct LogSettings: Sendable, Equatable {
    /// What `level` may say: the levels of swift-log up to error.
    package enum Level: String, Sendable, CaseIterable {
        case trace, debug, info, notice, warning, error
    }

    /// What `target` may say.
    package enum Target: String, Sendable, CaseIterable {
        /// The journal if started by systemd, else standard error.
        case auto
        /// The journal of systemd, with an event's fields as its fields.
        case journal
        /// A line of text an event.
        case standardError = "stderr"
    }

    /// Events below it are not logged.
    package var level = Level.info
    /// Where events are logged to.
    package var target = Target.auto
}
