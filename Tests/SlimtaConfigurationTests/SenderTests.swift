// [sender_check] and [[senders]]: what they say, what is wrong with them, what of them does nothing.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

@Suite struct SenderTests {
    private let login = """
        [[edge]]
        name = "in"
        type = "smtp"
        listen = ["127.0.0.1:2525"]
        tls = "none"
        plaintext_auth = true
        # seven lines

        """

    @Test func everyKey() throws {
        #expect(try Configuration.parse(login, file: "f").senders == SenderRules())
        let found = try Configuration.parse(
            login + """
                [sender_check]
                mail_from = false
                from = true
                missing_from = "refuse"
                add_sender = true
                allow_resent = true
                extension = "+-"
                fold_case = false
                [[senders]]
                logins = ["alice", "b?b*"]
                mail_from = ["a@x.test", "@x.test", "@.x.test", "*"]
                [[senders]]
                logins = "carol"
                mail_from = "c@x.test"
                from = []
                [[senders]]
                logins = ["*"]
                local = true
                from = ["info@b\u{FC}cher.example"]
                """, file: "f"
        ).senders
        var expected = SenderRules()
        (expected.checksMailFrom, expected.checksFrom, expected.missingFrom) = (false, true, .refuse)
        (expected.addsSender, expected.allowsResent) = (true, true)
        (expected.matching.separators, expected.matching.foldsCase) = ("+-", false)
        let all = ["a@x.test", "@x.test", "@.x.test", "*"].compactMap { SenderPattern($0) }
        expected.tables = [
            .init(logins: [Glob("alice"), Glob("b?b*")], mailFrom: all, from: all),
            .init(logins: [Glob("carol")], mailFrom: [try #require(SenderPattern("c@x.test"))], from: []),
            .init(
                logins: [Glob("*")], isLocal: true, mailFrom: [],
                from: [try #require(SenderPattern("info@b\u{FC}cher.example"))]),
        ]
        #expect(found == expected)
    }

    private static let entries = "allowed is an address, @domain, @.domain for all below it, or *"

    @Test(arguments: [
        Case(
            "[sender_check]\nmail_form = true",
            """
            9: sender_check.mail_form: unknown key; allowed in sender_check are add_sender, allow_resent, extension, \
            fold_case, from, mail_from, missing_from; did you mean "mail_from"?
            """),
        Case("[sender_check]\nfrom = \"yes\"", "9: sender_check.from: found \"yes\"; allowed is true, false"),
        Case(
            "[sender_check]\nmissing_from = \"ad\"",
            "9: sender_check.missing_from: found \"ad\"; allowed is \"add\", \"refuse\"; did you mean \"add\"?"),
        Case(
            "[sender_check]\nextension = \"a\"",
            "9: sender_check.extension: found \"a\"; allowed is characters such as \"+\", or \"\" for none; no letters, digits or dots"
        ),
        Case("[sender_check]\nextension = \"@\"", "9: sender_check.extension: found \"@\"; "),
        Case(
            "[[sender_check]]\nfrom = true",
            "8: sender_check: found a list of tables; allowed is one table, [sender_check]"),
        Case(
            "[[senders]]\nmail_from = [\"*\"]",
            "8: senders[0].logins: missing; required is a list of logins, such as [\"alice\", \"*@example.com\"]"),
        Case(
            "[[senders]]\nlogins = [\"a\"]",
            "8: senders[0].mail_from: missing; required is mail_from or from, a list of addresses"),
        Case(
            "[[senders]]\nlogins = []\nfrom = \"*\"",
            "9: senders[0].logins: found an empty list; allowed is a list of logins, at least one"),
        Case(
            "[[senders]]\nlogins = [\"\"]\nfrom = \"*\"",
            "9: senders[0].logins[0]: found \"\"; allowed is a login, or a glob such as \"*@example.com\""),
        Case(
            "[[senders]]\nlogins = [\"a\"]\nmail_from = [\"example.com\", \"*@example.com\", \"*@*.example.com\", 5]",
            "10: senders[0].mail_from[0]: found \"example.com\"; \(entries)",
            "10: senders[0].mail_from[1]: found \"*@example.com\"; \(entries); did you mean \"@example.com\"?",
            "10: senders[0].mail_from[2]: found \"*@*.example.com\"; \(entries); did you mean \"@.example.com\"?",
            "10: senders[0].mail_from[3]: found the number 5; \(entries)"),
        Case(
            "[senders]\nlogins = [\"a\"]", "8: senders: found a table; allowed is a table [[senders]] for each senders"),
        Case(
            "[[senders]]\nlogin = [\"a\"]\nlogins = \"a\"\nfrom = \"*\"",
            "9: senders[0].login: unknown key; allowed in senders[0] are from, local, logins, mail_from; did you mean \"logins\"?"
        ),
    ])
    func mistake(found: Case) {
        let errors = mistakes(login + found.text)
        #expect(errors.count == found.errors.count, "\(errors)")
        for (error, beginning) in zip(errors, found.errors) { #expect(error.hasPrefix(beginning), "\(error)") }
    }

    /// Every setting with every table: what does nothing is told, and nothing else.
    @Test func whatDoesNothing() throws {
        let tables = [
            "mail_from = \"@x.test\"", "from = \"@x.test\"", "mail_from = \"@x.test\"\nfrom = []", "from = []",
        ]
        for (mailFrom, from, adds, resent, missing) in [false, true].flatMap({ a in
            [false, true].flatMap { b in
                [false, true].flatMap { c in
                    [false, true].flatMap { d in ["add", "refuse"].map { (a, b, c, d, $0) } }
                }
            }
        }) {
            for table in tables {
                let text = """
                    [sender_check]
                    mail_from = \(mailFrom)
                    from = \(from)
                    add_sender = \(adds)
                    allow_resent = \(resent)
                    missing_from = "\(missing)"
                    [[senders]]
                    logins = ["a"]
                    \(table)
                    """
                let found = try Configuration.parse(login + text, file: "f").warnings.map(\.keyPath)
                var expected: [String] = []
                if !from, missing == "refuse" { expected.append("sender_check.missing_from") }
                if !from, resent, !adds { expected.append("sender_check.allow_resent") }
                // An empty list says something too: who has none of its own may send as nobody.
                if !mailFrom, !from, !adds { expected.append("senders[0]") }
                #expect(found == expected, "\(text)")
            }
        }
        // Where no addresses are compared, how does not matter; and without logins nothing does.
        for (line, key) in [
            ("fold_case = false", ".fold_case"), ("extension = \"+\"", ".extension"), ("from = true", ""),
            ("mail_from = false", ""), ("add_sender = true", ""),
        ] {
            let text = "\n[sender_check]\n\(line)\n"
            #expect(try Configuration.parse(login + text, file: "f").warnings.isEmpty)
            #expect(try Configuration.parse(edge + text, file: "f").warnings.map(\.keyPath) == ["sender_check"])
            guard !key.isEmpty else { continue }
            let warnings = try Configuration.parse(login + text + "mail_from = false", file: "f").warnings
            #expect(warnings.map(\.keyPath) == ["sender_check" + key])
        }
        #expect(try Configuration.parse(edge + "[sender_check]\nmail_from = true", file: "f").warnings.isEmpty)
        let table = "[[senders]]\nlogins = \"a\"\nmail_from = \"*\"\n"
        let none = "it is never asked: no edge has "
        let sendmail = "[[edge]]\nname = \"s\"\ntype = \"sendmail\"\nlisten = [\"unix:/run/s\"]\n"
        for (edges, isLocal, lack) in [
            (edge, false, "AUTH; users of this machine need local = true"), (edge, true, "users of this machine"),
            (login, false, nil), (login, true, "users of this machine"),
            (sendmail, false, "AUTH; users of this machine need local = true"), (sendmail, true, nil),
        ] as [(String, Bool, String?)] {
            let warnings = try Configuration.parse(edges + "\n" + table + "local = \(isLocal)", file: "f").warnings
            #expect(warnings.filter { $0.keyPath == "senders[0]" }.map(\.text) == (lack.map { [none + $0] } ?? []))
        }
    }
}
