// Several rules at a stage: their order, what is looked up for them, what is told of them beforehand.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct RuleSetTests {
    private static func rule(_ name: String, at stage: Stage = .rcpt, _ tests: [Condition.Test], _ action: Action)
        -> Rule
    {
        Rule(name, at: stage, tests.map { Condition($0) }, action)
    }

    private static func reply(_ text: String = "550 5.7.1 no") throws -> Action { .reply(try ReplyTemplate(text)) }

    /// Rules that do not end the stage add up; the first that does decides, and none behind it is looked at.
    @Test func order() throws {
        let field = try FieldTemplate("X-A: 1")
        let rules = RuleSet([
            Self.rule("note", [], .log), Self.rule("mark", [], .addField(field)),
            Self.rule("slow", [], .delay(.seconds(1))),
            Self.rule("slower", [], .delay(.seconds(2))), Self.rule("hold", [], .hold), Self.rule("hold2", [], .hold),
            Self.rule("other edge", [.edge(try texts("x"))], try Self.reply()), Self.rule("let in", [], .accept),
            Self.rule("behind", [.ptr(try texts("*"))], try Self.reply()),
        ])
        var expected = Verdict()
        expected.decision = .accept
        expected.delay = .seconds(3)
        expected.fields = ["X-A: 1\r\n"]
        expected.heldBy = "hold"
        expected.notes = [
            ("note", "log"), ("mark", "add_field"), ("slow", "delay"), ("slower", "delay"), ("hold", "hold"),
            ("hold2", "hold"), ("let in", "accept"),
        ].map { .init(rule: $0.0, action: $0.1) }
        #expect(rules.evaluate(.rcpt, plainFacts()) == .verdict(expected))
        let outcomes = rules.explain(.rcpt, plainFacts()).map(\.outcome)
        #expect(
            outcomes == [.acts, .acts, .acts, .acts, .acts, .acts, .fails(condition: "edge"), .acts, .notReached])
    }

    /// Nothing is looked up for a rule that fails without, nor for one behind the first that waits.
    @Test func lookupsAreAskedForLate() throws {
        let rules = RuleSet([
            Self.rule("a", [.spf([.fail]), .edge(try texts("other"))], try Self.reply()),
            Self.rule(
                "b",
                [.dnsbl([.init("bad", from: .connect)]), .ptr(try texts("*.example")), .login(try texts("alice"))], .log
            ),
            Self.rule("c", [.dnsbl([.init("worse", from: .connect)])], try Self.reply()),
        ])
        var facts = plainFacts()
        #expect(rules.facts == [.spf, .ptr, .dnsbl("bad"), .dnsbl("worse")])
        #expect(rules.evaluate(.rcpt, facts) == .needs([.dnsbl("bad"), .ptr]))
        #expect(
            rules.explain(.rcpt, facts).map(\.outcome) == [
                .fails(condition: "edge"), .needs([.dnsbl("bad"), .ptr]), .notReached,
            ])
        // One of both is enough to know that the rule does not act.
        facts.ptr = PTRFact()
        #expect(rules.evaluate(.rcpt, facts) == .needs([.dnsbl("worse")]))
        facts.listings["worse"] = .listed([], text: "spam")
        guard case .verdict(let verdict) = rules.evaluate(.rcpt, facts) else {
            Issue.record("all is known")
            return
        }
        #expect(verdict.notes.map(\.rule) == ["c"])
    }

    /// A list that has it is enough: the others are not waited for.
    @Test func oneListingIsEnough() throws {
        let lists = ["a", "b"].map { Condition.List($0, from: .connect) }
        let rules = RuleSet([Self.rule("r", [.dnsbl(lists)], .hold)])
        var facts = plainFacts()
        facts.listings = ["b": .listed([], text: nil)]
        #expect(rules.explain(.rcpt, facts).map(\.outcome) == [.acts])
        facts.listings = ["b": .notListed]
        #expect(rules.evaluate(.rcpt, facts) == .needs([.dnsbl("a")]))
    }

    /// What a text says is looked up as well, once the rule acts.
    @Test func placeholdersNeedFacts() throws {
        let rules = RuleSet([Self.rule("r", [.edge(try texts("submission"))], try Self.reply("550 no, {ptr}"))])
        var facts = plainFacts()
        #expect(rules.evaluate(.rcpt, facts) == .needs([.ptr]))
        facts.edge = "other"
        #expect(rules.evaluate(.rcpt, facts) == .verdict(Verdict()))
        (facts.edge, facts.ptr) = ("submission", PTRFact(confirmed: ["a.example", "b.example"]))
        guard case .verdict(let verdict) = rules.evaluate(.rcpt, facts) else { return }
        #expect(verdict.decision == .refuse(Reply(550, .init(5, 7, 1), "no, a.example")))
    }

    /// What the edge prepares for, and where it asks at all.
    @Test func whatIsToldBeforehand() throws {
        #expect(RuleSet([]).stages.isEmpty)
        let rate = try RateCondition("login > 5/day")
        let rules = RuleSet([
            Self.rule("a", at: .connect, [.certificate([.verified]), .edge(try texts("one"))], .log),
            Self.rule(
                "b", at: .mail, [.spf([.fail]), .dnsbl([.init("l", from: .mail)])], try Self.reply("550 {reason}")),
            Self.rule("c", at: .data, [.rate([rate]), .dnsbl([.init("m", from: .mail)])], try Self.reply()),
        ])
        #expect(rules.stages == [.connect, .mail, .data])
        #expect(rules.facts == [.spf, .dnsbl("l"), .dnsbl("m")])
        #expect(rules.reasons == [.spf, .dnsbl("l")])
        #expect(rules.rates == [rate.key])
        #expect(rules.needsCertificate)
        #expect(rules.forEdge("one").stages == [.connect, .mail, .data])
        #expect(rules.forEdge("two").stages == [.mail, .data])
        #expect(!rules.forEdge("two").needsCertificate)
        #expect(
            RuleSet.lists(of: [Self.rule("f", [.sender(.init([], file: "/s")), .client([], file: "/c")], .log)])
                == [ListReference("/s", .texts), ListReference("/c", .networks)])
    }

    @Test(arguments: [
        ("{client} {edge} {rule}", "192.0.2.7 submission r"),
        ("{sender}>{recipient}", "alice@example.com>bob@example.net"),
        ("{login} {ehlo}", "alice client.example.com"), ("{reason}", "listed by bad"),
        ("{unique_id}", "unknown"),
    ])
    func placeholders(_ text: String, _ expected: String) throws {
        var facts = plainFacts()
        facts.listings["bad"] = .listed([], text: nil)
        let rules = RuleSet([Self.rule("r", [.dnsbl([.init("bad", from: .connect)])], try Self.reply("450 \(text)"))])
        guard case .verdict(let verdict) = rules.evaluate(.rcpt, facts) else { return }
        #expect(verdict.decision == .refuse(Reply(450, .init(4, 7, 1), expected)))
    }

    /// Behind RCPT all that were accepted; the null sender; nobody.
    @Test func placeholdersWithoutValue() throws {
        var facts = Facts(client: .unix, edge: "e", now: LocalTime(.mon, minute: 0))
        facts.sender = .null
        facts.recipients = [mailbox("a@b.example"), mailbox("c@d.example")]
        facts.spf = SPFFact(.fail, reason: "not yours")
        let rules = RuleSet([
            Self.rule(
                "r", at: .data, [.spf([.fail])],
                try Self.reply("550 {client} {sender} {recipient} {login} {ehlo}. {reason}"))
        ])
        guard case .verdict(let verdict) = rules.evaluate(.data, facts) else { return }
        #expect(
            verdict.decision
                == .refuse(Reply(550, .init(5, 7, 1), "local <> a@b.example, c@d.example nobody . not yours")))
        // The same words for [spf], which is no rule.
        let spf = SPFEnforcement(
            replies: [.fail: try ReplyTemplate(550, "5.7.23 {rule}: {reason}")], includesAuthenticated: false,
            addsField: false)
        #expect(spf.evaluate(.mail, facts) == .refuse(Reply(550, .init(5, 7, 23), "spf: not yours"), .fail))
    }

    @Test func reasonNeedsOne() throws {
        let reply = try Self.reply("550 {reason}")
        #expect(Self.rule("r", [.spf([.fail])], reply).problem == nil)
        #expect(Self.rule("r", [.edge(try texts("x"))], reply).problem?.found == "{reason} in a rule without reason")
        #expect(Rule("r", at: .mail, [Condition(.spf([.pass]), turnedRound: true)], reply).problem == nil)
    }
}
