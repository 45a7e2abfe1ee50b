// Lookups of `slimtad explain-session`: those of the daemon, with a resolver of their own, for one session.

import Logging
import NIOCore
import NIOPosix
import SlimtaConfiguration
import SlimtaDNS
import SlimtaEdge
import SlimtaMail
import SlimtaRules
import SlimtaSystem

/// Looks up what rules want to know of a session, and waits for it. Nothing is started before something is wanted.
final class CommandLookups {
    private let file: ConfigurationFile
    private let zones: [String: String]
    private let client: ConnectionFacts.Endpoint
    private let isTrusted: Bool
    private let mayAsk: Bool
    private var running: (group: MultiThreadedEventLoopGroup, resolver: SlimtaDNS.Resolver, lookups: Lookups)?

    /// - Parameter mayAsk: false: nothing is looked up.
    init(
        _ file: ConfigurationFile, zones: [String: String], client: ConnectionFacts.Endpoint, isTrusted: Bool,
        mayAsk: Bool
    ) {
        self.file = file
        self.zones = zones
        self.client = client
        self.isTrusted = isTrusted
        self.mayAsk = mayAsk
    }

    /// Adds what was found out to `facts`; what was found, in words.
    func find(_ needed: Set<Fact>, _ facts: inout Facts, _ subject: LookupSubject) throws(Failure) -> [String] {
        guard mayAsk else { return [] }
        let (group, _, lookups) = try started()
        let loop = group.next()
        let promise = loop.makePromise(of: SessionLookups.Known.self)
        loop.execute { [client, isTrusted] in
            let session = lookups.session(client: client, isTrusted: isTrusted, on: loop)
            // Whoever waits keeps the session until it is told.
            session.values(needed, about: subject) { known in
                promise.succeed(known)
                session.end()
            }
        }
        do {
            let known = try promise.futureResult.wait()
            known.fill(&facts)
        } catch {
            throw Failure(.unavailable, "\(error)")
        }
        return needed.map { facts.words(about: $0) }.sorted()
    }

    private func started() throws(Failure) -> (MultiThreadedEventLoopGroup, SlimtaDNS.Resolver, Lookups) {
        if let running { return running }
        let resolver: SlimtaDNS.Resolver
        do {
            resolver = try file.values.makeResolver(sockets: 64)
        } catch {
            throw Failure(.unavailable, "\(error)")
        }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let quiet = Logger(label: "slimtad") { _ in SwiftLogNoOpLogHandler() }
        let lookups = Lookups(
            file.values.lookupSettings(hostname: file.hostname, zones: zones), resolver: resolver, logger: quiet)
        wait(on: group) { await resolver.waitUntilStarted() }
        lookups.start()
        running = (group, resolver, lookups)
        return (group, resolver, lookups)
    }

    /// Ends what was started.
    func end() {
        guard let (group, resolver, lookups) = running else { return }
        running = nil
        lookups.end()
        wait(on: group) { await resolver.close() }
        try? group.syncShutdownGracefully()
    }

    private func wait(on group: MultiThreadedEventLoopGroup, _ body: @escaping @Sendable () async -> Void) {
        let promise = group.next().makePromise(of: Void.self)
        promise.completeWithTask { await body() }
        try? promise.futureResult.wait()
    }
}

extension Facts {
    /// What is known of a fact that was looked up.
    fileprivate func words(about fact: Fact) -> String {
        switch fact {
        case .ptr:
            guard let ptr else { return "the client's name is not known" }
            if let failure = ptr.failure, ptr.confirmed.isEmpty { return "the client's name: \(failure)" }
            return ptr.confirmed.isEmpty
                ? "the client has no confirmed name"
                : "the client is \(ptr.confirmed.joined(separator: ", "))"
        case .spf:
            guard let spf else { return "SPF is not known" }
            return "SPF: \(spf.result.rawValue)" + (spf.reason.isEmpty ? "" : " (\(spf.reason))")
        case .dnsbl(let name):
            switch listings[name] {
            case .listed(let addresses, let text):
                let answers = addresses.map(\.description).joined(separator: " ")
                return "list \(name): listed, \(answers)" + (text.map { " (\($0))" } ?? "")
            case .notListed: return "list \(name): not listed"
            case .failed(let reason): return "list \(name): \(reason)"
            case nil: return "list \(name): not known"
            }
        }
    }
}
