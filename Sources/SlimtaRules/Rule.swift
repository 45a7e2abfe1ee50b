// One `[[rule]]` of slimta.conf.

/// A rule: where all conditions hold, it acts.
package struct Rule: Hashable, Sendable {
    /// In logs, in the queue, in explanations. No other rule has it.
    package let name: String
    /// Where it is evaluated.
    package let stage: Stage
    /// All have to hold; none: it always acts.
    package let conditions: [Condition]
    /// What it does.
    package let action: Action

    /// Whether the parts go together is what ``Condition/firstStage`` and ``Action/problem(at:)`` say: the configuration asks
    /// them first, so that it can name the key.
    package init(_ name: String, at stage: Stage, _ conditions: [Condition], _ action: Action) {
        self.name = name
        self.stage = stage
        self.conditions = conditions
        self.action = action
    }

    /// What does not go together in it, though each part is right; nil: all does.
    package var problem: RuleError? {
        let hasReason = conditions.contains { condition in
            switch condition.test {
            case .spf: true
            // Where nothing is listed nobody has said why.
            case .dnsbl: !condition.isTurnedRound
            case .client, .ptr, .ehlo, .edge, .tls, .proxyTLS, .certificate, .login, .authenticated, .sender,
                .recipient,
                .recipients, .size, .header, .content, .hours, .weekdays, .rate, .earlyTalker:
                false
            }
        }
        guard action.template?.placeholders.contains(.reason) == true, !hasReason else { return nil }
        return RuleError("{reason} in a rule without reason", "it in a rule with the condition spf or dnsbl")
    }

    /// What has to be looked up for it, for its conditions and for the texts of its action.
    var facts: Set<Fact> {
        conditions.reduce(into: action.template?.facts ?? []) { $0.formUnion($1.facts) }
    }
}
