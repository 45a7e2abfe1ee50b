// The table of conditions: every key of [[rule]] with facts for which it holds, fails, is not known, or has to be looked up.

import NIOCore
import SlimtaMIME
import SlimtaMail

@testable import SlimtaRules

/// One row: a condition, the first stage at which it may stand, and what has to be so that it holds.
struct ConditionCase: Sendable, CustomStringConvertible {
    let name: String
    let first: Stage
    let test: Condition.Test
    /// Makes facts of it for which the condition holds, and for which it does not.
    let holds: @Sendable (inout Facts) -> Void
    let fails: @Sendable (inout Facts) -> Void
    /// Facts that leave it open, if there are such.
    var unknown: (@Sendable (inout Facts) -> Void)?
    /// What has to be looked up.
    var needs: Set<Fact> = []

    var description: String { name }

    init(
        _ name: String, from first: Stage, _ test: Condition.Test, needs: Set<Fact> = [],
        holds: @escaping @Sendable (inout Facts) -> Void, fails: @escaping @Sendable (inout Facts) -> Void,
        unknown: (@Sendable (inout Facts) -> Void)? = nil
    ) {
        self.name = name
        self.first = first
        self.test = test
        self.needs = needs
        self.holds = holds
        self.fails = fails
        self.unknown = unknown
    }
}

func texts(_ patterns: String...) throws -> Condition.Texts { .init(try patterns.map { try TextPattern($0) }) }

func mailbox(_ text: String) -> Mailbox {
    let parts = text.split(separator: "@", maxSplits: 1)
    return Mailbox(localPart: String(parts[0]), domain: String(parts[1]))
}

func endpoint(_ text: String) -> ConnectionFacts.Endpoint {
    IPAddress(text).map { .ip($0, port: 4242) } ?? .unknown
}

/// Facts of a client of whom all is known that needs no lookup, and nothing is special.
func plainFacts() -> Facts {
    var facts = Facts(client: endpoint("192.0.2.7"), edge: "submission", now: LocalTime(.wed, minute: 12 * 60))
    facts.ehlo = "client.example.com"
    facts.login = "alice"
    facts.sender = .mailbox(mailbox("alice@example.com"))
    facts.recipient = mailbox("bob@example.net")
    facts.recipients = [mailbox("carol@example.net")]
    facts.size = 1000
    facts.header = header("Subject: hello\r\n\r\n")
    facts.content = content("Subject: hello\r\n\r\n")
    return facts
}

func header(_ text: String) -> HeaderFacts {
    let head = ByteBuffer(string: text)
    return HeaderFacts(of: head)
}

func content(_ text: String) -> ContentFact { ContentFact(of: ByteBuffer(string: text)) }

