// [[rule]] and [spf] as they should be: every condition, every action, and what can be said and never happens.

import SlimtaMail
import SlimtaRules
import Testing

@testable import SlimtaConfiguration

@Suite struct RuleTests {
    private typealias Test = Condition.Test

    private func rules(_ text: String) throws -> [Rule] {
        try Configuration.parse(edge + lists + text, file: "f").rules
    }

    /// What rules name.
    private let lists = """
        [[dnsbl]]
        name = "zen"
        zone = "zen.example"
        [[dnsbl]]
        name = "greeted"
        zone = "names.example"
        of = "ehlo"

        """

    private static func texts(_ patterns: String..., file: String? = nil) throws -> Condition.Texts {
        Condition.Texts(try patterns.map { try TextPattern($0) }, file: file)
    }

    private static func network(_ text: String) throws -> NetworkRange { try #require(NetworkRange(text)) }

    /// A condition as slimta.conf has it, and what it is.
    static let conditions: [(text: String, test: Condition.Test)] = {
        do {
            return [
                ("client = \"192.0.2.0/24\"", .client([try network("192.0.2.0/24")], file: nil)),
                (
                    "client = [\"192.0.2.1\", \"2001:db8::/32\"]\nclient_file = \"/c\"",
                    .client([try network("192.0.2.1/32"), try network("2001:db8::/32")], file: "/c")
                ),
                ("client_file = \"/c\"", .client([], file: "/c")),
                ("ptr = [\"*.example.com\", \"unknown\"]", .ptr(try texts("*.example.com", "unknown"))),
                ("ehlo = \"/^localhost/\"\nehlo_file = \"/e\"", .ehlo(try texts("/^localhost/", file: "/e"))),
                ("edge = \"in\"", .edge(try texts("in"))),
                ("tls = true", .tls([.any])),
                (
                    "tls = [false, \"TLSv1.2\", \"*GCM*\"]",
                    .tls([.none, .matching(try TextPattern("TLSv1.2")), .matching(try TextPattern("*GCM*"))])
                ),
                ("proxy_tls = [true, \"TLSv1.3\"]", .proxyTLS([.any, .matching(try TextPattern("TLSv1.3"))])),
                ("client_certificate = true", .certificate([.verified])),
                (
                    "client_certificate = [\"*.example.com\", \"sha256:\(String(repeating: "aB", count: 32))\"]",
                    .certificate([
                        .subject(try TextPattern("*.example.com")), .fingerprint(Array(repeating: 0xAB, count: 32)),
                    ])
                ),
                (
                    "client_certificate = \"sha256:00\(String(repeating: ":01", count: 31))\"",
                    .certificate([.fingerprint([0] + Array(repeating: 1, count: 31))])
                ),
                ("login_file = \"/l\"", .login(try texts(file: "/l"))),
                ("login = [\"alice\", \"bob\"]", .login(try texts("alice", "bob"))),
                ("authenticated = false", .authenticated(false)),
                ("sender = \"<>\"", .sender(try texts("<>"))),
                ("sender = [\"@example.com\", \"@.example.com\"]", .sender(try texts("@example.com", "@.example.com"))),
                (
                    "recipient = \"a@example.com\"\nrecipient_file = \"/r\"",
                    .recipient(try texts("a@example.com", file: "/r"))
                ),
                ("recipients = \"> 100\"", .recipients([Comparison(.more, 100)])),
                ("recipients = [\"<=3\", \"= 7\"]", .recipients([Comparison(.atMost, 3), Comparison(.equal, 7)])),
                ("size = \">= 10MiB\"", .size([Comparison(.atLeast, 10 << 20)])),
                ("size = \"< 1000\"", .size([Comparison(.less, 1000)])),
                ("spf = [\"fail\", \"softfail\"]", .spf([.fail, .softfail])),
                ("dnsbl = \"zen\"", .dnsbl([.init("zen", from: .connect)])),
                (
                    "dnsbl = [\"zen\", \"greeted\"]",
                    .dnsbl([.init("zen", from: .connect), .init("greeted", from: .ehlo)])
                ),
                ("header = { name = \"X-A\" }", .header(name: "X-A", values: nil)),
                (
                    "header = { name = \"Subject\", value = [\"*a*\", \"/b/\"] }",
                    .header(name: "Subject", values: try texts("*a*", "/b/"))
                ),
                (
                    "hours = [\"08:00-18:00\", \"23:00-01:00\"]",
                    .hours([try Hours("08:00-18:00"), try Hours("23:00-01:00")])
                ),
                ("weekdays = [\"mon-wed\", \"sun\"]", .weekdays([.mon, .tue, .wed, .sun])),
                ("rate = \"login > 100/hour\"", .rate([try RateCondition("login > 100/hour")])),
                ("early_talker = true", .earlyTalker(true)),
                ("parts = \"> 100\"", .content(.parts([Comparison(.more, 100)]))),
                (
                    "nesting = [\">= 5\", \"= 3\"]",
                    .content(.nesting([Comparison(.atLeast, 5), Comparison(.equal, 3)]))
                ),
                ("header_size = \"> 64KiB\"", .content(.headerSize([Comparison(.more, 65_536)]))),
                ("attachment = [\"*.exe\", \"/x/\"]", .content(.attachment(try texts("*.exe", "/x/")))),
                ("attachment_type = \"application/*\"", .content(.attachmentType(try texts("application/*")))),
            ]
        } catch {
            Issue.record("\(error)")
            return []
        }
    }()

    /// Each condition at the last stage, where all are known; and turned round.
    @Test(arguments: conditions.indices) func condition(index: Int) throws {
        let (text, test) = Self.conditions[index]
        let said = "[[rule]]\nname = \"r\"\nat = \"message\"\naction = \"log\"\n"
        let plain = Rule("r", at: .message, [Condition(test)], .log)
        #expect(try rules(said + text) == [plain])
        let turned = Rule("r", at: .message, [Condition(test, turnedRound: true)], .log)
        #expect(try rules(said + "[rule.not]\n" + text) == [turned])
    }

    /// At each stage it is known, or said to be unknown there and from where on it is known.
    @Test(arguments: conditions.indices) func stages(index: Int) throws {
        let (text, test) = Self.conditions[index]
        let first = Condition(test).firstStage
        for stage in Stage.allCases {
            let text = edge + lists + "[[rule]]\nname = \"r\"\nat = \"\(stage.rawValue)\"\naction = \"log\"\n" + text
            let understood = Configuration.Understood(text, file: "f")
            if stage.isAtOrBehind(first) {
                #expect(understood.mistakes.errors == [])
            } else {
                let line = try #require(understood.mistakes.errors.first)
                #expect(understood.mistakes.errors.count == 1)
                #expect(line.line == 19 && line.keyPath.hasPrefix("rule[0]."))
                #expect(line.found == "found at the stage \"\(stage.rawValue)\", where it is not known yet")
                #expect(line.allowed == "allowed is it from \"\(first.rawValue)\" on")
            }
        }
    }

    @Test func all() throws {
        let read = try rules(
            """
            [[rule]]
            name = "no partner before noon"
            at = "rcpt"
            client = "192.0.2.0/24"
            hours = "00:00-12:00"
            not = { recipient = "@example.com", login = "alice" }
            reply = "554 5.7.1 {recipient} is closed to {login}"
            [[rule]]
            name = "Größe"
            at = "connect"
            action = "accept"
            [[rule]]
            name = "3"
            at = "data"
            action = "hold"
            [[rule]]
            name = "4"
            at = "mail"
            add_field = "X-Gate: {rule}"
            [[rule]]
            name = "5"
            at = "ehlo"
            delay = "5s"
            [[rule]]
            name = "6"
            at = "auth"
            reply = "421 go away"
            [[rule]]
            name = "7"
            at = "starttls"
            action = "close"
            """)
        let network = Condition(.client([try Self.network("192.0.2.0/24")], file: nil))
        let hours = Condition(.hours([try Hours("00:00-12:00")]))
        let login = Condition(.login(try Self.texts("alice")), turnedRound: true)
        let recipient = Condition(.recipient(try Self.texts("@example.com")), turnedRound: true)
        #expect(read.map(\.name) == ["no partner before noon", "Größe", "3", "4", "5", "6", "7"])
        #expect(read.map(\.stage) == [.rcpt, .connect, .data, .mail, .ehlo, .auth, .starttls])
        #expect(Set(read[0].conditions) == [network, hours, login, recipient])
        #expect(read[1...].allSatisfy { $0.conditions.isEmpty })
        let actions: [Action] = [
            .reply(try ReplyTemplate("554 5.7.1 {recipient} is closed to {login}")), .accept, .hold,
            .addField(try FieldTemplate("X-Gate: {rule}")), .delay(.seconds(5)),
            .close(try ReplyTemplate("421 4.7.1 go away")),
            .close(try ReplyTemplate("421 4.7.0 Service not available, closing transmission channel")),
        ]
        #expect(read.map(\.action) == actions)
    }

    @Test func spf() throws {
        let spf = try Configuration.parse(
            edge + """
                [spf]
                fail = { code = 550, message = "5.7.23 Access denied: {reason}" }
                authenticated = true
                received_spf = true
                timeout = "10s"
                [spf.temperror]
                code = 451
                message = "later"
                """, file: "f"
        ).spf
        let replies: [SPFResult: ReplyTemplate] = [
            .fail: try ReplyTemplate("550 5.7.23 Access denied: {reason}"),
            .temperror: try ReplyTemplate("451 4.7.1 later"),
        ]
        #expect(spf == .init(replies: replies, authenticated: true, receivedSPF: true, timeout: .seconds(10)))
        #expect(spf.isWanted)
        let none = try Configuration.parse(edge + "[spf]", file: "f").spf
        #expect(none == .init() && !none.isWanted && !none.authenticated && !none.receivedSPF)
        #expect(none.timeout == .seconds(20))
    }
}

/// What `slimtad check` warns of.
@Suite struct WarningTests {
    /// The warnings of a text without mistakes, a line each.
    private func warnings(_ text: String) throws -> [String] {
        try Configuration.parse(text, file: "f").warnings.map { "\($0.keyPath): \($0.text)" }
    }

