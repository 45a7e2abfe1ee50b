// DNS lookups for relays and edges: validating, caching, asynchronous, by libunbound. One is made at start and at reload, after
// privileges are dropped and never before a fork: it has threads.

import Glibc

/// Looks names up.
///
/// Lookups do not block and may be made from any task, any number at a time. They take as long as libunbound tries, some
/// tens of seconds if no server answers: a shorter limit is the caller's business. Cancelling the task ends a lookup at
/// once with ``DNSError/temporary(_:)``. Answers are cached for their TTL, CNAME records are followed.
package final class Resolver: Sendable {
    /// Where Debian's dns-root-data keeps the keys of the root zone.
    private static let trustAnchorFile = "/usr/share/dns/root.key"

    let inbox: ResolverInbox

    /// A resolver that asks `servers`, or those of /etc/resolv.conf if that is empty.
    ///
    /// Throws ``DNSError/temporary(_:)`` with the reason if an address or resolv.conf is wrong, or if `dnssec` is
    /// `required` and there is no trust anchor.
    ///
    /// - Parameter sockets: how many it may have open at once to ask servers with.
    package convenience init(
        servers: [(address: String, port: Int)], dnssec: DNSSECMode, sockets: Int = 256
    ) throws(DNSError) {
        try self.init(servers: servers, dnssec: dnssec, trustAnchorFile: Self.trustAnchorFile, sockets: sockets)
    }

    /// After a failed probe the next one is made when something is asked `probeInterval` seconds later.
    init(
        servers: [(address: String, port: Int)], dnssec: DNSSECMode, trustAnchorFile: String, sockets: Int = 256,
        probeInterval: Int = 60
    ) throws(DNSError) {
        inbox = try ResolverInbox()
        let hasAnchor = access(trustAnchorFile, R_OK) == 0
        let noAnchor = "no trust anchor in \(trustAnchorFile) (package dns-root-data)"
        var (validating, plain): (UnboundContext?, UnboundContext?)
        var state = ValidationState.off
        switch dnssec {
        case .auto:
            plain = try UnboundContext(servers: servers, trustAnchorFile: nil, sockets: sockets)
            if hasAnchor {
                validating = try UnboundContext(
                    servers: servers, trustAnchorFile: trustAnchorFile, sockets: sockets)
            } else {
                state = .unavailable(noAnchor)
            }
        case .required:
            guard hasAnchor else { throw .temporary(noAnchor) }
            validating = try UnboundContext(
                servers: servers, trustAnchorFile: trustAnchorFile, sockets: sockets)
        case .off: plain = try UnboundContext(servers: servers, trustAnchorFile: nil, sockets: sockets)
        }
        try ResolverLoop(
            inbox: inbox, validating: validating, plain: plain, state: state, probeInterval: probeInterval
        ).start()
    }

    deinit { inbox.beginClosing() }

    /// Ends the threads, and with them all lookups that are not finished. Returns when they have ended.
    package func close() async {
        inbox.beginClosing()
        await inbox.closed.value
    }

    /// Whether it was told to end.
    package var isClosing: Bool { inbox.isClosing }

    /// Whether answers are validated; waits until that is known, which is a lookup's time after start.
    package var validation: ValidationState {
        get async { await inbox.validation.value }
    }

    /// Returns when libunbound's threads are there and answer, which takes no server: from then on a lack of open files
    /// fails lookups, and nothing else.
    package func waitUntilStarted() async { await inbox.started.value }

    // MARK: Lookups

    /// The mail exchangers of `domain` (RFC 5321 section 5.1).
    ///
    /// Exchangers whose name cannot be that of a host are left out; if no other is left, that is an error.
    package func mx(_ domain: String) async throws(DNSError) -> DNSAnswer<MXRecord> {
        try await lookup(QueryName(host: domain), .mx, parse: Self.mxRecord)
    }

    /// The mail exchangers of a name of any octets; else as ``mx(_:)-(String)``.
    package func mx(_ name: QueryName) async throws(DNSError) -> DNSAnswer<MXRecord> {
        try await lookup(name, .mx, aliases: .any, parse: Self.mxRecord)
    }

    private static func mxRecord(_ data: [UInt8]) -> MXRecord? {
        guard data.count > 2, let exchanger = DNSName.parse(data[2...]) else { return nil }
        return MXRecord(preference: UInt16(data[0]) << 8 | UInt16(data[1]), exchanger: exchanger)
    }

    /// The IPv4 addresses of `host`.
    package func a(_ host: String) async throws(DNSError) -> DNSAnswer<ResolvedAddress> {
        try await lookup(QueryName(host: host), .a) { Self.address($0, AF_INET, count: 4) }
    }

    /// The IPv4 addresses of a name of any octets.
    package func a(_ name: QueryName) async throws(DNSError) -> DNSAnswer<ResolvedAddress> {
        try await lookup(name, .a, aliases: .any) { Self.address($0, AF_INET, count: 4) }
    }

    /// The IPv6 addresses of `host`.
    package func aaaa(_ host: String) async throws(DNSError) -> DNSAnswer<ResolvedAddress> {
        try await lookup(QueryName(host: host), .aaaa) { Self.address($0, AF_INET6, count: 16) }
    }

    /// The IPv6 addresses of a name of any octets.
    package func aaaa(_ name: QueryName) async throws(DNSError) -> DNSAnswer<ResolvedAddress> {
        try await lookup(name, .aaaa, aliases: .any) { Self.address($0, AF_INET6, count: 16) }
    }

    /// The texts of a name: of each record all strings, joined without anything between them (RFC 1035 section 3.3.14,
    /// RFC 7208 section 3.3), as octets, since nobody says what they encode.
    package func txt(_ name: QueryName) async throws(DNSError) -> DNSAnswer<[UInt8]> {
        try await lookup(name, .txt, aliases: .any, parse: Self.text)
    }

    /// The TLSA records of a name such as _25._tcp.mx.example.com (RFC 6698 section 3), as DNS has them. A CNAME may lead
    /// anywhere: the records count for the name that was asked for (RFC 7671 section 7).
    package func tlsa(_ name: String) async throws(DNSError) -> DNSAnswer<[UInt8]> {
        try await lookup(QueryName(host: name), .tlsa, aliases: .any) { $0 }
    }

    /// What a name itself is an alias of, and whether that is proved: not what its whole chain leads to, which ends where
    /// somebody has not signed (RFC 7671 section 7).
    package func cname(_ name: String) async throws(DNSError) -> DNSAnswer<String> {
        try await lookup(QueryName(host: name), .cname, aliases: .any) { DNSName.parse($0[...]) }
    }

    /// The start of a zone's authority, where `name` is that of a zone (RFC 1035 section 3.3.13); no record: it is none.
    package func soa(_ name: QueryName) async throws(DNSError) -> DNSAnswer<SOARecord> {
        try await lookup(name, .soa, aliases: .any, parse: Self.soaRecord)
    }

    /// Two names, then five numbers of four octets each.
    private static func soaRecord(_ data: [UInt8]) -> SOARecord? {
        guard data.count >= 22 else { return nil }
        return SOARecord(minimum: data.suffix(4).reduce(0) { $0 << 8 | UInt32($1) })
    }

    /// The names that an address has at ``QueryName``, as in 1.2.0.192.in-addr.arpa (RFC 1035 section 3.5). They are in
    /// lower case, without a dot at the end, and need not be names of hosts: they consist of what is visible in ASCII.
    /// Others are left out, also if none is left then: an address whose name cannot be said has none.
    package func ptr(_ name: QueryName) async throws(DNSError) -> DNSAnswer<String> {
        let answer = try await lookup(name, .ptr, aliases: .any) { Optional(DNSName.parse($0[...], of: .visible)) }
        return DNSAnswer(
            records: answer.records.compactMap(\.self).filter { !$0.isEmpty }, security: answer.security,
            ttl: answer.ttl, canonicalName: answer.canonicalName)
    }

    private static func text(_ data: [UInt8]) -> [UInt8]? {
        var text: [UInt8] = []
        var rest = data[...]
        while let length = rest.popFirst() {
            guard rest.count >= Int(length) else { return nil }
            text += rest.prefix(Int(length))
            rest = rest.dropFirst(Int(length))
        }
        return text
    }

    private static func address(_ data: [UInt8], _ family: CInt, count: Int) -> ResolvedAddress? {
        guard data.count == count else { return nil }
        let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
            inet_ntop(family, data, text.baseAddress, socklen_t(text.count)).map { String(cString: $0) }
        }
        return text.map { ResolvedAddress(text: $0, isIPv6: family == AF_INET6) }
    }

    /// What CNAME records may lead to.
    private enum Aliases {
        /// To hosts only: the name is compared and sent on.
        case hosts
        /// To any name: nobody uses it, and it is given only if it is one of a host.
        case any
    }

    private func lookup<Record>(
        _ name: QueryName, _ type: UnboundContext.RecordType, aliases: Aliases = .hosts, parse: ([UInt8]) -> Record?
    ) async throws(DNSError) -> DNSAnswer<Record> {
        let answer = try await ask(DNSQuery(name: name.presentation, type: type)).get()
        let records = answer.records.compactMap(parse)
        // Not an empty answer: that would say that there are none.
        guard !records.isEmpty || answer.records.isEmpty else { throw .temporary("no usable \(type) record") }
        var canonicalName: String?
        if let text = answer.canonicalName {
            canonicalName = DNSName.normalized(text)
            switch aliases {
            case .hosts: guard canonicalName != nil else { throw .temporary("CNAME to what is no host name") }
            case .any: break
            }
        }
        return DNSAnswer(
            records: records, security: answer.isSecure ? .secure : .insecure, ttl: answer.ttl,
            canonicalName: canonicalName)
    }

    private func ask(_ query: DNSQuery) async -> DNSQuery.Answer {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if query.wait(continuation) { inbox.ask(query) }
            }
        } onCancel: {
            if query.cancel() { inbox.forget(query) }
        }
    }
}
