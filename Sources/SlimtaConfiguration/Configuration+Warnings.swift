// What a configuration may say and surely does not mean: rules that can never match, tables that nobody needs. Told by
// `slimtad check`; a daemon runs with it all the same.

internal import SlimtaMail
internal import SlimtaRules

extension Configuration {
    /// Something that is allowed and does nothing.
    package struct Warning: Sendable, Hashable {
        /// Such as `rule[2].edge`.
        package var keyPath: String
        /// What about it, in words.
        package var text: String
    }

    /// All of them, by table. Sensible only of a configuration without mistakes.
    package var warnings: [Warning] {
        if !closedEdges.isEmpty {
            // What rules are for is those edges, which other machines open.
            var opened = self
            (opened.edges, opened.closedEdges) = (closedEdges, [])
            return opened.warnings
        }
        var warnings: [Warning] = []
        for (index, rule) in rules.enumerated() { warnings += self.warnings(of: rule, at: "rule[\(index)]") }
        for unreachable in RuleSet.unreachable(rules) {
            guard let index = rules.firstIndex(where: { $0.name == unreachable.rule }) else { continue }
            warnings.append(neverMatches(unreachable.rule, "rule[\(index)]", unreachable.reason))
        }
        let used = rules.reduce(into: Set<Fact>()) { $0.formUnion($1.conditions.flatMap(\.facts)) }
        for (index, list) in dnsbls.enumerated() where !used.contains(.dnsbl(list.name)) {
            let text = "no rule has dnsbl = \(KeyPath.quoted(list.name)): nobody asks the list"
            warnings.append(Warning(keyPath: "dnsbl[\(index)]", text: text))
        }
        if spf != SPF(), !spf.isWanted, !used.contains(.spf) {
            let text = "nobody wants to know the result: no entry for one, no received_spf = true, no rule with spf"
            warnings.append(Warning(keyPath: "spf", text: text))
        }
        // Who has not logged in by MAIL is a client of these networks, or on this machine, whose address no domain allows.
        if spf.isWanted, !spf.authenticated, edges.allSatisfy({ $0.access.trustedNetworks.isEmpty }) {
            let isOfThisMachine = edges.contains { $0.trust.allowsThisMachine }
            let text =
                (isOfThisMachine ? "is about mail of this machine alone, and may refuse it" : "concerns nobody")
                + ": no edge has trusted_networks, so that all who get to MAIL from elsewhere have authenticated; "
                + "authenticated = true checks them too"
            warnings.append(Warning(keyPath: "spf", text: text))
        }
        warnings += senderWarnings
        warnings += quotaWarnings
        warnings += forwardWarnings
        if spamAssassin != nil, !queue.policies.contains(.spamassassin) {
            let text = "spamd is not asked: \"spamassassin\" is not in policies of [queue]"
            warnings.append(Warning(keyPath: "spamassassin", text: text))
        }
        if queue.hidesClient, !queue.policies.contains(.received) {
            let text =
                "hide_client hides nothing: \"received\" is not in policies of [queue], so there is no such field"
            warnings.append(Warning(keyPath: "queue.received", text: text))
        }
        warnings += signingWarnings
        warnings += loginWarnings
        warnings += siteWarnings
        for (path, relay) in [("relay", relay)] + routes.indices.map({ ("route[\($0)]", routes[$0].relay) }) {
            guard case .pipe(let pipe) = relay.type, pipe.processes > self.relay.connectionsPerDestination else {
                continue
            }
            let text =
                "of \(pipe.processes) at once only \(self.relay.connectionsPerDestination) are begun, unless a message has "
                + "several recipients: see connections_per_destination in [relay]"
            warnings.append(Warning(keyPath: "\(path).processes", text: text))
        }
        return warnings
    }

    private func neverMatches(_ rule: String, _ path: String, _ reason: String) -> Warning {
        Warning(keyPath: path, text: "the rule \(KeyPath.quoted(rule)) can never match: \(reason)")
    }

