// Where a host is: its addresses of both families, asked for at once, and not longer waited for than one that is known makes
// sensible. For relays, and whoever asks servers over HTTP.

/// What was said of a host's addresses.
package struct HostAddresses: Sendable {
    /// What one family's lookup came to.
    package typealias Answer = Result<DNSAnswer<ResolvedAddress>, DNSError>

    /// Of IPv6.
    package fileprivate(set) var v6 = Answer.failure(.temporary("not asked"))
    /// Of IPv4.
    package fileprivate(set) var v4 = Answer.failure(.temporary("not asked"))
}

extension Resolver {
    private enum Event: Sendable {
        case answer(HostAddresses.Answer, isV6: Bool)
        case patienceEnded
    }

    /// Both families' addresses of `host`.
    ///
    /// There are name servers that never answer a question for one of them (RFC 4074 section 4.1): where the other has
    /// addresses, such an answer is waited for no longer than `patience`, and is ``DNSError/temporary(_:)`` then.
    package func addresses(of host: String, patience: Duration = .seconds(1)) async -> HostAddresses {
        await withTaskGroup(of: Event.self) { group in
            group.addTask {
                let answer = await Self.result { () async throws(DNSError) in try await self.aaaa(host) }
                return .answer(answer, isV6: true)
            }
            group.addTask {
                let answer = await Self.result { () async throws(DNSError) in try await self.a(host) }
                return .answer(answer, isV6: false)
            }
            var found = HostAddresses()
            var (missing, isHurried) = (2, false)
            while missing > 0, let event = await group.next() {
                switch event {
                case .answer(let answer, let isV6):
                    missing -= 1
                    if isV6 { found.v6 = answer } else { found.v4 = answer }
                    guard case .success(let known) = answer, !known.records.isEmpty, !isHurried else { continue }
                    isHurried = true
                    group.addTask {
                        try? await Task.sleep(for: patience)
                        return .patienceEnded
                    }
                case .patienceEnded: group.cancelAll()
                }
            }
            group.cancelAll()
            return found
        }
    }

    private static func result(
        _ ask: @Sendable () async throws(DNSError) -> DNSAnswer<ResolvedAddress>
    ) async -> HostAddresses.Answer {
        do { return .success(try await ask()) } catch { return .failure(error) }
    }
}
