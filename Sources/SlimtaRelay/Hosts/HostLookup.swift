// Who takes mail for a domain, and where its hosts are: DNS as MXRelay and FixedHostRelay see it (RFC 5321 section 5.1,
// RFC 7505 section 3).

import NIOCore
import SlimtaDNS
import SlimtaMail
import Synchronization

/// Lookups for relays, with a short memory: libunbound caches by itself, but asking it costs two changes of thread.
final class HostLookup: Sendable {
    /// Who takes mail for a domain.
    enum Exchangers: Hashable, Sendable {
        /// Names of hosts, by preference: each group is to be tried before the next. Never empty. Whether DNSSEC proved
        /// that they are the domain's, and the name that the domain is an alias of.
        case groups([[String]], DNSSECState, canonicalName: String? = nil)
        /// There is no MX record: the domain's own addresses count. Whether DNSSEC proved that.
        case implicit(DNSSECState)
        /// "No mail here" (RFC 7505 section 3).
        case null
        case noSuchDomain
        /// The name cannot be one of DNS.
        case invalid
        /// Nobody knows just now.
        case unknown(DNSError)
    }

    /// Where a host is.
    enum Addresses: Hashable, Sendable {
        case found(Found)
        case none
        /// Nobody knows just now.
        case unknown(DNSError)
    }

    /// The addresses of a host, and what is known of how they were found.
    struct Found: Hashable, Sendable {
        /// IPv6 and IPv4 in turn. Never empty.
        let addresses: [SocketAddress]
        /// Whether DNSSEC proved every answer that has addresses: one without, or none at all, takes nothing from the
        /// other (RFC 7672 section 2.2.2).
        let security: DNSSECState
        /// The name that CNAME records led to; nil if there were none.
        let canonicalName: String?
    }

    /// Longer than this nothing is remembered here.
    static let maximumAge: UInt32 = 60
    private static let capacity = 10_000

    let resolver: Resolver
    /// The port of all hosts.
    let port: Int
    private let exchangers = Mutex(ExpiringCache<String, Exchangers>(capacity: capacity))
    private let hosts = Mutex(ExpiringCache<String, Found>(capacity: capacity))
    private let tlsaFindings = Mutex(ExpiringCache<String, TLSAFinding>(capacity: capacity))

    init(_ resolver: Resolver, port: Int) { (self.resolver, self.port) = (resolver, port) }

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
            case .temporary, .bogus: return .unknown(error)
            }
        }
        let result = Self.exchangers(from: answer)
        exchangers.withLock { Self.remember(result, for: domain, ttl: answer.ttl, in: &$0) }
        return result
    }

    private static func exchangers(from answer: DNSAnswer<MXRecord>) -> Exchangers {
        if answer.records.isEmpty { return .implicit(answer.security) }
        // RFC 7505 section 3: beside others, "." says nothing.
        let hosts = answer.records.filter { !$0.exchanger.isEmpty }
        if hosts.isEmpty { return .null }
        let groups = Dictionary(grouping: hosts, by: \.preference).sorted { $0.key < $1.key }
        return .groups(
            groups.map { $0.value.map(\.exchanger) }, answer.security, canonicalName: answer.canonicalName)
    }

    /// The addresses of `host`.
    func addresses(of host: String) async -> Addresses {
        let known = hosts.withLock { $0.value(for: host, at: .now()) }
        if let known { return .found(known) }
        var answers: [DNSAnswer<ResolvedAddress>] = []
        var failure: DNSError?
        let both = await resolver.addresses(of: host)
        for answer in [both.v6, both.v4] {
            switch answer {
            case .success(let answer): if !answer.records.isEmpty { answers.append(answer) }
            case .failure(.noSuchName), .failure(.invalidName): break
            case .failure(let error): failure = error
            }
        }
        let addresses = Self.inTurn(answers.map(\.records)).compactMap {
            try? SocketAddress(ipAddress: $0.text, port: port).unmapped
        }
        guard !addresses.isEmpty else { return failure.map { .unknown($0) } ?? .none }
        let found = Found(
            addresses: addresses, security: answers.allSatisfy { $0.security == .secure } ? .secure : .insecure,
            canonicalName: answers.lazy.compactMap(\.canonicalName).first)
        // Half an answer is used, and not remembered.
        if failure == nil {
            let ttl = answers.map(\.ttl).min() ?? 0
            hosts.withLock { Self.remember(found, for: host, ttl: ttl, in: &$0) }
        }
        return .found(found)
    }

    func knownTLSA(of host: String) -> TLSAFinding? { tlsaFindings.withLock { $0.value(for: host, at: .now()) } }

    /// An answer that is none is asked for again.
    func remember(_ finding: TLSAFinding, of host: String, ttl: UInt32) {
        if case .failed = finding { return }
        tlsaFindings.withLock { Self.remember(finding, for: host, ttl: ttl, in: &$0) }
    }

    /// So that one family that does not work costs no more than every other try.
    private static func inTurn(_ families: [[ResolvedAddress]]) -> [ResolvedAddress] {
        (0..<(families.map(\.count).max() ?? 0)).flatMap { index in
            families.compactMap { index < $0.count ? $0[index] : nil }
        }
    }

    private static func remember<Value>(
        _ value: Value, for key: String, ttl: UInt32, in cache: inout sending ExpiringCache<String, Value>
    ) {
        let now = NIODeadline.now()
        cache.insert(value, for: key, until: now + .seconds(Int64(min(ttl, maximumAge))), at: now)
    }
}
