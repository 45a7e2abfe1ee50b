// Commands of pipes, [[forward]] and [spamassassin]: what is read, and what is a mistake.

import SlimtaMail
import SlimtaRules
import Testing

@testable import SlimtaConfiguration

@Suite struct ProgramTests {
    private static let edge =
        "[[edge]]\nname = \"e\"\ntype = \"smtp\"\nlisten = [\"127.0.0.1:25\"]\nauth = \"none\"\ntls = \"none\"\n"

    private func parse(_ text: String) throws -> Configuration {
        try Configuration.parse(Self.edge + text, file: "f")
    }

    private func mistakes(_ text: String) -> String {
        do throws(ConfigurationErrors) {
            _ = try Configuration.parse(Self.edge + text, file: "f")
            return ""
        } catch {
            return error.errors.map { "\($0)" }.joined(separator: "\n")
        }
    }

    @Test func pipes() throws {
        let configuration = try parse(
            """
            [relay]
            type = "pipe"
            command = ["/usr/lib/x", "-d", "{user}"]
            user = "vmail"
            processes = 3
            timeout = "1m"
            eol = "crlf"
            environment = ["A={domain}"]
            [[route]]
            domains = ["a.test"]
            command = ["/bin/y"]
            [[route]]
            domains = ["b.test"]
            type = "mx"
            """)
        guard case .pipe(let pipe) = configuration.relay.type else { return #expect(Bool(false)) }
        #expect(pipe.command.words == ["/usr/lib/x", "-d", "{user}"] && pipe.environment.words == ["A={domain}"])
        #expect(pipe.user == "vmail" && pipe.processes == 3 && pipe.timeout == .seconds(60) && pipe.lineEnd == .crlf)
        // A route has of [relay] what it does not say.
        guard case .pipe(let other) = configuration.relay(for: "a.test").type else { return #expect(Bool(false)) }
        #expect(other.command.words == ["/bin/y"] && other.user == "vmail" && other.processes == 3)
        #expect(configuration.relay(for: "b.test").type == .mx)
        #expect(configuration.pipes == [pipe, other])
        let usual = try parse("[relay]\ntype = \"pipe\"\ncommand = [\"/bin/y\"]")
        guard case .pipe(let pipe) = usual.relay.type else { return #expect(Bool(false)) }
        #expect(pipe.user == nil && pipe.processes == 10 && pipe.timeout == .seconds(300) && pipe.lineEnd == .lf)
    }

    @Test(arguments: [
        ("type = \"pipe\"", "relay.command: missing"), ("command = [\"/x\"]", "allowed is it with type \"pipe\" only"),
        ("type = \"pipe\"\ncommand = []", "at least one"), ("type = \"pipe\"\ncommand = [\"x\"]", "absolute path"),
        ("type = \"pipe\"\ncommand = \"/x {user}\"", "a list"),
        ("type = \"pipe\"\ncommand = [\"/x{user}\"]", "without placeholders"),
        ("type = \"pipe\"\ncommand = [\"/x\", \"{name}\"]", "{queue_id}"),
        ("type = \"pipe\"\ncommand = [\"/x\", \"-f{sender}\"]", "in a word of its own"),
        ("type = \"pipe\"\ncommand = [\"/x\"]\nuser = \"root\"", "not root"),
        ("type = \"pipe\"\ncommand = [\"/x\"]\nenvironment = [\"A\"]", "FOLDER={extension}"),
        ("type = \"pipe\"\ncommand = [\"/x\"]\nport = 25", "relay.port"),
    ])
    func mistakesOfPipes(_ relay: String, _ words: String) {
        #expect(mistakes("[relay]\n" + relay).contains(words))
    }

    @Test func moreAtOnceThanAreBegun() throws {
        let text = "[relay]\ntype = \"pipe\"\ncommand = [\"/x\"]\nprocesses = 21"
        #expect(try parse(text).warnings.map(\.keyPath) == ["relay.processes"])
        #expect(try parse(text.replacing("21", with: "20")).warnings.isEmpty)
    }

    /// NIO connects to no longer path, whatever names it.
    @Test(arguments: [
        ("edge[1].listen[0]", "[[edge]]\nname = \"u\"\ntype = \"sendmail\"\nlisten = [\"%\"]"),
        ("relay.socket", "[relay]\ntype = \"lmtp\"\nsocket = \"%\""),
        ("relay.socket", "[relay]\ntype = \"http\"\nurl = \"http://localhost/\"\nsocket = \"%\""),
        ("policy_service[0].to", "[[policy_service]]\nname = \"a\"\nat = \"rcpt\"\nto = \"%\""),
        ("spamassassin.to", "[spamassassin]\nto = \"%\""),
        ("milter[0].to", "[[milter]]\nto = \"%\""),
    ])
    func pathsOfSockets(_ key: String, _ table: String) throws {
        let path = "unix:/" + String(repeating: "x", count: 102)
        _ = try parse(table.replacing("%", with: path))
        let mistake = mistakes(table.replacing("%", with: path + "x"))
        #expect(mistake.contains("\(key): found ") && mistake.contains("allowed is a path of up to 103 octets"))
    }

    /// Whose sockets have paths too.
    @Test func runtimeDirectory() throws {
        let path = "/" + String(repeating: "x", count: 94)
        _ = try parse("[daemon]\nruntime_directory = \"\(path)\"")
        #expect(mistakes("[daemon]\nruntime_directory = \"\(path)x\"").contains("allowed are up to 95 octets"))
    }

    /// What the helper runs at once, for all of them: what is more would wait there while its time runs.
    @Test func noMoreThanTheHelperRuns() throws {
        let pipe = "type = \"pipe\"\ncommand = [\"/x\"]\n"
        #expect(mistakes("[relay]\n\(pipe)processes = 201").contains("from 1 to 200"))
        func all(_ first: Int, _ second: Int) -> String {
            """
            [relay]
            \(pipe)processes = \(first)
            [[route]]
            domains = ["*.test"]
            \(pipe)processes = \(second)
            [[route]]
            domains = ["*"]
            type = "blackhole"
            """
        }
        #expect(
            mistakes(all(150, 51)).contains(
                "route[0].processes: found 51, which makes 201 of all relays; allowed are 200 in [relay] and all of [[route]]"
            ))
        #expect(try parse(all(150, 50)).pipes.count == 2)
    }

    @Test func forwards() throws {
        let configuration = try parse(
            """
            [queue]
            policies = ["forward"]
            [[forward]]
            recipient = "a@x.test"
            to = "b@x.test"
            [[forward]]
            recipient = "/(.*)@y.test/"
            to = ["$1@x.test", "@z.test"]
            [[forward]]
            recipient = "@x.test"
            reject = "550 5.1.6 {recipient} has left"
            """)
        #expect(
            configuration.forwards == [
                try ForwardRule("a@x.test", to: ["b@x.test"]),
                try ForwardRule("/(.*)@y.test/", to: ["$1@x.test", "@z.test"]),
                try ForwardRule("@x.test", reject: "550 5.1.6 {recipient} has left"),
            ])
        #expect(configuration.warnings.isEmpty)
    }

    @Test func spamAssassin() throws {
        let text = "[queue]\npolicies = [\"spamassassin\"]\n[spamassassin]\nto = "
        let configuration = try parse(text + "\"localhost:783\"")
        #expect(configuration.spamAssassin == SpamAssassinSettings(to: .tcp(HostPort(host: "127.0.0.1", port: 783))))
        #expect(configuration.warnings.isEmpty)
        let all = try parse(
            text + "\"unix:/s\"\ntimeout = \"5s\"\non_failure = \"tempfail\"\nadd_fields = false\nhold_from = 8\n"
                + "reject_from = 15.5\nmax_size = \"1MiB\"")
        var wanted = SpamAssassinSettings(to: .unix(path: "/s"))
        (wanted.timeout, wanted.onFailure, wanted.addFields) = (.seconds(5), .tempfail, false)
        (wanted.holdFrom, wanted.rejectFrom, wanted.maxSize) = (8, 15.5, 1 << 20)
        #expect(all.spamAssassin == wanted)
        for (wrong, words) in [
            ("\"spam.example:783\"", "127.0.0.1"), ("\"unix:/s\"\nhold_from = \"x\"", "a score"),
            ("\"unix:/s\"\nreject_from = 5\nhold_from = 5", "lower score"),
        ] {
            #expect(mistakes(text + wrong).contains("spamassassin"), "\(words)")
        }
        #expect(mistakes("[queue]\npolicies = [\"spamassassin\"]").contains("spamassassin: missing"))
    }

    @Test func milters() throws {
        let configuration = try parse(
            "[[milter]]\nto = \"localhost:8891\"\n[[milter]]\nname = \"clamav\"\nto = \"unix:/s\"\nconnect_timeout = \"1s\"\n"
                + "command_timeout = \"2s\"\ncontent_timeout = \"3s\"\non_failure = \"quarantine\"\n"
                + "reuse_between_sessions = true")
        var other = MilterSettings(name: "clamav", to: .unix(path: "/s"))
        (other.connectTimeout, other.commandTimeout, other.contentTimeout) = (.seconds(1), .seconds(2), .seconds(3))
        (other.onFailure, other.reuseBetweenSessions) = (.quarantine, true)
        #expect(
            configuration.milters == [
                MilterSettings(name: "127.0.0.1:8891", to: .tcp(HostPort(host: "127.0.0.1", port: 8891))), other,
            ])
        #expect(configuration.warnings.isEmpty)
        for (wrong, words) in [
            ("name = \"x\"", "milter[0].to: missing; required is where it listens"),
            ("to = \"inet:8891@localhost\"", "milter[0].to: found"),
            (
                "to = \"unix:/s\"\non_failure = \"hold\"",
                "allowed is \"tempfail\", \"accept\", \"reject\", \"quarantine\""
            ),
            ("to = \"unix:/s\"\nconnect_timeout = \"2m\"", "from 1s to 1m"),
            ("to = \"unix:/s\"\nreuse = true", "milter[0].reuse: unknown key"),
            (
                "to = \"unix:/s\"\n[[milter]]\nto = \"unix:/s\"",
                "milter[1].name: missing; required is a name of its own"
            ),
            ("name = \"a b\"\nto = \"unix:/s\"", "milter[0].name: found \"a b\""),
        ] {
            let found = mistakes("[[milter]]\n" + wrong)
            #expect(found.contains(words), "\(found)")
        }
    }
}
