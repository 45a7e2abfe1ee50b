// All rules of an edge, and their evaluation: a pure function of what is known, that says what it has to know more. The edge
// runs it at each stage that has rules; the command that explains a session runs the same.

internal import SlimtaMail

/// The rules of slimta.conf with their lists.
package struct RuleSet: Sendable {
    /// What came of an evaluation.
    package enum Evaluation: Hashable, Sendable {
        /// Look these up, and evaluate again. They are those of the first rule that cannot go on without.
        case needs(Set<Fact>)
        case verdict(Verdict)
    }

    /// What one rule says, for explanations.
    package struct Trace: Hashable, Sendable {
        /// What became of a rule.
        package enum Outcome: Hashable, Sendable {
            /// All conditions hold: it acts.
            case acts
            /// This condition does not hold.
            case fails(condition: String)
            /// Whether this condition holds could not be found out: the rule does not act.
            case unknown(condition: String)
            /// It cannot be said before these are known.
            case needs(Set<Fact>)
            /// A rule before it has ended the stage, or waits for facts.
            case notReached
        }

        /// The rule.
        package let rule: Rule
        /// What became of it.
        package let outcome: Outcome
    }

    private let rules: [Stage: [Rule]]
    private let lists: [ListReference: any TextList]

    /// The rules in their order. `lists` has what ``lists(of:)`` says that they need: a condition whose list is not there is
    /// not known, and its rule does not act.
    package init(_ rules: [Rule], lists: [ListReference: any TextList] = [:]) {
        self.rules = Dictionary(grouping: rules) { $0.stage }
        self.lists = lists
    }

    /// The files that `rules` need.
    package static func lists(of rules: [Rule]) -> Set<ListReference> {
        rules.reduce(into: []) { $0.formUnion($1.conditions.flatMap(\.lists)) }
    }

    /// The rules that can act on an edge: where none can at a stage, nobody has to be asked there.
    package func forEdge(_ name: String) -> RuleSet {
        RuleSet(
            Stage.allCases.flatMap { stage in
                (rules[stage] ?? []).filter { rule in
                    rule.conditions.allSatisfy { condition in
                        guard case .edge = condition.test else { return true }
                        let facts = Facts(client: .unknown, edge: name, now: LocalTime(.mon, minute: 0))
                        return condition.finding(facts, at: stage, lists) != .fails
                    }
                }
            }, lists: lists)
    }

    /// Where there are rules.
    package var stages: Set<Stage> { Set(rules.keys) }

    /// What rules at any stage may have to know.
    package var facts: Set<Fact> { rules.values.joined().reduce(into: []) { $0.formUnion($1.facts) } }

    /// What rules compare that count messages.
    package var rates: Set<RateFacts.Key> {
        rules.values.joined().reduce(into: []) { keys, rule in
            for condition in rule.conditions {
                if case .rate(let wanted) = condition.test { keys.formUnion(wanted.map(\.key)) }
            }
        }
    }

    /// The facts whose reasons are told to clients: a list's text is asked for only then.
    package var reasons: Set<Fact> {
        rules.values.joined().reduce(into: []) { facts, rule in
            if rule.action.template?.placeholders.contains(.reason) == true {
                facts.formUnion(rule.conditions.flatMap(\.facts))
            }
        }
    }

    /// Whether a rule is about the client's certificate: it is asked for in the handshake only then.
    package var needsCertificate: Bool {
        rules.values.joined().contains { rule in
            rule.conditions.contains { if case .certificate = $0.test { true } else { false } }
        }
    }

    /// Whether a rule is about what messages are made of: they are looked through only then.
    package var readsContent: Bool {
        rules.values.joined().contains { rule in
            rule.conditions.contains { if case .content = $0.test { true } else { false } }
        }
    }

    // MARK: Evaluation

    /// What the rules of a stage say. No effect of one is told before all that matters is known.
    package func evaluate(_ stage: Stage, _ facts: Facts) -> Evaluation {
        var verdict = Verdict()
        for rule in rules[stage] ?? [] {
            switch outcome(of: rule, facts) {
            case .needs(let missing): return .needs(missing)
            case .fails, .notReached: continue
            case .unknown(let condition):
                if rule.isMissed(for: condition) {
                    verdict.undecided.append(.init(rule: rule.name, condition: condition))
                }
            case .acts:
                verdict.act(rule, facts)
                if rule.action.ends { return .verdict(verdict) }
            }
        }
        return .verdict(verdict)
    }

    /// The same, with what became of each rule of the stage.
    package func explain(_ stage: Stage, _ facts: Facts) -> [Trace] {
        var isOver = false
        return (rules[stage] ?? []).map { rule in
            guard !isOver else { return Trace(rule: rule, outcome: .notReached) }
            let outcome = outcome(of: rule, facts)
            switch outcome {
            case .acts: isOver = rule.action.ends
            case .needs: isOver = true
            case .fails, .unknown, .notReached: break
            }
            return Trace(rule: rule, outcome: outcome)
        }
    }

    /// What costs no lookup decides first: what has to be looked up is asked for only if all else holds.
    private func outcome(of rule: Rule, _ facts: Facts) -> Trace.Outcome {
        var missing: Set<Fact> = []
        var open: Condition?
        for condition in rule.conditions {
            switch condition.finding(facts, at: rule.stage, lists) {
            case .holds: continue
            case .fails: return .fails(condition: condition.name)
            case .unknown: open = open ?? condition
            case .needs(let facts): missing.formUnion(facts)
            }
        }
        if let open { return .unknown(condition: open.name) }
        missing.formUnion((rule.action.template?.facts ?? []).filter { !facts.has($0) })
        return missing.isEmpty ? .acts : .needs(missing)
    }
}

