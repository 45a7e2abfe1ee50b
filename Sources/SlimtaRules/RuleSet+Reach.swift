// Rules that can never act: `slimtad check` tells them.

internal import SlimtaMail

extension RuleSet {
    /// A rule that can never act, and why, in words for the operator.
    package struct Unreachable: Hashable, Sendable {
        /// The rule's name.
        package let rule: String
        /// To be read behind "can never match: ".
        package let reason: String
    }

    /// The rules that can never act, as far as they themselves tell it: what contradicts itself, and what another rule of the
    /// same stage always has ended before.
    package static func unreachable(_ rules: [Rule]) -> [Unreachable] {
        rules.enumerated().compactMap { index, rule in
            if let reason = rule.contradiction { return Unreachable(rule: rule.name, reason: reason) }
            let before = rules[..<index].first { other in
                other.stage == rule.stage && other.action.ends && other.contradiction == nil
                    && other.conditions.allSatisfy { wanted in rule.conditions.contains { $0.implies(wanted) } }
            }
            return before.map {
                Unreachable(rule: rule.name, reason: "the rule \"\($0.name)\" before it takes all that it is about")
            }
        }
    }
}

extension Rule {
    /// Why its conditions cannot hold together; nil: they may.
    fileprivate var contradiction: String? {
        for condition in conditions {
            if let reason = condition.contradiction(at: stage) { return reason }
            if let other = conditions.first(where: {
                $0.isTurnedRound && !condition.isTurnedRound && condition.implies($0.turned)
            }) {
                return "\(condition.name) and \(other.name) exclude each other"
            }
        }
        let tests = conditions.filter { !$0.isTurnedRound }.map(\.test)
        let isClear = tests.contains(.tls([.none]))
        if isClear, tests.contains(where: { if case .certificate = $0 { true } else { false } }) {
            return "there is no client_certificate where tls = false"
        }
        if tests.contains(.authenticated(false)), tests.contains(where: { if case .login = $0 { true } else { false } })
        {
            return "there is no login where authenticated = false"
        }
        if tests.contains(.authenticated(true)), tests.contains(.authenticated(false)) {
            return "authenticated cannot be both"
        }
        return nil
    }
}

extension Condition {
    fileprivate var turned: Condition { Condition(test, turnedRound: !isTurnedRound) }

    /// Why it cannot hold at `stage`; nil: it may.
    fileprivate func contradiction(at stage: Stage) -> String? {
        guard !isTurnedRound else { return nil }
        switch test {
        case .recipients(let wanted), .size(let wanted):
            if wanted.allSatisfy(\.isImpossible) { return "nothing is less than 0" }
        case .content(let test):
            if let wanted = test.comparisons, wanted.allSatisfy(\.isImpossible) { return "nothing is less than 0" }
        case .rate(let wanted):
            if wanted.allSatisfy(\.comparison.isImpossible) { return "nothing is less than 0" }
            if stage == .connect || stage == .ehlo || stage == .starttls,
                wanted.allSatisfy({ $0.key.subject == .login })
            {
                return "nobody has logged in at \(stage.rawValue)"
            }
        case .tls(let wanted):
            if stage == .starttls, !wanted.contains(.none) { return "at starttls the session is still in clear" }
        case .authenticated(let wanted):
            if stage == .auth, !wanted { return "at auth the client has authenticated" }
        case .client, .ptr, .ehlo, .edge, .proxyTLS, .certificate, .login, .sender, .recipient, .spf, .dnsbl, .header,
            .hours,
            .weekdays, .earlyTalker:
            break
        }
        return nil
    }

    /// Whether `other` holds wherever this one does, as far as that can be said.
    fileprivate func implies(_ other: Condition) -> Bool {
        guard isTurnedRound == other.isTurnedRound else { return false }
        return isTurnedRound ? other.test.isPart(of: test) : test.isPart(of: other.test)
    }
}

extension Condition.Test {
    /// Whether all that it takes is taken by `other`, which is about the same thing.
    fileprivate func isPart(of other: Condition.Test) -> Bool {
        if self == other { return true }
        switch (self, other) {
        case (.client(let mine, nil), .client(let theirs, _)):
            return mine.allSatisfy { one in
                theirs.contains { $0.prefixLength <= one.prefixLength && $0.contains(one.base) }
            }
        case (.ptr(let mine), .ptr(let theirs)), (.ehlo(let mine), .ehlo(let theirs)),
            (.edge(let mine), .edge(let theirs)),
            (.login(let mine), .login(let theirs)), (.sender(let mine), .sender(let theirs)),
            (.recipient(let mine), .recipient(let theirs)):
            return mine.isPart(of: theirs)
        case (.header(let name, let mine), .header(let other, let theirs)):
            guard name.asciiLowercased() == other.asciiLowercased() else { return false }
            guard let theirs else { return true }
            return mine?.isPart(of: theirs) ?? false
        case (.content(.attachment(let mine)), .content(.attachment(let theirs))),
            (.content(.attachmentType(let mine)), .content(.attachmentType(let theirs))):
            return mine.isPart(of: theirs)
        case (.spf(let mine), .spf(let theirs)): return mine.isSubset(of: theirs)
        case (.weekdays(let mine), .weekdays(let theirs)): return mine.isSubset(of: theirs)
        case (.dnsbl(let mine), .dnsbl(let theirs)): return Set(mine).isSubset(of: theirs)
        case (.login, .authenticated(true)): return true
        default: return false
        }
    }
}

extension Condition.Texts {
    fileprivate func isPart(of other: Condition.Texts) -> Bool {
        guard file == nil || file == other.file else { return false }
        return patterns.allSatisfy { mine in other.patterns.contains { $0.covers(mine) } }
    }
}
