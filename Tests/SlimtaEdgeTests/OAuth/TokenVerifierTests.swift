// Tokens against an issuer that answers over HTTP: how often it is asked, and what holds while it does not answer.

import Logging
import NIOCore
import NIOPosix
import SlimtaDNS
import SlimtaMail
import SlimtaNet
import SlimtaSASL
import SlimtaSMTP
import Synchronization
import Testing

@testable import SlimtaEdge

/// What an issuer answers, as a test says, and how often it was asked.
private final class IssuerServer: HTTPService, HTTPAccess {
    struct State {
        var answer = HTTPResponse(503)
        var delay = Duration.zero
        var asked: [(request: HTTPRequest, body: String)] = []
    }

    let state = Mutex(State())

    var count: Int { state.withLock { $0.asked.count } }

    func answers(_ octets: [UInt8], _ status: Int = 200, _ fields: [(name: String, value: String)] = []) {
        state.withLock { $0.answer = HTTPResponse(status, fields, .whole(ByteBuffer(bytes: octets))) }
    }

    func respond(to request: HTTPRequest, body: HTTPBody) async throws -> HTTPResponse {
        let text = String(buffer: try await body.all())
        let (answer, delay) = state.withLock { state in
            state.asked.append((request, text))
            return (state.answer, state.delay)
        }
        try await Task.sleep(for: delay)
        return answer
    }

    func noticed(_ event: HTTPServerEvent) {}
    func admit(_ peer: HTTPPeer) -> HTTPAdmission { .admitted }
}