    private static let rule = "[[rule]]\nname = \"r\"\nat = \"message\"\naction = \"hold\"\n"
    private static let connect = rule.replacing("message", with: "connect")
    private static let list = "[[dnsbl]]\nname = \"zen\"\nzone = \"zen.example\"\n"
    private static let asksNothing =
        "every client has authenticated or may send without it, and of such ones nothing is asked without "
        + "authenticated = true in"
    private static let ofThisMachine = "is about mail of this machine alone, and may refuse it"
    private static let others =
        "no edge has trusted_networks, so that all who get to MAIL from elsewhere have authenticated; "
        + "authenticated = true checks them too"
    private static let never = "the rule \"r\" can never match:"

    /// Behind an edge "in" without AUTH and TLS.
    @Test(arguments: [
        Case(rule + "sender = \"@example.com\"\nedge = \"in\""),
        Case(rule + "not = { client_certificate = true, login = \"a\", tls = true }"),
        Case(rule + "authenticated = false\ntls = [false, true]"),
        Case(rule + "edge = \"on\"", "rule[0].edge: no edge has the name \"on\"; did you mean \"in\"?"),
        Case(rule + "edge = [\"i*\", \"submission\"]", "rule[0].edge: no edge has the name \"submission\""),
        Case(rule + "not = { edge = \"x\" }", "rule[0].not.edge: no edge has the name \"x\""),
        Case(rule + "login = \"a\"", "rule[0].login: \(never) no edge that it is for has AUTH"),
        Case(rule + "authenticated = true", "rule[0].authenticated: \(never) no edge that it is for has AUTH"),
        Case(rule + "rate = \"login > 1/day\"", "rule[0].rate: \(never) no edge that it is for has AUTH"),
        Case(rule + "rate = [\"login > 1/day\", \"client > 1/day\"]"),
        Case(rule + "tls = \"TLSv1.3\"", "rule[0].tls: \(never) all edges that it is for have tls = \"none\""),
        Case(rule + "proxy_tls = true", "rule[0].proxy_tls: \(never) no edge that it is for has proxy_protocol"),
        Case(
            rule + "client_certificate = true",
            "rule[0].client_certificate: \(never) all edges that it is for have tls = \"none\""),
        Case(
            rule + "early_talker = true",
            "rule[0].early_talker: \(never) no edge that it is for has greet_delay, so that nobody is early"),
        Case(
            "[[rule]]\nname = \"r\"\nat = \"starttls\"\naction = \"log\"",
            "rule[0].at: \(never) no edge that it is for has tls = \"starttls\""),
        Case(
            "[[rule]]\nname = \"r\"\nat = \"auth\"\naction = \"log\"",
            "rule[0].at: \(never) no edge that it is for has AUTH"),
        Case(
            "[[rule]]\nname = \"first\"\nat = \"message\"\naction = \"accept\"\n" + rule,
            "rule[1]: \(never) the rule \"first\" before it takes all that it is about"),
        Case("[[rule]]\nname = \"first\"\nat = \"data\"\naction = \"accept\"\n" + rule),
        Case(
            "[[dnsbl]]\nname = \"zen\"\nzone = \"zen.example\"",
            "dnsbl[0]: no rule has dnsbl = \"zen\": nobody asks the list"),
        Case(list + connect + "dnsbl = \"zen\""),
        Case(
            list + rule + "dnsbl = \"zen\"",
            "rule[0].dnsbl: \(never) at message \(asksNothing) [[dnsbl]] \"zen\"; others are judged by a rule at connect"
        ),
        Case(list + "authenticated = true\n" + rule + "dnsbl = \"zen\""),
        Case(list + rule + "not = { dnsbl = \"zen\" }"),
        // This machine is trusted, and what it says may be on a list.
        Case(list + "of = \"sender\"\n" + rule + "dnsbl = \"zen\""),
        Case(list + "of = \"ehlo\"\n" + rule + "dnsbl = \"zen\""),
        Case(
            list + list.replacing("zen", with: "other") + "of = \"sender\"\nauthenticated = true\n" + rule
                + "dnsbl = [\"zen\", \"other\"]"),
        Case(
            "[spf]\nauthenticated = true",
            "spf: nobody wants to know the result: no entry for one, no received_spf = true, no rule with spf"),
        Case("[spf]\nauthenticated = true\nreceived_spf = true"),
        Case("[spf]\nreceived_spf = true", "spf: \(ofThisMachine): \(others)"),
        Case("[spf]\nfail = { code = 550, message = \"no\" }", "spf: \(ofThisMachine): \(others)"),
        Case("[spf]\ntimeout = \"5s\"\n" + rule + "spf = \"fail\""),
    ])
    func afterASoundEdge(_ given: Case) throws {
        #expect(try warnings(edge + given.text) == given.errors)
    }

