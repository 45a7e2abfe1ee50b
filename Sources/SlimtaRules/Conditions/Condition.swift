// One condition of a rule: what it is about, from which stage on that is known, and whether it holds. RuleSet evaluates
// them; the configuration makes them.

package import SlimtaMail

/// A condition of a rule.
package struct Condition: Hashable, Sendable {
    /// What a text is compared with: one of the patterns, or an entry of the file.
    package struct Texts: Hashable, Sendable {
        /// Written in the rule.
        package var patterns: [TextPattern]
        /// The path of a list; nil: none.
        package var file: String?

        /// One of these is enough.
        package init(_ patterns: [TextPattern], file: String? = nil) {
            self.patterns = patterns
            self.file = file
        }
    }

    /// What `tls` of a rule says.
    package enum TLS: Hashable, Sendable {
        /// true: in TLS, whatever the version.
        case any
        /// false: in clear.
        case none
        /// The version or the cipher.
        case matching(TextPattern)
    }

    /// What `client_certificate` of a rule says.
    package enum Certificate: Hashable, Sendable {
        /// true: one that somebody whom we trust has signed.
        case verified
        /// Such a one, for this name or address.
        case subject(TextPattern)
        /// "sha256:...": this one, whoever has signed it.
        case fingerprint([UInt8])
    }

    /// A list of `[[dnsbl]]`.
    package struct List: Hashable, Sendable {
        /// Its name.
        package var name: String
        /// From where on it can be asked: what it is about is known there.
        package var stage: Stage

        /// The list `name`, about something that is known from `stage` on.
        package init(_ name: String, from stage: Stage) {
            self.name = name
            self.stage = stage
        }
    }

    /// What is tested. Of several values one has to hold.
    package enum Test: Hashable, Sendable {
        case client([NetworkRange], file: String?)
        case ptr(Texts)
        case ehlo(Texts)
        case edge(Texts)
        case tls([TLS])
        /// Between the client and the proxy before us.
        case proxyTLS([TLS])
        case certificate([Certificate])
        case login(Texts)
        case authenticated(Bool)
        /// The null sender is written "<>".
        case sender(Texts)
        case recipient(Texts)
        /// How many recipients were accepted, the one that is asked about not among them.
        case recipients([Comparison])
        case size([Comparison])
        case spf(Set<SPFResult>)
        case dnsbl([List])
        /// Any field of the name; `values` nil: whatever is in it.
        case header(name: String, values: Texts?)
        case content(ContentTest)
        case hours([Hours])
        case weekdays(Set<LocalTime.Weekday>)
        case rate([RateCondition])
        case earlyTalker(Bool)
    }

    /// What is tested.
    package var test: Test
    /// Whether it has to fail: `not = { ... }`.
    package var isTurnedRound: Bool

    /// A condition that holds if `test` does, or if it does not.
    package init(_ test: Test, turnedRound: Bool = false) {
        self.test = test
        isTurnedRound = turnedRound
    }

    /// The key of slimta.conf.
    package var name: String {
        let name =
            switch test {
            case .client: "client"
            case .ptr: "ptr"
            case .ehlo: "ehlo"
            case .edge: "edge"
            case .tls: "tls"
            case .proxyTLS: "proxy_tls"
            case .certificate: "client_certificate"
            case .login: "login"
            case .authenticated: "authenticated"
            case .sender: "sender"
            case .recipient: "recipient"
            case .recipients: "recipients"
            case .size: "size"
            case .spf: "spf"
            case .dnsbl: "dnsbl"
            case .header: "header"
            case .content(let test): test.name
            case .hours: "hours"
            case .weekdays: "weekdays"
            case .rate: "rate"
            case .earlyTalker: "early_talker"
            }
        return isTurnedRound ? "not.\(name)" : name
    }

    /// The first stage at which it is known.
    package var firstStage: Stage {
        switch test {
        case .client, .ptr, .edge, .tls, .proxyTLS, .certificate, .hours, .weekdays, .rate, .earlyTalker: .connect
        case .ehlo: .ehlo
        case .login, .authenticated: .auth
        case .sender, .size, .spf: .mail
        case .recipient, .recipients: .rcpt
        case .header, .content: .message
        case .dnsbl(let lists): lists.map(\.stage).max { !$0.isAtOrBehind($1) } ?? .connect
        }
    }

    /// Why it cannot stand at `stage`, or nowhere; nil: it can stand there.
    package func problem(at stage: Stage) -> RuleError? {
        let other: (texts: Texts, words: String)? =
            switch test {
            case .header(_, let values?): (values, "the value of a field, which is more than an address")
            case .content(let test): test.texts.map { ($0, "an attachment, which is no address") }
            default: nil
            }
        if let other, let domain = other.texts.patterns.first(where: \.isDomain) {
            return RuleError("\"\(domain)\" for \(other.words)", "a glob such as \"*\(domain)*\", or an expression")
        }
        guard !stage.isAtOrBehind(firstStage) else { return nil }
        return RuleError(
            "\(name) at \(stage.rawValue), where it is not known yet",
            firstStage == .message ? "it at message" : "it from \(firstStage.rawValue) on")
    }

    /// The lists of files that it needs.
    package var lists: [ListReference] {
        switch test {
        case .client(_, let file): file.map { [ListReference($0, .networks)] } ?? []
        case .ptr(let texts), .ehlo(let texts), .edge(let texts), .login(let texts), .sender(let texts),
            .recipient(let texts), .header(_, .some(let texts)):
            texts.file.map { [ListReference($0, .texts)] } ?? []
        case .tls, .proxyTLS, .certificate, .authenticated, .recipients, .size, .spf, .dnsbl, .header(_, nil), .content,
            .hours, .weekdays, .rate, .earlyTalker:
            []
        }
    }

    /// What has to be looked up for it.
    package var facts: Set<Fact> {
        switch test {
        case .ptr: [.ptr]
        case .spf: [.spf]
        case .dnsbl(let lists): Set(lists.map { .dnsbl($0.name) })
        case .client, .ehlo, .edge, .tls, .proxyTLS, .certificate, .login, .authenticated, .sender, .recipient,
            .recipients, .size, .header, .content, .hours, .weekdays, .rate, .earlyTalker:
            []
        }
    }
}

