// TLS reports from the session to the count: real sessions with scripted hosts, and a name server that says who wants reports.

import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaTLS
import Synchronization
import TestKit
import Testing

@testable import SlimtaDNS
@testable import SlimtaRelay

@Suite(.serialized, .timeLimit(.minutes(4)))
struct TLSReportsTests {
    /// Reports, who wants them, and messages that would be queued.
    final class Desk: Sendable {
        let reports: TLSReports
        let messages = Mutex<[TLSReportMessage]>([])
        let kept = Mutex<[[UInt8]]>([])
        private let names: NameServer
        private let resolver: SlimtaDNS.Resolver
        private let client: HTTPSClient

        /// - Parameter domains: those who want them.
        init(_ domains: [String], now: @escaping @Sendable () -> Timestamp = { Timestamp.now() }) throws {
            names = try NameServer(
                records: domains.map { #"_smtp._tls.\#($0). 300 IN TXT "v=TLSRPTv1; rua=mailto:tls@\#($0)""# })
            resolver = try Fixture.resolver(names.port)
            client = try HTTPSClient(resolver: resolver, group: Fixture.group, verifies: false)
            reports = TLSReports(logger: Fixture.logger, now: now)
        }

        func open() {
            reports.configure(
                TLSReports.Settings(
                    contact: Mailbox("tls@client.test"), resolver: resolver,
                    delivery: TLSReportDelivery(verifying: client, lenient: client) { [self] message in
                        messages.withLock { $0.append(message) }
                        return message.recipient.text == "tls@full.test" ? "452 full" : nil
                    }))
        }

        /// What was counted of a domain, once DNS has said that it is wanted.
        func counted(_ domain: String) async -> [String] {
            for _ in 0..<200 {
                let counts = reports.overview.counts.filter { $0.domain == domain }
                if counts.contains(where: { !$0.places.isEmpty }) {
                    return counts.map { count in
                        let results = count.results.map { " \($0.result) \($0.count)" }.joined()
                        return "\(count.policy) \(count.successes) \(count.failures)\(results)"
                    }
                }
                try? await Task.sleep(for: .milliseconds(20))
            }
            return []
        }

        func keep() -> Bool {
            if let octets = reports.takeChanged() { kept.withLock { $0.append(octets) } }
            return true
        }

        func end() async {
            await client.shutDown()
            await resolver.close()
            names.stop()
        }
    }

    /// Hosts at 127.0.1.N with these scripts, and the relay that asks them.
    private func relay(
        _ world: MailWorld, _ desk: Desk, policies: STSPolicies? = nil,
        trustFile: String? = nil, _ change: (inout RelayOptions) -> Void = { _ in }
    ) throws -> MXRelay {
        var options = RelayOptions(hostname: "client.test")
        options.port = world.port
        options.networks.allowed = ["127.0.0.0/8"].compactMap { NetworkRange($0) }
        change(&options)
        return try MXRelay(
            options, resolver: world.resolver, own: OwnAddresses(listeners: []),
            security: RelaySecurity(policies: policies, reports: desk.reports, logger: Fixture.logger),
            trustFile: trustFile, group: Fixture.group, logger: Fixture.logger)
    }

    private func script(_ tls: TLSServerContext) -> [ScriptedServer.Step] {
        [
            .send("220 greets.test ESMTP\r\n"), .expect("EHLO"), .send("250-x\r\n250 STARTTLS\r\n"),
            .expect("STARTTLS"),
            .send("220 go\r\n"), .startTLS(tls), .serve([]),
        ]
    }

    private func context() throws -> TLSServerContext {
        let certificates = try Certificates()
        let pair = try certificates.selfSigned("mx1.test")
        defer { withExtendedLifetime(certificates) {} }
        return try TLSServerContext(certificatePEM: pair.certificatePEM, keyPEM: pair.keyPEM)
    }

    /// A negotiation on a new connection counts, and nothing else does.
    @Test func whatCounts() async throws {
        let desk = try Desk(["a.test", "clear.test", "refuses.test", "breaks.test"])
        desk.open()
        let world = try MailWorld([
            "a.test. 300 IN MX 10 mx1.test.", "other.test. 300 IN MX 10 mx1.test.",
            "clear.test. 300 IN MX 10 mx2.test.",
            "refuses.test. 300 IN MX 10 mx3.test.", "breaks.test. 300 IN MX 10 mx4.test.",
            "down.test. 300 IN MX 10 mx5.test.",
        ])
        let hello: [ScriptedServer.Step] = [
            .send("220 x\r\n"), .expect("EHLO"), .send("250-x\r\n250 STARTTLS\r\n"), .expect("STARTTLS"),
        ]
        let servers = [
            try await world.server(1, script(try context())),
            try await world.server(2, [.send("220 x\r\n"), .serve([])]),
            try await world.server(3, hello + [.send("454 no\r\n"), .serve([])]),
            try await world.server(4, hello + [.send("220 go\r\n"), .send("rubbish, and no TLS\r\n"), .close]),
        ]
        let relay = try relay(world, desk)
        // The second message goes over the same connection.
        for domain in ["a.test", "a.test", "other.test", "clear.test", "refuses.test", "breaks.test", "down.test"] {
            _ = await relay.attempt(Delivery(to: ["x@\(domain)"]))
        }
        #expect(await desk.counted("a.test") == ["no-policy-found 1 0"])
        #expect(await desk.counted("refuses.test") == ["no-policy-found 0 1 starttls-not-supported 1"])
        let broken = await desk.counted("breaks.test")
        #expect(broken.count == 1 && broken[0].hasPrefix("no-policy-found 0 1 validation-failure ("), "\(broken)")
        let others = desk.reports.overview.counts.map(\.domain).filter { ["clear.test", "down.test"].contains($0) }
        #expect(others.isEmpty)

        // What brings a report, and reports being off.
        let before = desk.reports.overview.counts.map(\.successes).reduce(0, +)
        var report = Delivery(to: ["tls@a.test"])
        report.envelope.isTLSReport = true
        let fresh = try self.relay(world, desk)
        #expect(await fresh.attempt(report).map(\.result) == [.delivered])
        desk.reports.configure(nil)
        let last = try self.relay(world, desk)
        #expect(await last.attempt(Delivery(to: ["x@a.test"])).map(\.result) == [.delivered])
        #expect(desk.reports.overview.counts.map(\.successes).reduce(0, +) == before)
        for relay in [relay, fresh, last] { await relay.shutDown() }
        for server in servers { await server.stop() }
        await world.end()
        await desk.end()
    }

    /// MTA-STS in a test says what it would have said: of the certificate, and of hosts that it does not name.
    @Test func whatATestSays() async throws {
        let desk = try Desk(["t.test", "e.test", "gone.test"])
        desk.open()
        let world = try MailWorld([
            "t.test. 300 IN MX 10 mx1.test.", #"_mta-sts.t.test. 300 IN TXT "v=STSv1; id=1;""#,
            "e.test. 300 IN MX 10 mx1.test.", #"_mta-sts.e.test. 300 IN TXT "v=STSv1; id=1;""#,
            "gone.test. 300 IN MX 10 mx1.test.", #"_mta-sts.gone.test. 300 IN TXT "v=STSv1; id=1;""#,
        ])
        let server = try await world.server(1, script(try context()))
        let policies = STSPolicies(
            STSCache(NoFiles(), paths: [], logger: Fixture.logger), resolver: world.resolver, logger: Fixture.logger
        ) { host in
            switch host {
            case "mta-sts.t.test": .success(Array("version: STSv1\nmode: testing\nmx: mx1.test\nmax_age: 9999\n".utf8))
            case "mta-sts.e.test": .success(Array("version: STSv1\nmode: enforce\nmx: mx2.test\nmax_age: 9999\n".utf8))
            default: .failure(.transport("it answers 404"))
            }
        }
        let relay = try relay(world, desk, policies: policies)
        #expect(await relay.attempt(Delivery(to: ["x@t.test"])).map(\.result) == [.delivered])
        #expect(await relay.attempt(Delivery(to: ["x@e.test"])).map(\.result) == [.temporary])
        // A report does not even ask for the policy, and goes.
        var report = Delivery(to: ["x@e.test"])
        report.envelope.isTLSReport = true
        #expect(await relay.attempt(report).map(\.result) == [.delivered])
        #expect(await relay.attempt(Delivery(to: ["x@gone.test"])).map(\.result) == [.delivered])
        #expect(await desk.counted("t.test") == ["sts 0 1 certificate-not-trusted 1"])
        #expect(await desk.counted("e.test") == ["sts 0 1 validation-failure (mx-mismatch) 1"])
        // The connection was there before; what was not had of the policy counts.
        #expect(await desk.counted("gone.test") == ["sts 0 1 sts-policy-fetch-error (it answers 404) 1"])
        await relay.shutDown()
        await server.stop()
        await world.end()
        await desk.end()
    }

    /// Hosts that a policy does not name are told with the connections that are made, and where there is none, once a minute: not
    /// with each message.
    @Test func hostsThatAreLeftOut() async throws {
        let desk = try Desk(["some.test", "none.test", "down.test"])
        desk.open()
        let world = try MailWorld([
            "some.test. 300 IN MX 10 mx1.test.", "some.test. 300 IN MX 20 mx2.test.",
            "none.test. 300 IN MX 10 mx1.test.", "down.test. 300 IN MX 10 mx2.test.",
            "down.test. 300 IN MX 20 mx1.test.",
            #"_mta-sts.some.test. 300 IN TXT "v=STSv1; id=1;""#, #"_mta-sts.none.test. 300 IN TXT "v=STSv1; id=1;""#,
            #"_mta-sts.down.test. 300 IN TXT "v=STSv1; id=1;""#,
        ])
        let (tls, file, certificates) = try FixedHostRelayTests.serverContext("mx1.test")
        let server = try await world.server(1, script(tls))
        let policies = STSPolicies(
            STSCache(NoFiles(), paths: [], logger: Fixture.logger), resolver: world.resolver, logger: Fixture.logger
        ) { host in
            let name = ["mta-sts.some.test": "mx1.test", "mta-sts.down.test": "mx2.test"][host] ?? "mx3.test"
            return .success(Array("version: STSv1\nmode: enforce\nmx: \(name)\nmax_age: 9999\n".utf8))
        }
        let relay = try relay(world, desk, policies: policies, trustFile: file)
        for number in 0..<3 {
            #expect(await relay.attempt(Delivery(to: ["x@some.test"])).map(\.result) == [.delivered], "\(number)")
            #expect(await relay.attempt(Delivery(to: ["x@none.test"])).map(\.result) == [.temporary], "\(number)")
            // There is no connection to tell it with, and it is why the mail waits.
            #expect(await relay.attempt(Delivery(to: ["x@down.test"])).map(\.result) == [.temporary], "\(number)")
        }
        #expect(server.connections == 1)
        #expect(await desk.counted("some.test") == ["sts 1 1 validation-failure (mx-mismatch) 1"])
        #expect(await desk.counted("none.test") == ["sts 0 1 validation-failure (mx-mismatch) 1"])
        #expect(await desk.counted("down.test") == ["sts 0 1 validation-failure (mx-mismatch) 1"])
        await relay.shutDown()
        await server.stop()
        await world.end()
        await desk.end()
        withExtendedLifetime(certificates) {}
    }

    /// 421 in reply to STARTTLS refuses that, and no handshake has failed.
    @Test func refusedWith421() async throws {
        let desk = try Desk(["busy.test"])
        desk.open()
        let world = try MailWorld(["busy.test. 300 IN MX 10 mx1.test."])
        let server = try await world.server(
            1,
            [
                .send("220 x\r\n"), .expect("EHLO"), .send("250-x\r\n250 STARTTLS\r\n"), .expect("STARTTLS"),
                .send("421 4.3.2 no\r\n"), .close,
            ])
        let relay = try relay(world, desk)
        #expect(await relay.attempt(Delivery(to: ["x@busy.test"])).map(\.result) == [.temporary])
        #expect(await desk.counted("busy.test") == ["no-policy-found 0 1 starttls-not-supported 1"])
        let strict = try self.relay(world, desk) { $0.security = .required }
        let outcomes = await strict.attempt(Delivery(to: ["x@busy.test"]))
        #expect(outcomes.map(\.reply.status) == [EnhancedStatus(4, 7, 4)], "\(outcomes)")
        for relay in [relay, strict] { await relay.shutDown() }
        await server.stop()
        await world.end()
        await desk.end()
    }

    private struct NoFiles: STSStore {
        func read(_ path: String) async -> [UInt8]? { nil }
        func write(_ octets: [UInt8], to path: String) async {}
        func remove(_ path: String) async {}
    }

    /// A day ends: the report is written down as sent, and then sent; what is not taken waits.
    @Test func aDayEnds() async throws {
        let clock = Clock(Timestamp(milliseconds: 20_786 * 86_400_000 + 43_200_000))
        let desk = try Desk(["a.test", "full.test"]) { clock.now }
        let reports = desk.reports
        desk.open()
        for domain in ["a.test", "full.test", "unwanted.test"] {
            reports.count(
                TLSNegotiation(
                    policies: [.none(domain): []], source: "192.0.2.1", mxName: "mx.\(domain)", mxHELO: "x",
                    address: "192.0.2.2"), for: domain)
        }
        for _ in 0..<200 where reports.overview.counts.contains(where: \.places.isEmpty) {
            try? await Task.sleep(for: .milliseconds(20))
        }
        #expect(reports.overview.counts.map(\.domain) == ["a.test", "full.test"])
        await reports.pass { desk.keep() }
        #expect(desk.messages.withLock { $0.isEmpty })
        // Behind midnight, ten minutes, and four hours at most.
        clock.pass(.seconds(43_200 + 601 + 14_400))
        await reports.pass { false }
        #expect(desk.messages.withLock { $0.isEmpty } && reports.overview.waiting.count == 2)
        await reports.pass { desk.keep() }
        let sent = desk.messages.withLock { $0 }
        #expect(Set(sent.map(\.recipient.text)) == ["tls@a.test", "tls@full.test"])
        #expect(sent.allSatisfy { $0.sender.text == "tls@client.test" })
        let overview = reports.overview
        #expect(overview.counts.isEmpty && overview.past.map(\.place) == ["mailto:tls@a.test"])
        #expect(overview.waiting.map(\.domain) == ["full.test"])
        #expect(overview.waiting.first?.error?.contains("452 full") == true)
        // What was on the disk before they left has neither of them: a crash would not have sent them again.
        let kept = try #require(desk.kept.withLock { $0.first })
        let first = try #require(TLSReportBook(octets: kept))
        #expect(first.letters.isEmpty && first.past.isEmpty && first.counter.count == 0)
        let message = try #require(sent.first)
        let text = String(buffer: message.content(QueueID(high: 1, low: 2), at: clock.now))
        #expect(text.contains("TLS-Report-Submitter: client.test\r\n"))
        clock.pass(.seconds(2 * 86_400))
        await reports.pass { desk.keep() }
        #expect(reports.overview.waiting.isEmpty && reports.overview.past.last?.error?.contains("452") == true)
        // A new start knows all of it.
        let again = TLSReports(logger: Fixture.logger)
        let last = try #require(desk.kept.withLock { $0.last })
        #expect(again.read(last))
        #expect(again.overview.past.count == 2)
        await desk.end()
    }

    /// However many are due, it is written down once that they are being sent, and once what came of them.
    @Test func manyAreDue() async throws {
        let clock = Clock(Timestamp(milliseconds: 20_786 * 86_400_000 + 43_200_000))
        let domains = (10..<45).map { "d\($0).test" }
        let desk = try Desk(domains) { clock.now }
        let reports = desk.reports
        desk.open()
        for domain in domains {
            reports.count(
                TLSNegotiation(
                    policies: [.none(domain): []], source: "192.0.2.1", mxName: "mx.\(domain)", mxHELO: "x",
                    address: "192.0.2.2"), for: domain)
        }
        for _ in 0..<200 where reports.overview.counts.contains(where: \.places.isEmpty) {
            try? await Task.sleep(for: .milliseconds(20))
        }
        let sent = await reports.sendNow(withToday: true) { desk.keep() }
        #expect(sent?.map(\.domain) == domains && sent?.allSatisfy { $0.place != nil } == true)
        #expect(desk.kept.withLock { $0.count } == 2)
        // Reports are off for months, and on again.
        reports.count(
            TLSNegotiation(
                policies: [.none("d10.test"): []], source: "192.0.2.1", mxName: "mx.d10.test", mxHELO: "x",
                address: "192.0.2.2"), for: "d10.test")
        _ = await desk.counted("d10.test")
        clock.pass(.seconds(43_200 + 60))
        await reports.pass { desk.keep() }
        #expect(reports.overview.waiting.count == 1)
        reports.configure(nil)
        clock.pass(.seconds(90 * 86_400))
        await reports.pass { desk.keep() }
        desk.open()
        let before = desk.messages.withLock { $0.count }
        await reports.pass { desk.keep() }
        #expect(desk.messages.withLock { $0.count } == before && reports.overview.waiting.isEmpty)
        #expect(reports.overview.past.last?.place == nil)
        await desk.end()
    }

    private final class Clock: Sendable {
        private let time: Mutex<Timestamp>
        init(_ time: Timestamp) { self.time = Mutex(time) }
        var now: Timestamp { time.withLock { $0 } }
        func pass(_ duration: Duration) { time.withLock { $0 = $0 + duration } }
    }
}
