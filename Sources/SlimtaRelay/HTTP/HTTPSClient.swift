// An HTTPS client for what relays need besides mail: policies of domains, tokens, and reports that are handed in. HTTPClient
// does the asking; here is where the server is, whom it must prove to be, and what of its answer counts.

package import NIOCore
package import SlimtaDNS
import SlimtaMail
package import SlimtaNet
package import SlimtaTLS

/// Asks servers by their names: addresses from our resolver, TLS as the rest of this house has it, one limit of time for
/// lookup, connection, request and answer together. A redirect is an answer like any other, and followed by nobody.
package final class HTTPSClient: Sendable {
    /// What is asked for, and where: `https://HOST:PORT/TARGET`.
    package struct Place: Hashable, Sendable, CustomStringConvertible {
        /// A name in A-labels and lower case, or an IP address without brackets: whom the certificate must be for.
        package var host: String
        /// The TCP port.
        package var port: Int
        /// Path and query, as they are sent.
        package var target: String

        /// With the meaning of its properties.
        package init(host: String, port: Int = 443, target: String) {
            self.host = host
            self.port = port
            self.target = target
        }

        /// For logs, without the query: that may have a secret in it.
        package var description: String {
            let name = host.contains(":") ? "[\(host)]" : host
            return "https://\(name)\(port == 443 ? "" : ":\(port)")\(target.prefix { $0 != "?" })"
        }
    }

    /// What one question may take.
    package struct Limits: Hashable, Sendable {
        /// From the question to the last octet of the answer.
        package var time = Duration.seconds(60)
        /// Octets of the answer's body. More is an error; nothing is cut.
        package var body = 64 << 10

        /// The most that RFC 8461 section 3.3 suggests.
        package init() {}
    }

    /// Why there is no answer, or none that counts.
    package enum Failure: Error, Hashable, Sendable, CustomStringConvertible {
        /// DNS does not say where the host is: why.
        case noAddress(String)
        /// The host is only where nothing is asked for.
        case refusedAddress(String)
        /// No connection, no TLS (a certificate that is not accepted included), no answer in time, or none of HTTP.
        case http(HTTPClientError)
        /// The status is another one than 200.
        case status(Int)
        /// The content is something else than what was asked for; empty: it does not say what it is.
        case mediaType(String)

        /// For logs.
        package var description: String {
            switch self {
            case .noAddress(let why), .refusedAddress(let why): why
            case .http(let error): error.words
            case .status(let status): "it answers \(status)\((300..<400).contains(status) ? ", a redirect" : "")"
            case .mediaType(""): "its answer does not say what it is"
            case .mediaType(let type): "its answer is \(type.visible.cut(toOctets: 128))"
            }
        }

        /// Whether the certificate was not accepted, or TLS has failed in another way.
        package var isOfTLS: Bool {
            if case .http(.tls) = self { true } else { false }
        }
    }

    private let resolver: Resolver
    private let tls: TLSClientContext
    private let networks: PermittedNetworks?
    private let client: HTTPClient

    /// - Parameters:
    ///   - trustFile: the certificates to trust (PEM), instead of the system's.
    ///   - networks: where strangers may send us; nil: anywhere, for who is asked is our operator's choice.
    ///   - verifies: whether a server has to prove who it is; false: only where the worst that comes of it is that a stranger
    ///     reads what we hand in.
    ///
    /// Throws if there can be no TLS.
    package init(
        resolver: Resolver, group: any EventLoopGroup, trustFile: String? = nil, networks: PermittedNetworks? = nil,
        verifies: Bool = true
    ) throws(TLSError) {
        self.resolver = resolver
        self.networks = networks
        tls = try TLSClientContext(verifies: verifies, trustFile: trustFile)
        // Every question has a connection of its own: there are a few in a minute.
        client = HTTPClient(limits: .init(), group: group)
    }

    /// No more questions. Returns when those that are being asked have ended.
    package func shutDown() async { await client.shutDown() }

    /// The content of `place`, which must be there (200) and be of `mediaType`, such as "text/plain".
    package func get(
        _ place: Place, mediaType: String, limits: Limits = Limits()
    ) async -> Result<ByteBuffer, Failure> {
        switch await ask(HTTPQuestion("GET", place.target, [("Accept", mediaType)]), place, limits) {
        case .failure(let failure): return .failure(failure)
        case .success(let answer):
            guard answer.status == 200 else { return .failure(.status(answer.status)) }
            let type = answer.mediaType ?? ""
            return type == mediaType ? .success(answer.body) : .failure(.mediaType(type))
        }
    }

    /// What the server says to `body`, whatever its status.
    ///
    /// - Parameters:
    ///   - mediaType: what `body` is.
    ///   - fields: more fields, such as Accept.
    package func post(
        _ body: ByteBuffer, of mediaType: String, to place: Place, fields: [(name: String, value: String)] = [],
        limits: Limits = Limits()
    ) async -> Result<HTTPAnswer, Failure> {
        await ask(
            HTTPQuestion("POST", place.target, [("Content-Type", mediaType)] + fields, body: body), place, limits)
    }

    private func ask(_ question: HTTPQuestion, _ place: Place, _ limits: Limits) async -> Result<HTTPAnswer, Failure> {
        let end = ContinuousClock.now + limits.time
        switch await within(limits.time, { await self.addresses(of: place) }) {
        case nil: return .failure(.noAddress("name servers do not say in time where \(place.host) is"))
        case .failure(let failure)?: return .failure(failure)
        case .success(let addresses)?:
            let origin = HTTPOrigin(host: place.host, port: place.port, addresses: addresses, tls: tls)
            var allowed = HTTPClientLimits()
            allowed.body = limits.body
            allowed.timeout = TimeAmount(max(.zero, end - .now))
            (allowed.requestTimeout, allowed.answerTimeout) = (allowed.timeout, allowed.timeout)
            allowed.connectTimeout = min(allowed.connectTimeout, allowed.timeout)
            do throws(HTTPClientError) {
                return .success(try await client.answer(to: question, from: origin, limits: allowed))
            } catch {
                return .failure(.http(error))
            }
        }
    }

    private func addresses(of place: Place) async -> Result<[SocketAddress], Failure> {
        var found = SocketAddress.known(place.host, port: place.port)
        if found.isEmpty {
            let both = await resolver.addresses(of: place.host)
            var failure: DNSError?
            for answer in [both.v6, both.v4] {
                switch answer {
                case .success(let answer):
                    found += answer.records.compactMap { try? SocketAddress(ipAddress: $0.text, port: place.port) }
                case .failure(let error): failure = error
                }
            }
            guard !found.isEmpty else {
                let why = failure.map { ": \($0.reason)" } ?? ""
                return .failure(.noAddress("\(place.host) has no address\(why)"))
            }
        }
        let permitted = found.filter { address in
            guard let networks, let ip = IPAddress(address) else { return networks == nil }
            return networks.permit(ip)
        }
        guard permitted.isEmpty else { return .success(permitted) }
        let ip = found.lazy.compactMap { IPAddress($0) }.first.map(\.description) ?? "?"
        return .failure(.refusedAddress("\(place.host) is at \(ip), where nothing is asked for"))
    }
}
