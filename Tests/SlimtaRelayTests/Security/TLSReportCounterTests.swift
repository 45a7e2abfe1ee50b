// What is counted for TLS reports: within which bounds, until when, and who is told of it once only.

import SlimtaMail
import SlimtaNet
import Testing

@testable import SlimtaRelay

@Suite struct TLSReportCounterTests {
    private static let day = 20_786
    private static let noon = Timestamp(milliseconds: Int64(day) * 86_400_000 + 43_200_000)
    private static let host = TLSReportedPolicy.tlsa(["3 1 1 AB"], base: "mx.example.com")

    private static func noon(after days: Int) -> Timestamp { noon + .seconds(86_400 * days) }

    private static func submitter() throws -> TLSReport.Submitter {
        .init(organization: "sender.example", contact: try #require(Mailbox(parsing: "tls@sender.example")))
    }

    private static func record(_ places: String) -> TLSReportRecord? {
        TLSReportRecord(among: [Array("v=TLSRPTv1; rua=\(places)".utf8)])
    }

    private func negotiation(_ policies: [TLSReportedPolicy: [TLSResult]], address: String = "192.0.2.2")
        -> TLSNegotiation
    {
        TLSNegotiation(
            policies: policies, source: "192.0.2.1", mxName: "mx.example.com", mxHELO: nil, address: address)
    }

    /// A policy of MTA-STS as long as one may be.
    private static func policy(_ number: Int) -> TLSReportedPolicy {
        let names = (0..<1500).map { "mx\($0).number\(number).example.com" }
        return .sts(
            STSPolicy(
                mode: .enforce, patterns: names.compactMap { STSPattern($0) }, maxAge: 0,
                lines: ["version: STSv1", "mode: enforce", "max_age: 0"] + names.map { "mx: \($0)" }), of: "example.com"
        )
    }

    /// What these counts are in the file.
    private func written(_ counter: TLSReportCounter) -> Int { TLSReportBook(counter.counts, [], []).octets.count }

    // MARK: Bounds

    /// Another policy at each fetch, with as much text as fits into one: none is kept whole, and not all of them are.
    @Test func manyLongPolicies() {
        var counter = TLSReportCounter()
        for number in 0..<200 {
            let policy = Self.policy(number)
            #expect(policy.strings.first == "version: STSv1" && policy.strings.count > 100)
            for texts in [policy.strings, policy.mxHosts] {
                #expect(texts.reduce(0) { $0 + $1.utf8.count } <= 8192)
            }
            _ = counter.count(.mxMismatch, of: policy, mxName: "mx.example.com", for: "example.com", at: Self.noon)
        }
        let tallies = counter.counts.first?.tallies ?? [:]
        #expect(!tallies.isEmpty && tallies.count <= TLSTallies.mostPolicies)
        #expect(counter.octets <= (256 << 10) + 2048)
        #expect(written(counter) <= counter.octets)
    }

    /// Where there is no more room for all of them, new ones are not counted, and what is new of those that are there is one.
    @Test func noMoreRoom() throws {
        var counter = TLSReportCounter()
        counter.reserved = (64 << 20) - 100_000
        let failed = negotiation([.none("x"): [TLSResult(.startTLSNotSupported)]])
        for number in 0..<200 { _ = counter.count(failed, for: "d\(number).example", at: Self.noon) }
        let known = counter.count
        #expect(known > 10 && known < 100 && counter.octets <= 100_000)
        for number in 0..<200 {
            let failed = negotiation([.none("x"): [TLSResult(.validationFailure, reason: "\(number)")]])
            _ = counter.count(failed, for: "d0.example", at: Self.noon)
        }
        let tally = try #require(counter.counts.first { $0.domain == "d0.example" }?.tallies[.none("x")])
        #expect(tally.failures == 201 && tally.details.values.reduce(0, +) == 201)
        #expect(tally.details[.others] ?? 0 > 0 && counter.count == known)
        // Those that there is room for again.
        counter.reserved = 0
        _ = counter.count(failed, for: "new.example", at: Self.noon)
        #expect(counter.count == known + 1)
    }

    /// A host of many domains, each of which has other records of it.
    @Test func aLargeHost() {
        var counter = TLSReportCounter()
        for number in 0..<1500 {
            let policy = TLSReportedPolicy.tlsa(
                [String(repeating: "\(number % 10)", count: 4000)], base: "mx.example.com")
            _ = counter.countForHosts(negotiation([policy: []]), of: "d\(number).example", at: Self.noon)
        }
        #expect(counter.octets <= (1 << 20) + 2048)
        #expect(written(counter) <= counter.octets)
        let sum = counter.counts.flatMap(\.tallies.values).reduce(0) { $0 + $1.successes }
        #expect(sum == 1500 && counter.counts.contains { $0.source == "" })
    }

    /// A host that says something else each time uses up its room, and none that is kept for others; what is there already goes on
    /// being counted.
    @Test func aHostThatTellsStories() {
        var counter = TLSReportCounter()
        let policy = TLSReportedPolicy.tlsa(["1"], base: "mx.example.com")
        func count(_ domain: String, _ details: [TLSResult] = []) {
            _ = counter.countForHosts(negotiation([policy: details]), of: domain, at: Self.noon)
        }
        count("known.example")
        for number in 0..<60 {
            for story in 0..<100 {
                let reason = "\(story)" + String(repeating: "x", count: 180)
                count("d\(number).example", [TLSResult(.validationFailure, reason: reason)])
            }
        }
        count("known.example")
        count("new.example")
        func successes(_ source: String) -> Int {
            counter.counts.filter { $0.source == source }.flatMap(\.tallies.values).reduce(0) { $0 + $1.successes }
        }
        #expect(successes("known.example") == 2 && successes("") + successes("new.example") == 1)
        #expect(counter.octets <= (1 << 20) + 8192)
    }

    /// No text is longer in the file than it was taken to be, and what is read back is as long; nothing is left behind.
    @Test func measured() throws {
        var book = TLSReportBook()
        for text in ["plain", "\"\\\u{1}\u{7F}\n", "\u{FC}\u{85}\u{2028}\u{1F4EF}\u{E0001}", "\u{301}"] {
            #expect(JSON.string(text).line.utf8.count <= text.octetsAsJSON)
            var session = negotiation([.none("\(text).example"): [TLSResult(.validationFailure, reason: text)]])
            session.mxHELO = text
            session.policies[Self.host] = []
            _ = book.counter.count(session, for: "example.com", at: Self.noon)
            _ = book.counter.countForHosts(session, of: "example.com", at: Self.noon)
        }
        for domain in ["example.com", "mx.example.com"] {
            book.counter.wants(Self.record("mailto:a@example.net,https://example.net/%20"), domain, at: Self.noon)
        }
        #expect(written(book.counter) <= book.counter.octets)
        #expect(TLSReportCounter(book.counter.counts).octets == book.counter.octets)
        book.close(at: Self.noon(after: 1), by: try Self.submitter()) { 0 }
        #expect(book.counter.octets == 0 && book.letters.count == 1)
        #expect(book.octets.count <= book.counter.reserved + 100)
        let again = try #require(TLSReportBook(octets: book.octets))
        #expect(again.counter.reserved == book.counter.reserved)
        for letter in book.takeDue(at: Self.noon(after: 1), atMost: 9) {
            #expect(book.counter.reserved > 0)
            book.sent(letter, to: "x", at: Self.noon(after: 1))
        }
        #expect(book.counter.reserved == 0)
        book.counter.wants(nil, "example.com", at: Self.noon)
        _ = book.counter.count(negotiation([Self.host: []]), for: "unwanted.example", at: Self.noon)
        book.counter.wants(nil, "unwanted.example", at: Self.noon)
        #expect(book.counter.octets == 0)
    }

    // MARK: Days

    /// Today's count as well: yesterday's, of which DNS has not said whether they are wanted, stay.
    @Test func withToday() throws {
        var counter = TLSReportCounter()
        for (domain, days) in [("late.example", 0), ("known.example", 1)] {
            _ = counter.count(negotiation([.none(domain): []]), for: domain, at: Self.noon(after: days))
        }
        counter.wants(Self.record("mailto:a@known.example"), "known.example", at: Self.noon(after: 1))
        let today = counter.take(at: Self.noon(after: 1), withToday: true, by: try Self.submitter())
        #expect(today.map(\.report.domain) == ["known.example"])
        #expect(counter.unknown.map(\.domain) == ["late.example"])
        counter.wants(Self.record("mailto:a@late.example"), "late.example", at: Self.noon)
        let late = counter.take(at: Self.noon(after: 1), by: try Self.submitter())
        #expect(late.map(\.report.domain) == ["late.example"] && late.map(\.report.day) == [Self.day])
    }

    /// What nobody sent for days, for the daemon was stopped or reports were off, nobody wants to read.
    @Test func oldDays() throws {
        for (days, isSent) in [(1, true), (2, true), (3, false), (90, false)] {
            var counter = TLSReportCounter()
            _ = counter.count(negotiation([Self.host: []]), for: "example.com", at: Self.noon)
            _ = counter.countForHosts(negotiation([Self.host: []]), of: "example.net", at: Self.noon)
            for domain in ["example.com", "mx.example.com"] {
                counter.wants(Self.record("mailto:a@\(domain)"), domain, at: Self.noon)
            }
            let taken = counter.take(at: Self.noon(after: days), by: try Self.submitter())
            #expect(taken.count == (isSent ? 2 : 0), "\(days) days")
            #expect(counter.counts.isEmpty && counter.octets == 0)
        }
    }

    // MARK: Readers

    /// A reader of a domain's report and of its host's is told of a session once, whichever of them DNS answers for first.
    @Test(arguments: [["example.com", "mx.example.com"], ["mx.example.com", "example.com"]], [false, true])
    func oneReader(_ order: [String], _ isRestarted: Bool) throws {
        var counter = TLSReportCounter()
        for domain in ["example.com", "example.net"] {
            _ = counter.count(negotiation([Self.host: []]), for: domain, at: Self.noon)
            _ = counter.countForHosts(negotiation([Self.host: []]), of: domain, at: Self.noon)
        }
        counter.wants(nil, "example.net", at: Self.noon)
        var reports: [TLSReport] = []
        for domain in order {
            counter.wants(Self.record("mailto:tls@example.com"), domain, at: Self.noon)
            if isRestarted { counter = TLSReportCounter(counter.counts) }
            reports += counter.take(at: Self.noon(after: 1), by: try Self.submitter()).map(\.report)
        }
        #expect(Set(reports.map(\.domain)) == Set(order) && reports.count == 2)
        // That of example.net is the host's to know.
        #expect(reports.map { $0.policies[Self.host]?.successes } == [1, 1])
        #expect(counter.counts.isEmpty && counter.octets == 0)
    }

    /// A domain of which DNS says nothing for a day holds up nothing longer.
    @Test func aSilentDomain() throws {
        var counter = TLSReportCounter()
        _ = counter.count(negotiation([Self.host: []]), for: "example.com", at: Self.noon)
        _ = counter.countForHosts(negotiation([Self.host: []]), of: "example.com", at: Self.noon)
        counter.wants(Self.record("mailto:tls@example.com"), "mx.example.com", at: Self.noon)
        let early = counter.take(at: Self.noon(after: 1), by: try Self.submitter())
        #expect(early.isEmpty)
        let late = counter.take(at: Self.noon(after: 2), by: try Self.submitter())
        #expect(late.map(\.report.domain) == ["mx.example.com"] && counter.counts.isEmpty)
    }

    // MARK: Without a connection

    @Test func recentFailures() {
        var recent = RecentFailures()
        func failure(_ domain: String, _ kind: TLSResult.Kind = .validationFailure) -> RecentFailures.Failure {
            .init(domain: domain, mxName: "mx.example.com", policy: .sts, kind: kind)
        }
        func isNews(_ failure: RecentFailures.Failure, _ seconds: Int) -> Bool {
            recent.isNews(failure, at: Self.noon + .seconds(seconds))
        }
        #expect(isNews(failure("a"), 0) && !isNews(failure("a"), 1) && !isNews(failure("a"), 59))
        #expect(isNews(failure("b"), 1) && isNews(failure("a", .policyFetchError), 1))
        #expect(isNews(failure("a"), 60) && !isNews(failure("a"), 61))
        // The clock was set back.
        #expect(isNews(failure("a"), -3600) && !isNews(failure("a"), -3590))
        for number in 0..<30_000 { #expect(isNews(failure("d\(number)"), 0)) }
    }
}
