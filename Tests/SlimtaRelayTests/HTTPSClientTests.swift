// The HTTPS client against openssl's own server, and against servers that misbehave behind a good or a bad certificate.

import Foundation
import Glibc
import NIOCore
import SlimtaDNS
import SlimtaMail
import SlimtaNet
import SlimtaTLS
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)), .serialized)
struct HTTPSClientTests {
    /// A policy host with a name, and who issued its certificate.
    private final class House {
        let certificates = try! Certificates()
        let authority: Certificates.Pair
        let nameServer: NameServer
        let resolver: SlimtaDNS.Resolver

        init() throws {
            authority = try certificates.authority()
            nameServer = try NameServer(
                records: ["sts.test. 300 IN A 127.0.0.1", "empty.test. 300 IN TXT x"], silent: ["silent.test."])
            resolver = try Fixture.resolver(nameServer.port)
        }

        func client(trusting pair: Certificates.Pair? = nil, networks: PermittedNetworks? = nil) throws -> HTTPSClient {
            try HTTPSClient(
                resolver: resolver, group: Fixture.group, trustFile: (pair ?? authority).certificateFile,
                networks: networks)
        }

        func server(_ pair: Certificates.Pair, _ answer: [ScriptedServer.Step]) async throws -> ScriptedServer {
            let tls = try TLSServerContext(certificatePEM: pair.certificatePEM, keyPEM: pair.keyPEM)
            return try await ScriptedServer([.startTLS(tls)] + answer)
        }
    }

    private static let question: [ScriptedServer.Step] = [
        .expect("GET /p HTTP/1.1"), .expect("Host: sts.test:"), .expect("Connection: close"),
        .expect("Accept: text/plain"), .expect(""),
    ]

    private static func head(_ length: Int, _ type: String = "text/plain") -> ScriptedServer.Step {
        .send("HTTP/1.1 200 OK\r\nContent-Type: \(type)\r\nContent-Length: \(length)\r\n\r\n")
    }

    private static func limits(_ time: Duration = .seconds(60)) -> HTTPSClient.Limits {
        var limits = HTTPSClient.Limits()
        limits.time = time
        return limits
    }

    /// What comes of one question to a server that answers so.
    private static func ask(
        _ answer: [ScriptedServer.Step],
        certificate: (House) throws -> Certificates.Pair = {
            try $0.certificates.issued("sts.test", by: $0.authority)
        }, time: Duration = .seconds(60)
    ) async throws -> (Result<ByteBuffer, HTTPSClient.Failure>, ScriptedServer) {
        let house = try House()
        let server = try await house.server(certificate(house), answer)
        let client = try house.client()
        let result = await client.get(
            .init(host: "sts.test", port: server.port, target: "/p"), mediaType: "text/plain", limits: limits(time))
        await client.shutDown()
        await server.stop()
        return (result, server)
    }

    /// openssl(1) has a server for files.
    @Test func aRealServer() async throws {
        let house = try House()
        let folder = try Fixture.folder()
        defer { Fixture.removeFolder(folder) }
        try Data("version: STSv1\r\n".utf8).write(to: URL(fileURLWithPath: folder + "/policy.txt"))
        try Data("<p>".utf8).write(to: URL(fileURLWithPath: folder + "/page.html"))
        let pair = try house.certificates.issued("sts.test", by: house.authority)
        let port = try NameServer.freePort()
        let process = try ChildProcess(
            "/usr/bin/openssl",
            [
                "s_server", "-quiet", "-accept", "127.0.0.1:\(port)", "-cert", pair.certificateFile, "-key",
                pair.keyFile, "-WWW",
            ], in: folder)
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        let client = try house.client()
        func get(_ target: String) async -> Result<ByteBuffer, HTTPSClient.Failure> {
            await client.get(.init(host: "sts.test", port: port, target: target), mediaType: "text/plain")
        }
        var result = await get("/policy.txt")
        // Until it listens.
        while case .failure(.http(.cannotConnect)) = result, process.isRunning {
            try await Task.sleep(for: .milliseconds(20))
            result = await get("/policy.txt")
        }
        #expect(try String(buffer: result.get()) == "version: STSv1\r\n")
        #expect(await get("/page.html") == .failure(.mediaType("text/html")))
        await client.shutDown()
    }

    @Test func whatIsAskedAndAnswered() async throws {
        let (result, server) = try await Self.ask(
            Self.question + [
                Self.head(65_536, "Text/Plain ; charset=utf-8"), .send(String(repeating: "x", count: 65_536)),
            ])
        #expect(try result.get().readableBytes == 65_536)
        #expect(server.faults == [])
    }

