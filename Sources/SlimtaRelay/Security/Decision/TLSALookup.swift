// Where a host's TLSA records are, and what is asked to find them (RFC 7671 section 7, RFC 7672 section 2.2): a value that
// wants an answer or has the finding. Driven by whoever asks DNS for the relay; `explain` drives the same one.

import SlimtaTLS

/// The lookups for one host.
///
/// Only names whose addresses DNSSEC proves are asked: old name servers of unsigned zones drop the question, and that must
/// not hold up mail. A question that is not answered at a proved name does hold it up: it is how records would be hidden.
struct TLSALookup: Sendable {
    /// What is known of the host's addresses.
    struct Addresses: Hashable, Sendable {
        /// Whether every answer that has addresses is proved. No answer, and none for one family, takes nothing from the other.
        var isSecure: Bool
        /// What CNAME records led to; nil: the name has its addresses itself.
        var canonicalName: String?
    }

    /// An answer to a question of ours.
    enum Answer: Hashable, Sendable {
        /// All records of the type; whether DNSSEC proves them.
        case records([TLSARecord], isSecure: Bool)
        /// No such name, or no record of the type: proved or not, there is nothing.
        case nothing
        /// No answer, or a forged one.
        case failed(String)
    }

    enum Step: Hashable, Sendable {
        /// The CNAME record of a name itself is wanted: whether it is proved.
        case askAlias(String)
        /// TLSA records are wanted, of this name.
        case ask(String)
        case done(TLSAFinding)
    }

    private(set) var step: Step
    private let host: String
    private let port: Int
    /// Names that the records may be for, the current one first.
    private var candidates: [String] = []

    /// For a host by its name, in lower case. Without validation nothing is ever proved, and nothing is asked.
    init(host: String, port: Int, _ addresses: Addresses, validates: Bool = true) {
        (self.host, self.port) = (host, port)
        step = .done(.absent)
        guard validates else {
            step = .done(.unvalidated)
            return
        }
        switch (addresses.isSecure, addresses.canonicalName) {
        case (true, nil): candidates = [host]
        case (true, let canonical?): candidates = [canonical, host]
        case (false, nil): return
        // All of the chain is not proved; its first link may be.
        case (false, .some):
            step = .askAlias(host)
            return
        }
        advance()
    }

    /// The answer to ``Step/askAlias(_:)``: whether the CNAME record is proved; a failure is one of the TLSA lookup.
    mutating func aliasAnswered(_ answer: Result<Bool, Unanswered>) {
        guard case .askAlias = step else { return }
        switch answer {
        case .success(true):
            candidates = [host]
            advance()
        case .success(false): step = .done(.absent)
        case .failure(let failure): step = .done(.failed(name: host, why: failure.why))
        }
    }

    struct Unanswered: Error, Hashable, Sendable {
        let why: String
    }

    /// The answer to ``Step/ask(_:)``.
    mutating func answered(_ answer: Answer) {
        guard case .ask(let name) = step, let base = candidates.first else { return }
        switch answer {
        case .records(let records, isSecure: true) where !records.isEmpty:
            step = .done(.present(base: base, records))
        // An alias into a zone that is not signed, or a delegation to one: as if they were not there.
        case .records, .nothing:
            candidates.removeFirst()
            advance()
        // The next name is no way around.
        case .failed(let why): step = .done(.failed(name: name, why: why))
        }
    }

    private mutating func advance() {
        step = candidates.first.map { .ask("_\(port)._tcp.\($0)") } ?? .done(.absent)
    }
}
