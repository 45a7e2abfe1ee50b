// Whether a condition holds: of each test, for what is known.

internal import SlimtaMail

extension Condition {
    /// What is known of a condition.
    enum Finding: Hashable {
        case holds
        case fails
        /// It could not be found out, or takes too long: it is not known, and so neither holds nor, turned round, holds.
        case unknown
        /// These have to be looked up.
        case needs(Set<Fact>)
    }

    /// What is known of it.
    func finding(_ facts: Facts, at stage: Stage, _ lists: [ListReference: any TextList]) -> Finding {
        let finding = test.finding(facts, at: stage, lists)
        guard isTurnedRound else { return finding }
        switch finding {
        case .holds: return .fails
        case .fails: return .holds
        case .unknown, .needs: return finding
        }
    }
}

extension Condition.Test {
    fileprivate typealias Finding = Condition.Finding

    fileprivate func finding(_ facts: Facts, at stage: Stage, _ lists: [ListReference: any TextList]) -> Finding {
        switch self {
        case .client(let networks, let file): Self.client(facts.client, networks, file, lists)
        case .ptr(let texts):
            if let ptr = facts.ptr {
                ptr.failure != nil && ptr.confirmed.isEmpty ? .unknown : texts.finding(ptr.confirmed, lists)
            } else {
                .needs([.ptr])
            }
        case .ehlo(let texts): texts.finding(facts.ehlo.map { [$0] } ?? [], lists)
        case .edge(let texts): texts.finding([facts.edge], lists)
        case .tls(let wanted): Self.any(wanted) { $0.finding(facts.tls?.session) }
        case .proxyTLS(let wanted): Self.any(wanted) { $0.finding(facts.proxyTLS) }
        case .certificate(let wanted): Self.any(wanted) { $0.finding(facts.certificate) }
        case .login(let texts): texts.finding(facts.login.map { [$0] } ?? [], lists)
        case .authenticated(let wanted): Self.finding((facts.login != nil) == wanted)
        case .sender(let texts): texts.finding(facts.sender.map { [$0.unquoted] } ?? [], lists)
        case .recipient(let texts):
            texts.finding((facts.recipient.map { [$0] } ?? facts.recipients).map(\.unquoted), lists)
        case .recipients(let wanted): Self.finding(wanted.contains { $0.holds(facts.recipients.count) })
        case .size(let wanted):
            // A client need not say what it will send (RFC 1870 section 6.1): then nobody knows.
            facts.size.map { size in Self.finding(wanted.contains { $0.holds(size) }) } ?? .unknown
        case .spf(let results):
            if let spf = facts.spf { Self.spf(spf.result, among: results) } else { .needs([.spf]) }
        case .dnsbl(let wanted): Self.dnsbl(wanted.map(\.name), facts.listings)
        case .header(let name, let values):
            if let found = facts.header?.values(of: name) {
                values.map { $0.finding(found, lists, asWritten: true) } ?? Self.finding(!found.isEmpty)
            } else {
                .unknown
            }
        case .content(let test): facts.content.map { test.finding($0.facts, lists) } ?? .unknown
        case .hours(let wanted): Self.finding(wanted.contains { $0.contains(facts.now) })
        case .weekdays(let wanted): Self.finding(wanted.contains(facts.now.weekday))
        case .rate(let wanted):
            Self.finding(wanted.contains { $0.comparison.holds(facts.rates.counts[$0.key] ?? 0) })
        case .earlyTalker(let wanted): Self.finding(facts.isEarlyTalker == wanted)
        }
    }

    private static func finding(_ holds: Bool) -> Finding { holds ? .holds : .fails }

    /// One that holds is enough; one that nobody knows leaves it open.
    private static func any<Element>(_ elements: [Element], _ holds: (Element) -> Bool?) -> Finding {
        var isOpen = false
        for element in elements {
            switch holds(element) {
            case true: return .holds
            case nil: isOpen = true
            case false: continue
            }
        }
        return isOpen ? .unknown : .fails
    }

    private static func client(
        _ client: ConnectionFacts.Endpoint, _ networks: [NetworkRange], _ file: String?,
        _ lists: [ListReference: any TextList]
    ) -> Finding {
        // A UNIX socket is in no network.
        guard let address = client.address else { return .fails }
        if networks.contains(where: { $0.contains(address) }) { return .holds }
        guard let file else { return .fails }
        guard let list = lists[ListReference(file, .networks)] else { return .unknown }
        return list.contains(address).map(finding) ?? .unknown
    }

    /// What could not be found out now is none of the others, and not none of the others either: no mail is refused for ever
    /// by `not = { spf = "pass" }` because a name server does not answer.
    private static func spf(_ result: SPFResult, among results: Set<SPFResult>) -> Finding {
        results.contains(result) ? .holds : result == .temperror ? .unknown : .fails
    }

    /// A list that has it is enough, whatever the others say: those are not waited for if it is known.
    private static func dnsbl(_ names: [String], _ listings: [String: ListingFact]) -> Finding {
        var missing: Set<Fact> = []
        var isOpen = false
        for name in names {
            switch listings[name] {
            case .listed: return .holds
            case .failed: isOpen = true
            case .notListed: continue
            case nil: missing.insert(.dnsbl(name))
            }
        }
        return missing.isEmpty ? (isOpen ? .unknown : .fails) : .needs(missing)
    }
}

extension Condition.Texts {
    /// Whether one of `texts` matches one of the patterns or is in the list. `asWritten`: they are neither addresses nor names.
    func finding(
        _ texts: [String], _ lists: [ListReference: any TextList], asWritten: Bool = false
    ) -> Condition.Finding {
        var isOpen = false
        for text in texts {
            for pattern in patterns {
                switch asWritten ? pattern.matches(asWritten: text) : pattern.matches(text) {
                case true: return .holds
                case nil: isOpen = true
                case false: continue
                }
            }
            guard let file else { continue }
            guard let list = lists[ListReference(file, .texts)] else {
                isOpen = true
                continue
            }
            switch list.containsText(text) {
            case true: return .holds
            case nil: isOpen = true
            case false: continue
            }
        }
        return isOpen ? .unknown : .fails
    }
}

extension Condition.TLS {
    fileprivate func finding(_ session: TLSDescription?) -> Bool? {
        switch self {
        case .any: return session != nil
        case .none: return session == nil
        case .matching(let pattern):
            guard let session else { return false }
            let found = [pattern.matches(session.version), pattern.matches(session.cipher)]
            return found.contains(true) ? true : found.contains(nil) ? nil : false
        }
    }
}

extension Condition.Certificate {
    fileprivate func finding(_ certificate: CertificateIdentity?) -> Bool? {
        guard let certificate else { return false }
        switch self {
        case .verified: return certificate.isVerified
        case .fingerprint(let digest): return certificate.fingerprint == digest
        case .subject(let pattern):
            guard certificate.isVerified else { return false }
            // RFC 6125 section 6.4.4: what the subject is called counts only where there are no alternative names.
            let names = certificate.emailAddresses + certificate.hostNames
            let found = (names.isEmpty ? [certificate.commonName] : names).map { pattern.matches($0) }
            return found.contains(true) ? true : found.contains(nil) ? nil : false
        }
    }
}

extension Facts.Sender {
    /// "<>" is the null one.
    package var text: String {
        switch self {
        case .null: "<>"
        case .mailbox(let mailbox): mailbox.text
        }
    }

    /// As ``Mailbox/unquoted``.
    fileprivate var unquoted: String {
        switch self {
        case .null: text
        case .mailbox(let mailbox): mailbox.unquoted
        }
    }
}
