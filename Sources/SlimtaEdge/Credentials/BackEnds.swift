// The back ends of the daemon and what exchanges with clients are held to: what SMTP and HTTP edges ask who a client is. The
// composition root makes one from `[auth]`.

package import SlimtaMail
package import SlimtaSASL
package import SlimtaSMTP

/// The back ends in the order in which they are asked, and which mechanisms clients may use.
package struct BackEnds: Authenticator {
    /// In the order in which they are asked.
    let all: [any CredentialBackEnd]
    private let mechanisms: [SASLMechanism]
    private let binding: ChannelBindingMode
    /// Who counts failures; nil: nobody.
    let guesses: GuessWatch?
    /// Of an exchange on a connection without TLS that has listed nothing.
    private let context: SASLContext

    /// - Parameters:
    ///   - mechanisms: those that may be used, as they are to be listed.
    ///   - context: what all exchanges have; what a connection has of its own is set for each.
    ///   - guesses: who counts failures; nil: nobody.
    package init(
        _ all: [any CredentialBackEnd], mechanisms: [SASLMechanism], binding: ChannelBindingMode, context: SASLContext,
        guesses: GuessWatch? = nil
    ) {
        self.all = all
        self.mechanisms = mechanisms
        self.binding = binding
        self.context = context
        self.guesses = guesses
    }

    /// Who has guessed too much lately gets 421.
    package func turnsAway(_ client: ConnectionFacts.Endpoint, isTrusted: Bool) -> Reply? {
        guard let address = client.address, !isTrusted, !address.isLoopback, let guesses,
            guesses.isTurnedAway(address)
        else { return nil }
        return .tooManyFailedLogins
    }

    /// Asks the back end that knows the user.
    package func obstacle(of user: AuthenticatedUser) -> String? {
        all.first { $0.name == user.backEnd }?.obstacle(of: user)
    }

    /// Those that some back end can serve here.
    package func mechanisms(on facts: AuthenticationFacts) -> [SASLMechanism] {
        let served = all.reduce(into: Set<SASLMechanism>()) { $0.formUnion($1.mechanisms(on: facts)) }
        return mechanisms.filter { served.contains($0) && mayBind($0, facts) }
    }

    private func mayBind(_ mechanism: SASLMechanism, _ facts: AuthenticationFacts) -> Bool {
        guard mechanism.scram != nil else { return true }
        return mechanism.bindsChannel ? binding != .off && facts.canBind : binding != .require
    }

    /// One that asks these back ends.
    package func exchange(on facts: AuthenticationFacts) -> any AuthenticationExchange {
        AuthenticationDialogue(self, facts)
    }

    /// What the mechanism's value is to know.
    func context(listed: [SASLMechanism], _ facts: AuthenticationFacts) -> SASLContext {
        var context = context
        context.listed = Set(listed)
        context.bindings = facts.channelBindings
        return context
    }
}
