// Channel bindings and client certificates, with the openssl command as the peer that computes the same.

import Foundation
import NIOCore
import NIOEmbedded
import NIOPosix
import SlimtaMail
import Synchronization
import TestKit
import Testing

@testable import SlimtaTLS

/// What a server's handler knew of one session.
private struct Seen: Sendable {
    var exporter: [UInt8]?
    var endPoint: [UInt8]?
    var identity: CertificateIdentity?
    var facts: TLSFacts?
}

/// Asks its handler when the session is there, and closes.
private final class Asking: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let handler: TLSHandler
    private let seen: EventLoopPromise<Seen>

    init(_ handler: TLSHandler, _ seen: EventLoopPromise<Seen>) {
        self.handler = handler
        self.seen = seen
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case TLSHandler.Event.established(let facts) = event else { return }
        seen.succeed(
            Seen(
                exporter: handler.channelBinding(.exporter), endPoint: handler.channelBinding(.endPoint),
                identity: handler.peerIdentity, facts: facts))
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { context.close(promise: nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { seen.fail(error) }
}

@Suite struct IdentityTests {
    /// What the server sees of an `openssl s_client` with these options, and what that prints.
    private static func session(
        _ server: TLSServerContext, _ options: [String], configuration: String? = nil
    ) async throws -> (seen: Seen, output: String) {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let seen = loop.makePromise(of: Seen.self)
        let listener = try await ServerBootstrap(group: loop)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = TLSHandler(server: server)
                    #expect(handler.channelBinding(.exporter) == nil && handler.peerIdentity == nil)
                    try channel.pipeline.syncOperations.addHandlers([handler, Asking(handler, seen)])
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = listener.localAddress!.port!
        let output = try await OpenSSLInteropTests.openSSL(
            ["s_client", "-connect", "127.0.0.1:\(port)", "-ign_eof"] + options, input: "x\n",
            configuration: configuration)
        let result = try await seen.futureResult.get()
        try await listener.close()
        return (result, output)
    }

    private static func hex(_ octets: [UInt8]?) -> String? {
        octets?.map { ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) }.joined()
    }

    /// The digest of the public half of a key as openssl prints it.
    private static func keyFingerprint(_ keyFile: String) async throws -> String? {
        let file = try Fixture.certificates.file("")
        _ = try await OpenSSLInteropTests.openSSL(
            ["pkey", "-in", keyFile, "-pubout", "-outform", "DER", "-out", file], input: "")
        let text = try await OpenSSLInteropTests.openSSL(["dgst", "-sha256", file], input: "")
        return text.split(separator: " ").last?.trimmingCharacters(in: .whitespacesAndNewlines).uppercased()
    }

    /// The digest of a certificate as openssl prints it, without colons.
    private static func fingerprint(_ file: String, _ digest: String) async throws -> String {
        let text = try await OpenSSLInteropTests.openSSL(
            ["x509", "-in", file, "-noout", "-fingerprint", "-\(digest)"], input: "")
        return text.split(separator: "=").last!.filter { $0 != ":" && $0 != "\n" }
    }

    /// In TLS 1.3 an empty context and none are the same, and s_client has none.
    @Test func exporterIsWhatOpenSSLExports() async throws {
        let (seen, output) = try await Self.session(
            Fixture.server(),
            ["-tls1_3", "-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"])
        let exported = output.components(separatedBy: "Keying material: ").last?.prefix(64)
        #expect(exported?.count == 64 && Self.hex(seen.exporter) == exported.map(String.init))
    }

    /// Both ends of a session have the same, other sessions another.
    @Test(arguments: Version.allCases) func bothEndsHaveTheSame(_ version: Version) throws {
        func bindings(_ type: ChannelBinding) throws -> [[UInt8]?] {
            let pair = try Pair(newest: version)
            return try [pair.server, pair.client].map {
                try $0.channel.pipeline.syncOperations.handler(type: TLSHandler.self).channelBinding(type)
            }
        }
        let exporters = try bindings(.exporter)
        #expect(exporters[0]?.count == 32 && exporters[0] == exporters[1])
        #expect(try bindings(.exporter)[0] != exporters[0])
        let ends = try bindings(.endPoint)
        #expect(ends[0]?.count == 32 && ends[0] == ends[1])
        #expect(try bindings(.endPoint) == ends)
    }

    /// RFC 9266 section 4.2: not without the extended master secret.
    @Test func noExporterWithoutTheExtendedMasterSecret() async throws {
        let configuration = try Fixture.certificates.file(
            "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = d\n[d]\nOptions = -ExtendedMasterSecret\n"
        )
        let (seen, output) = try await Self.session(Fixture.server(), ["-tls1_2"], configuration: configuration)
        #expect(output.contains("Extended master secret: no"))
        #expect(seen.exporter == nil && seen.endPoint?.count == 32)
    }

    @Test(arguments: [
        ("ecdsa", "sha256", "sha256"), ("rsa", "sha1", "sha256"), ("rsa", "sha384", "sha384"),
        ("rsa", "sha512", "sha512"),
        ("ed25519", "", ""),
    ])
    func endPointFollowsTheSignature(key: String, signature: String, digest: String) async throws {
        let folder = Fixture.certificates
        let (file, keyFile) = (try folder.file(""), try folder.file(""))
        let options: [String] =
            switch key {
            case "ecdsa": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            case "rsa": ["-newkey", "rsa:2048"]
            default: ["-newkey", "ed25519"]
            }
        _ = try await OpenSSLInteropTests.openSSL(
            ["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=mx.example.com", "-keyout", keyFile, "-out", file]
                + options + (signature.isEmpty ? [] : ["-\(signature)"]), input: "")
        let server = try TLSServerContext(
            certificatePEM: Array(FileManager.default.contents(atPath: file)!),
            keyPEM: Array(FileManager.default.contents(atPath: keyFile)!))
        let (seen, _) = try await Self.session(server, [])
        // Where the signature has no digest of its own, no binding is defined.
        #expect(Self.hex(seen.endPoint) == (digest.isEmpty ? nil : try await Self.fingerprint(file, digest)))
        #expect(seen.exporter?.count == 32)
    }

    @Test(arguments: ["-tls1_2", "-tls1_3"]) func clientCertificates(version: String) async throws {
        let folder = Fixture.certificates
        let pair = Fixture.trusted
        let server = try TLSServerContext(
            certificatePEM: pair.certificatePEM, keyPEM: pair.keyPEM,
            clientTrustFile: Fixture.authority.certificateFile)
        let good = try folder.issued("alice.example.com", "email:alice@example.com", by: Fixture.authority)
        let strange = try folder.selfSigned("mallory.example.com", "email:alice@example.com")
        let over = try folder.issued("alice.example.com", by: Fixture.authority, days: -1)
        for (client, isVerified, addresses) in [
            (good, true, ["alice@example.com"]), (strange, false, ["alice@example.com"]), (over, false, []),
        ] {
            let (seen, output) = try await Self.session(
                server, [version, "-cert", client.certificateFile, "-key", client.keyFile])
            let identity = try #require(seen.identity)
            #expect(identity.isVerified == isVerified && seen.facts?.isPeerVerified == isVerified)
            #expect(identity.emailAddresses == addresses && identity.hostNames == [identity.commonName])
            #expect(Self.hex(identity.fingerprint) == (try await Self.fingerprint(client.certificateFile, "sha256")))
            #expect(Self.hex(identity.keyFingerprint) == (try await Self.keyFingerprint(client.keyFile)))
            let issuer = try await OpenSSLInteropTests.openSSL(
                ["x509", "-in", client.certificateFile, "-noout", "-issuer", "-nameopt", "multiline"], input: "")
            #expect(issuer.contains("= \(identity.issuerName)\n"))
            #expect(output.contains("No client certificate CA names sent"))
        }
        // Nobody has to have one, and who is not asked shows none.
        let (none, _) = try await Self.session(server, [version])
        #expect(none.identity == nil && none.facts?.isPeerVerified == false)
        let (notAsked, _) = try await Self.session(
            Fixture.server(), [version, "-cert", good.certificateFile, "-key", good.keyFile])
        #expect(notAsked.identity == nil && notAsked.facts?.isPeerVerified == false)
    }

    /// A session that is resumed has the verdict of the one before.
    @Test(arguments: ["-tls1_2", "-tls1_3"]) func resumed(version: String) async throws {
        let folder = Fixture.certificates
        let server = try TLSServerContext(
            certificatePEM: Fixture.trusted.certificatePEM, keyPEM: Fixture.trusted.keyPEM,
            clientTrustFile: Fixture.authority.certificateFile)
        for (client, isVerified) in [
            (try folder.issued("a.example.com", by: Fixture.authority), true),
            (try folder.selfSigned("m.example.com"), false),
        ] {
            let file = try folder.file("")
            let shown = ["-cert", client.certificateFile, "-key", client.keyFile]
            _ = try await Self.session(server, [version, "-sess_out", file] + shown)
            let (seen, output) = try await Self.session(server, [version, "-sess_in", file] + shown)
            #expect(output.contains("Reused, TLS"))
            #expect(seen.identity?.isVerified == isVerified)
        }
    }

    @Test func aTrustFileThatCannotBeRead() {
        #expect(throws: TLSError.self) {
            try TLSServerContext(
                certificatePEM: Fixture.trusted.certificatePEM, keyPEM: Fixture.trusted.keyPEM,
                clientTrustFile: "/nonexistent")
        }
    }
}
