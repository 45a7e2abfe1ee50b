// [signing] and [[dkim]] as values: which domains mail is signed for (RFC 6376), with which keys. Part of Configuration.

package import SlimtaDKIM
import SlimtaMail

/// For whom mail is signed, and how.
package struct SigningSettings: Sendable, Equatable {
    /// Where a key is.
    package enum Source: Sendable, Hashable {
        /// In the state directory: slimtad makes it, and the next one.
        case made
        /// In a file of somebody else: an absolute path or `credential:NAME`. Which selector DNS has it under.
        case file(String, selector: String)
    }

    /// `[[dkim]]`: a key, or the keys that follow each other, for some domains.
    package struct Key: Sendable, Equatable {
        /// In A-labels and lower case; at least one.
        package var domains: [String]
        /// What the key is for.
        package var algorithm = DKIMAlgorithm.rsaSHA256
        /// Where it is.
        package var source = Source.made
        /// Whether mail from domains below is signed for these ones, too; nil: another table may say so.
        package var subdomains: Bool?
        /// Who may sign before DNS is right; nil: another table may say so.
        package var gate: SelectorTable.Gate?

        /// A key that slimtad makes.
        package init(domains: [String]) { self.domains = domains }
    }

    /// `x_after`: how long signatures count.
    package enum Expiry: Sendable, Hashable {
        /// For a message's time in the queue, and two days more.
        case usual
        /// For so long.
        case after(Duration)
        /// For ever.
        case never
    }

    /// What beyond the queue's time a signature counts.
    private static let usualMargin = Duration.seconds(2 * 86400)

    /// `[[dkim]]`, in the file's order; none: nothing is signed.
    package var keys: [Key] = []
    /// `otherwise`: what becomes of mail from elsewhere.
    package var otherwise = SigningDomains.Otherwise.unsigned
    /// `x_after`
    package var expiry = Expiry.usual

    /// Nothing is signed.
    package init() {}

    /// How long signatures count of messages that may wait for `queued`; nil: for ever.
    package func lifetime(queued: Duration) -> Duration? {
        switch expiry {
        case .usual: queued + Self.usualMargin
        case .after(let lifetime): lifetime
        case .never: nil
        }
    }

    /// How long something that was signed may be under way.
    package func underWay(queued: Duration) -> Duration { max(lifetime(queued: queued) ?? queued, queued) }

    /// The domains, with what any of their tables says of those below.
    package var domains: SigningDomains {
        SigningDomains(
            names.map { name in
                (name, keys.first { $0.domains.contains(name) && $0.subdomains != nil }?.subdomains ?? true)
            }, otherwise: otherwise)
    }

    /// The domains, each once.
    package var names: [String] {
        var seen: Set<String> = []
        return keys.flatMap(\.domains).filter { seen.insert($0).inserted }
    }

    /// Who may sign for a domain before DNS is right.
    package func gate(of domain: String) -> SelectorTable.Gate {
        keys.first { $0.domains.contains(domain) && $0.gate != nil }?.gate ?? .closed
    }

    /// What slimtad makes keys for, of a domain.
    package func made(for domain: String) -> [DKIMAlgorithm] {
        keys.filter { $0.source == .made && $0.domains.contains(domain) }.map(\.algorithm).sorted()
    }
}