@Suite(.timeLimit(.minutes(4))) struct TokenVerifierTests {
    private let issuer: Issuer

    init() throws { issuer = try Issuer.shared.get() }

    private func token(
        _ claims: [(String, JSON)] = [], header: [(String, JSON)] = [], _ issuer: Issuer? = nil
    ) throws -> SecretOctets {
        let issuer = issuer ?? self.issuer
        return SecretOctets(try issuer.token(claims: claims, header: header, now: Timestamp.now().seconds).utf8)
    }

    /// A verifier and its issuer, while `body` runs.
    private func withIssuer(
        introspection: Bool = false, _ body: (TokenVerifier, IssuerServer, KeptLog) async throws -> Void
    ) async throws {
        let server = IssuerServer()
        let socket = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)[0]
        let group = MultiThreadedEventLoopGroup.singleton
        let endpoint = IssuerEndpoint(
            isSecure: false, host: "localhost", port: try #require(socket.port), target: "/jwks")
        let resolver = try Resolver(servers: [("127.0.0.1", 9)], dnssec: .off)
        // However busy the machine is: no answer comes too late, and nothing grows old meanwhile.
        let client = try IssuerClient(endpoint, resolver: resolver, group: group, timeout: .seconds(200))
        let start = ContinuousClock.now
        let log = KeptLog()
        let verifier = TokenVerifier(
            Issuer.rules, introspection ? .introspection(client, id: "client", secret: "secret") : .keys(client),
            logger: Logger(label: "test") { _ in log }, now: { start })
        var limits = HTTPLimits()
        (limits.headTimeout, limits.answerTimeout) = (.minutes(5), .minutes(5))
        let http = HTTPServer(service: server, access: server, limits: limits, group: group.next())
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try? await http.run(on: socket) }
            try await body(verifier, server, log)
            await verifier.end()
            tasks.cancelAll()
        }
        await resolver.close()
    }

    private func name(_ verdict: TokenVerifier.Verdict) -> String {
        switch verdict {
        case .right(let login): login.name
        case .wrong(let fault): fault.rawValue
        case .unavailable: "unavailable"
        }
    }

    @Test func aFile() async throws {
        let verifier = TokenVerifier(
            Issuer.rules, .file(try JSONWebKeys(issuer.set)), logger: Logger(label: "") { _ in KeptLog() })
        verifier.start()
        let token = try token()
        #expect(name(await verifier.verdict(on: token, login: "")) == "maria@example.com")
        #expect(name(await verifier.verdict(on: token, login: "MARIA@example.com")) == "maria@example.com")
        #expect(await verifier.verdict(on: token, login: "root") == .wrong(.otherLogin))
        #expect(await verifier.verdict(on: try self.token(header: [("kid", "x")]), login: "") == .wrong(.key))
        await verifier.end()
    }

    /// Many at a time: one fetch; then none, but one for a name that is unknown.
    @Test func oneFetch() async throws {
        try await withIssuer { verifier, server, _ in
            server.answers(try issuer.set, 200, [("Cache-Control", "no-transform, max-age=300")])
            server.state.withLock { $0.delay = .milliseconds(200) }
            let token = try token()
            await withTaskGroup(of: String.self) { tasks in
                for _ in 0..<50 { tasks.addTask { self.name(await verifier.verdict(on: token, login: "")) } }
                for await name in tasks { #expect(name == "maria@example.com") }
            }
            #expect(server.count == 1)
            let request = try #require(server.state.withLock { $0.asked.first }).request
            #expect(request.method == "GET" && request.target == "/jwks")
            server.state.withLock { $0.delay = .zero }

            // The keys rotate: the new one is found out by its name, and the old one is gone.
            let next = try Issuer("2")
            server.answers(try next.set)
            #expect(name(await verifier.verdict(on: token, login: "")) == "maria@example.com")
            let new = try self.token([], next)
            #expect(name(await verifier.verdict(on: new, login: "")) == "maria@example.com")
            #expect(name(await verifier.verdict(on: token, login: "")) == "key")
            #expect(server.count == 2)
            for number in 0..<20 {
                let made = try self.token(header: [("kid", .string("made-up-\(number)"))])
                #expect(name(await verifier.verdict(on: made, login: "")) == "key")
            }
            #expect(server.count == 2)
        }
    }

    /// What cannot be used keeps the old keys; where there are none, it is nobody's fault but ours.
    @Test func failures() async throws {
        let failures: [(Int, [UInt8], String)] = [
            (503, [], "it answers 503"), (302, [], "it answers 302, a redirect: give the URL that it leads to"),
            (200, Array("<html>Sign in</html>".utf8), "not JSON at octet 0: no value"),
            (200, Array(#"{"keys":[]}"#.utf8), "none of its 0 keys can check RS256, PS256, ES256 or EdDSA"),
            (
                200, Array(repeating: UInt8(ascii: " "), count: JSONWebKeys.limit + 1),
                "its answer is longer than 512 KiB"
            ),
        ]
        for (status, body, text) in failures {
            try await withIssuer { verifier, server, log in
                server.answers(body, status)
                let token = try token()
                #expect(await verifier.verdict(on: token, login: "") == .unavailable(text))
                #expect(await verifier.verdict(on: token, login: "") == .unavailable(text))
                #expect(server.count == 1 && verifier.complaint == text)
                #expect(log.all.map(\.message) == ["keys of the OAuth issuer cannot be had"])
            }
            try await withIssuer { verifier, server, log in
                server.answers(try issuer.set)
                let token = try token()
                #expect(name(await verifier.verdict(on: token, login: "")) == "maria@example.com")
                server.answers(body, status)
                let made = try self.token(header: [("kid", "made-up")])
                #expect(await verifier.verdict(on: made, login: "") == .unavailable(text))
                #expect(name(await verifier.verdict(on: token, login: "")) == "maria@example.com")
                #expect(server.count == 2)
            }
        }
    }

    /// Nobody listens.
    @Test func nobody() async throws {
        let resolver = try Resolver(servers: [("127.0.0.1", 9)], dnssec: .off)
        let endpoint = IssuerEndpoint(isSecure: false, host: "127.0.0.1", port: 1, target: "/")
        let client = try IssuerClient(endpoint, resolver: resolver, group: MultiThreadedEventLoopGroup.singleton)
        let failure = await #expect(throws: IssuerClient.Failure.self) { try await client.keys().get() }
        #expect(failure?.description.hasPrefix("no connection: ") == true)
        await client.shutDown()
        await resolver.close()
    }

    @Test func fetchesBeforeItIsAsked() async throws {
        try await withIssuer { verifier, server, _ in
            server.answers(try issuer.set)
            verifier.start()
            while server.count == 0 { try await Task.sleep(for: .milliseconds(5)) }
            #expect(name(await verifier.verdict(on: try token(), login: "")) == "maria@example.com")
            #expect(server.count == 1)
        }
    }

    @Test func introspection() async throws {
        try await withIssuer(introspection: true) { verifier, server, log in
            let now = Timestamp.now().seconds
            func answer(_ changes: [(String, JSON)]) -> [UInt8] {
                Array(
                    Issuer.object(
                        [
                            ("active", .bool(true)), ("iss", .string(Issuer.name)), ("aud", "slimtad"),
                            ("exp", .number(now + 3600)), ("email", "maria@example.com"),
                            ("email_verified", .bool(true)),
                        ], changes
                    ).utf8)
            }
            server.answers(answer([]))
            server.state.withLock { $0.delay = .milliseconds(200) }
            let token = SecretOctets("opaque+token".utf8)
            await withTaskGroup(of: String.self) { tasks in
                for _ in 0..<50 { tasks.addTask { self.name(await verifier.verdict(on: token, login: "")) } }
                for await name in tasks { #expect(name == "maria@example.com") }
            }
            #expect(server.count == 1)
            let (request, body) = try #require(server.state.withLock { $0.asked.first })
            #expect(request.method == "POST" && body == "token_type_hint=access_token&token=opaque%2Btoken")
            #expect(request.values("authorization") == ["Basic Y2xpZW50OnNlY3JldA=="])
            #expect(request.values("content-type") == ["application/x-www-form-urlencoded"])
            server.state.withLock { $0.delay = .zero }
            // Who says that he is somebody else is judged each time.
            #expect(await verifier.verdict(on: token, login: "root") == .wrong(.otherLogin))
            #expect(server.count == 1)

            server.answers(answer([("active", .bool(false))]))
            let revoked = SecretOctets("revoked".utf8)
            #expect(await verifier.verdict(on: revoked, login: "") == .wrong(.inactive))
            #expect(await verifier.verdict(on: revoked, login: "") == .wrong(.inactive))
            #expect(server.count == 2)
            // Nobody is asked about what is no token.
            #expect(await verifier.verdict(on: SecretOctets("a b".utf8), login: "") == .wrong(.malformed))
            #expect(
                await verifier.verdict(on: SecretOctets(Array(repeating: 0x41, count: 9000)), login: "")
                    == .wrong(.tooLong))
            #expect(server.count == 2)

            server.answers([], 401)
            for number in 0..<3 {
                let other = SecretOctets("other-\(number)".utf8)
                #expect(name(await verifier.verdict(on: other, login: "")) == "unavailable")
            }
            #expect(server.count == 5)
            #expect(verifier.complaint == "it refuses client_id and client_secret_file (401)")
            #expect(name(await verifier.verdict(on: token, login: "")) == "maria@example.com")
            server.answers(answer([]))
            #expect(
                name(await verifier.verdict(on: SecretOctets("other-0".utf8), login: "")) == "maria@example.com")
            #expect(verifier.complaint == nil)
            #expect(log.all.map(\.message) == ["OAuth issuer says nothing of tokens", "OAuth issuer answers again"])
        }
    }
}
