// As whom a login may send: every kind of entry against every form of address, with every setting; and the tables that
// add to what a back end says.

import Testing

@testable import SlimtaMail

private func mailbox(_ text: String) -> Mailbox { Mailbox(parsing: text)! }

@Suite struct SenderPatternTests {
    static let entries = [
        "*", "@example.com", "@.example.com", "alice@example.com", "Alice@Example.COM", "\"alice\"@example.com",
        "\"a b\"@example.com", "alice+list@example.com", "@b\u{FC}cher.example", "@xn--bcher-kva.example",
        "j\u{F6}rg@example.com", "jo\u{308}rg@example.com", "@[192.0.2.1]", "alice@[192.0.2.1]",
    ]

    /// Each address that is sent, and the entries of ``entries`` that stand for it: as they are, with case folded, with "+"
    /// as separator, with both. What the first says holds for the others too.
    struct Row: CustomTestStringConvertible {
        let sent: String
        let plain: Set<Int>
        var folded: Set<Int> = []
        var extended: Set<Int> = []
        var both: Set<Int> = []
        var testDescription: String { sent }
    }

    static let table = [
        Row(sent: "alice@example.com", plain: [0, 1, 3, 5], folded: [4]),
        Row(sent: "alice@EXAMPLE.com", plain: [0, 1, 3, 5], folded: [4]),
        Row(sent: "ALICE@example.com", plain: [0, 1], folded: [3, 4, 5]),
        Row(sent: "Alice@example.com", plain: [0, 1, 4], folded: [3, 5]),
        Row(sent: "\"alice\"@example.com", plain: [0, 1, 3, 5], folded: [4]),
        Row(sent: "\"al\\ice\"@example.com", plain: [0, 1, 3, 5], folded: [4]),
        Row(sent: "\"a b\"@example.com", plain: [0, 1, 6]),
        Row(sent: "\"A b\"@example.com", plain: [0, 1], folded: [6]),
        Row(sent: "\"a b+x\"@example.com", plain: [0, 1], extended: [6]),
        Row(sent: "alice+list@example.com", plain: [0, 1, 7], extended: [3, 5], both: [4]),
        Row(sent: "alice+list+x@example.com", plain: [0, 1], extended: [3, 5], both: [4]),
        Row(sent: "alice+other@example.com", plain: [0, 1], extended: [3, 5], both: [4]),
        Row(sent: "alice+@example.com", plain: [0, 1], extended: [3, 5], both: [4]),
        Row(sent: "\"alice+x\"@example.com", plain: [0, 1], extended: [3, 5], both: [4]),
        Row(sent: "ALICE+LIST@example.com", plain: [0, 1], folded: [7], both: [3, 4, 5]),
        Row(sent: "+alice@example.com", plain: [0, 1]), Row(sent: "alice-x@example.com", plain: [0, 1]),
        Row(sent: "alicex@example.com", plain: [0, 1]), Row(sent: "alic@example.com", plain: [0, 1]),
        Row(sent: "bob@example.com", plain: [0, 1]), Row(sent: "alice@mail.example.com", plain: [0, 2]),
        Row(sent: "bob@a.b.Example.com", plain: [0, 2]), Row(sent: "alice@evilexample.com", plain: [0]),
        Row(sent: "alice@example.com.evil", plain: [0]), Row(sent: "alice@com", plain: [0]),
        Row(sent: "\"alice@example.com\"@evil.example", plain: [0]),
        Row(sent: "x@b\u{FC}cher.example", plain: [0, 8, 9]), Row(sent: "x@B\u{DC}CHER.example", plain: [0, 8, 9]),
        Row(sent: "x@bu\u{308}cher.example", plain: [0, 8, 9]), Row(sent: "x@XN--bcher-kva.example", plain: [0, 8, 9]),
        Row(sent: "x@bucher.example", plain: [0]), Row(sent: "j\u{F6}rg@example.com", plain: [0, 1, 10, 11]),
        Row(sent: "jo\u{308}rg@example.com", plain: [0, 1, 10, 11]),
        Row(sent: "J\u{D6}RG@example.com", plain: [0, 1], folded: [10, 11]),
        Row(sent: "jorg@example.com", plain: [0, 1]), Row(sent: "alice@[192.0.2.1]", plain: [0, 12, 13]),
        Row(sent: "alice@[192.0.2.2]", plain: [0]),
    ]

    @Test(arguments: table)
    func whomEntriesStandFor(row: Row) throws {
        for (foldsCase, separators) in [(false, ""), (true, ""), (false, "+"), (true, "+"), (true, "-+")] {
            var expected = row.plain
            if foldsCase { expected.formUnion(row.folded) }
            if !separators.isEmpty { expected.formUnion(row.extended) }
            if foldsCase, !separators.isEmpty { expected.formUnion(row.both) }
            if separators.contains("-"), row.sent == "alice-x@example.com" { expected.formUnion([3, 4, 5]) }
            var matching = SenderMatching()
            (matching.foldsCase, matching.separators) = (foldsCase, separators)
            let found = Self.entries.indices.filter {
                SenderRights([Self.entries[$0]]).allow(mailbox(row.sent), matching)
            }
            #expect(Set(found) == expected, "fold \(foldsCase), extension \(separators)")
        }
    }

