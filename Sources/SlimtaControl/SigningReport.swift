// The keys that mail is signed with, as the daemon tells them to Control, and commands to those who read them.

package import SlimtaMail
package import SlimtaNet

/// All keys and domains.
package struct SigningReport: Sendable {
    /// A key.
    package struct Key: Sendable {
        /// Whose mail it signs.
        package var domain: String
        /// What the domain calls it.
        package var selector: String
        /// Such as "rsa-sha256".
        package var algorithm: String
        /// How long it is.
        package var bits: Int
        /// Where DNS has it.
        package var recordName: String
        /// What DNS has to have there, as one string.
        package var record: String
        /// The same as a line of a zone file.
        package var zoneLine: String
        /// Whether slimtad made it.
        package var isOurs: Bool
        /// What is known of it; nil: the daemon does not use it.
        package var life: Life?

        /// Each is what its property says.
        package init(
            domain: String, selector: String, algorithm: String, bits: Int, recordName: String, record: String,
            zoneLine: String, isOurs: Bool, life: Life?
        ) {
            (self.domain, self.selector, self.algorithm, self.bits) = (domain, selector, algorithm, bits)
            (self.recordName, self.record, self.zoneLine) = (recordName, record, zoneLine)
            (self.isOurs, self.life) = (isOurs, life)
        }
    }

    /// Where a key is in its life.
    package struct Life: Sendable {
        /// In a word: made, seen, active, failing, retiring, old.
        package var state: String
        /// Since when.
        package var since: Timestamp
        /// Whether mail is signed with it now.
        package var signs: Bool
        /// When it signed for the last time.
        package var signed: Timestamp?
        /// Whether DNS has the key; nil: it has not said yet.
        package var isRecordRight: Bool?
        /// What DNS has, in words that follow "the record"; nil: it was not asked since the start.
        package var record: String?
        /// Whether the last question had no answer: what was said before holds.
        package var isUnanswered: Bool
        /// When DNS said something for the last time; nil: it never has.
        package var answered: Timestamp?
        /// When it is asked next.
        package var nextQuestion: Timestamp
        /// What comes next, or is to be done, in words; nil: nothing.
        package var advice: String?

        /// Each is what its property says.
        package init(
            state: String, since: Timestamp, signs: Bool, signed: Timestamp?, isRecordRight: Bool?, record: String?,
            isUnanswered: Bool, answered: Timestamp?, nextQuestion: Timestamp, advice: String?
        ) {
            (self.state, self.since, self.signs, self.signed) = (state, since, signs, signed)
            (self.isRecordRight, self.record, self.isUnanswered) = (isRecordRight, record, isUnanswered)
            (self.answered, self.nextQuestion, self.advice) = (answered, nextQuestion, advice)
        }
    }

    /// A domain of `[[dkim]]`.
    package struct Domain: Sendable {
        /// In A-labels and lower case.
        package var name: String
        /// What becomes of its mail, in a word: "signed", "early" where DNS has no key yet, "refused".
        package var mail: String

        /// Each is what its property says.
        package init(name: String, mail: String) { (self.name, self.mail) = (name, mail) }
    }

    /// By name.
    package var domains: [Domain]
    /// By domain, algorithm and selector.
    package var keys: [Key]
    /// What is wrong, in words.
    package var warnings: [String]

    /// Nothing is signed.
    package static let nothing = SigningReport(domains: [], keys: [], warnings: [])

    /// Each is what its property says.
    package init(domains: [Domain], keys: [Key], warnings: [String]) {
        (self.domains, self.keys, self.warnings) = (domains, keys, warnings)
    }

    /// What is in it of one domain; all of it, if none is named.
    package func of(_ domain: String?) -> SigningReport {
        guard let domain else { return self }
        return SigningReport(
            domains: domains.filter { $0.name == domain }, keys: keys.filter { $0.domain == domain }, warnings: warnings
        )
    }
}

/// A key that somebody wants to have.
package struct SigningKeyWish: Hashable, Sendable {
    /// Whose mail it is to sign.
    package var domain: String
    /// Such as "rsa-sha256".
    package var algorithm: String
    /// What it is to be called; nil: as keys are called.
    package var selector: String?
    /// Whether it is to follow another one; else there must be none.
    package var isNext: Bool

    /// Each is what its property says.
    package init(domain: String, algorithm: String, selector: String?, isNext: Bool) {
        (self.domain, self.algorithm, self.selector, self.isNext) = (domain, algorithm, selector, isNext)
    }
}

/// Why there is no such key.
package enum SigningKeyRefusal: Error, Hashable, Sendable {
    /// There is one already, or one that the next has to wait for, or none that it could follow; in words.
    case notNow(String)
    /// The wish makes no sense.
    case mistake(String)
    /// It cannot be written.
    case failed(String)

    /// In words.
    package var text: String {
        switch self {
        case .notNow(let text), .mistake(let text), .failed(let text): text
        }
    }
}

extension JSON {
    /// All of it.
    package static func signing(_ report: SigningReport) -> JSON {
        .object([
            .init(
                "domains",
                .array(
                    report.domains.map { .object([.init("name", .string($0.name)), .init("mail", .string($0.mail))]) })),
            .init("keys", .array(report.keys.map { .signingKey($0) })),
        ])
    }

    /// One key.
    package static func signingKey(_ key: SigningReport.Key) -> JSON {
        let life = key.life
        return .object([
            .init("domain", .string(key.domain)), .init("selector", .string(key.selector)),
            .init("algorithm", .string(key.algorithm)), .init("bits", .count(key.bits)),
            .init("record_name", .string(key.recordName)), .init("record", .string(key.record)),
            .init("zone_line", .string(key.zoneLine)), .init("made_by_slimtad", .bool(key.isOurs)),
            .init("state", .optional(life?.state)), .init("since", .optional(life?.since.isoDate)),
            .init("signs", .bool(life?.signs ?? false)), .init("signed", .optional(life?.signed?.isoDate)),
            .init("record_right", life?.isRecordRight.map { .bool($0) } ?? .null),
            .init("dns", .optional(life?.record)), .init("dns_unanswered", .bool(life?.isUnanswered ?? false)),
            .init("dns_answered", .optional(life?.answered?.isoDate)),
            .init("dns_next", .optional(life?.nextQuestion.isoDate)), .init("advice", .optional(life?.advice)),
        ])
    }
}
