// The back end `dovecot`: what it serves, and what Dovecot is told of passwords, tokens, certificates and connections.

import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct DovecotBackEndTests {
    /// A back end that has its connection, to a Dovecot with these mechanisms.
    private static func backEnd(
        _ mechanisms: [String], _ deed: @escaping @Sendable ([String]) -> [DovecotServer.Deed] = { _ in [] }
    ) async throws -> (DovecotBackEnd, DovecotClient, DovecotServer) {
        let greeting = "VERSION\t1\t2\n" + mechanisms.map { "MECH\t\($0)\n" }.joined() + "DONE\n"
        let server = DovecotServer { $0[0] == "CPID" ? [.say(greeting)] : $0[0] == "VERSION" ? [] : deed($0) }
        let client = DovecotClient(
            [try await server.start()], .init(), loop: MultiThreadedEventLoopGroup.singleton.next(),
            logger: Logger(label: "test") { _ in KeptLog() })
        client.start()
        while client.mechanisms == nil { try await Task.sleep(for: .milliseconds(5)) }
        return (DovecotBackEnd(client, keeping: ()), client, server)
    }

    private static func facts(
        tls: TLSFacts? = nil, certificate: CertificateIdentity? = nil
    ) throws -> AuthenticationFacts {
        var connection = ConnectionFacts(
            peer: try SocketAddress(ipAddress: "2001:db8::1", port: 40_000),
            local: try SocketAddress(ipAddress: "192.0.2.7", port: 587))
        connection.tls = tls
        var facts = AuthenticationFacts(connection: connection, edge: "e", session: "s1")
        facts.certificate = certificate
        return facts
    }

    private static let tls = TLSFacts(
        TLSDescription(version: "TLSv1.3", cipher: "c"), serverName: "mail.example")

    @Test func mechanisms() async throws {
        let (backEnd, client, server) = try await Self.backEnd([
            "PLAIN\tplaintext", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "CRAM-MD5", "EXTERNAL", "NTLM",
            "XOAUTH2\tprivate",
        ])
        let facts = try Self.facts(tls: Self.tls)
        #expect(backEnd.mechanisms(on: facts) == [.plain, .login, .scramSHA256, .cramMD5])
        for (emails, hosts, name, isVerified, isServed) in [
            (["a@b.example"], [], "", true, true), (["a@b.example"], [], "", false, false), ([], [], "a", true, false),
            ([], ["h.example"], "a", true, false), (["a@b.example", "c@b.example"], [], "a", true, true),
        ] as [([String], [String], String, Bool, Bool)] {
            let certificate = CertificateIdentity(
                emailAddresses: emails, hostNames: hosts, commonName: name, fingerprint: [], isVerified: isVerified)
            let served = backEnd.mechanisms(on: try Self.facts(tls: Self.tls, certificate: certificate))
            #expect(served.contains(.external) == isServed, "\(emails) \(hosts) \(name) \(isVerified)")
        }
        await client.close()
        await server.stop()
    }

    /// Without PLAIN there is nobody to show a password to.
    @Test func noPlain() async throws {
        let (backEnd, client, server) = try await Self.backEnd(["LOGIN\tplaintext", "CRAM-MD5"])
        #expect(backEnd.mechanisms(on: try Self.facts()) == [.cramMD5])
        await client.close()
        await server.stop()
    }

    private static func decoded(_ line: [String]) -> String {
        String(decoding: Base64.decode((line.last ?? "").dropFirst("resp=".count).utf8) ?? [], as: UTF8.self)
    }

    @Test func aPassword() async throws {
        let (backEnd, client, server) = try await Self.backEnd(["PLAIN\tplaintext"]) { line in
            if line[0] == "CONT" { return [.say("CONT\t\(line[1])\t\n")] }
            guard line[0] == "AUTH" else { return [] }
            switch Self.decoded(line) {
            case "\0a\0b": return [.say("OK\t\(line[1])\tuser=A\tsenders=\n")]
            case "\0a\0address": return [.say("OK\t\(line[1])\tuser=a@x\n")]
            case "\0a\0name", "\0a\0*", "\0a\0@x":
                return [.say("OK\t\(line[1])\tuser=\(Self.decoded(line).dropFirst(3))\n")]
            case "\0a\0more": return [.say("CONT\t\(line[1])\t\n")]
            default: return [.say("FAIL\t\(line[1])\tuser=a\n")]
            }
        }
        let facts = try Self.facts(tls: Self.tls)
        func check(_ password: String) async -> CredentialVerdict {
            await backEnd.check(Credentials(login: "a", password: Array(password.utf8)), facts)
        }
        // A list without an entry is nobody, and not anybody; without a list it is the login, if that is an address.
        #expect(await check("b") == .right(AuthenticatedUser(login: "A", senders: [])))
        #expect(await check("address") == .right(AuthenticatedUser(login: "a@x", senders: ["a@x"])))
        for other in ["name", "*", "@x"] {
            #expect(await check(other) == .right(AuthenticatedUser(login: other, senders: [])))
        }
        #expect(await check("c") == .wrong)
        let words = server.lines.filter { $0.hasPrefix("AUTH") }[0].split(separator: "\t").map(String.init)
        #expect(
            words.dropFirst(2).dropLast() == [
                "PLAIN", "service=smtp", "nologin", "session=s1", "rip=2001:db8::1", "rport=40000", "lip=192.0.2.7",
                "lport=587", "secured", "local_name=mail.example",
            ])
        #expect(await check("more") == .unavailable("Dovecot asks for more than PLAIN has"))
        await client.close()
        await server.stop()
    }

    /// Dovecot says why a token is not right, and wants an answer before it says no.
    @Test(arguments: ["OAUTHBEARER", "XOAUTH2"])
    func aToken(_ mechanism: String) async throws {
        let (backEnd, client, server) = try await Self.backEnd([mechanism]) { line in
            if line[0] == "CONT" { return line[2] == "AQ==" ? [.say("FAIL\t\(line[1])\n")] : [.close] }
            let said = Self.decoded(line).replacing("\u{1}", with: "^")
            let isRight = ["n,a=a=2Cb,^auth=Bearer t^^", "user=a,b^auth=Bearer t^^"].contains(said)
            return [.say(isRight ? "OK\t\(line[1])\tuser=a\n" : "CONT\t\(line[1])\te30=\n")]
        }
        let facts = try Self.facts(tls: Self.tls)
        #expect(
            await backEnd.check(token: SecretOctets("t".utf8), login: "a,b", facts)
                == .right(AuthenticatedUser(login: "a", senders: [])))
        #expect(await backEnd.check(token: SecretOctets("u".utf8), login: "a,b", facts) == .wrong)
        #expect(server.lines.last == "CONT\t2\tAQ==")
        await client.close()
        await server.stop()
    }

    @Test func aCertificate() async throws {
        let (backEnd, client, server) = try await Self.backEnd(["EXTERNAL"]) { line in
            [.say("OK\t\(line[1])\tuser=a@b.example\n")]
        }
        var certificate = CertificateIdentity(
            emailAddresses: ["a@b.example"], hostNames: [], commonName: "", fingerprint: [], isVerified: true)
        let facts = try Self.facts(tls: Self.tls, certificate: certificate)
        #expect(
            await backEnd.checkCertificate(authorization: nil, facts)
                == .right(AuthenticatedUser(login: "a@b.example", senders: ["a@b.example"])))
        #expect(server.lines.last?.hasSuffix("\tvalid-client-cert\tcert_username=a@b.example\tresp==") == true)
        // Of several the client chooses.
        certificate = CertificateIdentity(
            emailAddresses: ["a@b.example", "c@b.example"], hostNames: [], commonName: "", fingerprint: [],
            isVerified: true)
        let several = try Self.facts(tls: Self.tls, certificate: certificate)
        #expect(
            await backEnd.checkCertificate(authorization: nil, several)
                == .refused("Your certificate is for several logins: name one of them"))
        _ = await backEnd.checkCertificate(authorization: "c@b.example", several)
        #expect(server.lines.last?.contains("\tcert_username=c@b.example\tresp=") == true)
        // Dovecot believes whoever asks: it is not asked about what was not verified.
        certificate = CertificateIdentity(
            emailAddresses: ["a@b.example"], hostNames: [], commonName: "", fingerprint: [], isVerified: false)
        let others = try Self.facts(tls: Self.tls, certificate: certificate)
        #expect(await backEnd.checkCertificate(authorization: nil, others) == .wrong)
        #expect(server.lines.count { $0.hasPrefix("AUTH") } == 2)
        await client.close()
        await server.stop()
    }

    @Test func anExchangeOfItsOwn() async throws {
        let (backEnd, client, server) = try await Self.backEnd(["CRAM-MD5"]) { line in
            [.say(line[0] == "AUTH" ? "CONT\t\(line[1])\tPDE+\n" : "OK\t\(line[1])\tuser=a\n")]
        }
        let facts = try Self.facts(tls: Self.tls)
        let exchange = try #require(backEnd.begin(.cramMD5, facts))
        #expect(await exchange.received(nil) == .challenge(Array("<1>".utf8)))
        #expect(
            await exchange.received(SecretOctets("a x".utf8))
                == .verdict(.right(AuthenticatedUser(login: "a", senders: []))))
        // One that nobody goes on with is taken back.
        let second = try #require(backEnd.begin(.cramMD5, facts))
        _ = await second.received(nil)
        second.cancel()
        while server.lines.last != "CANCEL\t2" { try await Task.sleep(for: .milliseconds(5)) }
        for mechanism in [SASLMechanism.plain, .login, .external, .oauthBearer] {
            #expect(backEnd.begin(mechanism, facts) == nil)
        }
        await client.close()
        await server.stop()
    }
}
