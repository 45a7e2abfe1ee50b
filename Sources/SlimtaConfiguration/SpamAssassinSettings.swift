// [spamassassin] as values. SpamAssassinReader reads them, the composition root makes the policy of them.

package import SlimtaRules

/// `[spamassassin]`: spamd, for the policy of that name.
package struct SpamAssassinSettings: Sendable, Equatable {
    /// Where it listens.
    package var to: ServiceAddress
    /// How long the whole exchange may take.
    package var timeout: Duration = .seconds(30)
    /// What becomes of a message that it says nothing of.
    package var onFailure = PolicyOnFailure.accept
    /// Whether messages get X-Spam-Status and X-Spam-Symbols.
    package var addFields = true
    /// From this score on a message is refused; nil: none is.
    package var rejectFrom: Double?
    /// From this score on a message is held; nil: none is.
    package var holdFrom: Double?
    /// Larger messages are not asked about, in octets.
    package var maxSize = 512 << 10
}
