// The contract between the queue and what makes attempts. The queue's driver calls it; SlimtaRelay implements it.

package import SlimtaMail

/// One attempt to be made: an envelope, and which of its recipients are still to be delivered.
package struct Delivery: Sendable {
    /// The whole envelope, with recipients that are not to be tried.
    package var envelope: Envelope
    /// Its message; the rest of a large one is read while it is sent.
    package var message: Message
    /// Indices into `envelope.recipients`; never empty, ascending.
    package var recipients: [Int]
    /// To be told of a recipient, by its index in the envelope, whose outcome is known while others' are not: what is
    /// delivered is then durable before the attempt ends, and a crash does not deliver it again. May be called on any
    /// thread, and does not wait. What is told here is among what the attempt returns.
    package var report: @Sendable (Int, Outcome) -> Void

    /// An attempt for `recipients` of the envelope.
    package init(
        envelope: Envelope, message: Message, recipients: [Int],
        report: @escaping @Sendable (Int, Outcome) -> Void = { _, _ in }
    ) {
        self.envelope = envelope
        self.message = message
        self.recipients = recipients
        self.report = report
    }
}

/// Makes attempts. Retries and bounces are the queue's business, not a relay's.
package protocol Relay: Sendable {
    /// Makes one attempt and says what came of it: one outcome for each of `delivery.recipients`, in that order.
    ///
    /// Returns when every recipient's outcome is known; a cancelled task makes it return soon, with temporary
    /// outcomes for what was not finished.
    func attempt(_ delivery: Delivery) async -> [Outcome]

    /// The name of what attempts for `domain`, which is in lower case, share: limits, turns and back-off are by it. The
    /// domain itself, unless all goes to one host.
    func destination(for domain: String) -> String

    /// The same where it is known whose mail it is, which may decide where it goes.
    func destination(for domain: String, of envelope: Envelope) -> String

    /// All that mail for `domain` may have in place of that, whoever sends it.
    func destinations(for domain: String) -> Set<String>

    /// An operator wants what waits to be attempted now, or the network has changed: hosts that did not answer may.
    func forgetFailures()
}

extension Relay {
    /// The domain itself: nothing is shared between domains.
    package func destination(for domain: String) -> String { domain }

    /// It does not matter who sends.
    package func destination(for domain: String, of envelope: Envelope) -> String { destination(for: domain) }

    /// That is the only one.
    package func destinations(for domain: String) -> Set<String> { [destination(for: domain)] }

    /// Nothing is known of hosts.
    package func forgetFailures() {}
}
