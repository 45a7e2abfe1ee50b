// [[route]] by who sends, several hosts, and what a route says of our side: names, and which addresses of hosts.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

struct RouteTests {
    private static func configuration(_ text: String) throws -> Configuration {
        try Configuration.parse(edge + text, file: "f")
    }

    private static func origin(_ text: String) throws -> RouteOrigin {
        try configuration("[[route]]\ntype = \"blackhole\"\n" + text).routes[0].origin
    }

    private static func mailbox(_ text: String) -> Mailbox? {
        let parts = text.split(separator: "@")
        return parts.count == 2 ? Mailbox(localPart: String(parts[0]), domain: String(parts[1])) : nil
    }

    @Test(arguments: [
        ("senders = [\"a@x.example\"]", "a@x.example", nil as String?, true),
        ("senders = [\"a@x.example\"]", "A@X.EXAMPLE", nil, true),
        ("senders = [\"a@x.example\"]", "a+tag@x.example", nil, true),
        ("senders = [\"a@x.example\"]", "b@x.example", nil, false),
        ("senders = [\"@x.example\"]", "b@x.example", nil, true),
        ("senders = [\"@x.example\"]", "b@y.x.example", nil, false),
        ("senders = [\"@.x.example\"]", "b@y.x.example", nil, true),
        ("senders = [\"@x.example\", \"@y.example\"]", "b@y.example", nil, true),
        // The null sender is nobody's.
        ("senders = [\"*\"]", "", nil, false), ("logins = [\"shop*\"]", "", "shop-1", true),
        ("logins = [\"shop*\"]", "a@x.example", "maria", false), ("logins = [\"*\"]", "a@x.example", nil, false),
        ("senders = [\"@x.example\"]\nlogins = [\"maria\"]", "a@x.example", "maria", true),
        ("senders = [\"@x.example\"]\nlogins = [\"maria\"]", "a@y.example", "maria", false),
        ("senders = [\"@x.example\"]\nlogins = [\"maria\"]", "a@x.example", "other", false),
    ])
    func origins(_ text: String, _ sender: String, _ login: String?, _ isOne: Bool) throws {
        let origin = try Self.origin(text + "\n")
        #expect(!origin.isEverybody)
        #expect(origin.contains(Self.mailbox(sender), login: login) == isOne)
    }

    /// Without domains it is for all; and a domain may go one way for some, and another for others.
    @Test func domains() throws {
        let configuration = try Self.configuration(
            """
            [[route]]
            senders = ["@x.example"]
            type = "blackhole"
            [[route]]
            domains = ["a.example"]
            logins = ["maria"]
            type = "maildir"
            path = "/m"
            [[route]]
            domains = ["a.example"]
            type = "blackhole"
            """)
        #expect(configuration.routes.map { $0.domains.map(\.description) } == [["*"], ["a.example"], ["a.example"]])
        #expect(configuration.routes.map(\.origin.isEverybody) == [false, false, true])
    }

    @Test func severalHosts() throws {
        let configuration = try Self.configuration(
            """
            [relay]
            type = "smtp"
            hosts = ["A.example:587", "b.example:25", "[2001:db8::1]:25"]
            priority = true
            username = "u"
            password_file = "/p"
            hostname = "Out.example"
            ip = "prefer_v4"
            [[route]]
            domains = ["a.example"]
            ip = "v6"
            [[route]]
            domains = ["b.example"]
            host = "c.example:25"
            [[route]]
            domains = ["c.example"]
            type = "lmtp"
            hosts = ["c.example", "d.example"]
            hostname = "in.example"
            """)
        let (relay, routes) = (configuration.relay, configuration.routes.map(\.relay))
        let others = [HostPort(host: "b.example", port: 25), HostPort(host: "2001:db8::1", port: 25)]
        guard case .smtp(let first, _?) = relay.type else {
            Issue.record("\(relay)")
            return
        }
        #expect(first == HostPort(host: "a.example", port: 587) && relay.otherHosts == others && relay.isByPriority)
        #expect(relay.hostname == "Out.example" && relay.addresses == .preferV4)
        #expect(routes[0].type == relay.type && routes[0].otherHosts == others && routes[0].isByPriority)
        #expect(routes[0].addresses == .v6 && routes[0].hostname == "Out.example")
        #expect(routes[1].type == .smtp(host: HostPort(host: "c.example", port: 25), login: nil))
        #expect(routes[1].otherHosts.isEmpty && !routes[1].isByPriority)
        #expect(routes[2].otherHosts == [HostPort(host: "d.example", port: 24)] && routes[2].hostname == "in.example")
    }

    @Test(arguments: [
        Case(
            "[[route]]\ntype = \"blackhole\"\nsenders = [\"x y\"]\nlogins = []",
            "10: route[0].senders[0]: found \"x y\"; allowed is an address, @domain, @.domain for all below it, or *",
            "11: route[0].logins: found"),
        Case(
            "[relay]\ntype = \"smtp\"\nhost = \"a.example:25\"\nhosts = [\"b.example:25\", \"b.example:25\"]",
            "11: relay.hosts[1]: found \"b.example:25\" a second time; allowed is each once",
            "11: relay.hosts: found with host; allowed is one of them"),
        Case(
            "[relay]\ntype = \"smtp\"\nhost = \"a.example:25\"\nhosts = [\"b.example:25\"]",
            "11: relay.hosts: found with host; allowed is one of them"),
        Case(
            "[relay]\ntype = \"smtp\"\nhost = \"a.example:25\"\npriority = true",
            "11: relay.priority: found without several hosts; allowed is it with hosts = [...]"),
        Case(
            "[relay]\nhosts = [\"b.example:25\"]\nip = \"v5\"\nhostname = \"a b\"",
            "9: relay.hosts: found with type \"mx\"; allowed is it with type \"smtp\", \"lmtp\" only",
            "10: relay.ip: found \"v5\"; allowed is \"any\", \"v4\", \"v6\", \"prefer_v4\", \"prefer_v6\"",
            "11: relay.hostname: found \"a b\"; allowed is a domain name such as \"mail.example.com\""),
    ])
    func whatIsWrong(_ wrong: Case) {
        let found = mistakes(edge + wrong.text)
        #expect(found.count == wrong.errors.count, "\(found)")
        for (error, expected) in zip(found, wrong.errors) { #expect(error.hasPrefix(expected)) }
    }
}
