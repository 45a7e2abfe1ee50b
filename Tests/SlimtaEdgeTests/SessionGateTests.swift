// Rules on their way through a session: asked at each stage, refused with their replies, and what they say of a message
// with it to the storage. What rules mean is SlimtaRulesTests's.

import Logging
import NIOCore
import NIOEmbedded
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import SlimtaRules
import SlimtaSMTP
import TestKit
import Testing

@testable import SlimtaEdge

private func gate(_ rules: Rule..., spf: SPFEnforcement? = nil, rates: MessageRates? = nil) -> Gate? {
    Gate(rules: RuleSet(rules), spf: spf, lookups: nil, rates: rates)
}

private func refusal(_ stage: Stage, _ reply: String, _ conditions: Condition...) throws -> Rule {
    Rule("r", at: stage, conditions, .reply(try ReplyTemplate(reply)))
}

private func texts(_ text: String) throws -> Condition.Texts { Condition.Texts([try TextPattern(text)]) }

@Suite struct SessionGateTests {
    private static let dialog = [
        "EHLO c", "AUTH PLAIN AHUAcA==", "MAIL FROM:<a@x.org> SIZE=5", "RCPT TO:<b@y.org>", "DATA",
        "X-A: b\r\n\r\ntext\r\n.",
    ]

    /// Which command of the dialog is refused by a rule at which stage, and what the log calls it.
    static let stages: [(Stage, command: Int, word: String)] = [
        (.ehlo, 0, "EHLO"), (.auth, 1, "AUTH"), (.mail, 2, "MAIL"), (.rcpt, 3, "RCPT"), (.data, 4, "DATA"),
        (.message, 5, "DATA"),
    ]

    @Test(arguments: stages) func refuses(stage: Stage, command: Int, word: String) throws {
        let session = try SessionFixture(
            credentials: HeldCredentials(), gate: gate(try refusal(stage, "550 5.7.1 no {client} at {rule}")))
        for (index, line) in Self.dialog.prefix(command + 1).enumerated() {
            try session.send(line + "\r\n")
            let reply = try session.replies().last
            if index == command {
                #expect(reply == "550 5.7.1 no 192.0.2.1 at r")
            } else {
                #expect(reply?.first != "5")
            }
        }
        let lines = session.log.lines("refused")
        #expect(lines.map { $0.fields["rule"] } == ["r"] && lines.map { $0.fields["command"] } == [word])
        #expect(session.storage.count == 0 && session.log.lines("rule applied").isEmpty)
        // The next refusal is not the rule's.
        try session.send("XYZZY\r\n")
        _ = try session.replies()
        #expect(session.log.lines("refused").last?.fields["rule"] == nil)
    }

    /// Asked before rules, at MAIL and RCPT, and nothing is said twice of one transaction.
    @Test func quotas() throws {
        var rules = QuotaRules()
        rules.limits = QuotaLimits(hard: [.init(.messages, .hour, 1), .init(.newRecipients, .hour, 3)])
        (rules.learning, rules.learningRecipients) = (.zero, 0)
        let book = QuotaBook(Quotas(rules: rules, key: SIMD2(1, 2)))
        let accepting = Rule("all", at: .rcpt, [], .accept)
        for rule in [nil, accepting] {
            let gate = try #require(
                Gate(rules: RuleSet(rule.map { [$0] } ?? []), spf: nil, lookups: nil, rates: nil, quotas: book))
            let session = try SessionFixture(gate: gate)
            func answer(_ line: String) throws -> String? {
                try session.send(line + "\r\n")
                return try session.replies().last
            }
            _ = try answer("EHLO c")
            for _ in 0..<2 {
                #expect(try answer("MAIL FROM:<a@x.org>")?.hasPrefix("250") == true)
                for number in 0..<3 { #expect(try answer("RCPT TO:<b\(number)@y.org>")?.hasPrefix("250") == true) }
                let refusal = try answer("RCPT TO:<b3@y.org>")
                #expect(
                    refusal?.hasPrefix("450 4.7.1 Too much at once: 4 new recipients in an hour, allowed are 3") == true
                )
                #expect(try answer("RSET")?.hasPrefix("250") == true)
            }
            #expect(session.log.lines("refused").map { $0.fields["quota"] } == ["192.0.2.1", "192.0.2.1"])
        }
        let subject = QuotaSubject(login: nil, address: IPAddress("192.0.2.1"))
        book.take(
            Envelope(
                id: QueueID(at: .now()), sender: nil, recipients: [Mailbox(localPart: "b", domain: "y.org")],
                received: .now(), client: ClientInfo(address: "192.0.2.1", name: "c", protocolWord: "SMTP")), size: 1
        ) { charge, _ in #expect(charge != nil) }
        let session = try SessionFixture(
            gate: Gate(rules: RuleSet([]), spf: nil, lookups: nil, rates: nil, quotas: book))
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
        #expect(try session.replies().last?.hasPrefix("450 4.7.1 Too much at once: 2 messages in an hour") == true)
        #expect(book.now.facts(of: subject, at: .now())?.hour.messages == 1)
    }