    /// A list is the union of its entries, in any order; without any it stands for nobody.
    @Test(arguments: table)
    func listsAreUnions(row: Row) {
        let matching = SenderMatching()
        let others = Self.entries.dropFirst()
        let allowed = row.plain.union(row.folded).subtracting([0])
        #expect(SenderRights(Array(others)).allow(mailbox(row.sent), matching) == !allowed.isEmpty)
        #expect(SenderRights(others.reversed() + ["*"]).allow(mailbox(row.sent), matching))
        #expect(!SenderRights([]).allow(mailbox(row.sent), matching))
        #expect(!SenderRights(["", "no entry"]).allow(mailbox(row.sent), matching))
    }

    @Test(arguments: [
        "", "@", "@.", "@..example.com", "@-x.example", "alice", "alice@", "@[192.0.2.1", "@.[192.0.2.1]", "**",
        "a b@example.com", "alice@example.com,bob@example.com", "<alice@example.com>", "@example.com.",
        "alice@\u{202E}x.test",
        "@exa\u{0}mple.com", "*.example.com",
    ])
    func whatIsNoEntry(text: String) { #expect(SenderPattern(text) == nil) }

    /// Extensions of these rights alone.
    @Test func ownSeparators() {
        let rights = SenderRights(["alice@x.test"], separators: "+")
        #expect(rights.allow(mailbox("alice+a@x.test"), SenderMatching()))
        #expect(!rights.allow(mailbox("alice-a@x.test"), SenderMatching()))
        var matching = SenderMatching()
        matching.separators = "-"
        #expect(rights.allow(mailbox("alice-a@x.test"), matching) && rights.allow(mailbox("alice+a@x.test"), matching))
    }
}

@Suite struct SenderRulesTests {
    private static func table(
        _ logins: [String], _ mailFrom: [String], _ from: [String], isLocal: Bool = false
    ) -> SenderRules.Table {
        SenderRules.Table(
            logins: logins.map { Glob($0) }, isLocal: isLocal, mailFrom: mailFrom.compactMap { SenderPattern($0) },
            from: from.compactMap { SenderPattern($0) })
    }

    private static var rules: SenderRules {
        var rules = SenderRules()
        rules.checksFrom = true
        rules.tables = [
            table(["alice", "b?b"], ["@bounces.test"], ["team@x.test"]), table(["*@y.test"], ["@y.test"], ["@y.test"]),
            table(["a*"], [], ["info@x.test"]), table(["dave"], ["*"], []), table(["erin"], [], []),
            table(["*"], ["*"], ["*"], isLocal: true),
        ]
        return rules
    }

    /// What the tables say of a login; nil: none is about it.
    static let logins: [(login: String, mailFrom: String?, from: String?)] = [
        ("alice", "@bounces.test", "team@x.test,info@x.test"), ("bob", "@bounces.test", "team@x.test"),
        ("Alice", nil, nil), ("adam", "", "info@x.test"), ("x@y.test", "@y.test", "@y.test"), ("carol", nil, nil),
        ("dave", "*", ""), ("boob", nil, nil), ("erin", "", ""),
    ]

    @Test(arguments: logins)
    func tablesAddUp(login: String, mailFrom: String?, from: String?) {
        // By its own list: nothing, nobody, or an address.
        for own in [nil, SenderRights([]), SenderRights(["own@x.test"])] {
            for (added, found) in [
                (mailFrom, Self.rules.mailFrom(of: login, own)), (from, Self.rules.header(of: login, own)?.rights),
            ] {
                let said =
                    (own?.patterns.map(\.description) ?? []) + (added ?? "").split(separator: ",").map(String.init)
                // One side without entries is not open because the other has some.
                let expected = own == nil && added == nil ? nil : said
                #expect(found.map { $0.patterns.map(\.description) } == expected, "\(login)")
            }
            #expect(Self.rules.isUnbound(login, own) == (own == nil && mailFrom == nil))
        }
    }

    /// A user of this machine has nothing of a mail login's with the same name, and the other way about.
    @Test(arguments: logins)
    func usersOfThisMachine(login: String, mailFrom: String?, from: String?) {
        let own = SenderRights(["own@x.test"])
        for found in [
            Self.rules.mailFrom(of: login, own, isLocal: true),
            Self.rules.header(of: login, own, isLocal: true)?.rights,
        ] {
            #expect(found.map { $0.patterns.map(\.description) } == ["own@x.test", "*"])
        }
        var rules = Self.rules
        rules.tables.removeLast()
        #expect(rules.mailFrom(of: login, own, isLocal: true) == own)
        #expect(rules.header(of: login, own, isLocal: true)?.rights == own)
    }

    @Test func whatIsNotChecked() {
        var rules = Self.rules
        (rules.checksMailFrom, rules.checksFrom) = (false, false)
        #expect(rules.mailFrom(of: "alice", nil) == nil && rules.header(of: "alice", nil) == nil)
        rules.addsSender = true
        #expect(rules.header(of: "alice", nil) != nil)
    }

    /// Nobody has asked for UTF-8 before MAIL says so.
    @Test func refusals() {
        let sender = mailbox("\u{E9}@b\u{FC}cher.example")
        let reply = Reply(553, sender: sender, notOf: "j\u{F6}rg\u{1B}", allowsUTF8: false)
        #expect(
            reply.description
                == "553 5.7.1 <\\u00e9@b\\u00fccher.example> is not a sender that login j\\u00f6rg\\x1b may use")
        let other = Reply(550, sender: sender, in: " in From", notOf: "u", allowsUTF8: true)
        #expect(other.text == "<\u{E9}@b\u{FC}cher.example> in From is not a sender that login u may use")
        let long = Reply(553, sender: mailbox("a@x"), notOf: String(repeating: "l", count: 255), allowsUTF8: false)
        #expect(long.text.utf8.count < 200)
    }
}
