// [[site]]: what is read, and what is a mistake.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

@Suite struct SiteTests {
    @Test func settings() throws {
        let text = """
            [[site]]
            hosts = ["mx.example.net", "*.mx.example.org"]
            connections = 3
            rate = "90/m"
            messages_per_session = 10
            recipients_per_transaction = 20
            [[site]]
            hosts = ["*"]
            rate = "3600/h"
            """
        let sites = try Configuration.parse(edge + text, file: "f").sites
        #expect(sites.count == 2)
        #expect(sites[0].hosts.map { $0.matches("a.mx.example.org") } == [false, true])
        #expect(sites[0].connections == 3 && sites[0].rate == 1.5)
        #expect(sites[0].messagesPerSession == 10 && sites[0].recipientsPerTransaction == 20)
        #expect(sites[1].rate == 1 && sites[1].connections == nil)
        #expect(try Configuration.parse(edge, file: "f").sites.isEmpty)
    }

    @Test(arguments: [
        ("connections = 3", "8: site[0].hosts: missing"),
        ("hosts = []\nconnections = 3", "9: site[0].hosts: found an empty list"),
        ("hosts = [\"a.test\"]", "8: site[0].connections: missing; required is one of connections, rate"),
        ("hosts = [\"a.test\"]\nrate = \"60\"", "10: site[0].rate: found \"60\"; allowed is a rate such as"),
        ("hosts = [\"a.test\"]\nrate = \"0/m\"", "10: site[0].rate: found \"0/m\""),
        ("hosts = [\"a.test\"]\nmessages_per_session = 0", "10: site[0].messages_per_session: found the number 0"),
        ("hosts = [\"a.test\"]\nrecipients_per_transaction = -5", "10: site[0].recipients_per_transaction: found"),
        ("hosts = [\"a.test\"]\nconnections = 0", "10: site[0].connections: found the number 0"),
        ("hosts = [\"a.test\", \"A.test\"]\nconnections = 1", "9: site[0].hosts[1]: found \"A.test\", which"),
        ("hosts = [\"a.test\"]\nconnection = 1\nrate = \"1/s\"", "10: site[0].connection: unknown key"),
    ])
    func wrong(_ text: String, _ expected: String) throws {
        let found = mistakes(edge + "[[site]]\n" + text)
        #expect(found.count == 1 && found[0].hasPrefix(expected), "\(found)")
    }

    /// What is more than relays do is no mistake: it counts as that, and is told.
    @Test func large() throws {
        let text =
            edge + "[[site]]\nhosts = [\"a.test\"]\nmessages_per_session = 100\nrecipients_per_transaction = 500\n"
        let configuration = try Configuration.parse(text, file: "f")
        let found = configuration.warnings.filter { $0.keyPath.hasPrefix("site") }
        #expect(found.map(\.keyPath) == ["site[0].recipients_per_transaction"])
        #expect(found.first?.text == "500 counts as 100: no relay does more")
    }

    @Test func rates() {
        for (text, expected) in [
            ("2/s", 2), ("60/m", 1), ("500/h", 500 / 3600), ("86400/d", 1), ("60", nil), ("/m", nil), ("1/", nil),
            ("1/x", nil), ("-1/s", nil), ("1/ss", nil), ("1.5/s", nil), ("1/s/", nil), ("1234567890/s", nil),
        ] as [(String, Double?)] {
            #expect(RateText.perSecond(text) == expected, "\(text)")
        }
        #expect(RateText.text(2) == "120/m" && RateText.text(0.8 / 60) == "0.8/m")
    }
}
