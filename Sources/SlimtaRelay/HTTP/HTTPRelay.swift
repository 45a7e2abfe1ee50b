// The relay of type "http": everything to one server that takes messages over HTTP, such as another slimtad or the
// ancestor's WsgiEdge. Made by the composition root.

package import Logging
package import NIOCore
package import SlimtaDNS
package import SlimtaMail
import SlimtaNet
package import SlimtaQueue
package import SlimtaTLS
import Synchronization

/// Delivers by POST, in the protocol of the ancestor's manual: the message is the body, fields have the envelope.
///
/// A request has several recipients and one answer for all of them. So a refusal that may be about one of them is asked for
/// again for each alone, in the same attempt. Every request has an Idempotency-Key that it keeps at each attempt: a server
/// that knows such keys makes no second message of one whose answer was lost.
///
/// Whatever is wrong with the server itself (its name, its certificate, our login, no answer) is temporary.
package final class HTTPRelay: ConnectingRelay {
    /// Who we are for the server.
    package enum Login: Hashable, Sendable {
        /// RFC 7617.
        case basic(username: String, password: String)
        /// RFC 6750.
        case bearer(token: String)

        fileprivate var field: String {
            switch self {
            case .basic(let username, let password): "Basic " + Base64.encode("\(username):\(password)".utf8)
            case .bearer(let token): "Bearer \(token)"
            }
        }
    }

    /// Where messages go, and as whose.
    package struct Service: Hashable, Sendable {
        /// Whether over TLS; the certificate is always verified.
        package var isSecure: Bool
        /// A name in lower case, or an IP address without brackets: of the Host field and of the certificate.
        package var host: String
        /// The TCP port; at a UNIX socket only told to the server.
        package var port: Int
        /// Path and query, as they are sent.
        package var target: String
        /// The path of a UNIX socket that is connected to instead of the host.
        package var socket: String?
        /// nil: none.
        package var login: Login?
        /// The certificates to trust (PEM), instead of the system's.
        package var trustFile: String?

        /// With the meaning of its properties.
        package init(
            isSecure: Bool, host: String, port: Int, target: String, socket: String? = nil, login: Login? = nil,
            trustFile: String? = nil
        ) {
            self.isSecure = isSecure
            self.host = host
            self.port = port
            self.target = target
            self.socket = socket
            self.login = login
            self.trustFile = trustFile
        }

        /// For logs: the query may have a secret in it.
        var label: String {
            let path = target.prefix { $0 != "?" }
            if let socket { return "unix:\(socket)\(path)" }
            let name = host.contains(":") ? "[\(host)]" : host
            return "\(isSecure ? "https" : "http")://\(name)\(port == (isSecure ? 443 : 80) ? "" : ":\(port)")\(path)"
        }
    }

    /// How long it is remembered that the recipients of a message have to be asked about one by one: some of them may have
    /// it, and a request for all would make another of it.
    private static let splitTime = TimeAmount.hours(24)

    private let service: Service
    private let options: RelayOptions
    private let label: String
    private let lookup: HostLookup
    private let tls: TLSClientContext?
    private let client: HTTPClient
    private let watch: LoginWatch
    private let split = Mutex(ExpiringCache<QueueID, Bool>(capacity: 4096))

    /// Throws if there can be no TLS.
    package init(
        _ options: RelayOptions, to service: Service, resolver: Resolver, group: any EventLoopGroup, logger: Logger
    ) throws(TLSError) {
        self.options = options
        self.service = service
        label = service.label
        lookup = HostLookup(resolver, port: service.port)
        tls = service.isSecure ? try TLSClientContext(verifies: true, trustFile: service.trustFile) : nil
        watch = LoginWatch(relay: label, logger: logger)
        var connections = HTTPConnectionLimits()
        (connections.total, connections.perOrigin) = (options.connections, options.connectionsPerDestination)
        (connections.idleTimeout, connections.lifetime) = (.init(options.idleTimeout), .init(options.sessionTime))
        client = HTTPClient(limits: .init(), connections: connections, group: group)
    }

    /// How many connections there are.
    package var connectionCount: Int { client.connectionCount }

    /// That the server refuses our login.
    package var complaint: String? { watch.complaint }

    /// Closes all connections, as ``MXRelay/shutDown()`` does.
    package func shutDown() async { await client.shutDown() }

    /// All mail goes to one server, so all of it shares limits and back-off. No domain has a colon in its name.
    package func destination(for domain: String) -> String { label }

    /// One request for up to a hundred recipients at a time. Never throws; the attempt's task may be cancelled.
    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        let request = HTTPRelayRequest(delivery, hostname: options.hostname, login: service.login?.field)
        let parts = request.parts
        let recipients = delivery.recipients
        return await attemptInParts(recipients.count, by: { parts[recipients[$0]] }) { _, positions in
            await self.attempt(request, positions.map { recipients[$0] })
        }
    }

    private func attempt(_ request: HTTPRelayRequest, _ recipients: [Int]) async -> [Outcome] {
        if recipients.count > 1 {
            let isSplit = split.withLock { $0.value(for: request.id, at: .now()) } ?? false
            let verdict = isSplit ? nil : await ask(request, recipients)
            if let verdict, !verdict.mayBeOfOneRecipient {
                return Array(repeating: verdict.outcome, count: recipients.count)
            }
            let now = NIODeadline.now()
            split.withLock { $0.insert(true, for: request.id, until: now + Self.splitTime, at: now) }
        }
        return await inOrder(recipients.count) { await self.ask(request, [recipients[$0]]).outcome }
    }

    private func ask(_ request: HTTPRelayRequest, _ recipients: [Int]) async -> HTTPVerdict {
        var verdict: HTTPVerdict
        switch await addresses() {
        case .failure(let outcome): verdict = HTTPVerdict(noServer: outcome.value)
        case .success(let addresses):
            let origin = HTTPOrigin(host: service.host, port: service.port, addresses: addresses, tls: tls)
            do throws(HTTPClientError) {
                let answer = try await client.answer(
                    to: request.question(service.target, for: recipients), from: origin,
                    limits: limits(request.size, recipients.count))
                verdict = HTTPVerdict(answer, now: .now())
            } catch {
                verdict = HTTPVerdict(error)
            }
        }
        watch.note(
            refused: verdict.isOfLogin ? verdict.outcome.reply : nil, isTaken: verdict.outcome.result == .delivered)
        verdict.outcome.relay = label
        verdict.outcome.remoteHost = service.socket == nil ? service.host : nil
        return verdict
    }

    private struct Unknown: Error { let value: Outcome }

    /// Where the server is.
    private func addresses() async -> Result<[SocketAddress], Unknown> {
        func failed(_ outcome: Outcome) -> Result<[SocketAddress], Unknown> {
            var outcome = outcome
            outcome.isHostFailure = true
            return .failure(Unknown(value: outcome))
        }
        if let path = service.socket {
            guard let address = try? SocketAddress(unixDomainSocketPath: path) else {
                return failed(.failed(451, 4, 3, 5, "\(path) is too long for a socket"))
            }
            return .success([address])
        }
        let known = SocketAddress.known(service.host, port: service.port)
        if !known.isEmpty { return .success(known) }
        switch await lookup.addresses(of: service.host) {
        case .found(let found): return .success(found.addresses)
        case .none: return failed(.failed(451, 4, 4, 4, "\(service.host) has no address"))
        case .unknown(let error):
            return failed(.failed(451, 4, 4, 3, "DNS lookup of \(service.host) failed: \(error.reason)"))
        }
    }

    /// What a request may take. The answer to one that was sent has its own time, since giving up then may make duplicates.
    private func limits(_ size: Int, _ recipients: Int) -> HTTPClientLimits {
        var limits = HTTPClientLimits()
        let request = options.attemptLimit(size: size, recipients: recipients)
        limits.connectTimeout = .init(options.connectTimeout)
        limits.requestTimeout = .init(request)
        limits.transfer = .init(leastRate: options.leastRate, stallTimeout: .init(options.stallTimeout))
        limits.answerTimeout = .init(options.dataTimeout)
        limits.timeout = .init(request + options.dataTimeout)
        limits.cancelledTimeout = .seconds(5)
        return limits
    }
}
