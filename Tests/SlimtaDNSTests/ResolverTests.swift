// Resolver against a real name server on loopback, without DNSSEC.

import Glibc
import TestKit
import Testing

@testable import SlimtaDNS

@Suite struct ResolverTests {
    /// One for all that only ask it.
    private static let server = try! NameServer(
        records: [
            "example.com. 300 IN MX 10 Mx1.Example.com.", "example.com. 300 IN MX 10 mx2.example.com.",
            "example.com. 300 IN MX 20 backup.example.net.",
            "nomail.example. 300 IN MX 0 .",
            "mx1.example.com. 300 IN A 192.0.2.1", "mx1.example.com. 300 IN A 192.0.2.2",
            "mx1.example.com. 300 IN AAAA 2001:db8::1", "mx1.example.com. 300 IN AAAA ::ffff:192.0.2.9",
            "alias.example. 300 IN CNAME Other.example.", "other.example. 100 IN CNAME example.com.",
            "dangling.example. 300 IN CNAME nowhere.example.", "empty.example. 300 IN CNAME mx1.example.com.",
            "host.test. 300 IN A 192.0.2.3", "host.lan. 300 IN A 192.0.2.4", "host.home.arpa. 300 IN A 192.0.2.5",
            "odd.example. 300 IN MX 10 a\\\\000b.example.", "odd.example. 300 IN MX 10 a\\\\.b.example.",
            "odd.example. 300 IN MX 10 a\\\\032b.example.", "odd.example. 300 IN MX 10 b\\\\252cher.example.",
            "odd.example. 300 IN MX 20 good.example.",
            "allodd.example. 300 IN MX 10 a\\\\.b.example.",
            "oddalias.example. 300 IN CNAME a\\\\.b.example.", "a\\\\.b.example. 300 IN MX 10 good.example.",
        ] + (0..<300).map { "many.example. 300 IN MX \($0) mx\($0).many.example." }
            + (0..<1000).map { "toomany.example. 300 IN MX \($0) mx\($0).toomany.example." }
            + (0..<1000).map { "host\($0).example. 300 IN A 192.0.\($0 / 256).\($0 % 256)" },
        refusing: ["broken.example."], silent: ["silent.example."])

