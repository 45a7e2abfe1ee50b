// Which rules can never act, as `slimtad check` tells it; and that no other is said to be one.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct UnreachableTests {
    private func unreachable(_ rules: Rule...) -> [String] {
        RuleSet.unreachable(rules).map { "\($0.rule): \($0.reason)" }
    }

    private func rule(_ name: String, at stage: Stage = .rcpt, _ conditions: Condition..., does action: Action = .log)
        -> Rule
    {
        Rule(name, at: stage, conditions, action)
    }

    @Test func takenByOneBefore() throws {
        let wide = NetworkRange("192.0.2.0/24"), narrow = NetworkRange("192.0.2.128/25")
        let all = rule("all", does: .accept)
        let taken = "a: the rule \"all\" before it takes all that it is about"
        #expect(unreachable(all, rule("a", Condition(.sender(try texts("x@y"))))) == [taken])
        #expect(unreachable(all, rule("a", at: .mail)).isEmpty)
        #expect(unreachable(rule("all", does: .hold), rule("a")).isEmpty)
        let pairs: [(Condition.Test, Condition.Test)] = [
            (.client([wide, narrow].compactMap { $0 }, file: nil), .client([narrow].compactMap { $0 }, file: nil)),
            (.sender(try texts("@example.com")), .sender(try texts("a@EXAMPLE.com"))),
            (.sender(try texts("@.example.com")), .sender(try texts("@a.example.com"))),
            (.sender(try texts("*")), .sender(try texts("/x/"))),
            (.ehlo(try texts("*.example.com", "b")), .ehlo(try texts("a.example.com", "b"))),
            (.spf([.fail, .softfail]), .spf([.fail])),
            (.weekdays([.mon, .tue]), .weekdays([.mon])),
            (.authenticated(true), .login(try texts("alice"))),
            (.header(name: "X-A", values: nil), .header(name: "x-a", values: try texts("b"))),
            (.dnsbl(["a", "b"].map { .init($0, from: .connect) }), .dnsbl([.init("b", from: .connect)])),
        ]
        for (whole, part) in pairs {
            let (whole, part) = (Condition(whole), Condition(part))
            #expect(
                unreachable(rule("all", whole, does: .accept), rule("a", part, Condition(.earlyTalker(true)))) == [
                    taken
                ])
            #expect(unreachable(rule("all", part, does: .accept), rule("a", whole)).isEmpty, "\(whole.name)")
            // Turned round, the part is the whole.
            let (some, more) = (Condition(whole.test, turnedRound: true), Condition(part.test, turnedRound: true))
            #expect(unreachable(rule("all", more, does: .accept), rule("a", some)) == [taken], "\(whole.name)")
            #expect(unreachable(rule("all", some, does: .accept), rule("a", more)).isEmpty, "\(whole.name)")
        }
    }

    @Test func contradictions() throws {
        let login = Condition(.login(try texts("alice")))
        #expect(
            unreachable(rule("a", login, Condition(.login(try texts("a*")), turnedRound: true)))
                == ["a: login and not.login exclude each other"])
        #expect(
            unreachable(rule("a", login, Condition(.authenticated(false))))
                == ["a: there is no login where authenticated = false"])
        #expect(
            unreachable(rule("a", Condition(.tls([.none])), Condition(.certificate([.verified]))))
                == ["a: there is no client_certificate where tls = false"])
        #expect(
            unreachable(rule("a", at: .starttls, Condition(.tls([.any]))))
                == ["a: at starttls the session is still in clear"])
        #expect(
            unreachable(rule("a", at: .auth, Condition(.authenticated(false))))
                == ["a: at auth the client has authenticated"])
        #expect(
            unreachable(rule("a", at: .connect, Condition(.rate([try RateCondition("login > 1/hour")]))))
                == ["a: nobody has logged in at connect"])
        #expect(
            unreachable(rule("a", Condition(.recipients([Comparison(.less, 0)])))) == ["a: nothing is less than 0"])
        // A rule that never acts takes nothing from others.
        #expect(
            unreachable(
                rule("a", login, Condition(.authenticated(false)), does: .accept),
                rule("b", login, Condition(.authenticated(false), turnedRound: true))
            ).count == 1)
        #expect(unreachable(rule("a", login, Condition(.login(try texts("b*")), turnedRound: true))).isEmpty)
    }
}
