// The tables of the gate as they should not be: [[policy_service]], [spf], [[dnsbl]], [[rule]].

import Testing

@testable import SlimtaConfiguration

@Suite struct GateMistakeTests {
    /// Appended to a sound edge of seven lines: the first line here is line 8.
    @Test(arguments: [
        // policy services
        Case(
            "[[policy_service]]\nat = \"rctp\"\nto = \"policy.example:10040\"\ntimeout = \"2m\"\non_failure = \"reject\"\ncontext = \"a\\nb\"\nat_ = 1",
            """
            9: policy_service[0].at: found "rctp"; allowed is "connect", "ehlo", "mail", "rcpt", "data", "message"; did \
            you mean "rcpt"?
            """,
            """
            10: policy_service[0].to: found "policy.example:10040"; allowed is "address:port", "[v6]:port", \
            "localhost:port" or "unix:/path"
            """,
            """
            11: policy_service[0].timeout: found "2m"; allowed is a duration such as "30s", "5m", "4h", "5d", from 1s to 1m
            """,
            "12: policy_service[0].on_failure: found \"reject\"; allowed is \"accept\", \"tempfail\"",
            """
            13: policy_service[0].context: found "a\\nb"; allowed is up to 512 characters without control characters
            """,
            """
            14: policy_service[0].at_: unknown key; allowed in policy_service[0] are at, context, name, on_failure, \
            timeout, to; did you mean "at"?
            """),
        Case(
            "[[policy_service]]\nname = \"a b\"",
            """
            8: policy_service[0].to: missing; required is where it listens, such as "127.0.0.1:10040" or "unix:/path"
            """,
            "8: policy_service[0].at: missing; required is the stages at which it is asked, such as \"rcpt\"",
            """
            9: policy_service[0].name: found "a b"; allowed is up to 64 letters, digits and any of "-_."
            """),
        Case(
            "[[policy_service]]\nat = [\"rcpt\", \"auth\"]\nto = \"unix:/s\"\n[[policy_service]]\nat = []\nto = \"unix:/s\"",
            """
            9: policy_service[0].at[1]: found "auth"; the protocol has no word for that stage; allowed is "connect", \
            "ehlo", "mail", "rcpt", "data", "message"
            """,
            """
            11: policy_service[1].name: missing; required is a name of its own: policy_service[0] is asked at unix:/s too
            """,
            "12: policy_service[1].at: found an empty list; allowed is a list of stages, at least one"),
        Case(
            "[[policy_service]]\nname = \"p\"\nat = \"rcpt\"\nto = \"[::]:10040\"\n[[policy_service]]\nname = \"p\"\nat = \"rcpt\"\nto = \"systemd:x\"",
            """
            11: policy_service[0].to: found "[::]:10040"; allowed is "address:port", "[v6]:port", "localhost:port" or \
            "unix:/path"
            """,
            "13: policy_service[1].name: found \"p\", which policy_service[0] has; allowed is a name of its own",
            """
            15: policy_service[1].to: found "systemd:x"; allowed is "address:port", "[v6]:port", "localhost:port" or \
            "unix:/path"
            """),

        // SPF
        Case(
            "[spf]\nfial = { code = 550 }\nfail = 550\nauthenticated = 1\nreceived_spf = \"yes\"\ntimeout = \"20\"",
            """
            9: spf.fial: unknown key; allowed in spf are authenticated, fail, neutral, none, pass, permerror, \
            received_spf, softfail, temperror, timeout; did you mean "fail"?
            """,
            """
            10: spf.fail: found the number 550; allowed is { code = 550, message = "5.7.1 Access denied: {reason}" }
            """,
            "11: spf.authenticated: found the number 1; allowed is true, false",
            "12: spf.received_spf: found \"yes\"; allowed is true, false",
            """
            13: spf.timeout: found "20"; allowed is a duration such as "30s", "5m", "4h", "5d", from 1s to 2m
            """),
        Case(
            "[spf]\nfail = { code = 250, message = \"x\" }\n[spf.softfail]\nmessage = \"x\"\n[spf.none]\ncode = 450\ntext = \"x\"",
            "9: spf.fail.code: found the number 250; allowed is a number from 400 to 599",
            "10: spf.softfail.code: missing; required is a number from 400 to 599",
            """
            12: spf.none.message: missing; required is a text such as "5.7.1 Access denied: {reason}"
            """,
            "14: spf.none.text: unknown key; allowed in spf.none are code, message"),
        Case("[[spf]]\nfail = 1", "8: spf: found a list of tables; allowed is one table, [spf]"),

        // lists
        Case(
            "[[dnsbl]]\nzone = \"a b\"\nof = \"sendr\"\nanswers = [\"127.0.0.2\", \"10.0.0.1\", \"127.255.255.254\", \"127.0.0.3-2\"]\ntimeout = \"1m\"",
            "8: dnsbl[0].name: missing; required is the name by which rules call it",
            "9: dnsbl[0].zone: found \"a b\"; allowed is a domain name such as \"zen.spamhaus.org\"",
            """
            10: dnsbl[0].of: found "sendr"; allowed is "client", "sender", "ehlo"; did you mean "sender"?
            """,
            """
            11: dnsbl[0].answers[1]: found "10.0.0.1"; allowed is "127.0.0.2", "127.0.0.4-127.0.0.7" or "127.0.1.0/24", \
            all within 127.0.0.0/8
            """,
            """
            11: dnsbl[0].answers[2]: found "127.255.255.254"; in 127.255.255.0/24 lists say why they refuse to answer; \
            allowed is "127.0.0.2", "127.0.0.4-127.0.0.7" or "127.0.1.0/24", all within 127.0.0.0/8
            """,
            """
            11: dnsbl[0].answers[3]: found "127.0.0.3-2"; allowed is "127.0.0.2", "127.0.0.4-127.0.0.7" or \
            "127.0.1.0/24", all within 127.0.0.0/8
            """,
            """
            12: dnsbl[0].timeout: found "1m"; allowed is a duration such as "30s", "5m", "4h", "5d", from 1s to 30s
            """),
        Case(
            "[[dnsbl]]\nname = \"zen\"\n[[dnsbl]]\nname = \"zen\"\nzone = \"zen.spamhaus.org\"\nzone_file = \"/z\"\n[[dnsbl]]\nname = \"x\"\nzone_file = \"z\"\nanswer = 1",
            """
            8: dnsbl[0].zone: missing; required is the list's domain name, or zone_file if that has a key of yours in it
            """,
            "11: dnsbl[1].name: found \"zen\", which dnsbl[0] has; allowed is a name of its own",
            "13: dnsbl[1].zone_file: found with zone; allowed is one of them",
            """
            16: dnsbl[2].zone_file: found "z"; allowed is an absolute path, or "credential:NAME" for a systemd credential
            """,
            """
            17: dnsbl[2].answer: unknown key; allowed in dnsbl[2] are answers, authenticated, name, of, timeout, zone, \
            zone_file; did you mean "answers"?
            """),

        // rules: what they are
        Case(
            "[[rule]]",
            "8: rule[0].name: missing; required is a name for the log, such as \"no partner before noon\"",
            "8: rule[0].at: missing; required is the stage at which it is evaluated, such as \"rcpt\"",
            """
            8: rule[0].action: missing; required is what the rule does: reply, add_field, delay, or action = "accept", \
            "close", "hold", "log"
            """),
        Case(
            "[[rule]]\nname = \"a\"\nat = \"helo\"\naction = \"reject\"\n[[rule]]\nname = \"a\"\nat = \"mail\"\naction = \"hold\"\nsneder = \"a\"\nnot = { clinet = \"192.0.2.1\" }",
            """
            10: rule[0].at: found "helo"; allowed is "connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", \
            "message"; did you mean "ehlo"?
            """,
            "11: rule[0].action: found \"reject\"; allowed is \"accept\", \"close\", \"hold\", \"log\"",
            "13: rule[1].name: found \"a\", which rule[0] has; allowed is a name of its own",
            """
            16: rule[1].sneder: unknown key; allowed in rule[1] are action, add_field, at, attachment, attachment_type, authenticated, client, \
            client_certificate, client_file, delay, dnsbl, early_talker, edge, ehlo, ehlo_file, header, header_size, hours, login, \
            login_file, name, nesting, not, parts, proxy_tls, ptr, ptr_file, rate, recipient, recipient_file, recipients, reply, sender, sender_file, \
            size, spf, tls, weekdays; did you mean "sender"?
            """,
            """
            17: rule[1].not.clinet: unknown key; allowed in rule[1].not are attachment, attachment_type, authenticated, client, client_certificate, \
            client_file, dnsbl, early_talker, edge, ehlo, ehlo_file, header, header_size, hours, login, login_file, nesting, \
            parts, proxy_tls, ptr, ptr_file, rate, \
            recipient, recipient_file, recipients, sender, sender_file, size, spf, tls, weekdays; did you mean "client"?
            """),
        Case(
            "[[rule]]\nname = \" a\"\nat = \"mail\"\naction = \"hold\"\ndelay = \"5m\"\nnot = {}",
            "9: rule[0].name: found \" a\"; allowed is a name of up to 64 visible characters",
            """
            12: rule[0].delay: found "5m"; allowed is a duration such as "30s", "5m", "4h", "5d", from 1s to 2m
            """,
            "12: rule[0].delay: found with action; allowed is one action in a rule",
            "13: rule[0].not: found without a condition; allowed are conditions in it"),

        // what they do
        Case(
            "[[rule]]\nname = \"a\"\nat = \"starttls\"\naction = \"hold\"\n[[rule]]\nname = \"b\"\nat = \"starttls\"\nadd_field = \"X-A: b\"\n[[rule]]\nname = \"c\"\nat = \"mail\"\nreply = \"554 5.7.1 {recipient} no\"\n[[rule]]\nname = \"d\"\nat = \"rcpt\"\nreply = \"250 ok\"\n[[rule]]\nname = \"e\"\nat = \"rcpt\"\nadd_field = \"X A\"\n[[rule]]\nname = \"f\"\nat = \"rcpt\"\nreply = \"550 {user}\"",
            "11: rule[0].action: found hold at starttls, behind which it would be forgotten; allowed is it at any other stage",
            "15: rule[1].add_field: found add_field at starttls, behind which it would be forgotten; allowed is it at any other stage",
            "19: rule[2].reply: found {recipient} at mail, where it is not known; allowed is it from rcpt on",
            "23: rule[3].reply: found code 250; allowed is a code from 400 to 599",
            "27: rule[4].add_field: found \"X A\"; allowed is a field such as \"X-Gate: {rule}\"",
            "31: rule[5].reply: found \"{user}\"; allowed is no braces but those of {client}"),

        // conditions
        Case(
            "[[rule]]\nname = \"a\"\nat = \"message\"\naction = \"log\"\nclient = \"192.0.2.1/24\"\nsender = [\"/(/\", 5, \"@\"]\nsender_file = \"senders\"\ntls = 1.2\nclient_certificate = [false, \"sha256:12\"]\nauthenticated = \"yes\"\nrecipients = 100\nsize = \"> 1 TB\"\nspf = \"soft\"\ndnsbl = \"zen\"\nheader = \"Subject\"\nhours = \"8-18\"\nweekdays = \"monday\"\nrate = \"user > 1/hour\"\nearly_talker = 1\nedge = []",
            """
            12: rule[0].client: found "192.0.2.1/24"; allowed is a network such as "192.0.2.0/24", "2001:db8::/32", or an \
            address; did you mean "192.0.2.0/24"?
            """,
            "13: rule[0].sender[0]: found ",
            "13: rule[0].sender[1]: found the number 5; allowed is a text, a glob such as",
            "13: rule[0].sender[2]: found \"@\"; allowed is \"@example.com\" for a domain, \"@.example.com\" for all below it",
            "14: rule[0].sender_file: found \"senders\"; allowed is an absolute path",
            "15: rule[0].tls: found the number 1.2; allowed is true, false, a version such as",
            "16: rule[0].client_certificate[0]: found false; allowed is true, a name that has to be in it, or \"sha256:\"",
            "16: rule[0].client_certificate[1]: found \"sha256:12\"; allowed is \"sha256:\" and 64 hexadecimal digits",
            "17: rule[0].authenticated: found \"yes\"; allowed is true, false",
            "18: rule[0].recipients: found the number 100; allowed is a comparison such as \"> 100\"",
            "19: rule[0].size: found \"> 1 TB\"; allowed is a comparison such as",
            """
            20: rule[0].spf: found "soft"; allowed is "none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"
            """,
            """
            21: rule[0].dnsbl: found "zen", which is the name of no table [[dnsbl]]; allowed is the name of a table [[dnsbl]]
            """,
            "22: rule[0].header: found \"Subject\"; allowed is { name = \"X-Field\" }, or",
            "23: rule[0].hours: found \"8-18\"; allowed is ",
            "24: rule[0].weekdays: found \"monday\"; allowed is mon, tue, wed, thu, fri, sat, sun, or a range",
            "25: rule[0].rate: found \"user > 1/hour\"; allowed is whose messages and how many",
            "26: rule[0].early_talker: found the number 1; allowed is true, false",
            "27: rule[0].edge: found an empty list; allowed is a list of names of edges, at least one"),
        Case(
            "[[dnsbl]]\nname = \"zen\"\nzone = \"zen.example\"\nof = \"sender\"\n[[rule]]\nname = \"a\"\nat = \"ehlo\"\naction = \"log\"\ndnsbl = [\"zen\", \"zne\"]\nheader = { nmae = \"X\", value = \"a\" }\nnot = { recipient_file = \"/r\", client = \"x\" }",
            """
            16: rule[0].dnsbl[1]: found "zne", which is the name of no table [[dnsbl]]; allowed is "zen"; did you mean "zen"?
            """,
            "16: rule[0].dnsbl: found at the stage \"ehlo\", where it is not known yet; allowed is it from \"mail\" on",
            "17: rule[0].header.name: missing; required is the name of a field, such as \"Subject\"",
            "17: rule[0].header.nmae: unknown key; allowed in rule[0].header are name, value; did you mean \"name\"?",
            """
            18: rule[0].not.client: found "x"; allowed is a network such as "192.0.2.0/24", "2001:db8::/32", or an address
            """,
            """
            18: rule[0].not.recipient_file: found at the stage "ehlo", where it is not known yet; allowed is it from "rcpt" on
            """),
        Case(
            "[[rule]]\nname = \"a\"\nat = \"message\"\nreply = \"550 {reason}\"\nheader = { name = \"From\", value = \"@example.com\" }",
            """
            12: rule[0].header: found "@example.com" for the value of a field, which is more than an address; allowed is a glob
            """),
        Case(
            "[[rule]]\nname = \"a\"\nat = \"mail\"\nreply = \"550 {reason}\"\nauthenticated = false",
            """
            11: rule[0].reply: found {reason} in a rule without reason; allowed is it in a rule with the condition spf or dnsbl
            """),
        Case(
            "[[rule]]\nname = \"a\"\nat = \"mail\"\nadd_field = \"Subject: x\"",
            """
            11: rule[0].add_field: found the field Subject, of which a message has its own and no second one; allowed is another
            """),
        Case(
            "[[rule]]\nname = \"a\"\nat = \"rcpt\"\nadd_field = \"X-To: {recipient}\"",
            """
            11: rule[0].add_field: found {recipient} in a field, which shows recipients to each other; allowed is it in replies
            """),
    ])
    func afterASoundEdge(_ given: Case) {
        // What is long is given by its beginning.
        let found = mistakes(edge + given.text)
        #expect(found.count == given.errors.count)
        for (mistake, wanted) in zip(found, given.errors) where !mistake.hasPrefix(wanted) {
            #expect(mistake == wanted)
        }
    }
}