/// What a rule may ask of the content of a message (RFC 2045, RFC 2046), which is read as mail programs read it.
package enum ContentTest: Hashable, Sendable {
    /// How many parts it has, however deep in each other.
    case parts([Comparison])
    /// How many parts the deepest one is in.
    case nesting([Comparison])
    /// Octets of the message's header.
    case headerSize([Comparison])
    /// Any name that something attached may be given where it arrives.
    case attachment(Condition.Texts)
    /// The type of something attached.
    case attachmentType(Condition.Texts)

    /// The key of slimta.conf.
    var name: String {
        switch self {
        case .parts: "parts"
        case .nesting: "nesting"
        case .headerSize: "header_size"
        case .attachment: "attachment"
        case .attachmentType: "attachment_type"
        }
    }

    /// What texts it compares; nil: none.
    var texts: Condition.Texts? {
        switch self {
        case .attachment(let texts), .attachmentType(let texts): texts
        case .parts, .nesting, .headerSize: nil
        }
    }

    /// What numbers it compares; nil: none.
    var comparisons: [Comparison]? {
        switch self {
        case .parts(let wanted), .nesting(let wanted), .headerSize(let wanted): wanted
        case .attachment, .attachmentType: nil
        }
    }
}

/// A file that a rule needs, and what its entries are.
package struct ListReference: Hashable, Sendable {
    /// An absolute path.
    package let path: String
    /// What is in it.
    package let kind: TextListKind

    /// The file at `path`.
    package init(_ path: String, _ kind: TextListKind) {
        self.path = path
        self.kind = kind
    }
}
