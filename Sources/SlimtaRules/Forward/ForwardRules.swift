// All [[forward]] of slimta.conf: what recipients become. Asked by the policy "forward", and by gates at RCPT, so that who
// is refused is refused there.

package import SlimtaMail

/// Rules in their order: the first that is for a recipient counts.
///
/// What comes out is looked up again, so that rules can lead to each other. An address that a chain comes by a second time
/// stays as it is: `a -> a, b` keeps a copy. A chain that makes new addresses for ever is refused.
package struct ForwardRules: Hashable, Sendable {
    /// What becomes of a recipient.
    package enum Result: Hashable, Sendable {
        /// No rule is for it.
        case unchanged
        /// These, each once; at least one.
        case to([Mailbox])
        /// Nobody gets its mail: what its sender is told, and the rule, as its `recipient` is written.
        case refused(Reply, by: String)
    }

    /// The most rules that one recipient comes by in a row.
    private static let depth = 20
    /// The most addresses that one recipient becomes.
    private static let width = 10_000

    private let rules: [ForwardRule]

    /// No rule: every recipient stays.
    package var isEmpty: Bool { rules.isEmpty }
    /// Whether a recipient can be refused by one of them.
    package var canRefuse: Bool {
        // Expressions can take too long, and make what is no address.
        rules.contains { rule in
            if case .reject = rule.result { true } else { rule.recipient.isExpression }
        }
    }

    /// In the order of the file.
    package init(_ rules: [ForwardRule] = []) { self.rules = rules }

    /// What becomes of a recipient. A 4xx is for what its sender can do nothing about.
    package func result(for recipient: Mailbox) -> Result {
        var walk = Walk()
        if let refusal = follow(recipient, [], &walk) { return refusal }
        return walk.followed.isEmpty ? .unchanged : .to(walk.found)
    }

    /// Where the ways from one recipient have led so far.
    private struct Walk {
        var found: [Mailbox] = []
        /// Those that were found, folded.
        var seen: Set<String> = []
        /// Those that a rule was for: where they lead to is gone to once, or ways that part and meet would be countless.
        var followed: Set<String> = []
    }

    /// Follows one address; what refuses it, or one that it became.
    private func follow(
        _ address: Mailbox, _ path: [String], _ walk: inout Walk
    ) -> Result? {
        func refused(_ code: UInt16, _ status: EnhancedStatus, _ text: String, _ rule: ForwardRule?) -> Result {
            .refused(Reply(code, status, "<\(address)>: \(text)"), by: rule?.recipient ?? "")
        }
        let key = address.text.foldedAsAddress()
        do throws(RegularExpression.Undecided) {
            guard !path.contains(key), let (rule, groups) = try rule(for: address) else {
                if walk.seen.insert(key).inserted { walk.found.append(address) }
                return nil
            }
            guard walk.followed.insert(key).inserted else { return nil }
            switch rule.result {
            case .reject(let template):
                return .refused(template.reply { $0 == .recipient ? address.text : "" }, by: rule.recipient)
            case .to(let targets):
                guard path.count < Self.depth, walk.found.count < Self.width else {
                    return refused(550, EnhancedStatus(5, 4, 6), "forwarding does not come to an end", rule)
                }
                for target in targets {
                    guard let next = target.mailbox(for: address, groups) else {
                        return refused(451, EnhancedStatus(4, 3, 5), "forwarding leads to no address", rule)
                    }
                    if let refusal = follow(next, path + [key], &walk) { return refusal }
                }
                return nil
            }
        } catch {
            return refused(451, EnhancedStatus(4, 3, 5), "where it is forwarded to takes too long to find out", nil)
        }
    }

    private func rule(for address: Mailbox) throws(RegularExpression.Undecided) -> (ForwardRule, [String])? {
        for rule in rules {
            if let groups = try rule.groups(of: address) { return (rule, groups) }
        }
        return nil
    }

    /// Rules that can never be asked, as one before them is for all that they are for: by their index, with that one's.
    package var unreachable: [(rule: Int, hiddenBy: Int)] {
        rules.indices.compactMap { index in
            rules[..<index].firstIndex { $0.covers(rules[index]) }.map { (index, $0) }
        }
    }
}

extension ForwardRule {
    /// Whether it is for all that `other` is for, as far as that can be said.
    fileprivate func covers(_ other: ForwardRule) -> Bool {
        if recipient == other.recipient { return true }
        guard !recipient.isExpression, !other.recipient.isExpression, let own = try? TextPattern(recipient),
            let its = try? TextPattern(other.recipient)
        else { return false }
        return own.covers(its)
    }
}
