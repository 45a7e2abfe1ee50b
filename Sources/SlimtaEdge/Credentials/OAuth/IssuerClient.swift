// The issuer of tokens as a server: asked for its keys, or about a token. TokenVerifier has one, and `slimtad check`.

package import NIOCore
package import SlimtaDNS
internal import SlimtaMail
internal import SlimtaNet
package import SlimtaTLS

/// Where an issuer answers.
package struct IssuerEndpoint: Hashable, Sendable {
    /// Whether over TLS; the certificate is always verified. In clear is for this machine alone.
    package var isSecure: Bool
    /// A name in lower case, or an IP address without brackets: of the Host field and of the certificate.
    package var host: String
    /// The TCP port.
    package var port: Int
    /// Path and query, as they are sent.
    package var target: String
    /// The certificates to trust (PEM), instead of the system's.
    package var trustFile: String?

    /// With the meaning of its properties.
    package init(isSecure: Bool, host: String, port: Int, target: String, trustFile: String? = nil) {
        self.isSecure = isSecure
        self.host = host
        self.port = port
        self.target = target
        self.trustFile = trustFile
    }
}

/// Asks one endpoint, and gives up when it does not answer in time.
package final class IssuerClient: Sendable {
    /// Why there is no usable answer, in words for the operator.
    package struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
        /// Without the endpoint's name.
        package let description: String
    }

    /// The keys of an issuer, and how long they hold.
    package struct Keys: Sendable {
        /// The keys.
        package let set: JSONWebKeys
        /// nil: the issuer does not say.
        let age: Duration?
    }

    /// Of the time for all, for its addresses; and for a connection to one of several: one that swallows what is sent leaves
    /// time for the next.
    private static let lookupTimeout = Duration.seconds(3)
    private static let connectTimeout = TimeAmount.milliseconds(1500)

    /// Where it answers.
    package let endpoint: IssuerEndpoint
    private let resolver: Resolver
    private let tls: TLSClientContext?
    private let client: HTTPClient
    private let timeout: Duration

    /// Throws if there can be no TLS, as with certificates to trust that cannot be read.
    package init(
        _ endpoint: IssuerEndpoint, resolver: Resolver, group: any EventLoopGroup, timeout: Duration = .seconds(5)
    ) throws(TLSError) {
        self.endpoint = endpoint
        self.timeout = timeout
        self.resolver = resolver
        tls = endpoint.isSecure ? try TLSClientContext(verifies: true, trustFile: endpoint.trustFile) : nil
        var connections = HTTPConnectionLimits()
        connections.perOrigin = 8
        connections.idleTimeout = .seconds(30)
        client = HTTPClient(limits: Self.limits(addresses: 1), connections: connections, group: group)
    }

    private static func limits(addresses: Int) -> HTTPClientLimits {
        var limits = HTTPClientLimits()
        limits.body = JSONWebKeys.limit
        if addresses > 1 { limits.connectTimeout = connectTimeout }
        return limits
    }

    /// Closes its connections.
    package func shutDown() async { await client.shutDown() }

    /// The issuer's keys (RFC 7517 section 5).
    package func keys() async -> Result<Keys, Failure> {
        let fields = [("Accept", "application/jwk-set+json, application/json")]
        switch await answer(to: HTTPQuestion("GET", endpoint.target, fields)) {
        case .failure(let failure): return .failure(failure)
        case .success(let answer):
            guard answer.status == 200 else { return .failure(Self.failure(status: answer.status)) }
            do throws(JSONWebKeys.Fault) {
                let set = try JSONWebKeys(answer.body.readableBytesView)
                return .success(Keys(set: set, age: Self.age(answer.values("cache-control"))))
            } catch {
                return .failure(Failure(description: "\(error)"))
            }
        }
    }

    /// What the issuer says of a token (RFC 7662), as the client `id`.
    func introspection(
        of token: some Collection<UInt8> & Sendable, id: String, secret: String, _ rules: TokenRules
    ) async -> IntrospectionAnswer {
        let fields = [
            ("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded"),
            ("Authorization", IntrospectionAnswer.authorization(id: id, secret: secret)),
        ]
        var question = HTTPQuestion("POST", endpoint.target, fields, body: IntrospectionAnswer.form(token))
        // It changes nothing at the issuer, whose connections may have ended just now.
        question.mayBeRepeated = true
        switch await answer(to: question) {
        case .failure(let failure): return .unavailable(failure.description)
        case .success(let answer):
            return IntrospectionAnswer(
                status: answer.status, body: answer.body.readableBytesView, rules, now: .now())
        }
    }

    /// Redirects are not followed: where keys come from is said in slimta.conf, and nowhere else.
    private static func failure(status: Int) -> Failure {
        Failure(
            description: 300..<400 ~= status
                ? "it answers \(status), a redirect: give the URL that it leads to" : "it answers \(status)")
    }

    /// RFC 9111 section 5.2.2.1.
    private static func age(_ fields: [String]) -> Duration? {
        let directives = fields.flatMap { $0.split(separator: ",") }.map {
            $0.drop { $0 == " " }.lowercased()
        }
        return directives.lazy.compactMap { directive in
            directive.hasPrefix("max-age=") ? Int32(directive.dropFirst(8)).map { .seconds($0) } : nil
        }.first
    }

    private func answer(to question: HTTPQuestion) async -> Result<HTTPAnswer, Failure> {
        let answer = await within(timeout) { () async -> Result<HTTPAnswer, Failure> in
            do throws(Failure) { return .success(try await self.ask(question)) } catch { return .failure(error) }
        }
        return answer ?? .failure(Failure(description: "no answer within \(timeout.components.seconds) s"))
    }

    private func ask(_ question: HTTPQuestion) async throws(Failure) -> HTTPAnswer {
        let addresses = try await addresses()
        let origin = HTTPOrigin(host: endpoint.host, port: endpoint.port, addresses: addresses, tls: tls)
        do throws(HTTPClientError) {
            return try await client.answer(
                to: question, from: origin, limits: Self.limits(addresses: addresses.count))
        } catch {
            throw Failure(
                description: error == .tooLarge
                    ? "its answer is longer than \(JSONWebKeys.limit >> 10) KiB" : error.words)
        }
    }

    private func addresses() async throws(Failure) -> [SocketAddress] {
        let known = SocketAddress.known(endpoint.host, port: endpoint.port)
        if !known.isEmpty { return known }
        guard let both = await within(Self.lookupTimeout, { await self.resolver.addresses(of: self.endpoint.host) })
        else { throw Failure(description: "name servers do not say in time where \(endpoint.host) is") }
        var (texts, failure): ([String], DNSError?) = ([], nil)
        for answer in [both.v6, both.v4] {
            switch answer {
            case .success(let answer): texts += answer.records.map(\.text)
            case .failure(let error): failure = error
            }
        }
        let found = texts.compactMap { try? SocketAddress(ipAddress: $0, port: endpoint.port) }
        guard found.isEmpty else { return found }
        throw Failure(description: "\(endpoint.host) has no address" + (failure.map { ": \($0.reason)" } ?? ""))
    }
}
