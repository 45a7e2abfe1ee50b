// Every condition and every action at every stage: what a rule does where it may stand, and the error where it may not.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct RuleTableTests {
    static let actions: [Action] = {
        guard let reply = try? ReplyTemplate("554 5.7.1 no, says {rule}"),
            let close = try? ReplyTemplate("421 4.7.0 go"),
            let field = try? FieldTemplate("X-Gate: {client}")
        else { return [] }
        return [.accept, .reply(reply), .close(close), .addField(field), .hold, .delay(.seconds(5)), .log]
    }()

    /// What the action alone leaves.
    static func verdict(of action: Action) -> Verdict {
        var verdict = Verdict()
        verdict.notes = [.init(rule: "r", action: action.word)]
        switch action {
        case .accept: verdict.decision = .accept
        case .reply: verdict.decision = .refuse(Reply(554, .init(5, 7, 1), "no, says r"))
        case .close: verdict.decision = .refuse(Reply(421, .init(4, 7, 0), "go"))
        case .addField: verdict.fields = []
        case .hold: verdict.heldBy = "r"
        case .delay(let time): verdict.delay = time
        case .log: break
        }
        return verdict
    }

    @Test func theTableIsWhole() throws {
        #expect(Self.actions.count == 7)
        let keys = Set(try conditionCases().map { Condition($0.test).name })
        #expect(
            keys == [
                "client", "ptr", "ehlo", "edge", "tls", "proxy_tls", "client_certificate", "login", "authenticated",
                "sender", "recipient", "recipients", "size", "spf", "dnsbl", "header", "hours", "weekdays", "rate",
                "early_talker", "parts", "nesting", "header_size", "attachment", "attachment_type",
            ])
        #expect(listsOfCases().count == 2)
    }

    @Test(arguments: try conditionCases())
    func conditionAtEveryStage(_ row: ConditionCase) {
        #expect(Condition(row.test).firstStage == row.first)
        #expect(Condition(row.test).facts == row.needs)
        for stage in Stage.allCases {
            for isTurnedRound in [false, true] {
                let condition = Condition(row.test, turnedRound: isTurnedRound)
                if stage.isAtOrBehind(row.first) {
                    #expect(condition.problem(at: stage) == nil)
                    for action in Self.actions where action.problem(at: stage) == nil {
                        check(row, Rule("r", at: stage, [condition], action))
                    }
                } else {
                    let problem = condition.problem(at: stage)
                    #expect(problem?.found == "\(condition.name) at \(stage.rawValue), where it is not known yet")
                    #expect(
                        problem?.allowed
                            == (row.first == .message ? "it at message" : "it from \(row.first.rawValue) on"))
                }
            }
        }
    }

    /// The rule acts for the facts that it is about, and for no others; the explanation says the same.
    private func check(_ row: ConditionCase, _ rule: Rule) {
        let rules = RuleSet([rule], lists: listsOfCases())
        #expect(rules.stages == [rule.stage])
        #expect(rules.facts == row.needs)
        let isTurnedRound = rule.conditions[0].isTurnedRound
        let name = rule.conditions[0].name
        var (holds, fails) = (plainFacts(), plainFacts())
        row.holds(&holds)
        row.fails(&fails)
        let (acts, rests) = isTurnedRound ? (fails, holds) : (holds, fails)

        var expected = Self.verdict(of: rule.action)
        if case .addField = rule.action { expected.fields = ["X-Gate: \(acts.client)\r\n"] }
        let here = Comment(rawValue: "\(row) \(rule.stage) \(rule.action.word)")
        #expect(rules.evaluate(rule.stage, acts) == .verdict(expected), here)
        #expect(rules.explain(rule.stage, acts).map(\.outcome) == [.acts], here)
        #expect(rules.evaluate(rule.stage, rests) == .verdict(Verdict()), here)
        #expect(rules.explain(rule.stage, rests).map(\.outcome) == [.fails(condition: name)], here)
        for other in Stage.allCases where other != rule.stage {
            #expect(rules.evaluate(other, acts) == .verdict(Verdict()))
            #expect(rules.explain(other, acts).isEmpty)
        }
        if let unknown = row.unknown {
            var facts = plainFacts()
            unknown(&facts)
            var expected = Verdict()
            if rule.action.word != "log", row.name != "size" {
                expected.undecided = [.init(rule: rule.name, condition: name)]
            }
            #expect(rules.evaluate(rule.stage, facts) == .verdict(expected), here)
            #expect(rules.explain(rule.stage, facts).map(\.outcome) == [.unknown(condition: name)], here)
        }
        if !row.needs.isEmpty {
            #expect(rules.evaluate(rule.stage, plainFacts()) == .needs(row.needs), here)
            #expect(rules.explain(rule.stage, plainFacts()).map(\.outcome) == [.needs(row.needs)], here)
        }
    }

    @Test(arguments: Stage.allCases)
    func actionAtEveryStage(_ stage: Stage) throws {
        for action in Self.actions {
            switch action {
            case .hold, .addField:
                #expect((action.problem(at: stage) != nil) == (stage == .starttls))
            case .accept, .reply, .close, .delay, .log:
                #expect(action.problem(at: stage) == nil)
                // It always acts where it has no condition.
                let rules = RuleSet([Rule("r", at: stage, [], action)])
                #expect(rules.evaluate(stage, plainFacts()) == .verdict(Self.verdict(of: action)))
            }
        }
    }

    /// A list that was not loaded says nothing.
    @Test func aMissingListIsNotKnown() throws {
        let condition = Condition(.sender(.init([], file: "/texts")))
        for condition in [condition, Condition(condition.test, turnedRound: true)] {
            let rules = RuleSet([Rule("r", at: .mail, [condition], .hold)])
            #expect(rules.explain(.mail, plainFacts()).map(\.outcome) == [.unknown(condition: condition.name)])
        }
    }
}