    /// Edges that have all of it, and one that has not.
    @Test(arguments: [
        Case("client_certificate = true\nlogin = \"a\"\ntls = true\nearly_talker = true"),
        Case("edge = \"s*\"\nlogin = \"a\""),
        Case("edge = \"in\"\nlogin = \"a\"", "rule[0].login: \(never) no edge that it is for has AUTH"),
        Case(
            "not = { edge = \"submission\" }\nlogin = \"a\"", "rule[0].login: \(never) no edge that it is for has AUTH"),
    ])
    func onSomeEdges(_ given: Case) throws {
        let other = """
            [tls]
            certificate = "/c"
            key = "/k"
            client_ca = "/ca"
            [[edge]]
            name = "submission"
            type = "smtp"
            listen = ["[::]:587"]
            greet_delay = "1s"

            """
        #expect(try warnings(edge + other + Self.rule + given.text) == given.errors)
    }

    /// Where everybody has to log in, what is said in MAIL is that of somebody who has; trusted networks are the exception.
    @Test func listsAndSPFOfWhomItIs() throws {
        let open =
            edge.replacing("127.0.0.1:2525", with: "[::]:587").replacing("\"none\"", with: "\"required\"")
            .replacing("tls = \"required\"", with: "tls = \"starttls\"")
        let certificate = "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n"
        let given =
            certificate + "[spf]\nreceived_spf = true\n" + Self.list + "of = \"sender\"\n"
            + Self.rule.replacing("message", with: "mail") + "dnsbl = \"zen\""
        #expect(
            try warnings(open + given) == [
                "rule[0].dnsbl: \(Self.never) at mail \(Self.asksNothing) [[dnsbl]] \"zen\"",
                "spf: concerns nobody: \(Self.others)",
            ])
        let trusting = open.replacing("# seven", with: "trusted_networks = [\"192.0.2.0/24\"] # seven")
        #expect(try warnings(trusting + given) == [])
    }

