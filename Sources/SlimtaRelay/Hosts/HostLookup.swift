// Who takes mail for a domain, and where its hosts are: DNS as the relays see it (RFC 5321 section 5.1, RFC 7505).

import NIOCore
import SlimtaDNS
import SlimtaMail
import Synchronization

/// Lookups for relays, with a short memory: libunbound caches by itself, but asking it costs two changes of thread.
final class HostLookup: Sendable {
    /// Who takes mail for a domain.
    enum Exchangers: Hashable, Sendable {
        /// Names of hosts, by preference: each group is to be tried before the next. Never empty.
        case groups([[String]])
        /// There is no MX record: the domain's own addresses count.
        case implicit
        /// "No mail here" (RFC 7505).
        case null
        case noSuchDomain
        /// The name cannot be one of DNS.
        case invalid
        /// Nobody knows just now, for this reason.
        case unknown(String)
    }

    /// Where a host is.
    enum Addresses: Hashable, Sendable {
        /// IPv6 and IPv4 in turn. Never empty.
        case found([SocketAddress])
        case none
        case unknown(String)
    }

    /// Longer than this nothing is remembered here.
    private static let maximumAge: UInt32 = 60
    private static let capacity = 10_000

    private let resolver: Resolver
    private let exchangers = Mutex(ExpiringCache<String, Exchangers>(capacity: capacity))
    private let hosts = Mutex(ExpiringCache<String, [ResolvedAddress]>(capacity: capacity))

    init(_ resolver: Resolver) { self.resolver = resolver }

    /// The mail exchangers of `domain`, which is in lower case.
    func exchangers(of domain: String) async -> Exchangers {
        let known = exchangers.withLock { $0.value(for: domain, at: .now()) }
        if let known { return known }
        let answer: DNSAnswer<MXRecord>
        do {
            answer = try await resolver.mx(domain)
        } catch {
            switch error {
            case .noSuchName: return .noSuchDomain
            case .invalidName: return .invalid
            case .temporary(let reason), .bogus(let reason): return .unknown(reason)
            }
        }
        let result = Self.exchangers(from: answer.records)
        exchangers.withLock { Self.remember(result, for: domain, ttl: answer.ttl, in: &$0) }
        return result
    }

    private static func exchangers(from records: [MXRecord]) -> Exchangers {
        if records.isEmpty { return .implicit }
        // RFC 7505 section 3: beside others, "." says nothing.
        let hosts = records.filter { !$0.exchange.isEmpty }
        if hosts.isEmpty { return .null }
        let groups = Dictionary(grouping: hosts, by: \.preference).sorted { $0.key < $1.key }
        return .groups(groups.map { $0.value.map(\.exchange) })
    }

    /// The addresses of `host`, with `port`.
    func addresses(of host: String, port: Int) async -> Addresses {
        let known = hosts.withLock { $0.value(for: host, at: .now()) }
        if let known { return Self.addresses(known, port: port) }
        async let v6 = lookup { () async throws(DNSError) in try await self.resolver.aaaa(host) }
        async let v4 = lookup { () async throws(DNSError) in try await self.resolver.a(host) }
        let answers = await (v6, v4)
        var found: (v6: [ResolvedAddress], v4: [ResolvedAddress]) = ([], [])
        var ttl = UInt32.max
        var failure: String?
        for answer in [answers.0, answers.1] {
            switch answer {
            case .success(let answer):
                found.v6 += answer.records.filter(\.isIPv6)
                found.v4 += answer.records.filter { !$0.isIPv6 }
                if !answer.records.isEmpty { ttl = min(ttl, answer.ttl) }
            case .failure(.noSuchName), .failure(.invalidName): break
            case .failure(.temporary(let reason)), .failure(.bogus(let reason)): failure = reason
            }
        }
        let all = Self.inTurn(found.v6, found.v4)
        if all.isEmpty, let failure { return .unknown(failure) }
        // Half an answer is used, and not remembered.
        if failure == nil, !all.isEmpty { hosts.withLock { Self.remember(all, for: host, ttl: ttl, in: &$0) } }
        return Self.addresses(all, port: port)
    }

    /// So that one family that does not work costs no more than every other try.
    private static func inTurn(_ first: [ResolvedAddress], _ second: [ResolvedAddress]) -> [ResolvedAddress] {
        (0..<max(first.count, second.count)).flatMap { index in
            [first, second].compactMap { index < $0.count ? $0[index] : nil }
        }
    }

    private static func addresses(_ all: [ResolvedAddress], port: Int) -> Addresses {
        let addresses = all.compactMap { try? SocketAddress(ipAddress: $0.text, port: port).unmapped }
        return addresses.isEmpty ? .none : .found(addresses)
    }

    private func lookup(
        _ ask: @Sendable () async throws(DNSError) -> DNSAnswer<ResolvedAddress>
    ) async -> Result<DNSAnswer<ResolvedAddress>, DNSError> {
        do { return .success(try await ask()) } catch { return .failure(error) }
    }

    private static func remember<Value>(
        _ value: Value, for key: String, ttl: UInt32, in cache: inout sending ExpiringCache<String, Value>
    ) {
        let now = NIODeadline.now()
        cache.insert(value, for: key, until: now + .seconds(Int64(min(ttl, maximumAge))), at: now)
    }
}
