// Whether the names and addresses that hosts see us by agree: looked up at the start and once a day. Made by the composition
// root, which tells the operator.

package import Logging
package import SlimtaDNS
import SlimtaMail
import Synchronization

/// Asks DNS about our identities. Nothing is refused for what it finds.
package final class IdentityWatch: Sendable {
    private let identities: [OutwardIdentity]
    private let resolver: Resolver
    private let logger: Logger
    private let found = Mutex<[OutwardIdentity: [String]]>([:])
    private let task = Mutex<Task<Void, Never>?>(nil)

    /// Those of `identities` that others see.
    package init(_ identities: [OutwardIdentity], resolver: Resolver, logger: Logger) {
        self.identities = Array(Set(identities.filter(\.isSeen))).sorted { "\($0.address)" < "\($1.address)" }
        self.resolver = resolver
        self.logger = logger
    }

    deinit { task.withLock { $0?.cancel() } }

    /// What does not agree.
    package var findings: [String] { found.withLock { found in identities.flatMap { found[$0] ?? [] } } }

    /// Looks now, and from then on each `interval`, until ``end()``.
    package func start(interval: Duration = .seconds(86_400)) {
        guard !identities.isEmpty else { return }
        let running = Task.detached { [weak self] in
            repeat { await self?.look() } while (try? await Task.sleep(for: interval)) != nil && self != nil
        }
        task.withLock { $0 = running }
    }

    /// No more looks.
    package func end() { task.withLock { $0?.cancel() } }

    /// Looks once, and tells what is new.
    package func look() async {
        let looks = await Self.findings(of: identities, resolver)
        guard !Task.isCancelled else { return }
        let news = found.withLock { found in
            zip(identities, looks).flatMap { identity, findings -> [String] in
                // What was found before still holds while DNS does not say.
                guard let findings else { return [] }
                let known = found[identity] ?? []
                found[identity] = findings
                return findings.filter { !known.contains($0) }
            }
        }
        for finding in news {
            logger.warning("our names and addresses do not agree", metadata: ["reason": "\(finding)"])
        }
    }

    /// What does not agree, for each of these; nil: DNS does not say now whether all does.
    package static func findings(of identities: [OutwardIdentity], _ resolver: Resolver) async -> [[String]?] {
        await inOrder(identities.count) { index in
            let identity = identities[index]
            let facts = await facts(of: identity, resolver)
            let findings = identity.findings(facts)
            return findings.isEmpty && !identity.isKnown(by: facts) ? nil : findings
        }
    }

    private static func facts(of identity: OutwardIdentity, _ resolver: Resolver) async -> OutwardIdentity.Facts {
        var facts = OutwardIdentity.Facts()
        if let name = QueryName(reverseOf: identity.address.octets, isIPv4: identity.address.isIPv4) {
            do throws(DNSError) {
                facts.pointers = try await resolver.ptr(name).records.sorted()
            } catch {
                if error == .noSuchName { facts.pointers = [] }
            }
        }
        for name in Set((facts.pointers ?? []) + [identity.name]) {
            facts.addresses[name] = await addresses(of: name, isIPv4: identity.address.isIPv4, resolver)
        }
        return facts
    }

    /// Those of the one family; nil: nobody knows just now.
    private static func addresses(of name: String, isIPv4: Bool, _ resolver: Resolver) async -> [IPAddress]? {
        do throws(DNSError) {
            let records = try await (isIPv4 ? resolver.a(name) : resolver.aaaa(name)).records
            return records.compactMap { IPAddress($0.text) }
        } catch {
            switch error {
            case .noSuchName, .invalidName: return []
            case .temporary, .bogus: return nil
            }
        }
    }
}
