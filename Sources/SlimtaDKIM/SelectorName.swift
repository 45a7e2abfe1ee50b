// Which key is meant: a domain has one for each algorithm, and a new one now and then. Names keys in the states of the gate, in
// files, logs and commands.

import SlimtaMail

/// A selector of a domain (RFC 6376 section 3.1), and what its key is for.
package struct SelectorName: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// In A-labels and lower case.
    package let domain: String
    /// What the domain calls the key.
    package let selector: String
    /// What the key is for.
    package let algorithm: DKIMAlgorithm

    /// Nil if DNS cannot have such a name.
    package init?(domain: String, selector: String, algorithm: DKIMAlgorithm) {
        self.domain = domain.foldedAsDomain()
        self.selector = selector.foldedAsDomain()
        self.algorithm = algorithm
        guard DKIMSignature.isName(self.domain), DKIMSignature.isName(self.selector), recordName.utf8.count <= 253
        else {
            return nil
        }
    }

    /// Where its record is (section 3.6.2.1).
    package var recordName: String { "\(selector)._domainkey.\(domain)" }

    /// As in logs: "r2026a._domainkey.example.com rsa-sha256".
    package var description: String { "\(recordName) \(algorithm.rawValue)" }

    /// By domain, algorithm and selector.
    package static func < (a: SelectorName, b: SelectorName) -> Bool {
        (a.domain, a.algorithm, a.selector) < (b.domain, b.algorithm, b.selector)
    }
}