private let agreed = TLSFacts(TLSDescription(version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384"))
private let old = TLSFacts(TLSDescription(version: "TLSv1.2", cipher: "ECDHE-RSA-AES128-GCM-SHA256"))

private func certificate(_ names: [String], common: String = "", verified: Bool) -> CertificateIdentity {
    CertificateIdentity(
        emailAddresses: [], hostNames: names, commonName: common, fingerprint: [0xAB, 0xCD], isVerified: verified)
}

/// Every key of a rule, each way to write it.
func conditionCases() throws -> [ConditionCase] {
    try clientCases() + tlsCases() + sessionCases() + transactionCases() + lookupCases() + countCases()
        + contentCases()
}

/// A message with parts of these types and names, each in a multipart of its own.
func parts(_ parts: (type: String, name: String?)...) -> String {
    var text = "\r\ntext\r\n"
    for (index, part) in parts.enumerated() {
        let name = part.name.map { "Content-Disposition: attachment; filename=\"\($0)\"\r\n" } ?? ""
        text =
            "Content-Type: multipart/mixed; boundary=\(index)\r\n\r\n--\(index)\r\n\(text)\r\n--\(index)\r\n"
            + "Content-Type: \(part.type)\r\n\(name)\r\nAAAA\r\n--\(index)--\r\n"
    }
    return text
}

private func contentCases() throws -> [ConditionCase] {
    func number(_ text: String) throws -> [Comparison] { [try Comparison(text, number: { Int($0) })] }
    func facts(_ text: String) -> @Sendable (inout Facts) -> Void { { $0.content = content(text) } }
    let deep = parts(("a/b", nil), ("a/b", nil))
    let exe = parts(("application/x-msdownload", "Report.EXE"), ("image/png", "a.png"))
    var tooMany = ContentFacts()
    tooMany.exceeded = [.attachments]
    let unknown: @Sendable (inout Facts) -> Void = { [tooMany] in $0.content = ContentFact(tooMany) }
    return [
        ConditionCase(
            "parts", from: .message, .content(.parts(try number("> 3"))), holds: facts(deep),
            fails: facts(parts(("a/b", nil))), unknown: { $0.content = nil }),
        ConditionCase(
            "nesting", from: .message, .content(.nesting(try number(">= 2"))), holds: facts(deep),
            fails: facts(parts(("a/b", nil)))),
        ConditionCase(
            "header_size", from: .message, .content(.headerSize(try number("> 10"))),
            holds: facts("Subject: x\r\n\r\n"),
            fails: facts("Sub: x\r\n\r\nmore\r\n")),
        ConditionCase(
            "attachment", from: .message, .content(.attachment(try texts("*.exe", "*.scr"))), holds: facts(exe),
            fails: facts(parts(("text/plain", "exe.txt"))), unknown: unknown),
        ConditionCase(
            "attachment = expression", from: .message, .content(.attachment(try texts("/\\.(exe|scr)$/"))),
            holds: facts(exe), fails: facts("Subject: a.exe\r\n\r\na.exe\r\n")),
        ConditionCase(
            "attachment_type", from: .message, .content(.attachmentType(try texts("application/*"))),
            holds: facts(exe), fails: facts(parts(("image/png", "application"))), unknown: unknown),
    ]
}

private func clientCases() throws -> [ConditionCase] {
    let networks = ["192.0.2.0/24", "2001:db8::/32"].compactMap { NetworkRange($0) }
    return [
        ConditionCase(
            "client", from: .connect, .client(networks, file: nil),
            holds: { $0.client = endpoint("2001:db8::7") }, fails: { $0.client = endpoint("198.51.100.1") }),
        ConditionCase(
            "client_file", from: .connect, .client([], file: "/networks"),
            holds: { $0.client = endpoint("203.0.113.9") }, fails: { $0.client = .unix }),
        ConditionCase(
            "edge", from: .connect, .edge(try texts("submission")), holds: { $0.edge = "submission" },
            fails: { $0.edge = "submissions" }),
        ConditionCase(
            "hours", from: .connect, .hours([try Hours("22:00-06:00")]), holds: { $0.now.minute = 359 },
            fails: { $0.now.minute = 360 }),
        ConditionCase(
            "weekdays", from: .connect, .weekdays(try LocalTime.Weekday.days("fri-mon")),
            holds: { $0.now.weekday = .sun }, fails: { $0.now.weekday = .tue }),
        ConditionCase(
            "early_talker", from: .connect, .earlyTalker(true), holds: { $0.isEarlyTalker = true },
            fails: { $0.isEarlyTalker = false }),
        ConditionCase(
            "early_talker = false", from: .connect, .earlyTalker(false), holds: { $0.isEarlyTalker = false },
            fails: { $0.isEarlyTalker = true }),
    ]
}

private func tlsCases() throws -> [ConditionCase] {
    [
        ConditionCase("tls", from: .connect, .tls([.any]), holds: { $0.tls = agreed }, fails: { $0.tls = nil }),
        ConditionCase("tls = false", from: .connect, .tls([.none]), holds: { $0.tls = nil }, fails: { $0.tls = old }),
        ConditionCase(
            "tls = version", from: .connect, .tls([.matching(try TextPattern("TLSv1.3"))]),
            holds: { $0.tls = agreed }, fails: { $0.tls = old }),
        ConditionCase(
            "tls = cipher", from: .connect, .tls([.matching(try TextPattern("*AES128*"))]),
            holds: { $0.tls = old }, fails: { $0.tls = nil }),
        ConditionCase(
            "proxy_tls", from: .connect, .proxyTLS([.any]), holds: { $0.proxyTLS = agreed.session },
            fails: { $0.tls = agreed }),
        ConditionCase(
            "proxy_tls = version", from: .connect, .proxyTLS([.matching(try TextPattern("TLSv1.?"))]),
            holds: { $0.proxyTLS = old.session }, fails: { $0.proxyTLS = nil }),
        ConditionCase(
            "client_certificate", from: .connect, .certificate([.verified]),
            holds: { $0.certificate = certificate(["a.example"], verified: true) },
            fails: { $0.certificate = certificate(["a.example"], verified: false) }),
        ConditionCase(
            "client_certificate = name", from: .connect, .certificate([.subject(try TextPattern("*.example"))]),
            holds: { $0.certificate = certificate([], common: "a.example", verified: true) },
            // What the subject is called counts for nothing where there are names (RFC 6125 section 6.4.4).
            fails: { $0.certificate = certificate(["a.test"], common: "a.example", verified: true) }),
        ConditionCase(
            "client_certificate = unverified name", from: .connect,
            .certificate([.subject(try TextPattern("a.example"))]),
            holds: { $0.certificate = certificate(["a.example"], verified: true) },
            fails: { $0.certificate = certificate(["a.example"], verified: false) }),
        ConditionCase(
            "client_certificate = sha256", from: .connect, .certificate([.fingerprint([0xAB, 0xCD])]),
            holds: { $0.certificate = certificate([], verified: false) }, fails: { $0.certificate = nil }),
    ]
}

private func sessionCases() throws -> [ConditionCase] {
    [
        ConditionCase(
            "ehlo", from: .ehlo, .ehlo(try texts("*.example.com")), holds: { $0.ehlo = "Mail.Example.COM" },
            fails: { $0.ehlo = "localhost" }),
        ConditionCase(
            "ehlo_file", from: .ehlo, .ehlo(.init([], file: "/texts")), holds: { $0.ehlo = "deep.below.example" },
            fails: { $0.ehlo = "below.example" }),
        ConditionCase(
            "login", from: .auth, .login(try texts("bob", "a*")), holds: { $0.login = "alice" },
            fails: { $0.login = nil }),
        ConditionCase(
            "login_file", from: .auth, .login(.init([], file: "/texts")), holds: { $0.login = "listed" },
            fails: { $0.login = "alice" }),
        ConditionCase(
            "authenticated", from: .auth, .authenticated(true), holds: { $0.login = "alice" },
            fails: { $0.login = nil }),
        ConditionCase(
            "authenticated = false", from: .auth, .authenticated(false), holds: { $0.login = nil },
            fails: { $0.login = "alice" }),
    ]
}

private func transactionCases() throws -> [ConditionCase] {
    [
        ConditionCase(
            "sender", from: .mail, .sender(try texts("@example.com")),
            holds: { $0.sender = .mailbox(mailbox("a@EXAMPLE.com")) }, fails: { $0.sender = .null }),
        ConditionCase(
            "sender = null", from: .mail, .sender(try texts("<>")), holds: { $0.sender = .null },
            fails: { $0.sender = .mailbox(mailbox("a@example.com")) }),
        // Quotes that need not be there change nothing (RFC 5321 section 4.1.2).
        ConditionCase(
            "sender in quotes", from: .mail, .sender(try texts("a.b@example.com")),
            holds: { $0.sender = .mailbox(mailbox("\"a.\\b\"@example.com")) },
            fails: { $0.sender = .mailbox(mailbox("\"a. b\"@example.com")) }),
        ConditionCase(
            "sender_file", from: .mail, .sender(.init([], file: "/texts")),
            holds: { $0.sender = .mailbox(mailbox("Spam@Listed.example")) },
            fails: { $0.sender = .mailbox(mailbox("ham@listed.example")) }),
        ConditionCase(
            "sender = expression", from: .mail, .sender(try texts("/^(x+)+@y/")),
            holds: { $0.sender = .mailbox(mailbox("xx@y.example")) },
            fails: { $0.sender = .mailbox(mailbox("alice@example.com")) },
            unknown: { $0.sender = .mailbox(mailbox(String(repeating: "x", count: 60) + "@z.y")) }),
        ConditionCase(
            "size", from: .mail, .size([try Comparison("> 1000", number: { Int($0) })]), holds: { $0.size = 1001 },
            fails: { $0.size = 1000 }, unknown: { $0.size = nil }),
        ConditionCase(
            "recipient", from: .rcpt, .recipient(try texts("@.example.net")),
            holds: { $0.recipient = mailbox("a@sub.example.net") },
            // At the stages before the end those that were accepted do not matter: one is asked about.
            fails: { ($0.recipient, $0.recipients) = (mailbox("a@example.net"), [mailbox("a@sub.example.net")]) }),
        ConditionCase(
            "recipient of several", from: .rcpt, .recipient(try texts("boss@example.net")),
            holds: {
                ($0.recipient, $0.recipients) = (nil, [mailbox("a@example.net"), mailbox("boss@example.net")])
            },
            fails: { ($0.recipient, $0.recipients) = (nil, [mailbox("a@example.net")]) }),
        ConditionCase(
            "recipient_file", from: .rcpt, .recipient(.init([], file: "/texts")),
            holds: { $0.recipient = mailbox("any@whole.example") },
            fails: { $0.recipient = mailbox("any@x.whole.example") }
        ),
        ConditionCase(
            "recipients", from: .rcpt, .recipients([try Comparison(">=2", number: { Int($0) })]),
            holds: { $0.recipients = [mailbox("a@b"), mailbox("c@d")] }, fails: { $0.recipients = [] }),
        ConditionCase(
            "header", from: .message, .header(name: "x-spam", values: nil),
            holds: { $0.header = header("X-Spam:\r\n\r\n") }, fails: { $0.header = header("X-Spa: x\r\n\r\n") },
            unknown: { $0.header = nil }),
        ConditionCase(
            "header = value", from: .message, .header(name: "Subject", values: try texts("*viagra*", "buy\u{C4} now")),
            holds: { $0.header = header("A: b\r\nsubject: VIA\r\n GRA\r\nSubject:\t Buy\u{E4}\r\n now\r\n\r\n") },
            fails: { $0.header = header("Subject: hello\r\nX: viagra\r\n\r\n") }),
    ]
}

private func lookupCases() throws -> [ConditionCase] {
    func list(_ name: String, _ test: Condition.Test, from stage: Stage) -> ConditionCase {
        ConditionCase(
            name, from: stage, test, needs: [.dnsbl("a"), .dnsbl("b")],
            holds: { $0.listings = ["a": .failed("timeout"), "b": .listed([], text: "bad")] },
            fails: { $0.listings = ["a": .notListed, "b": .notListed] },
            unknown: { $0.listings = ["a": .failed("timeout"), "b": .notListed] })
    }
    return [
        ConditionCase(
            "ptr", from: .connect, .ptr(try texts("*.dialup.example")), needs: [.ptr],
            holds: { $0.ptr = PTRFact(confirmed: ["a.example", "1.dialup.example"]) },
            fails: { $0.ptr = PTRFact(reverse: "1.dialup.example") }, unknown: { $0.ptr = PTRFact(failure: "timeout") }),
        ConditionCase(
            "ptr_file", from: .connect, .ptr(.init([], file: "/texts")), needs: [.ptr],
            holds: { $0.ptr = PTRFact(confirmed: ["x.below.example"]) }, fails: { $0.ptr = PTRFact() },
            unknown: { $0.ptr = PTRFact(failure: "timeout") }),
        ConditionCase(
            "spf", from: .mail, .spf([.fail, .softfail]), needs: [.spf],
            holds: { $0.spf = SPFFact(.softfail, reason: "no") }, fails: { $0.spf = SPFFact(.permerror, reason: "?") },
            unknown: { $0.spf = SPFFact(.temperror, reason: "no answer") }),
        ConditionCase(
            "spf = temperror", from: .mail, .spf([.temperror]), needs: [.spf],
            holds: { $0.spf = SPFFact(.temperror, reason: "no answer") },
            fails: { $0.spf = SPFFact(.pass, reason: "") }),
        list("dnsbl of client", .dnsbl([.init("a", from: .connect), .init("b", from: .connect)]), from: .connect),
        list("dnsbl of ehlo", .dnsbl([.init("a", from: .connect), .init("b", from: .ehlo)]), from: .ehlo),
        list("dnsbl of sender", .dnsbl([.init("a", from: .mail), .init("b", from: .ehlo)]), from: .mail),
    ]
}

private func countCases() throws -> [ConditionCase] {
    let hour = try RateCondition("login > 100/hour")
    let minute = try RateCondition("client >= 5/minute")
    return [
        ConditionCase(
            "rate", from: .connect, .rate([hour, minute]),
            holds: { $0.rates = RateFacts([minute.key: 5]) }, fails: { $0.rates = RateFacts([hour.key: 100]) })
    ]
}

/// The lists that conditions of the table name.
func listsOfCases() -> [ListReference: any TextList] {
    var mistakes: [(line: Int, error: RuleError)] = []
    let lists: [ListReference: any TextList] = [
        ListReference("/networks", .networks): TextSet(
            "203.0.113.0/24\n2001:db8:1::/48", .networks, mistakes: &mistakes),
        ListReference("/texts", .texts): TextSet(
            "# a list\nlisted\nspam@listed.example\n@whole.example\n@.below.example\n", .texts, mistakes: &mistakes),
    ]
    return mistakes.isEmpty ? lists : [:]
}
