// Who wants TLS reports and where, what is counted, and the report as JSON and as a message.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaNet
import Testing

@testable import SlimtaRelay

@Suite struct TLSReportTests {
    private static let day = 20_786
    private static let time = Timestamp(milliseconds: Int64(day) * 86_400_000 + 43_200_000)

    private static func submitter() throws -> TLSReport.Submitter {
        .init(organization: "Example \u{FC}", contact: try #require(Mailbox(parsing: "tls@Sender.example")))
    }

    private func places(_ texts: String...) -> [String]? {
        TLSReportRecord(among: texts.map { Array($0.utf8) })?.destinations.map(\.description)
    }

    // MARK: Records

    @Test(arguments: [
        ("v=TLSRPTv1;rua=mailto:reports@example.com", ["mailto:reports@example.com"]),
        ("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", ["https://reporting.example.com/v1/tlsrpt"]),
        (
            "v=TLSRPTv1; rua=mailto:a@example.com , https://r.example.com ; new=x;",
            ["mailto:a@example.com", "https://r.example.com/"]
        ),
        ("v=TLSRPTv1; new=x; rua=MAILTO:a%2Bb@example.com?subject=x", ["mailto:a+b@example.com"]),
        ("v=TLSRPTv1; rua=HTTPS://R.example.com:443?a=b#c", ["https://r.example.com/?a=b"]),
        ("v=TLSRPTv1; rua=ftp://x.example,mailto:a@example.com,mailto:a@example.com", ["mailto:a@example.com"]),
    ])
    func records(_ text: String, _ expected: [String]) { #expect(places(text) == expected) }

    @Test(arguments: [
        "", "v=TLSRPTv1", "v=TLSRPTv1;", "v=TLSRPTv1; rua=", "v=TLSRPTv1; rua=mailto:", "v=TLSRPTv1; rua=mailto:x",
        "v=TLSRPTv2; rua=mailto:a@example.com", "v=tlsrptv1; rua=mailto:a@example.com",
        "rua=mailto:a@example.com; v=TLSRPTv1;", "v=TLSRPTv1; rua=mailto:a@[192.0.2.1]",
        "v=TLSRPTv1; rua=mailto:a%0D%0Ab@example.com",
        // What could be our own network.
        "v=TLSRPTv1; rua=http://r.example.com/", "v=TLSRPTv1; rua=https://r.example.com:8443/",
        "v=TLSRPTv1; rua=https://localhost/", "v=TLSRPTv1; rua=https://127.0.0.1/", "v=TLSRPTv1; rua=https://[::1]/",
        "v=TLSRPTv1; rua=https://a@r.example.com/", "v=TLSRPTv1; rua=https://2130706433/",
        "v=TLSRPTv1; rua=https:///x", "v=TLSRPTv1; rua=https://r.exam ple.com/",
    ])
    func noRecord(_ text: String) { #expect(places(text) == nil) }

    @Test func oneRecordAndNoOther() {
        let record = "v=TLSRPTv1; rua=mailto:a@example.com"
        #expect(places() == nil)
        #expect(places("v=spf1 -all", record) == ["mailto:a@example.com"])
        #expect(places(record, record) == nil)
        let many = (0..<30).map { "mailto:a\($0)@example.com" }.joined(separator: ",")
        #expect(places("v=TLSRPTv1; rua=\(many)")?.count == 10)
    }

    // MARK: Counting

    private static let none = TLSReportedPolicy.none("example.com")
    private static let tlsa = TLSReportedPolicy.tlsa(["3 1 1 AB", "2 0 1 CD"], base: "mx.example.com")
    private static var sts: TLSReportedPolicy {
        let policy = STSPolicy(
            mode: .enforce, patterns: ["*.example.com"].compactMap { STSPattern($0) }, maxAge: 60,
            lines: ["version: STSv1", "mode: enforce", "mx: *.example.com", "max_age: 60"])
        return .sts(policy, of: "example.com")
    }

    private func negotiation(
        _ policies: [TLSReportedPolicy: [TLSResult]], address: String = "192.0.2.2"
    ) -> TLSNegotiation {
        TLSNegotiation(
            policies: policies, source: "192.0.2.1", mxName: "mx.example.com", mxHELO: "helo.example.com",
            address: address)
    }

    private func report(_ change: (inout TLSReportCounter) -> Void) throws -> TLSReport? {
        var counter = TLSReportCounter()
        change(&counter)
        counter.wants(
            TLSReportRecord(among: [Array("v=TLSRPTv1; rua=mailto:a@example.com".utf8)]), "example.com", at: Self.time)
        let taken = counter.take(at: Self.time + .seconds(86_400), by: try Self.submitter())
        #expect(counter.count == 0 && taken.count <= 1)
        return taken.first?.report
    }

    @Test func whoIsAskedFor() throws {
        var counter = TLSReportCounter()
        var asked: [String] = []
        func count(_ domain: String, at time: Timestamp = Self.time) {
            if counter.count(negotiation([Self.none: []]), for: domain, at: time) { asked.append(domain) }
        }
        for domain in ["example.com", "example.com", "example.net", "example.org"] { count(domain) }
        #expect(asked == ["example.com", "example.net", "example.org"])
        counter.wants(nil, "example.net", at: Self.time)
        count("example.net")
        #expect(asked.count == 3)
        // And each day anew.
        count("example.net", at: Self.time + .seconds(86_400))
        #expect(asked.count == 4)
        counter.wants(
            TLSReportRecord(among: [Array("v=TLSRPTv1; rua=mailto:a@b.c".utf8)]), "example.com", at: Self.time)
        let early = counter.take(at: Self.time, by: try Self.submitter())
        #expect(early.isEmpty)
        let taken = counter.take(at: Self.time + .seconds(43_200), by: try Self.submitter())
        #expect(taken.map(\.report.domain) == ["example.com"])
        // Of the third nobody knows whether it wants one: for a day that is asked.
        #expect(taken.first?.destinations.count == 1 && counter.count == 2)
        #expect(Set(counter.unknown.map(\.domain)) == ["example.org", "example.net"])
        let late = counter.take(at: Self.time + .seconds(129_600), by: try Self.submitter())
        #expect(late.isEmpty && counter.count == 1)
        #expect(taken.first?.report.policies[Self.none]?.successes == 2)
    }

    @Test func oncePerPolicy() throws {
        let report = try report { counter in
            _ = counter.count(
                negotiation([
                    Self.tlsa: [], Self.sts: [TLSResult(.certificateNotTrusted), TLSResult(.certificateExpired)],
                ]),
                for: "example.com", at: Self.time)
            _ = counter.count(negotiation([Self.tlsa: []]), for: "example.com", at: Self.time)
            _ = counter.count(
                TLSResult(.policyFetchError, of: .sts, reason: "HTTP status 500"), of: Self.sts, for: "example.com",
                at: Self.time)
        }
        let policies = try #require(report?.policies)
        #expect(policies[Self.tlsa]?.successes == 2 && policies[Self.tlsa]?.failures == 0)
        #expect(policies[Self.sts]?.successes == 0 && policies[Self.sts]?.failures == 2)
        #expect(policies[Self.sts]?.details.values.reduce(0, +) == 3)
    }

    /// A host that wants reports of its own gets what is counted for domains with other readers, or none.
    @Test(arguments: [
        ("", 2), ("mailto:other@example.com", 2), ("mailto:tls@mx.example.com", 0),
        ("mailto:a@b.c,mailto:tls@mx.example.com", 0),
    ])
    func hostsWithReadersOfTheirOwn(_ readers: String, _ successes: Int) throws {
        func record(_ text: String) -> TLSReportRecord? {
            text.isEmpty ? nil : TLSReportRecord(among: [Array("v=TLSRPTv1; rua=\(text)".utf8)])
        }
        var counter = TLSReportCounter()
        var asked: [String] = []
        for domain in ["example.com", "example.com", "example.net"] {
            asked += counter.countForHosts(negotiation([Self.tlsa: []]), of: domain, at: Self.time)
            _ = counter.count(negotiation([Self.tlsa: []]), for: domain, at: Self.time)
        }
        #expect(asked == ["mx.example.com"])
        // What has no records of TLSA, and what is its own host, is not told twice.
        asked = counter.countForHosts(negotiation([Self.sts: [], Self.none: []]), of: "x.example", at: Self.time)
        asked += counter.countForHosts(negotiation([Self.tlsa: []]), of: "mx.example.com", at: Self.time)
        #expect(asked.isEmpty)
        #expect(Set(counter.unknown.map(\.domain)) == ["example.com", "example.net", "mx.example.com"])
        counter.wants(record(readers), "example.com", at: Self.time)
        counter.wants(nil, "example.net", at: Self.time)
        counter.wants(record("mailto:tls@mx.example.com"), "mx.example.com", at: Self.time)
        var again = TLSReportCounter(counter.counts)
        #expect(again.counts == counter.counts)
        let taken = again.take(at: Self.time + .seconds(86_400), by: try Self.submitter())
        let host = try #require(taken.first { $0.report.domain == "mx.example.com" })
        // example.net has no readers at all.
        #expect(host.report.policies[Self.tlsa]?.successes == successes + 1)
        #expect(host.report.policies.count == 1 && taken.count == (readers.isEmpty ? 1 : 2))
        #expect(again.counts.isEmpty)
    }

    @Test func bounds() throws {
        let report = try report { counter in
            for number in 0..<1500 {
                _ = counter.count(
                    negotiation([Self.none: [TLSResult(.startTLSNotSupported)]], address: "192.0.2.\(number)"),
                    for: "example.com", at: Self.time)
            }
            for number in 0..<200 {
                _ = counter.count(
                    negotiation([TLSReportedPolicy.tlsa([], base: "h\(number)"): []]), for: "example.com", at: Self.time
                )
            }
        }
        let tally = try #require(report?.policies[Self.none])
        #expect(tally.failures == 1500 && tally.details.count == 1000)
        #expect(tally.details.values.reduce(0, +) == 1500 && tally.details[.others] == 501)
        #expect(report?.policies.count == TLSTallies.mostPolicies)
    }

    // MARK: As JSON and as a message

    private func sample() throws -> TLSReport {
        try #require(
            try report { counter in
                for _ in 0..<3 { _ = counter.count(negotiation([Self.sts: []]), for: "example.com", at: Self.time) }
                for _ in 0..<2 {
                    let failed = [TLSResult(.certificateHostMismatch)]
                    _ = counter.count(
                        negotiation([Self.sts: failed, Self.tlsa: []]), for: "example.com", at: Self.time)
                }
            })
    }

    @Test func json() throws {
        let text = try sample().json.line
        #expect(
            text == """
                {"organization-name":"Example \u{FC}","date-range":{"start-datetime":"2026-11-29T00:00:00Z",\
                "end-datetime":"2026-11-29T23:59:59Z"},"contact-info":"tls@Sender.example",\
                "report-id":"2026-11-29.example.com@sender.example","policies":[{"policy":{"policy-type":"sts",\
                "policy-string":["version: STSv1","mode: enforce","mx: *.example.com","max_age: 60"],\
                "policy-domain":"example.com","mx-host":["*.example.com"]},"summary":{\
                "total-successful-session-count":3,"total-failure-session-count":2},"failure-details":[{\
                "result-type":"certificate-host-mismatch","sending-mta-ip":"192.0.2.1",\
                "receiving-mx-hostname":"mx.example.com","receiving-mx-helo":"helo.example.com",\
                "receiving-ip":"192.0.2.2","failed-session-count":2}]},{"policy":{"policy-type":"tlsa",\
                "policy-string":["2 0 1 CD","3 1 1 AB"],"policy-domain":"mx.example.com"},"summary":{\
                "total-successful-session-count":2,"total-failure-session-count":0}}]}
                """)
    }

    @Test func mail() throws {
        let report = try sample()
        let mail = TLSReportMail(
            report: report, compressed: Array(0...255), recipient: try #require(Mailbox(parsing: "a@example.com")),
            date: Self.time, zoneOffset: 0, id: QueueID(high: 1, low: 2), boundary: "b0undary")
        let text = String(buffer: mail.octets)
        let lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)
        #expect(lines.allSatisfy { $0.utf8.count <= 998 && $0.hasNoASCIIControl && $0.isASCII } && lines.last == "")
        for field in [
            "From: tls@Sender.example", "To: a@example.com", "TLS-Report-Domain: example.com",
            "TLS-Report-Submitter: sender.example", "TLS-Required: No", "MIME-Version: 1.0",
            " filename=\"sender.example!example.com!1795910400!1795996799.json.gz\"",
            " Report-ID: <2026-11-29.example.com@sender.example>",
        ] { #expect(lines.contains(field[...]), "\(field)") }
        let start = try #require(text.range(of: "base64\r\n\r\n"))
        let end = try #require(text.range(of: "\r\n--b0undary--\r\n"))
        let base64 = text[start.upperBound..<end.lowerBound].replacing("\r\n", with: "")
        #expect(Base64.decode(Array(base64.utf8)) == Array(0...255))
    }

    @Test func times() {
        let midnight = Timestamp(milliseconds: Int64(Self.day + 1) * 86_400_000)
        #expect(TLSReportSchedule.time(ofDay: Self.day, random: 0) == midnight + .seconds(600))
        #expect(TLSReportSchedule.time(ofDay: Self.day, random: 1) == midnight + .seconds(600 + 14_400))
    }
}