    private static func resolver() throws -> Resolver {
        try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .off)
    }

    /// It has its threads before anybody asks, though no server answers; a lack of open files then fails a lookup and
    /// not the process.
    @Test func startsBeforeFilesRunOut() async {
        await #expect(processExitsWith: .success) {
            let resolver = try Resolver(servers: [("127.0.0.1", 9)], dnssec: .off)
            await resolver.waitUntilStarted()
            var none = rlimit(rlim_cur: 3, rlim_max: 3)
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none) == 0)
            await #expect(throws: DNSError.self) { try await resolver.a("somewhere.example") }
        }
    }

    @Test func mailExchangers() async throws {
        let answer = try await Self.resolver().mx("EXAMPLE.com")
        #expect(
            answer.records.sorted { ($0.preference, $0.exchanger) < ($1.preference, $1.exchanger) } == [
                MXRecord(preference: 10, exchanger: "mx1.example.com"),
                MXRecord(preference: 10, exchanger: "mx2.example.com"),
                MXRecord(preference: 20, exchanger: "backup.example.net"),
            ])
        #expect(answer.security == .insecure)
        #expect((1...300).contains(answer.ttl))
        #expect(answer.canonicalName == nil)
    }

    @Test func nullMX() async throws {
        #expect(try await Self.resolver().mx("nomail.example").records == [MXRecord(preference: 0, exchanger: "")])
    }

    @Test func addresses() async throws {
        let resolver = try Self.resolver()
        #expect(
            Set(try await resolver.a("mx1.example.com").records) == [
                ResolvedAddress(text: "192.0.2.1", isIPv6: false), ResolvedAddress(text: "192.0.2.2", isIPv6: false),
            ])
        #expect(
            Set(try await resolver.aaaa("mx1.example.com").records) == [
                ResolvedAddress(text: "2001:db8::1", isIPv6: true),
                ResolvedAddress(text: "::ffff:192.0.2.9", isIPv6: true),
            ])
    }

    @Test func noRecordOfTheType() async throws {
        let resolver = try Self.resolver()
        let answer = try await resolver.mx("mx1.example.com")
        #expect(answer.records.isEmpty)
        #expect(answer.canonicalName == nil)
        let alias = try await resolver.mx("empty.example")
        #expect(alias.records.isEmpty)
        #expect(alias.canonicalName == "mx1.example.com")
        #expect(try await resolver.aaaa("host1.example").records.isEmpty)
    }

    @Test(arguments: ["nowhere.example", "dangling.example"])
    func noSuchName(name: String) async throws {
        let resolver = try Self.resolver()
        await #expect(throws: DNSError.noSuchName) { try await resolver.mx(name) }
        await #expect(throws: DNSError.noSuchName) { try await resolver.a(name) }
    }

    @Test func aliases() async throws {
        let answer = try await Self.resolver().mx("alias.example")
        #expect(answer.records.count == 3)
        #expect(answer.canonicalName == "example.com")
        #expect(answer.ttl <= 100)
    }

    @Test func serverFailure() async throws {
        let resolver = try Self.resolver()
        await #expect(throws: DNSError.temporary("SERVFAIL")) { try await resolver.mx("broken.example") }
    }

    @Test(arguments: ["", "b\u{FC}cher.example", "a..b", "a b.example", "[192.0.2.1]"])
    func invalidName(name: String) async throws {
        let resolver = try Self.resolver()
        await #expect(throws: DNSError.invalidName) { try await resolver.mx(name) }
        await #expect(throws: DNSError.invalidName) { try await resolver.a(name) }
    }

    /// A name with an octet that no host has is not believed, and does not become another one.
    @Test func oddOctets() async throws {
        let resolver = try Self.resolver()
        #expect(try await resolver.mx("odd.example").records == [MXRecord(preference: 20, exchanger: "good.example")])
        await #expect(throws: DNSError.temporary("no usable mx record")) { try await resolver.mx("allodd.example") }
        await #expect(throws: DNSError.temporary("CNAME to what is no host name")) {
            try await resolver.mx("oddalias.example")
        }
    }

    /// libunbound itself would deny these.
    @Test(arguments: [("host.test", "192.0.2.3"), ("host.lan", "192.0.2.4"), ("host.home.arpa", "192.0.2.5")])
    func privateDomains(name: String, address: String) async throws {
        #expect(
            try await Self.resolver().a(name).records == [ResolvedAddress(text: address, isIPv6: false)])
    }

    /// More than UDP carries: the answers come over TCP, and completely.
    @Test(arguments: [("many.example", 300), ("toomany.example", 1000)])
    func manyExchangers(domain: String, count: Int) async throws {
        let answer = try await Self.resolver().mx(domain)
        #expect(
            Set(answer.records)
                == Set((0..<count).map { MXRecord(preference: UInt16($0), exchanger: "mx\($0).\(domain)") }))
        #expect(answer.records.count == count)
    }

    @Test func manyAtOnce() async throws {
        let resolver = try Self.resolver()
        let wrong = await withTaskGroup(of: Bool.self) { group in
            for index in 0..<1000 {
                group.addTask {
                    let answer = try? await resolver.a("host\(index).example")
                    return answer?.records.map(\.text) != ["192.0.\(index / 256).\(index % 256)"]
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(wrong == 0)
        await resolver.close()
    }

    @Test func cache() async throws {
        let server = try NameServer(records: ["example.com. 300 IN MX 10 mx.example.com."])
        let resolver = try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .off)
        let first = try await resolver.mx("example.com")
        server.stop()
        let second = try await resolver.mx("example.com")
        #expect(first.records == second.records)
    }

    // MARK: Ends

    @Test func cancellation() async throws {
        let resolver = try Self.resolver()
        await withTaskGroup(of: DNSError?.self) { group in
            for index in 0..<200 {
                group.addTask {
                    do throws(DNSError) {
                        _ = try await resolver.mx("host\(index).silent.example")
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            // Some are cancelled before they begin, some after.
            await Task.yield()
            group.cancelAll()
            for await error in group { #expect(error == .temporary("cancelled")) }
        }
        #expect(try await resolver.mx("example.com").records.count == 3)
        await resolver.close()
    }

    /// Answers and cancellations at the same time: each lookup ends once, one way or the other.
    @Test func cancellationOfWhatIsBeingAnswered() async throws {
        let resolver = try Self.resolver()
        for round in 0..<100 {
            let task = Task { try? await resolver.a("host\(round).example").records.count }
            if round % 2 == 0 { await Task.yield() }
            for _ in 0..<(round * 100) { sched_yield() }
            task.cancel()
            #expect([nil, 1].contains(await task.value))
        }
        await resolver.close()
    }

    @Test func close() async throws {
        let resolver = try Self.resolver()
        _ = try await resolver.mx("example.com")
        let waiting = Task { () async -> DNSError? in
            do throws(DNSError) {
                _ = try await resolver.mx("silent.example")
                return nil
            } catch {
                return error
            }
        }
        await Task.yield()
        await resolver.close()
        #expect(await waiting.value == .temporary("resolver closed"))
        await #expect(throws: DNSError.temporary("resolver closed")) { try await resolver.mx("example.com") }
        await resolver.close()
    }

    /// Without `close` the threads end as well.
    @Test func release() async throws {
        weak var inbox: ResolverInbox?
        do {
            let resolver = try Self.resolver()
            _ = try await resolver.mx("example.com")
            inbox = resolver.inbox
            #expect(inbox != nil)
        }
        for _ in 0..<500 where inbox != nil { try await Task.sleep(for: .milliseconds(10)) }
        #expect(inbox == nil)
    }

    @Test(arguments: ["mx.example.com", "", "192.0.2"])
    func wrongServer(address: String) throws {
        #expect(throws: DNSError.self) { try Resolver(servers: [(address, 53)], dnssec: .off) }
    }

    @Test func noServer() async throws {
        let resolver = try Resolver(servers: [("127.0.0.1", try NameServer.freePort())], dnssec: .off)
        await #expect(throws: DNSError.temporary("SERVFAIL")) { try await resolver.mx("example.com") }
    }

    @Test func systemServers() async throws {
        // Whatever /etc/resolv.conf has: nothing is asked.
        let resolver = try Resolver(servers: [], dnssec: .off)
        #expect(await resolver.validation == .off)
        await resolver.close()
    }
}
