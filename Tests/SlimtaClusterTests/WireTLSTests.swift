// The wire over TLS, which is libpq's own and OpenSSL's: nothing that waits may wait otherwise there.

import Foundation
import TestKit
import Testing

@testable import SlimtaCluster

@Suite(.needsPostgres) struct WireTLSTests {
    /// A server with a certificate for "localhost", and the words that prove it.
    private static let made = Result {
        let certificates = try Certificates()
        let pair = try certificates.selfSigned("localhost")
        let server = try PostgresServer(
            settings: ["ssl": "on", "ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"],
            files: ["tls.crt": pair.certificatePEM, "tls.key": pair.keyPEM])
        let known = server.folder.appending(path: "known.crt")
        try Data(pair.certificatePEM).write(to: known)
        // Until here: its files go with it.
        withExtendedLifetime(certificates) {}
        return (server: server, proof: "sslmode=verify-full sslrootcert='\(known.path)'")
    }

    private static func options(_ host: String = "localhost", port: Int? = nil) throws -> PostgresOptions {
        let (server, proof) = try made.get()
        return PostgresOptions(
            connection: "host=\(host) port=\(port ?? server.port) dbname=postgres user=postgres \(proof)")
    }

    private static func connect(port: Int? = nil) throws -> PostgresConnection {
        try PostgresConnection(options(port: port), by: .after(patience))
    }

    private static let mirror = statement("mirror", [.bytea], "select $1::bytea")

    @Test func muchBothWays() throws {
        let connection = try Self.connect()
        let secured = statement("secured", "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        #expect(try connection.run(secured, [], by: .after(patience)).bool(0, 0))
        var batch = PostgresBatch()
        let blocks = (0..<20).map { [UInt8](repeating: UInt8($0), count: (1 << 20) + $0) }
        for block in blocks { batch.run(Self.mirror, [.bytea(block)]) }
        #expect(try connection.run(batch, by: .after(patience)).map { $0.octets(0, 0) } == blocks)
        #expect(!connection.isBroken)
    }

    /// Names are looked up here and libpq is given addresses: it is the name all the same that has to be proved.
    @Test func theNameHasToBeTheServers() throws {
        let error = failure { try PostgresConnection(Self.options("127.0.0.1"), by: .after(patience)) }
        #expect(error?.isUnreachable == true)
        #expect(error?.text.contains("server certificate for \"localhost\"") == true, "\(error?.text ?? "none")")
    }

    @Test func silence() throws {
        let server = try Self.made.get().server
        let link = try PostgresLink(to: server.port)
        let connection = try Self.connect(port: link.port)
        _ = try connection.run(Self.mirror, [.bytea([1])], by: .after(patience))
        link.set(.silent)
        let short = Duration.milliseconds(300)
        let taken = ContinuousClock().measure {
            let handshake = failure { try PostgresConnection(Self.options(port: link.port), by: .after(short)) }
            #expect(handshake?.isUnreachable == true)
            let octets = [UInt8](repeating: 7, count: 32 << 20)
            let error = failure { try connection.run(Self.mirror, [.bytea(octets)], by: .after(short)) }
            #expect(error == .doubtful("time was over before all was sent"))
            connection.close()
        }
        #expect(taken < .seconds(10))
    }

    @Test func endedBeforeAQuestion() throws {
        let server = try Self.made.get().server
        let connection = try Self.connect()
        #expect(try server.sql("select pg_terminate_backend(\(connection.process()), 20000)") == "t")
        let error = failure { try connection.run(Self.mirror, [.bytea([1])], by: .after(patience)) }
        #expect(error == .unreachable("57P01: terminating connection due to administrator command"))
    }
}