    /// With all that is shown in it, the sample that we ship warns of no list: each is asked by the rule that is about it.
    @Test func listsOfTheSample() throws {
        let tables = ["# [[rule]]", "# [[dnsbl]]"]
        let keys = [
            "name", "at", "dnsbl", "zone", "zone_file", "of", "authenticated", "action", "reply", "add_field", "delay",
        ]
        var isShown = false
        let lines = try readFile("etc/slimta.conf").split(separator: "\n").map { line in
            let isTable = tables.contains { line.hasPrefix($0) }
            if isTable || line.hasPrefix("# [") || line.hasPrefix("[") { isShown = isTable }
            let isKey = keys.contains { line.hasPrefix("# \($0) = ") }
            return String(isTable || isShown && isKey ? line.dropFirst(2) : line)
        }
        #expect(lines.count { $0.hasPrefix("dnsbl = ") } == 2)
        #expect(try warnings(lines.joined(separator: "\n")) == [])
    }

    @Test func certificatesNobodyIsAskedFor() throws {
        let text =
            edge.replacing("tls = \"none\"", with: "tls = \"starttls\"") + """
                [tls]
                certificate = "/c"
                key = "/k"

                """
        let found = try warnings(text + Self.rule + "client_certificate = true")
        let reason = "clients are asked for a certificate only with client_ca in [tls]"
        #expect(found == ["rule[0].client_certificate: \(Self.never) \(reason)"])
    }
}
