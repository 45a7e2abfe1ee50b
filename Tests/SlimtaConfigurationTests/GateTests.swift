// The tables of the gate as they should be: defaults, and every key.

import SlimtaMail
import SlimtaRules
import Testing

@testable import SlimtaConfiguration

@Suite struct GateTests {
    private typealias Service = Configuration.PolicyService
    private typealias List = Configuration.DNSBL

    private func parse(_ text: String) throws -> Configuration { try Configuration.parse(edge + text, file: "f") }

    @Test func policyServices() throws {
        let configuration = try parse(
            """
            [[policy_service]]
            at = "rcpt"
            to = "127.0.0.1:10040"
            [[policy_service]]
            name = "quota"
            at = ["connect", "message", "connect"]
            to = "unix:/run/quota"
            timeout = "1s"
            on_failure = "accept"
            context = "a = b, Größe"
            [[policy_service]]
            at = "ehlo"
            to = "localhost:10040"
            name = "other"
            """)
        let local = HostPort(host: "127.0.0.1", port: 10040)
        #expect(
            configuration.policyServices == [
                Service(name: "127.0.0.1:10040", stages: [.rcpt], to: .tcp(local)),
                Service(
                    name: "quota", stages: [.connect, .message], to: .unix(path: "/run/quota"), timeout: .seconds(1),
                    onFailure: .accept, context: "a = b, Größe"),
                Service(name: "other", stages: [.ehlo], to: .tcp(local)),
            ])
        let first = try #require(configuration.policyServices.first)
        #expect(first.timeout == .seconds(5))
        #expect(first.onFailure == .tempfail)
        #expect(first.context == "")
    }

    @Test func lists() throws {
        let configuration = try parse(
            """
            [[dnsbl]]
            name = "zen"
            zone = "Zen.Spamhaus.org."
            [[dnsbl]]
            name = "names"
            zone_file = "credential:dqs"
            of = "sender"
            [[dnsbl]]
            name = "own"
            zone = "bl.example"
            of = "ehlo"
            answers = ["127.0.0.2", "127.0.0.4-127.0.0.7", "127.0.1.0/24", "127.0.0.0/8"]
            timeout = "10s"
            authenticated = true
            [[dnsbl]]
            name = "one"
            zone_file = "/zone"
            answers = "127.0.0.3"
            """)
        let usual: [ClosedRange<UInt32>] = [0x7F00_0002...0x7F00_00FE]
        #expect(
            configuration.dnsbls == [
                List(name: "zen", zone: .name("zen.spamhaus.org"), answers: usual),
                List(
                    name: "names", zone: .file("credential:dqs"), of: .sender,
                    answers: usual + [0x7F00_0102...0x7F00_01FE]),
                List(
                    name: "own", zone: .name("bl.example"), of: .ehlo,
                    answers: [
                        0x7F00_0002...0x7F00_0002, 0x7F00_0004...0x7F00_0007, 0x7F00_0100...0x7F00_01FF,
                        0x7F00_0000...0x7FFF_FFFF,
                    ], timeout: .seconds(10), authenticated: true),
                List(name: "one", zone: .file("/zone"), answers: [0x7F00_0003...0x7F00_0003]),
            ])
        let first = try #require(configuration.dnsbls.first)
        #expect(first.of == .client)
        #expect(first.timeout == .seconds(3))
        #expect(!first.authenticated)
    }

    /// What the sample shows behind "#" between the gate's heading and the next one: right as it stands, and with the
    /// defaults that it names.
    @Test func examples() throws {
        let sample = try readFile("etc/slimta.conf")
        let gate = try #require(sample.split(separator: "# ---- the gate").dropFirst().first)
        let examples = try #require(gate.split(separator: "# ---- queue").first).split(separator: "\n").filter {
            $0.hasPrefix("# [[") || $0.hasPrefix("[") || $0.firstMatch(of: #/^# [a-z_]+ = /#) != nil
        }.map { $0.hasPrefix("# ") ? String($0.dropFirst(2)) : String($0) }.joined(separator: "\n")
        let configuration = try parse(examples)
        #expect(configuration.rules.map(\.name) == ["partners", "newcomers", "mark", "slow"])
        // Each condition once, and those of `not`.
        #expect(Set(configuration.rules[0].conditions.map(\.name)).count == 27)
        let service = try #require(configuration.policyServices.first)
        #expect(service.timeout == .seconds(5) && service.onFailure == .tempfail)
        #expect(configuration.spf.replies.keys.map(\.rawValue).sorted() == ["fail", "softfail"])
        let list = try #require(configuration.dnsbls.first)
        #expect(list.of == .client && list.timeout == .seconds(3) && !list.authenticated)
        #expect(configuration.dnsbls.last?.zone == .file("credential:dqs-zone"))
    }

    /// The content of a zone_file.
    @Test(arguments: [
        ("key.zen.dq.spamhaus.net\n", "key.zen.dq.spamhaus.net"), ("Zen.Example.\r\n\n", "zen.example"), ("", nil),
        ("\n", nil),
        ("a b", nil), ("zen.example\nother.example", nil),
    ])
    func zoneFile(content: String, zone: String?) {
        #expect(Configuration.DNSBL.zone(inFile: Array(content.utf8)) == zone)
    }
}
