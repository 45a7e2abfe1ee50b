// Who mail is forwarded to: patterns, groups, chains and circles, and what is refused.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct ForwardRulesTests {
    private func rules(_ tables: [(String, [String])]) throws -> ForwardRules {
        ForwardRules(try tables.map { try ForwardRule($0.0, to: $0.1) })
    }

    private func shown(_ result: ForwardRules.Result) -> String {
        switch result {
        case .unchanged: "unchanged"
        case .to(let mailboxes): mailboxes.map(\.text).joined(separator: " ")
        case .refused(let reply, let rule): "\(reply) by \(rule)"
        }
    }

    @Test(arguments: [
        ("a@old.test", "b@new.test"), ("A@OLD.test", "b@new.test"), ("\"a\"@old.test", "b@new.test"),
        ("c@old.test", "c@new.test"), ("C.D@x.old.test", "C.D@below.test"), ("x@y.x.old.test", "x@below.test"),
        ("ian@example.com", "ian.one@example.org ian.two@example.org"), ("xian@example.com", "unchanged"),
        ("ian@example.comx", "unchanged"), ("a.b+c@plus.test", "c@a.b.test"),
        ("\"two words\"@old.test", "\"two words\"@new.test"),
        ("\"a b\"@quoted.test", "\"x a b\"@new.test"), ("m@b\u{FC}cher.test", "books@new.test"),
        ("m@xn--bcher-kva.test", "books@new.test"), ("dollar@cost.test", "5$x@new.test"),
        ("M\u{DC}LL@old.de", "waste@new.test"),
    ])
    func patterns(_ recipient: String, _ wanted: String) throws {
        let rules = try rules([
            ("a@old.test", ["b@new.test"]), ("@old.test", ["@new.test"]), ("@.old.test", ["@below.test"]),
            ("m\u{FC}ll@old.de", ["waste@new.test"]),
            ("/(ian|icg)@example.com/", ["$1.one@example.org", "$1.two@example.org"]),
            ("/([^+]+)\\+(.*)@plus\\.test/", ["$2@$1.test"]), ("/(.*)@quoted.test/", ["\"x $1\"@new.test"]),
            ("/.*@b\u{FC}cher.test/", ["books@new.test"]), ("/dollar@cost.test/", ["5$$x@new.test"]),
        ])
        #expect(shown(rules.result(for: try #require(Mailbox(parsing: recipient)))) == wanted)
    }

    /// What a group that took no part puts in its place is nothing, be it before, between or behind those that did.
    @Test(arguments: [
        ("/(x)?(a)@x.test/", "$1-$2@y.test", "-a@y.test"), ("/(a)(x)?@x.test/", "$1-$2@y.test", "a-@y.test"),
        ("/(?:(b)|(a)|(c))@x.test/", "$1$2$3@y.test", "a@y.test"), ("/(@)*.*x.test/", "x$1@y.test", "x@y.test"),
        ("/(x)?a@x.test/", "$1@y.test", "\"\"@y.test"),
    ])
    func groupsThatTakeNoPart(_ expression: String, _ target: String, _ wanted: String) throws {
        let rules = try rules([(expression, [target])])
        #expect(shown(rules.result(for: try #require(Mailbox(parsing: "a@x.test")))) == wanted)
    }

    @Test func chainsAndCircles() throws {
        let rules = try rules([
            ("a@x.test", ["b@x.test", "c@x.test"]), ("b@x.test", ["d@x.test", "c@X.TEST"]),
            // A copy for oneself, and two that lead to each other.
            ("keep@x.test", ["keep@x.test", "copy@x.test"]), ("one@x.test", ["two@x.test"]),
            ("two@x.test", ["one@x.test"]),
            ("/(.*)@grow.test/", ["x$1@grow.test"]),
        ])
        for (recipient, wanted) in [
            ("a@x.test", "d@x.test c@X.TEST"), ("keep@x.test", "keep@x.test copy@x.test"), ("one@x.test", "one@x.test"),
            ("z@x.test", "unchanged"),
        ] {
            #expect(shown(rules.result(for: try #require(Mailbox(parsing: recipient)))) == wanted)
        }
        // Ways that part and meet again, twenty times: each is gone once.
        let diamonds = try self.rules(
            (0..<19).flatMap {
                [("a\($0)@x.test", ["a\($0 + 1)@x.test", "b\($0)@x.test"]), ("b\($0)@x.test", ["a\($0 + 1)@x.test"])]
            })
        #expect(shown(diamonds.result(for: try #require(Mailbox(parsing: "a0@x.test")))) == "a19@x.test")
        guard case .refused(let reply, _) = rules.result(for: try #require(Mailbox(parsing: "a@grow.test"))) else {
            return #expect(Bool(false), "it grows for ever")
        }
        #expect(reply.status == EnhancedStatus(5, 4, 6))
    }

    @Test func refusals() throws {
        let rules = ForwardRules([
            try ForwardRule("left@x.test", reject: "550 5.1.6 {recipient} has left"),
            try ForwardRule("@x.test", to: ["left@x.test"]), try ForwardRule("/(a+)+@slow.test/", to: ["b@x.test"]),
            try ForwardRule("/.*@bad.test/", to: ["$0@y.test"]),
        ])
        #expect(rules.canRefuse && !rules.isEmpty)
        for recipient in ["left@x.test", "other@x.test"] {
            let result = rules.result(for: try #require(Mailbox(parsing: recipient)))
            #expect(shown(result) == "550 5.1.6 left@x.test has left by left@x.test")
        }
        let slow = Mailbox(localPart: String(repeating: "a", count: 60) + "!", domain: "slow.test")
        guard case .refused(let reply, _) = rules.result(for: slow) else { return #expect(Bool(false)) }
        #expect(reply.code == 451 && reply.status == EnhancedStatus(4, 3, 5))
        #expect(try !self.rules([("a@x.test", ["b@x.test"])]).canRefuse)
    }

    @Test(arguments: [
        ("a", ["b@x.test"]), ("", ["b@x.test"]), ("@", ["b@x.test"]), ("/(/", ["b@x.test"]), ("a@x.test", ["b"]),
        ("a@x.test", ["b@"]), ("a@x.test", [""]), ("/a@(x)/", ["$2@x.test"]), ("/a@(x)/", ["$@x.test"]),
        ("a@x.test", ["b c@x.test"]),
    ])
    func mistakes(_ recipient: String, _ targets: [String]) {
        #expect(throws: RuleError.self) { try ForwardRule(recipient, to: targets) }
    }

    @Test func repliesHaveOnePlaceholder() {
        for reply in ["no code", "250 fine", "550 5.1.1 {sender}", "550 5.1.1 {client} {recipient}"] {
            #expect(throws: RuleError.self) { try ForwardRule("a@x.test", reject: reply) }
        }
    }

    @Test func whatIsNeverAsked() throws {
        let rules = try rules([
            ("@.x.test", ["a@b.test"]), ("@y.x.test", ["a@b.test"]), ("a@y.x.test", ["a@b.test"]),
            ("@x.test", ["a@b.test"]), ("/a/", ["a@b.test"]), ("/a/", ["a@b.test"]),
        ])
        #expect(rules.unreachable.map { [$0.rule, $0.hiddenBy] } == [[1, 0], [2, 0], [5, 4]])
    }
}