extension Rule {
    /// Whether somebody has to know that it did not act as `condition` could not be found out.
    fileprivate func isMissed(for condition: String) -> Bool {
        if case .log = action { return false }
        return !conditions.contains { other in
            if case .size = other.test { other.name == condition } else { false }
        }
    }
}

extension Verdict {
    fileprivate mutating func act(_ rule: Rule, _ facts: Facts) {
        notes.append(Note(rule: rule.name, action: rule.action.word))
        let value = { facts.value(of: $0, for: rule.name, about: rule.conditions) }
        switch rule.action {
        case .accept: decision = .accept
        case .reply(let template), .close(let template):
            decision = .refuse(template.reply(value))
        case .addField(let template): fields.append(template.field(value))
        case .hold: heldBy = heldBy ?? rule.name
        case .delay(let time): delay += time
        case .log: break
        }
    }
}

extension Facts {
    /// Whether it is known, if only as one that nobody could find out.
    package func has(_ fact: Fact) -> Bool {
        switch fact {
        case .ptr: ptr != nil
        case .spf: spf != nil
        case .dnsbl(let name): listings[name] != nil
        }
    }

    /// What is put in the place of a placeholder.
    ///
    /// - Parameters:
    ///   - name: who speaks: a rule, or "spf".
    ///   - conditions: what it speaks about; empty: SPF.
    func value(
        of placeholder: Template.Placeholder, for name: String, about conditions: [Condition]
    ) -> String {
        switch placeholder {
        case .client: client.description
        case .ptr: ptr?.confirmed.first ?? "unknown"
        case .ehlo: ehlo ?? ""
        case .edge: edge
        case .uniqueID: uniqueID ?? "unknown"
        case .login: login ?? "nobody"
        case .sender: sender?.text ?? ""
        case .recipient: (recipient.map { [$0] } ?? recipients).map(\.text).joined(separator: ", ")
        case .rule: name
        case .reason: reason(for: conditions)
        }
    }

    /// What the first of the facts says that has words.
    private func reason(for conditions: [Condition]) -> String {
        for condition in conditions {
            switch condition.test {
            case .spf: if let spf { return spf.reason }
            case .dnsbl(let lists):
                for list in lists {
                    if case .listed(_, let text)? = listings[list.name] { return text ?? "listed by \(list.name)" }
                }
            case .client, .ptr, .ehlo, .edge, .tls, .proxyTLS, .certificate, .login, .authenticated, .sender,
                .recipient, .recipients, .size, .header, .content, .hours, .weekdays, .rate, .earlyTalker:
                continue
            }
        }
        return spf?.reason ?? ""
    }
}
