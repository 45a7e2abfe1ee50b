// SPF of sessions, asked of a real name server: records, hosts, names and explanations, and the end of its time. What
// check_host() decides is tested in SlimtaSPFTests.

import Logging
import NIOCore
import NIOPosix
import SlimtaDNS
import SlimtaMail
import SlimtaRules
import SlimtaSPF
import TestKit
import Testing

@testable import SlimtaEdge

@Suite struct SPFLookupsTests {
    private static let server = try! NameServer(
        records: [
            #"example.com. 300 IN TXT "v=spf1 ip4:192.0.2.0/28 mx a:hosts.example.com ""#,
            #"mx.example. 300 IN TXT "v=spf1 mx -all""#, "mx.example. 300 IN MX 10 in.mx.example.",
            "in.mx.example. 300 IN A 192.0.2.20", "in.mx.example. 300 IN AAAA 2001:db8::20",
            #"joined.example. 300 IN TXT "v=spf1 ip4:192." "0.2.1 -all""#,
            #"other.example. 300 IN TXT "something else""#,
            #"two.example. 300 IN TXT "v=spf1 -all""#, #"two.example. 300 IN TXT "v=spf1 +all""#,
            #"explained.example. 300 IN TXT "v=spf1 -all exp=why.explained.example""#,
            #"why.explained.example. 300 IN TXT "%{i} is not one of ours""#,
            #"slowly.example. 300 IN TXT "v=spf1 -all exp=x.silent.example""#,
            #"local.example. 300 IN TXT "v=spf1 exists:%{l}.users.%{d} -all""#,
            #"a\032b.users.local.example. 300 IN A 127.0.0.2"#,
            #"named.example. 300 IN TXT "v=spf1 ptr -all""#,
            "30.2.0.192.in-addr.arpa. 300 IN CNAME 30.0/27.2.0.192.in-addr.arpa.",
            "30.0/27.2.0.192.in-addr.arpa. 300 IN PTR mail.named.example.", "mail.named.example. 300 IN A 192.0.2.30",
            #"waits.example. 300 IN TXT "v=spf1 a:x.silent.example -all""#,
            #"hello.example. 300 IN TXT "v=spf1 ip4:192.0.2.1 -all""#,
            "alias.example. 300 IN CNAME joined.example.",
            #"xn--bcher-kva.example. 300 IN TXT "v=spf1 ip4:192.0.2.1 -all""#,
        ],
        refusing: ["broken.example."], silent: ["silent.example.", "100.51.198.in-addr.arpa."])

    private static let loop = MultiThreadedEventLoopGroup.singleton.next()

    private static func fact(
        _ client: String, _ sender: String?, ehlo: String = "c.example", explains: Bool = false,
        limit: Duration = .seconds(900)
    ) async throws -> SPFFact {
        let resolver = try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .off)
        let lookups = Lookups(
            .init(spfTimeout: limit, explainsSPF: explains, hostname: "mx.example.org"), resolver: resolver,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let address = client == "local" ? nil : try SocketAddress(ipAddress: client, port: 4711)
        let facts = ConnectionFacts(
            peer: address, local: address == nil ? try SocketAddress(unixDomainSocketPath: "/s") : address)
        let parts = sender?.split(separator: "@").map(String.init)
        let subject = LookupSubject(
            ehlo: ehlo, sender: Facts.Sender(parts.map { Mailbox(localPart: $0[0], domain: $0[1]) }))
        let promise = loop.makePromise(of: SessionLookups.Known.self)
        let session = try await loop.submit {
            let session = lookups.session(client: facts.peer, isTrusted: false, on: loop)
            session.values([.spf], about: subject) { promise.succeed($0) }
            return NIOLoopBound(session, eventLoop: loop)
        }.get()
        let known = try await promise.futureResult.get()
        try await loop.submit { session.value.end() }.get()
        for _ in 0..<100_000 where lookups.load != (0, 0) { try await Task.sleep(for: .milliseconds(5)) }
        #expect(lookups.load == (0, 0))
        await resolver.close()
        return try #require(known.spf)
    }

