// Hosts that mail goes to, over the control socket: how securely it goes there, and how much of it.

import SlimtaNet
import Testing

@testable import SlimtaControl

@Suite struct HostsTests {
    @Test func hostsAreShownExplainedAndForgotten() async throws {
        let fixture = try await ControlFixture()
        let (status, json) = try await fixture.ask(.get, "tls", [("domain", "Example.COM")])
        #expect(status == 200 && json.elements.map { $0["host"].text } == ["mx.example.com"])
        #expect(json.elements[0]["in_force"].isTrue && json.elements[0]["mta_sts"] == .null)
        #expect(try await fixture.ask(.get, "tls", [("domain", "example.org")]).json.elements.isEmpty)
        let explained = try await fixture.ask(.get, "tls/explain", [("domain", "Example.COM")])
        #expect(explained.status == 200 && explained.json["mta_sts"].text == "enforce")
        #expect(explained.json["hosts"].elements.map { $0["plan"].text } == ["encrypted"])
        #expect(try await fixture.ask(.get, "tls/explain", [("domain", "example.org")]).status == 404)
        #expect(fixture.lines.isEmpty)
        #expect(try await fixture.ask(.post, "tls/forget", [("domain", "Example.COM")]).status == 200)
        #expect(try await fixture.ask(.post, "tls/forget", [("domain", "example.org")]).status == 404)
        #expect(fixture.daemon.orders == ["forget example.com", "forget example.org"])
        #expect(fixture.lines.last == "command by=user7 command=tls forget example.org pid=42")
        for (method, path) in [(ControlRequest.Method.get, "tls/explain"), (.post, "tls/forget")] {
            for query in [[], [("domain", "")], [("domain", "a"), ("domain", "b")], [("all", "yes")]] {
                #expect(try await fixture.ask(method, path, query).status == 400)
            }
        }
    }

    @Test func sitesAreShownSetAndForgotten() async throws {
        let fixture = try await ControlFixture()
        var (status, json) = try await fixture.ask(.get, "sites")
        let site = try #require(json["sites"].elements.first)
        #expect(status == 200 && site["name"].text == "1 a.test, 2 b.test:25" && site["window"].integer == 3)
        #expect(site["learned"]["rate"].text == "48/m" && site["configured"]["connections"].integer == 3)
        #expect(site["set"]["messages"].integer == 5 && site["set"]["rate"] == .null)
        #expect(site["failed"].elements.first?["host"].text == "192.0.2.1:25")
        for name in ["a.test", "B.test", "1 a.test, 2 b.test:25"] {
            #expect(try await fixture.ask(.get, "sites", [("name", name)]).status == 200)
        }
        #expect(try await fixture.ask(.get, "sites", [("name", "c.test")]).status == 404)
        let wrong: [[(String, String)]] = [
            [], [("name", "b.test")], [("name", "b.test"), ("rate", "x")], [("name", "b.test"), ("rate", "0/m")],
            [("name", "b.test"), ("messages", "0")], [("name", "b.test"), ("messages", "101")],
            [("name", "b.test"), ("recipients", "101")], [("name", "b.test"), ("limit", "1")], [("rate", "1/s")],
        ]
        for query in wrong { #expect(try await fixture.ask(.post, "sites/set", query).status == 400, "\(query)") }
        #expect(try await fixture.ask(.post, "sites/forget").status == 400)
        #expect(try await fixture.ask(.post, "sites/explode", [("name", "b.test")]).status == 404)
        #expect(fixture.daemon.orders.isEmpty)
        (status, json) = try await fixture.ask(
            .post, "sites/set", [("name", "b.test"), ("rate", "none"), ("messages", "7")])
        #expect(status == 200 && json["sites"].elements.count == 1)
        #expect(try await fixture.ask(.post, "sites/forget", [("name", "c.test")]).status == 404)
        #expect(try await fixture.ask(.post, "sites/forget", [("name", "b.test")]).status == 200)
        #expect(fixture.daemon.orders == ["set b.test true true", "forget c.test", "forget b.test"])
        #expect(fixture.lines.last == "command by=user7 command=site forget b.test pid=42")
        #expect(try await fixture.ask(.get, "status").json["paced_sites"].integer == 1)
    }

    @Test func tlsReports() async throws {
        let fixture = try await ControlFixture()
        let all = try await fixture.ask(.get, "tlsrpt").json
        #expect(all["on"].isTrue && all["counted"].elements.count == 1 && all["waiting"].elements.count == 1)
        let one = try await fixture.ask(.get, "tlsrpt", [("domain", "Example.ORG")]).json
        #expect(one["counted"].elements.isEmpty && one["past"].elements.isEmpty)
        #expect(one["waiting"].elements.first?["error"].text == "why")
        #expect(try await fixture.ask(.get, "tlsrpt", [("day", "x")]).status == 400)
        let sent = try await fixture.ask(.post, "tlsrpt/send")
        #expect(sent.status == 200 && sent.json["tried"].elements.first?["to"].text == "x")
        #expect(fixture.lines.last == "command by=user7 command=tlsrpt send pid=42")
        // Reports are off.
        #expect(try await fixture.ask(.post, "tlsrpt/send", [("today", "yes")]).status == 404)
        #expect(try await fixture.ask(.post, "tlsrpt/send", [("today", "no")]).status == 400)
        #expect(fixture.daemon.orders == ["send false", "send true"])
        #expect(try await fixture.ask(.get, "tlsrpt/send").status == 405)
    }
}
