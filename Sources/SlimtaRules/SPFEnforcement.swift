// `[spf]`: what becomes of a client by what SPF says of it. Evaluated behind the rules of a stage, by the edge and by whoever
// explains a session.

package import SlimtaMail

/// Enforcement of SPF: RFC 7208 section 8 leaves to the receiver what becomes of each result.
package struct SPFEnforcement: Sendable {
    /// What comes of a stage.
    package enum Evaluation: Hashable, Sendable {
        /// Nothing is against it.
        case goOn
        /// Look these up, and evaluate again.
        case needs(Set<Fact>)
        /// The message gets this field, whole, with CRLF.
        case addField(String)
        /// The client is told this, for this result.
        case refuse(Reply, SPFResult)
    }

    /// What MAIL is told by result; what is not here does nothing.
    package let replies: [SPFResult: ReplyTemplate]
    /// Whether clients that have logged in are looked at as well.
    package let includesAuthenticated: Bool
    /// Whether messages get the field that tells the result (RFC 7208 section 9.1).
    package let addsField: Bool

    /// What the table says.
    package init(replies: [SPFResult: ReplyTemplate], includesAuthenticated: Bool, addsField: Bool) {
        self.replies = replies
        self.includesAuthenticated = includesAuthenticated
        self.addsField = addsField
    }

    /// Where it has anything to say.
    package var stages: Set<Stage> {
        Set((replies.isEmpty ? [] : [.mail]) + (addsField ? [.message] : []))
    }

    /// Whether it has anything to say at `stage` to the client that `facts` are of.
    package func isAsked(at stage: Stage, _ facts: Facts) -> Bool {
        stages.contains(stage) && (facts.login == nil || includesAuthenticated)
    }

    /// What comes of a stage.
    package func evaluate(_ stage: Stage, _ facts: Facts) -> Evaluation {
        guard isAsked(at: stage, facts) else { return .goOn }
        guard let found = facts.spf else { return .needs([.spf]) }
        if stage == .message { return found.receivedSPF.map { .addField($0) } ?? .goOn }
        guard let template = replies[found.result] else { return .goOn }
        let missing = template.text.facts.filter { !facts.has($0) }
        guard missing.isEmpty else { return .needs(missing) }
        return .refuse(template.reply { facts.value(of: $0, for: "spf", about: []) }, found.result)
    }
}