    @Test func whatIsPosted() async throws {
        let house = try House()
        let server = try await house.server(
            house.certificates.issued("sts.test", by: house.authority),
            [
                .expect("POST /token HTTP/1.1"), .expect("Host: sts.test:"), .expect("Connection: close"),
                .expect("Content-Type: application/x-www-form-urlencoded"), .expect("Accept: application/json"),
                .expect("Content-Length: 4"), .expect(""), .expect("a=b"),
                .send("HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
            ])
        let client = try house.client()
        let answer = try await client.post(
            ByteBuffer(string: "a=b\n"), of: "application/x-www-form-urlencoded",
            to: .init(host: "sts.test", port: server.port, target: "/token"), fields: [("Accept", "application/json")]
        ).get()
        #expect(answer.status == 400 && answer.mediaType == "application/json" && String(buffer: answer.body) == "{}")
        #expect(server.faults == [])
        await client.shutDown()
        await server.stop()
    }

    @Test func badCertificates() async throws {
        let bad: [(House) throws -> Certificates.Pair] = [
            { try $0.certificates.selfSigned("sts.test") },
            { try $0.certificates.issued("other.test", by: $0.authority) },
            { try $0.certificates.issued("sts.test", by: $0.authority, days: -1) },
            { try $0.certificates.issued("*.sts.test", by: $0.authority) },
        ]
        for certificate in bad {
            let (result, server) = try await Self.ask(Self.question + [Self.head(0)], certificate: certificate)
            guard case .failure(let failure) = result, case .http(.tls(let error)) = failure else {
                Issue.record("\(result)")
                continue
            }
            #expect(error.code == .verification && failure.isOfTLS)
            #expect(server.lines == [], "nothing is asked of who is not who it should be")
        }
    }

    /// It says something all the time, and never all of it.
    @Test func dribbling() async throws {
        let drops: [ScriptedServer.Step] = (0..<600).flatMap { _ in
            [ScriptedServer.Step.send("x"), .pause(.milliseconds(100))]
        }
        let (result, _) = try await Self.ask(Self.question + [Self.head(600)] + drops, time: .seconds(2))
        #expect(result == .failure(.http(.timedOut(.answering))))
    }

    @Test func tooMuchAndTooLittle() async throws {
        let many = String(repeating: "x", count: 65_537)
        var (result, _) = try await Self.ask(Self.question + [Self.head(65_537), .send(many)])
        #expect(result == .failure(.http(.tooLarge)), "nothing is cut")
        let field = "HTTP/1.1 200 OK\r\nX: \(String(repeating: "x", count: 20_000))\r\n\r\n"
        (result, _) = try await Self.ask(Self.question + [.send(field)])
        #expect(result == .failure(.http(.tooLarge)))
        (result, _) = try await Self.ask(Self.question + [Self.head(10), .send("x"), .close])
        #expect(result == .failure(.http(.endedEarly)))
        (result, _) = try await Self.ask(Self.question + [.send("220 smtp.test ESMTP\r\n")])
        guard case .failure(.http(.malformed)) = result else {
            Issue.record("\(result)")
            return
        }
    }

    @Test func whatDoesNotCount() async throws {
        var (result, _) = try await Self.ask(Self.question + [Self.head(1, "text/html"), .send("x")])
        #expect(result == .failure(.mediaType("text/html")))
        (result, _) = try await Self.ask(
            Self.question + [.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")])
        #expect(result == .failure(.mediaType("")))
        let moved = "HTTP/1.1 301 Moved\r\nLocation: https://sts.test/q\r\nContent-Length: 0\r\n\r\n"
        let server: ScriptedServer
        (result, server) = try await Self.ask(Self.question + [.send(moved)])
        #expect(result == .failure(.status(301)) && server.connections == 1)
        (result, _) = try await Self.ask(
            Self.question + [.send("HTTP/1.1 404 No\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n")])
        #expect(result == .failure(.status(404)))
    }

    @Test func nobodyThere() async throws {
        let house = try House()
        let client = try house.client()
        func get(_ host: String, _ port: Int, _ time: Duration = .seconds(60)) async -> HTTPSClient.Failure? {
            let place = HTTPSClient.Place(host: host, port: port, target: "/p")
            let result = await client.get(place, mediaType: "text/plain", limits: Self.limits(time))
            if case .failure(let failure) = result { return failure }
            return nil
        }
        for host in ["empty.test", "none.test"] {
            guard case .noAddress? = await get(host, 443) else {
                Issue.record("\(host) has no address")
                continue
            }
        }
        // Name servers that say nothing take no more time than there is.
        #expect(
            await get("silent.test", 443, .seconds(1))
                == .noAddress("name servers do not say in time where silent.test is"))
        guard case .http(.cannotConnect)? = await get("sts.test", try NameServer.freePort()) else {
            Issue.record("nobody listens there")
            return
        }
        // It takes connections, and never says a word.
        let mute = try await ScriptedServer([.pause(.minutes(5))])
        #expect(await get("sts.test", mute.port, .seconds(1)) == .http(.timedOut(.connecting)))
        await client.shutDown()
        await mute.stop()
    }

    /// Whoever names a host does not thereby have us ask on this machine.
    @Test func whereStrangersMayNotSendUs() async throws {
        let house = try House()
        let server = try await house.server(
            house.certificates.issued("sts.test", by: house.authority), Self.question + [Self.head(0)])
        for (host, networks, isAsked) in [
            ("sts.test", PermittedNetworks(), false), ("127.0.0.1", PermittedNetworks(), false),
            ("sts.test", PermittedNetworks(allowed: [NetworkRange("127.0.0.0/8")!]), true),
        ] {
            let client = try house.client(networks: networks)
            let result = await client.get(
                .init(host: host, port: server.port, target: "/p"), mediaType: "text/plain")
            if isAsked {
                #expect(try result.get().readableBytes == 0)
            } else {
                #expect(
                    result == .failure(.refusedAddress("\(host) is at 127.0.0.1, where nothing is asked for")))
            }
            #expect(server.connections == (isAsked ? 1 : 0))
            await client.shutDown()
        }
        await server.stop()
    }

    @Test(arguments: [
        ("sts.test", 443, "/a?secret", "https://sts.test/a"), ("::1", 8443, "/", "https://[::1]:8443/"),
    ])
    func places(_ host: String, _ port: Int, _ target: String, _ text: String) {
        #expect(HTTPSClient.Place(host: host, port: port, target: target).description == text)
    }
}