    @Test(arguments: [
        ("192.0.2.1", "a@example.com", SPFResult.pass), ("192.0.2.99", "a@example.com", .neutral),
        ("::ffff:192.0.2.1", "a@Example.COM", .pass), ("192.0.2.20", "a@mx.example", .pass),
        ("2001:db8::20", "a@mx.example", .pass), ("2001:db8::21", "a@mx.example", .fail),
        ("192.0.2.1", "a@joined.example", .pass), ("192.0.2.2", "a@joined.example", .fail),
        ("192.0.2.1", "a@alias.example", .pass),
        ("192.0.2.1", "a@other.example", .none), ("192.0.2.1", "a@nowhere.example", .none),
        ("192.0.2.1", "a@[192.0.2.1]", .none), ("192.0.2.1", "a@two.example", .permerror),
        ("192.0.2.1", "a@broken.example", .temperror),
        ("192.0.2.9", "\"a b\"@local.example", .pass), ("192.0.2.9", "ab@local.example", .fail),
        ("192.0.2.30", "a@named.example", .pass), ("192.0.2.31", "a@named.example", .fail),
        ("192.0.2.1", "a@b\u{FC}cher.example", .pass), ("192.0.2.2", "a@xn--bcher-kva.example", .fail),
        ("local", "a@joined.example", .none),
    ])
    func results(client: String, sender: String, result: SPFResult) async throws {
        #expect(try await Self.fact(client, sender).result == result)
    }

    /// Of the null sender the name in EHLO is asked about (RFC 7208 section 2.4).
    @Test(arguments: [
        ("192.0.2.1", "hello.example", SPFResult.pass), ("192.0.2.2", "hello.example", .fail),
        ("192.0.2.1", "[192.0.2.1]", .none), ("192.0.2.1", "laptop", .none), ("192.0.2.1", "joined.example", .pass),
    ])
    func nullSender(client: String, ehlo: String, result: SPFResult) async throws {
        let fact = try await Self.fact(client, nil, ehlo: ehlo)
        #expect(fact.result == result)
    }

    @Test func received() async throws {
        let field = try #require(try await Self.fact("192.0.2.1", "a@joined.example").receivedSPF)
        #expect(field.hasPrefix("Received-SPF: pass (mx.example.org: "))
        #expect(field.hasSuffix("\r\n"))
        #expect(field.contains("client-ip=192.0.2.1"))
    }

    @Test func explanation() async throws {
        let explained = try await Self.fact("192.0.2.9", "a@explained.example", explains: true)
        #expect(explained.result == .fail)
        #expect(explained.reason.contains("192.0.2.9 is not one of ours"))
        let silent = try await Self.fact("192.0.2.9", "a@explained.example")
        #expect(silent.result == .fail)
        #expect(!silent.reason.contains("not one of ours"))
    }

    @Test func outOfTime() async throws {
        let fact = try await Self.fact("192.0.2.9", "a@waits.example", limit: .milliseconds(300))
        #expect(fact.result == .temperror)
    }

    /// Whoever sends cannot make a temperror of a fail by silence about his own names.
    @Test func silentNamesOfTheClient() async throws {
        let resolver = try Resolver(servers: [("127.0.0.1", Self.server.port)], dnssec: .off)
        let line = LookupLine(.init(running: 1, runningOfSource: 1, waiting: 1, waitingOfSource: 1))
        let check = SPFCheck(
            client: try #require(IPAddress("198.51.100.7")), helo: "c.example",
            sender: Mailbox(localPart: "a", domain: "named.example"), receiver: "mx.example.org", time: 0,
            wantsExplanation: true)
        let fact = await SPFLookups.find(
            check, by: LookupQuestions(resolver: resolver, line: line, source: nil), clientLimit: .milliseconds(100)
        ) { _ in }
        #expect(fact.result == .fail)
        await resolver.close()
    }

    /// What is decided stays so if only the domain's words are missing: it is told before they are asked for.
    @Test func explanationOutOfTime() async throws {
        let resolver = try Resolver(servers: [("127.0.0.1", Self.server.port)], dnssec: .off)
        let line = LookupLine(.init(running: 1, runningOfSource: 1, waiting: 1, waitingOfSource: 1))
        let check = SPFCheck(
            client: try #require(IPAddress("192.0.2.9")), helo: "c.example",
            sender: Mailbox(localPart: "a", domain: "slowly.example"), receiver: "mx.example.org", time: 0,
            wantsExplanation: true)
        let (told, continuation) = AsyncStream.makeStream(of: SPFResult.self)
        let task = Task {
            await SPFLookups.find(
                check, by: LookupQuestions(resolver: resolver, line: line, source: nil), clientLimit: .seconds(60)
            ) {
                continuation.yield($0.result)
            }
        }
        var results: [SPFResult] = []
        for await result in told {
            results.append(result)
            if result == .fail { break }
        }
        #expect(results == [.temperror, .fail])
        task.cancel()
        #expect(await task.value.result == .fail)
        await resolver.close()
    }
}
