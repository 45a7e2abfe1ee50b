// Policies of MTA-STS as relays get them: a real name server for the records, a web server in words, and files in memory.

import SlimtaMail
import Synchronization
import TestKit
import Testing

@testable import SlimtaDNS
@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct STSPoliciesTests {
    /// Files, and what was done to them.
    private final class Files: STSStore {
        let content = Mutex<[String: [UInt8]]>([:])

        func read(_ path: String) async -> [UInt8]? { content.withLock { $0[path] } }
        func write(_ octets: [UInt8], to path: String) async { content.withLock { $0[path] = octets } }
        func remove(_ path: String) async { _ = content.withLock { $0.removeValue(forKey: path) } }

        var paths: [String] { content.withLock { $0.keys.sorted() } }
    }

    /// A web server: what it answers next, and how often it was asked.
    private final class Web: Sendable {
        let state = Mutex<(answer: Result<[UInt8], STSFetch.Failure>, hosts: [String])>((.failure(.tls("new")), []))

        func set(_ answer: Result<[UInt8], STSFetch.Failure>) { state.withLock { $0.answer = answer } }
        var hosts: [String] { state.withLock { $0.hosts } }

        func fetch(_ host: String) async -> Result<[UInt8], STSFetch.Failure> {
            // So that others come meanwhile.
            try? await Task.sleep(for: .milliseconds(50))
            return state.withLock { state in
                state.hosts.append(host)
                return state.answer
            }
        }
    }

    /// A mail does not wait for a whole minute behind a web server that dribbles.
    @Test func theTimeOfAFetch() { #expect(STSPolicies.limits.time == .seconds(30)) }

    private static func policy(_ mode: String, age: Int = 86_400) -> [UInt8] {
        Array("version: STSv1\nmode: \(mode)\nmx: mx.\(mode).example\nmax_age: \(age)\n".utf8)
    }

    private static let server = try! NameServer(
        records: [
            #"_mta-sts.a.example. 300 IN TXT "v=STSv1; id=1;""#, #"_mta-sts.b.example. 300 IN TXT "v=STSv1; " "id=2;""#,
            #"_mta-sts.two.example. 300 IN TXT "v=STSv1; id=1;""#,
            #"_mta-sts.two.example. 300 IN TXT "v=STSv1; id=2;""#,
            #"_mta-sts.other.example. 300 IN TXT "v=spf1 -all""#,
        ], refusing: ["refused.example."])

    private static func policies(
        _ files: Files, _ web: Web, _ resolver: SlimtaDNS.Resolver
    ) -> STSPolicies {
        STSPolicies(
            STSCache(files, paths: files.paths, logger: Fixture.logger), resolver: resolver, logger: Fixture.logger
        ) { await web.fetch($0) }
    }

    /// One question for many messages, a file of it, and another daemon that reads the file.
    @Test func fetchedOnceAndKept() async throws {
        let resolver = try Fixture.resolver(Self.server.port)
        let (files, web) = (Files(), Web())
        web.set(.success(Self.policy("enforce")))
        let policies = Self.policies(files, web, resolver)
        let standings = await inOrder(20) { _ in await policies.check("a.example").standing }
        let enforced = standings.filter { $0.isEnforced }
        #expect(enforced.count == 20)
        #expect(standings.first?.policy?.matches("mx.enforce.example") == true)
        #expect(web.hosts == ["mta-sts.a.example"])
        #expect(files.paths == [STSCachedPolicy.path(of: "a.example")])

        // The web server is gone; what was kept is in force, and nobody is asked for what has the same id.
        web.set(.failure(.transport("gone")))
        let later = Self.policies(files, web, resolver)
        #expect(await later.check("a.example").standing.isEnforced)
        #expect(web.hosts.count == 1)
        // No policy where there is no record, or not one; nobody is asked.
        for domain in ["none.example", "other.example", "two.example", "refused.example"] {
            #expect(await later.check(domain).policy == nil, "\(domain)")
        }
        #expect(web.hosts.count == 1)
        await resolver.close()
    }

    /// A server that fails is left in peace, and one that answers later is asked.
    @Test func failures() async throws {
        let resolver = try Fixture.resolver(Self.server.port)
        let (files, web) = (Files(), Web())
        let policies = Self.policies(files, web, resolver)
        let first = await policies.check("b.example")
        #expect(first.policy == nil && first.failure?.kind == .policyWebPKIInvalid)
        // It is told, and counted, once.
        #expect(await policies.check("b.example") == STSCheck.Outcome())
        // Another configuration's relays know of the failure as well.
        web.set(.success(Self.policy("enforce")))
        let other = STSPolicies(policies.cache, resolver: resolver, logger: Fixture.logger) { await web.fetch($0) }
        #expect(await other.check("b.example").policy == nil)
        #expect(web.hosts == ["mta-sts.b.example"] && files.paths.isEmpty)
        policies.cache.set(nil, of: "b.example", at: .now())
        let third = STSPolicies(policies.cache, resolver: resolver, logger: Fixture.logger) { await web.fetch($0) }
        #expect(await third.check("b.example").standing.isEnforced)
        await resolver.close()
    }

    /// What is kept: refreshed when it is due, whatever its id, and away when it has ended.
    @Test func refresh() async throws {
        let resolver = try Fixture.resolver(Self.server.port)
        let (files, web) = (Files(), Web())
        let now = Timestamp.now()
        /// `fetched` and `used`: seconds ago.
        func keep(_ domain: String, fetched: Int, used: Int, age: Int) throws {
            let kept = try STSCachedPolicy(
                Self.policy("enforce", age: age), id: "1", fetched: now + .seconds(-fetched),
                lastUsed: now + .seconds(-used))
            let path = try #require(STSCachedPolicy.path(of: domain))
            files.content.withLock { $0[path] = kept.file }
        }
        try keep("a.example", fetched: 86_400 + 20_000, used: 0, age: 604_800)
        try keep("fresh.example", fetched: 0, used: 0, age: 604_800)
        try keep("unused.example", fetched: 864_000 * 4, used: 86_400 * 31, age: 31_557_600)
        try keep("ended.example", fetched: 86_400 * 31, used: 86_400 * 31, age: 86_400)
        files.content.withLock { $0["zz/strange.example"] = [1] }
        web.set(.success(Self.policy("testing")))
        let policies = Self.policies(files, web, resolver)
        await policies.refresh()
        #expect(web.hosts == ["mta-sts.a.example"])
        #expect(await policies.check("a.example").policy?.mode == .testing)
        #expect(policies.cache.domains == ["a.example", "fresh.example", "unused.example"])
        // What is damaged is fetched again.
        let path = try #require(STSCachedPolicy.path(of: "a.example"))
        files.content.withLock { $0[path] = Array("damaged".utf8) }
        let later = Self.policies(files, web, resolver)
        #expect(await later.check("a.example").policy?.mode == .testing)
        let length = files.content.withLock { $0[path]?.count ?? 0 }
        #expect(web.hosts.count == 2 && length > 50)
        await resolver.close()
    }

    /// Who is broken off says nothing of a domain to the others.
    @Test func cancellation() async throws {
        let resolver = try Fixture.resolver(Self.server.port)
        let web = Web()
        web.set(.success(Self.policy("enforce")))
        let policies = Self.policies(Files(), web, resolver)
        let (began, begins) = AsyncStream.makeStream(of: Void.self)
        let slow = STSPolicies(policies.cache, resolver: resolver, logger: Fixture.logger) { host in
            begins.yield()
            let isFirst = web.hosts.isEmpty
            let answer = await web.fetch(host)
            if isFirst { try? await Task.sleep(for: .seconds(60)) }
            return Task.isCancelled ? .failure(.transport("cancelled")) : answer
        }
        let first = Task { await slow.check("a.example") }
        for await _ in began { break }
        let second = Task { await slow.check("a.example").standing }
        first.cancel()
        _ = await first.value
        #expect(await second.value.isEnforced)
        await resolver.close()
    }
}
