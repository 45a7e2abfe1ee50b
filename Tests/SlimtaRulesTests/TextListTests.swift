// Files with lists: what is an entry, what is a mistake, and that a list says the same as patterns in the rule would.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct TextListTests {
    private func read(_ content: String, _ kind: TextListKind = .texts) -> (list: TextSet, mistakes: [String]) {
        var mistakes: [(line: Int, error: RuleError)] = []
        let list = TextSet(content, kind, mistakes: &mistakes)
        return (list, mistakes.map { "\($0.line): found \($0.error.found), allowed is \($0.error.allowed)" })
    }

    @Test func lines() {
        let (list, mistakes) = read("\u{FEFF}a@b.example\r\n\n  # c@d\n\t B@C.Example \t\n#\na@B.EXAMPLE")
        #expect(mistakes == [] && list.count == 2)
        #expect(
            list.containsText("A@b.example") == true && list.containsText("b@c.example") == true
                && list.containsText("c@d") == false)
    }

    @Test func mistakes() {
        let (list, mistakes) = read("a@b\n/x/\n\n*@c\n@\na\u{1B}b\n@.\n@@x\n@*.x\n")
        #expect(list.count == 1)
        #expect(
            mistakes == [
                "2: found the expression \"/x/\", allowed is an expression in the rule itself: a list is looked up",
                "4: found the glob \"*@c\", allowed is a whole address, \"@domain\" or \"@.domain\": a list is looked up",
                "5: found \"@\", allowed is \"@example.com\" for a domain, \"@.example.com\" for all below it",
                "6: found \"a\\x1bb\", allowed is up to 1024 octets without control characters",
                "7: found \"@.\", allowed is \"@example.com\" for a domain, \"@.example.com\" for all below it",
                "8: found \"@@x\", allowed is \"@example.com\" for a domain, \"@.example.com\" for all below it",
                "9: found the glob \"@*.x\", allowed is a whole address, \"@domain\" or \"@.domain\": a list is looked up",
            ])
        #expect(
            read("192.0.2.1/24\nfoo\n192.0.2.1", .networks).mistakes == [
                "1: found \"192.0.2.1/24\", allowed is an address or a network such as 192.0.2.0/24",
                "2: found \"foo\", allowed is an address or a network such as 192.0.2.0/24",
            ])
    }

    @Test(arguments: [
        ("192.0.2.0/24", "192.0.2.255", true), ("192.0.2.0/24", "192.0.3.0", false), ("192.0.2.7", "192.0.2.7", true),
        ("0.0.0.0/0", "203.0.113.1", true), ("0.0.0.0/0", "::1", false), ("::/0", "2001:db8::1", true),
        ("2001:db8::/33", "2001:db8:7fff::1", true), ("2001:db8::/33", "2001:db8:8000::1", false),
        ("::/0", "192.0.2.1", false), ("2001:db8::1", "2001:db8::1", true), ("192.0.2.0/31", "192.0.2.2", false),
    ])
    func networks(_ network: String, _ address: String, _ expected: Bool) throws {
        let (list, mistakes) = read("198.51.100.0/30\n\(network)", .networks)
        let address = try #require(IPAddress(address))
        #expect(mistakes == [] && list.contains(address) == expected)
        #expect(EveryLength(list: list).contains(address) == expected)
    }

    /// Who is found is found; of others nobody knows whether they would be, and no rule acts on it either way.
    @Test func aListThatCannotBeRead() throws {
        let lists: [ListReference: any TextList] = [
            ListReference("/a", .texts): Damaged(list: read("a@b.example").list),
            ListReference("/n", .networks): Damaged(list: read("192.0.2.0/24", .networks).list),
        ]
        var facts = plainFacts()
        for isTurnedRound in [false, true] {
            let sender = Condition(.sender(.init([], file: "/a")), turnedRound: isTurnedRound)
            let client = Condition(.client([], file: "/n"), turnedRound: isTurnedRound)
            facts.sender = .mailbox(mailbox("a@b.example"))
            facts.client = endpoint("192.0.2.1")
            for condition in [sender, client] {
                #expect(condition.finding(facts, at: .mail, lists) == (isTurnedRound ? .fails : .holds))
            }
            facts.sender = .mailbox(mailbox("b@b.example"))
            facts.client = endpoint("192.0.3.1")
            for condition in [sender, client] { #expect(condition.finding(facts, at: .mail, lists) == .unknown) }
        }
    }

    /// A list is looked up, and says what the same texts in the rule say.
    @Test(arguments: [
        "a@b.example", "@b.example", "@.b.example", "mail.b.example", "\u{FC}@m\u{FC}nchen.example",
        "@M\u{DC}NCHEN.example", "<>", "alice", "@.example.",
    ])
    func likePatterns(_ entry: String) throws {
        let (list, mistakes) = read(entry)
        let pattern = try TextPattern(entry)
        #expect(mistakes == [])
        for text in [
            "a@b.example", "A@B.EXAMPLE", "b@b.example", "a@c.b.example", "a@d.c.b.example", "a@xb.example",
            "b.example",
            "mail.b.example", "mail.b.example.", "\u{FC}@xn--mnchen-3ya.example", "x@m\u{FC}nchen.example", "<>",
            "alice",
            "Alice", "", "a@b@b.example", "x.example",
        ] { #expect(list.containsText(text) == pattern.matches(text), "\(entry) \(text)") }
    }
}

/// A list of which half cannot be read any more.
private struct Damaged: TextList {
    let list: TextSet

    func contains(_ entry: String) -> Bool? { list.contains(entry) == true ? true : nil }
}

/// A list that does not say which lengths are in it.
private struct EveryLength: TextList {
    let list: TextSet

    func contains(_ entry: String) -> Bool? { list.contains(entry) }
}
