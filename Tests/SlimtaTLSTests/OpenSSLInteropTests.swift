// The openssl command as the peer: another driver of the protocol, over real sockets.

import Foundation
import NIOCore
import NIOPosix
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct OpenSSLInteropTests {
    /// Runs the command with `input` to the end of its output, which is the result.
    static func openSSL(
        _ arguments: [String], input: String, configuration: String? = nil
    ) async throws -> String {
        let (standardInput, standardOutput) = (Pipe(), Pipe())
        let process = try ChildProcess(
            "/usr/bin/openssl", arguments, environment: configuration.map { ["OPENSSL_CONF": $0] },
            input: .pipe(standardInput), output: .pipe(standardOutput), errors: .pipe(standardOutput))
        try standardInput.fileHandleForWriting.write(contentsOf: Data(input.utf8))
        try standardInput.fileHandleForWriting.close()
        // A peer that waits for ever is a failure of the test, not the end of all tests.
        let watchdog = Task {
            try await Task.sleep(for: .seconds(20))
            kill(process.processIdentifier, SIGKILL)
        }
        defer { watchdog.cancel() }
        return await withCheckedContinuation { continuation in
            Thread {
                let output = standardOutput.fileHandleForReading.readDataToEndOfFile()
                process.waitUntilExit()
                continuation.resume(returning: String(decoding: output, as: UTF8.self))
            }.start()
        }
    }

    /// A client that says hello and BYE; the server ends the connection.
    private static func client(_ port: Int, _ arguments: String...) async throws -> String {
        try await openSSL(
            ["s_client", "-connect", "127.0.0.1:\(port)", "-ign_eof"] + arguments, input: "hello\nBYE\n")
    }

    @Test(arguments: [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
    func client(option: String, version: String) async throws {
        let server = try await EchoServer(Fixture.server(), greeting: "220 ready\r\n")
        let output = try await Self.client(
            server.port, option, "-servername", "mx.example.com", "-verify_hostname", "mx.example.com", "-CAfile",
            Fixture.authority.certificateFile, "-verify_return_error")
        #expect(output.contains("220 ready\r\n"))
        #expect(output.contains("hello\nBYE\n"))
        #expect(output.contains("Verification: OK"))
        #expect(output.contains("New, \(version), Cipher is "))
        #expect(output.contains("Compression: NONE"))
        // The end was said: without close_notify there would be "unexpected eof".
        #expect(output.contains("closed\n"))
        #expect(!output.contains("error"))
        let entries = try await server.log.wait(2)
        guard case .established(let info)? = entries.first else {
            Issue.record("\(entries)")
            return
        }
        #expect(info.session.version == version)
        #expect(info.serverName == "mx.example.com")
        #expect(entries.dropFirst() == [.inactive])
        try await server.close()
    }

    @Test(arguments: ["-tls1_2", "-tls1_3"])
    func oneTicketThatResumes(option: String) async throws {
        let server = try await EchoServer(Fixture.server())
        let session = try Fixture.certificates.file("")
        let first = try await Self.client(server.port, option, "-sess_out", session)
        #expect(first.contains("New, TLS"))
        let tickets = first.components(separatedBy: "Post-Handshake New Session Ticket arrived").count - 1
        #expect(tickets == (option == "-tls1_3" ? 1 : 0))
        let second = try await Self.client(server.port, option, "-sess_in", session)
        #expect(second.contains("Reused, TLS"))
        #expect(second.contains("hello\nBYE\n"))
        try await server.close()
    }

    /// Neither versions before 1.2, nor ciphers without forward secrecy or encryption, whatever the client wants.
    @Test(arguments: [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"],
    ])
    func refused(options: [String]) async throws {
        let rsa = try Fixture.certificates.selfSigned("mx.example.com", key: .rsa(bits: 2048))
        let server = try await EchoServer(Fixture.server(rsa))
        let output = try await Self.openSSL(
            ["s_client", "-connect", "127.0.0.1:\(server.port)"] + options, input: "hello\n")
        #expect(output.contains("no peer certificate available"))
        #expect(output.contains("alert"))
        let entries = try await server.log.wait(2)
        guard case .error(let text)? = entries.first else {
            Issue.record("\(entries)")
            return
        }
        #expect(text.contains("TLS handshake: "))
        try await server.close()
    }

    @Test func noRenegotiation() async throws {
        let server = try await EchoServer(Fixture.server())
        // "R" renegotiates, unless the end of input is ignored; then the input is over, and with it the connection.
        let output = try await Self.openSSL(
            ["s_client", "-connect", "127.0.0.1:\(server.port)", "-tls1_2"], input: "R\n")
        #expect(output.contains("RENEGOTIATING"))
        #expect(output.contains("no renegotiation"))
        try await server.close()
    }

    /// A server that reverses lines, for one connection.
    @Test(arguments: [
        ("TLSv1.2", ["-tls1_2"]), ("TLSv1.3", ["-tls1_3"]), ("TLSv1.3", ["-verify", "1"]),
        ("TLSv1.3", ["-num_tickets", "20"]), ("TLSv1.2", ["-tls1_2", "-no_ticket", "-cipher", "ECDHE+AES128+SHA"]),
    ])
    func server(version: String, options: [String]) async throws {
        let client = try TLSClientContext(verifies: true, trustFile: Fixture.authority.certificateFile)
        let info = try await Self.converse(
            Fixture.trusted, options, client, verification: .system(host: "mx.example.com"))
        #expect(info.session.version == version)
        #expect(info.isPeerVerified)
    }

    /// What a server of long ago has: only a client that would send in clear instead takes it.
    @Test(arguments: [
        ["-tls1_2", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "ECDHE:@SECLEVEL=0", "-sigalgs", "RSA+SHA1"],
    ])
    func weakServer(options: [String]) async throws {
        let weak = try Fixture.certificates.selfSigned("old.example.com", key: .rsa(bits: 1024))
        let info = try await Self.converse(weak, options, TLSClientContext(verifies: false), verification: .none)
        #expect(info.session.version == "TLSv1.2")
        #expect(!info.isPeerVerified)
        let strict = try TLSClientContext(verifies: true, trustFile: weak.certificateFile)
        await #expect(throws: TLSError.self) {
            try await Self.converse(weak, options, strict, verification: .system(host: "old.example.com"))
        }
    }

    /// Starts `openssl s_server` with `options`, says a hundred lines to it and hears them backwards.
    private static func converse(
        _ pair: Certificates.Pair, _ options: [String], _ client: TLSClientContext, verification: TLSVerification
    ) async throws -> TLSFacts {
        let port = try NameServer.freePort()
        async let output = openSSL(
            [
                "s_server", "-accept", "127.0.0.1:\(port)", "-naccept", "1", "-rev", "-cert", pair.certificateFile,
                "-key", pair.keyFile,
            ] + options, input: "")
        let words = (0..<100).map { "line \($0)\n" }.joined()
        let reversed = (0..<100).map { String("line \($0)".reversed()) + "\n" }.joined()
        var attempts = 0
        while true {
            do {
                let (info, heard) = try await talk(
                    to: port, client, words: ByteBuffer(string: words), expected: words.utf8.count,
                    verification: verification)
                #expect(String(buffer: heard) == reversed)
                #expect(try await !output.contains("unexpected eof"))
                return info
            } catch is NIOConnectionError where attempts < 500 {
                // It does not listen yet.
                attempts += 1
                try await Task.sleep(for: .milliseconds(10))
            }
        }
    }
}