    /// What a rule needs, and no edge has that it is for.
    private func warnings(of rule: Rule, at path: String) -> [Warning] {
        var warnings: [Warning] = []
        var own = edges
        for condition in rule.conditions {
            guard case .edge(let texts) = condition.test else { continue }
            for pattern in texts.patterns where !edges.contains(where: { pattern.matches($0.name) == true }) {
                let meant = Spelling.nearest(to: pattern.description, among: edges.map(\.name))
                let text =
                    "no edge has the name \(KeyPath.quoted(pattern.description))"
                    + (meant.map { "; did you mean \"\($0)\"?" } ?? "")
                warnings.append(Warning(keyPath: "\(path).\(condition.name)", text: text))
            }
            own = own.filter { edge in
                texts.patterns.contains { $0.matches(edge.name) == true } != condition.isTurnedRound
            }
        }
        // What edges lack that there are not is said already.
        guard !own.isEmpty else { return warnings }
        if let reason = lack(rule.stage, own) { return warnings + [neverMatches(rule.name, "\(path).at", reason)] }
        for condition in rule.conditions where !condition.isTurnedRound {
            guard let reason = lack(condition.test, own) ?? lackOfQuestions(condition.test, rule.stage, own) else {
                continue
            }
            warnings.append(neverMatches(rule.name, "\(path).\(condition.name)", reason))
        }
        return warnings
    }

    /// Why no session on these edges comes by `stage`; nil: they do.
    private func lack(_ stage: Stage, _ edges: [Edge]) -> String? {
        switch stage {
        case .starttls:
            edges.contains { $0.access.tls == .starttls } ? nil : "no edge that it is for has tls = \"starttls\""
        case .auth: edges.contains(where: \.hasLogins) ? nil : Self.noAuth
        case .connect, .ehlo, .mail, .rcpt, .data, .message: nil
        }
    }

    /// Why the condition holds in no session on these edges; nil: it may.
    private func lack(_ test: Condition.Test, _ edges: [Edge]) -> String? {
        let hasAuth = edges.contains(where: \.hasLogins)
        let hasTLS = edges.contains { $0.access.tls != .cleartext }
        let noTLS = "all edges that it is for have tls = \"none\""
        switch test {
        case .login, .authenticated(true): return hasAuth ? nil : Self.noAuth
        case .rate(let rates): return hasAuth || rates.contains { $0.key.subject == .client } ? nil : Self.noAuth
        case .tls(let wanted): return hasTLS || wanted.contains(Condition.TLS.none) ? nil : noTLS
        case .proxyTLS(let wanted):
            let hasProxies = edges.contains { !$0.access.proxyProtocol.isEmpty }
            return hasProxies || wanted.contains(Condition.TLS.none)
                ? nil : "no edge that it is for has proxy_protocol"
        case .certificate:
            guard hasTLS else { return noTLS }
            return tls.map { $0.clientCA == nil && !$0.asksClients } ?? true
                ? "clients are asked for a certificate only with client_ca in [tls]" : nil
        case .earlyTalker(true):
            let waits = edges.contains { edge in
                switch edge.type {
                case .smtp(let smtp): smtp.greetDelay > .zero
                case .http, .sendmail, .directory: false
                }
            }
            return waits ? nil : "no edge that it is for has greet_delay, so that nobody is early"
        case .client, .ptr, .ehlo, .edge, .authenticated(false), .sender, .recipient, .recipients, .size, .spf, .dnsbl,
            .header, .content, .hours, .weekdays, .earlyTalker(false):
            return nil
        }
    }

    /// Why none of the lists of a condition is asked at `stage` on these edges; nil: one may be. Whoever gets to MAIL has
    /// authenticated or is trusted: of the former only lists with `authenticated = true` are asked, of the latter those
    /// that are not about their address.
    private func lackOfQuestions(_ test: Condition.Test, _ stage: Stage, _ edges: [Edge]) -> String? {
        guard case .dnsbl(let wanted) = test, stage.isAtOrBehind(.auth) else { return nil }
        let lists = dnsbls.filter { list in wanted.contains { $0.name == list.name } }
        let hasTrusted = stage != .auth && edges.contains { !$0.trust.isEmpty }
        guard !lists.contains(where: { $0.authenticated || hasTrusted && $0.of != .client }) else { return nil }
        let all = lists.map { "[[dnsbl]] \(KeyPath.quoted($0.name))" }.joined(separator: ", ")
        return
            "at \(stage.rawValue) every client has authenticated or may send without it, and of such ones nothing is "
            + "asked without authenticated = true in \(all)"
            + (lists.contains { $0.of == .client } ? "; others are judged by a rule at connect" : "")
    }

    private static let noAuth = "no edge that it is for has AUTH"
}

extension Configuration {
    /// The relay, whoever sends, for a recipient's domain: of the first route that takes it, else `[relay]`. The domain comes as
    /// ``Mailbox/foldedDomain`` has it.
    package func relay(for foldedDomain: some StringProtocol) -> Relay {
        routes.first { $0.origin.isEverybody && $0.domains.contains { $0.matches(foldedDomain) } }?.relay ?? relay
    }
}