    /// RFC 5321 section 3.1: the refusal takes the place of the greeting, and only QUIT is left.
    @Test func refusesAtConnect() throws {
        let session = try SessionFixture(gate: gate(try refusal(.connect, "554 5.7.1 no")))
        try session.send("EHLO c\r\nQUIT\r\n")
        #expect(try session.replies().map { String($0.prefix(3)) } == ["554", "503", "221"])
        #expect(session.log.lines("refused").map { $0.fields["rule"] } == ["r", nil] && !session.channel.isActive)
    }

    @Test func closes() throws {
        let rule = Rule(
            "r", at: .rcpt, [Condition(.recipient(try texts("@closed.org")))],
            .close(try ReplyTemplate("421 4.7.0 go away")))
        let session = try SessionFixture(gate: gate(rule))
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nRCPT TO:<b@closed.org>\r\nNOOP\r\n")
        #expect(try session.replies().suffix(2).map { String($0.prefix(3)) } == ["250", "421"])
        session.advance(.seconds(2))
        #expect(!session.channel.isActive)
    }

    /// What stages ask is nobody's business where no rule is.
    @Test func nothingIsAskedWithoutRules() throws {
        #expect(gate() == nil)
        #expect(gate(spf: .init(replies: [:], includesAuthenticated: true, addsField: false)) == nil)
        let few = try #require(gate(try refusal(.rcpt, "550 5.7.1 no")))
        #expect(few.stages == [.recipient])
    }

    /// `[spf]` is about those who have logged in only if it says so, and nothing is looked up for nothing.
    @Test func whatIsLookedUpBeforeItIsAskedFor() throws {
        let failing = try refusal(.mail, "550 5.7.23 no", Condition(.spf([.fail])))
        let replies: [SPFResult: ReplyTemplate] = [.fail: try ReplyTemplate("550 5.7.23 no")]
        for (rules, isForAll, expected) in [
            ([], false, []), ([], true, [.spf]), ([failing], false, [.spf]),
        ] as [([Rule], Bool, Set<Fact>)] {
            let spf = SPFEnforcement(replies: replies, includesAuthenticated: isForAll, addsField: true)
            let gate = try #require(Gate(rules: RuleSet(rules), spf: spf, lookups: nil, rates: nil))
            #expect(gate.facts(isAuthenticated: false) == [.spf] && gate.facts(isAuthenticated: true) == expected)
        }
    }

    // MARK: What a message gets

