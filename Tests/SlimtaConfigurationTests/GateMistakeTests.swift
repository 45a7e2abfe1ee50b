// The tables of the gate as they should not be: [[policy_service]], [[dnsbl]].

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
    ])
    func afterASoundEdge(_ given: Case) {
        #expect(mistakes(edge + given.text) == given.errors)
    }
}