    @Test func fieldsAndHolds() throws {
        func field(_ stage: Stage, _ conditions: Condition...) throws -> Rule {
            Rule("f-\(stage)", at: stage, conditions, .addField(try FieldTemplate("X-\(stage): {rule}")))
        }
        let night = Rule("night", at: .rcpt, [Condition(.recipient(try texts("held@*")))], .hold)
        let gate = gate(
            try field(.connect), try field(.ehlo), try field(.mail, Condition(.sender(try texts("a@*")))),
            try field(.rcpt, Condition(.recipient(try texts("b@*")))), try field(.message), night)
        let session = try SessionFixture(gate: gate)
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nRCPT TO:<b@z.org>\r\n")
        try session.send(
            "RCPT TO:<held@z.org>\r\nRSET\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nt\r\n.\r\n")
        try session.send("MAIL FROM:<c@x.org>\r\nRCPT TO:<held@z.org>\r\nDATA\r\nt\r\n.\r\n")
        _ = try session.replies()
        let all = ["connect", "ehlo", "mail", "rcpt", "message"].map { "X-\($0): f-\($0)\r\n" }
        #expect(
            session.storage.terms == [
                SubmissionTerms(fields: all),
                SubmissionTerms(heldReason: "night", fields: [all[0], all[1], all[4]]),
            ])
    }

    /// What a proxy says of its client: of TLS between the two, which is none of ours, and its name of the connection.
    @Test func whatAProxySays() throws {
        let encrypted = Condition(.proxyTLS([.any]))
        let field = Rule("id", at: .mail, [encrypted], .addField(try FieldTemplate("X-Proxy-ID: {unique_id}")))
        let tls = ProxyFacts.TLS(
            TLSDescription(version: "TLSv1.3", cipher: "x"), commonName: nil, isClientVerified: false)
        for (hasTLS, id) in [(true, "u\u{E9}1"), (true, nil), (false, "u1")] {
            let proxy = ProxyFacts(endpoint: .unknown, uniqueID: id, tls: hasTLS ? tls : nil)
            let session = try SessionFixture(proxy: proxy, gate: gate(field))
            try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nt\r\n.\r\n")
            _ = try session.replies()
            let value = id == nil ? "unknown" : "u\\u{00e9}1"
            #expect(session.storage.terms == [SubmissionTerms(fields: hasTLS ? ["X-Proxy-ID: \(value)\r\n"] : [])])
        }
    }

    /// A rule that early talkers do not get past: the delay ends with the question.
    @Test(arguments: [false, true]) func earlyTalkers(isEarly: Bool) throws {
        let rule = try refusal(.connect, "554 5.7.1 wait for the greeting", Condition(.earlyTalker(true)))
        let session = try SessionFixture(greetDelay: .seconds(5), gate: gate(rule))
        if isEarly { try session.send("EHLO c\r\n") }
        #expect(try session.replies() == [])
        session.advance(.seconds(5))
        let replies = try session.replies()
        #expect(replies.first?.prefix(3) == (isEarly ? "554" : "220"))
        #expect(replies.count == (isEarly ? 2 : 1))
        // Who talks only now is none.
        try session.send("NOOP\r\n")
        #expect(try session.replies().last?.prefix(3) == (isEarly ? "503" : "250"))
    }

    /// A rule sees the header and the size of what came, and of MAIL what it says.
    @Test func contentOfAMessage() throws {
        let header = Condition(.header(name: "subject", values: try texts("*pills*")))
        let size = Condition(.size([try Comparison("> 100") { Int($0) }]))
        let session = try SessionFixture(
            gate: gate(
                Rule("pills", at: .message, [header], .reply(try ReplyTemplate("554 5.6.0 no pills"))),
                Rule("large", at: .message, [size], .reply(try ReplyTemplate("552 5.3.4 large")))))
        try session.send("EHLO c\r\n")
        for (text, reply) in [
            ("Subject: many\r\n pills\r\n\r\nx\r\n", "554 5.6.0 no pills"), ("X: y\r\n\r\nSubject: pills\r\n", "250"),
            // Dropped before the message is stored, they hide nothing; a line that is text does not begin a header.
            ("From x\r\n>From x\r\nSubject: pills\r\n\r\nx\r\n", "554 5.6.0 no pills"),
            ("X: y\r\nFrom x\r\nSubject: pills\r\n", "250"),
            ("X: y\r\n\r\n" + String(repeating: "z", count: 100) + "\r\n", "552 5.3.4 large"),
        ] {
            try session.send("MAIL FROM:<a@x.org> SIZE=1000\r\nRCPT TO:<b@y.org>\r\nDATA\r\n\(text).\r\n")
            #expect(try session.replies().last?.hasPrefix(reply) == true)
        }
        #expect(session.storage.count == 2)
    }

    /// Who sends to many gets a message with no more fields for it, and one line tells so.
    @Test func fieldsAreBounded() throws {
        let rules = try (0..<120).map { Rule("f\($0)", at: .mail, [], .addField(try FieldTemplate("X-\($0): {rule}"))) }
        let session = try SessionFixture(gate: Gate(rules: RuleSet(rules), spf: nil, lookups: nil, rates: nil))
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nt\r\n.\r\n")
        #expect(session.storage.terms == [SubmissionTerms(fields: (0..<100).map { "X-\($0): f\($0)\r\n" })])
        #expect(session.log.lines("fields left out").map { $0.fields["rule"] } == ["f119"])
    }

    @Test func countsWhatTheQueueHasTaken() throws {
        let key = RateFacts.Key(.client, .hour)
        let rates = MessageRates(for: [key])
        let rule = Rule(
            "often", at: .mail, [Condition(.rate([try RateCondition("client > 1/hour")]))],
            .reply(try ReplyTemplate("450 4.7.1 later")))
        for number in 0..<3 {
            let session = try SessionFixture(gate: gate(rule, rates: rates))
            session.storage.reply = number == 0 ? Reply(452, .init(4, 3, 1), "Full") : session.storage.reply
            for _ in 0..<2 {
                try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nt\r\n.\r\n")
            }
            let refused = try session.replies().filter { $0 == "450 4.7.1 later" }.count
            #expect(refused == [0, 0, 2][number])
        }
        let peer = IPAddress("192.0.2.1")
        #expect(rates.facts(client: peer, login: nil, at: .now()).counts[key] == 2)
    }

    /// A reload that adds a window, or drops one, goes on with the others, for sessions that are there and for new ones.
    @Test func countsGoOnAtAReload() {
        let (hour, day, minute) = (
            RateFacts.Key(.login, .hour), RateFacts.Key(.login, .day), RateFacts.Key(.login, .minute)
        )
        func counts(_ rates: MessageRates) -> [RateFacts.Key: Int] {
            rates.facts(client: nil, login: "a", at: .now()).counts
        }
        let first = MessageRates(for: [hour, day])
        first.accepted(from: nil, login: "a", at: .now())
        let second = MessageRates(for: [day, minute], continuing: first)
        #expect(counts(second)[day] == 1 && counts(second)[minute] == nil)
        first.accepted(from: nil, login: "a", at: .now())
        second.accepted(from: nil, login: "a", at: .now())
        #expect(counts(second)[day] == 3 && counts(first)[day] == 3 && counts(first)[hour] == 3)
        let third = MessageRates(for: [day], continuing: second)
        #expect(counts(third)[day] == 3 && counts(third)[hour] == nil)
    }

    // MARK: Delays, and other actions that let through

    @Test func delays() throws {
        let rules = [
            Rule("slow", at: .mail, [], .delay(.seconds(5))), Rule("try", at: .mail, [], .log),
            Rule("slower", at: .mail, [], .delay(.seconds(2))),
        ]
        let session = try SessionFixture(
            gate: Gate(rules: RuleSet(rules), spf: nil, lookups: nil, rates: nil))
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nNOOP\r\n")
        #expect(try session.replies().last?.hasPrefix("250 SIZE") == true)
        session.advance(.milliseconds(6999))
        #expect(try session.replies() == [])
        session.advance(.milliseconds(1))
        #expect(try session.replies() == ["250 2.1.0 <a@x.org> Ok", "250 2.0.0 Ok"])
        let applied = session.log.lines("rule applied").map { [$0.fields["rule"], $0.fields["action"]] }
        #expect(applied == [["slow", "delay"], ["try", "log"], ["slower", "delay"]])
    }

    /// Nobody waits for a delay who is about to go: the client, which sees its reply at once, or we.
    @Test(arguments: ["drain", "close", "gone"]) func delaysEnd(how: String) throws {
        let session = try SessionFixture(gate: gate(Rule("slow", at: .mail, [], .delay(.seconds(60)))))
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
        _ = try session.replies()
        switch how {
        case "drain": session.channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain)
        case "close": session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        default: try session.channel.close().wait()
        }
        let replies = try session.replies()
        #expect(replies == (how == "gone" ? [] : ["250 2.1.0 <a@x.org> Ok"]))
        // Only a drain lets the transaction go on.
        #expect(session.channel.isActive == (how == "drain"))
        session.advance(.minutes(2))
        #expect(try session.replies() == [])
    }

    /// What comes behind that is not delayed either, however much was sent ahead.
    @Test func noDelayBegins() throws {
        let session = try SessionFixture(gate: gate(Rule("slow", at: .rcpt, [], .delay(.seconds(60)))))
        let recipients = (0..<20).map { "RCPT TO:<u\($0)@y.org>\r\n" }.joined()
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n\(recipients)")
        #expect(try session.replies().last?.hasPrefix("250 2.1.0") == true)
        session.channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain)
        #expect(try session.replies().filter { $0.hasPrefix("250 2.1.5") }.count == 20)
        #expect(session.channel.isActive)
    }

    /// Who closes its side can still be reading, and must not get anything sooner by that: neither replies to what it has sent
    /// ahead, nor its message into the queue.
    @Test func whoClosesItsSideIsDelayedAllTheSame() throws {
        let rules = [
            Rule("slow", at: .rcpt, [], .delay(.seconds(60))), Rule("slower", at: .message, [], .delay(.seconds(90))),
        ]
        let gate = Gate(rules: RuleSet(rules), spf: nil, lookups: nil, rates: nil)
        let ahead = try SessionFixture(gate: gate)
        try ahead.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nRCPT TO:<c@y.org>\r\n")
        _ = try ahead.replies()
        ahead.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        for recipient in ["b", "c"] {
            #expect(try ahead.replies() == [])
            ahead.advance(.seconds(60))
            #expect(try ahead.replies() == ["250 2.1.5 <\(recipient)@y.org> Ok"])
        }
        #expect(!ahead.channel.isActive)

        let session = try SessionFixture(gate: gate)
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n")
        session.advance(.seconds(60))
        #expect(try session.replies().last?.hasPrefix("354") == true)
        try session.send("text\r\n.\r\n")
        session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        session.advance(.milliseconds(89_999))
        #expect(try session.replies() == [] && session.storage.count == 0)
        session.advance(.milliseconds(1))
        #expect(try session.replies() == ["250 2.6.0 Message queued"] && session.storage.count == 1)
        #expect(!session.channel.isActive)
    }

    /// A client that does not wait for its delayed reply is not read without bound.
    @Test func whoIsDelayedCannotSendMuch() throws {
        let session = try SessionFixture(gate: gate(Rule("slow", at: .mail, [], .delay(.seconds(60)))))
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
        _ = try session.replies()
        for _ in 0..<40 where session.channel.isActive { try session.send(String(repeating: "NOOP\r\n", count: 300)) }
        #expect(!session.channel.isActive)
    }

    /// Facts that nobody can look up do not hold a session up: rules about them do not act.
    @Test func factsThatNobodyKnows() throws {
        let listed = Condition(.dnsbl([Condition.List("bl", from: .connect)]))
        let session = try SessionFixture(
            gate: gate(
                Rule("listed", at: .mail, [listed], .reply(try ReplyTemplate("554 5.7.1 listed"))),
                spf: .init(
                    replies: [.temperror: try ReplyTemplate(451, "4.4.3 {reason}")], includesAuthenticated: false,
                    addsField: false)))
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
        #expect(try session.replies().suffix(1) == ["451 4.4.3 it cannot be looked up"])
        #expect(session.log.lines("refused").map { $0.fields["spf"] } == ["temperror"])
        // Told once in a session.
        try session.send("MAIL FROM:<a@x.org>\r\n")
        #expect(try session.replies().count == 1)
        let told = session.log.lines("rule could not be decided").map { [$0.fields["rule"], $0.fields["condition"]] }
        #expect(told == [["listed", "dnsbl"]])
    }

    /// While a client waits for its greeting, its name is asked for: the question is there though no time has passed.
    @Test @MainActor func lookupsDoNotWaitForTheGreeting() async throws {
        let server = try SilentNameServer()
        let lookups = Lookups(
            .init(lists: [], hostname: "mx.example.org"),
            resolver: try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .off),
            logger: Logger(label: "test") { _ in KeptLog() })
        let rule = try refusal(.connect, "554 5.7.1 no", Condition(.ptr(try texts("*.bad.example"))))
        let session = try SessionFixture(
            greetDelay: .minutes(5), gate: Gate(rules: RuleSet([rule]), spf: nil, lookups: lookups, rates: nil))
        for _ in 0..<600 where !server.isAsked { try await Task.sleep(for: .milliseconds(50)) }
        #expect(server.isAsked)
        session.channel.close(promise: nil)
    }
}
