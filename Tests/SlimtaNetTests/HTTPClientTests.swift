// The HTTP client over real sockets: towards our server, Python's over TLS, and servers that lie octet by octet.

import Foundation
import Glibc
import NIOCore
import NIOPosix
import SlimtaTLS
import Synchronization
import TestKit
import Testing

@testable import SlimtaNet

private typealias Outcome = Result<HTTPAnswer, HTTPClientError>

private func ask(
    _ question: HTTPQuestion, _ addresses: SocketAddress..., host: String = "mx.example.com",
    tls: TLSClientContext? = nil, limits: HTTPClientLimits = .init()
) async -> Outcome {
    let client = HTTPClient(limits: limits, group: MultiThreadedEventLoopGroup.singleton)
    do throws(HTTPClientError) {
        let origin = HTTPOrigin(host: host, addresses: addresses, tls: tls)
        return .success(try await client.answer(to: question, from: origin))
    } catch {
        return .failure(error)
    }
}

/// An outcome as a line.
private func text(_ outcome: Outcome) -> String {
    switch outcome {
    case .success(let answer): "\(answer.status) \(String(buffer: answer.body))"
    case .failure(.malformed): "malformed"
    case .failure(.invalidRequest(let what)): "invalid \(what)"
    case .failure(.cannotConnect(let failures)): "cannot connect \(failures.count)"
    case .failure(.tls(let error)): "tls \(error.code.rawValue)"
    case .failure(.timedOut): "timed out"
    case .failure(.tooLarge): "too large"
    case .failure(.endedEarly): "ended early"
    case .failure(.noBody(let why)): "no body: \(why)"
    case .failure(.cancelled): "cancelled"
    }
}

/// Says what it was asked.
private struct Echo: HTTPService, HTTPAccess {
    func respond(to request: HTTPRequest, body: HTTPBody) async throws -> HTTPResponse {
        let body = try await body.all()
        let length = request.length.map { "\($0)" } ?? "-"
        let said = "\(request.method) \(request.target) \(request.values("x-field")) \(length) "
        return HTTPResponse(
            202, [("X-Host", request.values("host")[0])], .whole(ByteBuffer(string: said + String(buffer: body))))
    }

    func noticed(_ event: HTTPServerEvent) {}
    func admit(_ peer: HTTPPeer) -> HTTPAdmission { .admitted }
}

@Suite struct HTTPClientTests {
    // MARK: servers that do as they should

    @Test func ourServer() async throws {
        let socket = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)[0]
        let address = try SocketAddress(ipAddress: "127.0.0.1", port: #require(socket.port))
        let server = HTTPServer(
            service: Echo(), access: Echo(), limits: .init(), group: MultiThreadedEventLoopGroup.singleton.next())
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try? await server.run(on: socket) }
            let got = try await ask(HTTPQuestion("GET", "/a?b=c", [("X-Field", "d")]), address).get()
            #expect(text(.success(got)) == "202 GET /a?b=c [\"d\"] 0 ")
            #expect(got.values("x-HOST") == ["mx.example.com:\(address.port ?? 0)"])
            let posted = await ask(HTTPQuestion("POST", "/", body: ByteBuffer(string: "report")), address)
            #expect(text(posted) == "202 POST / [] 6 report")
            #expect(text(await ask(HTTPQuestion("POST", "/", body: ByteBuffer()), address)) == "202 POST / [] 0 ")
            #expect(text(await ask(HTTPQuestion("HEAD", "/"), address)) == "202 ")
            let literal = try await ask(HTTPQuestion("GET", "/"), address, host: "::1").get()
            #expect(literal.values("x-host") == ["[::1]:\(address.port ?? 0)"])
            tasks.cancelAll()
        }
    }

    /// Python's http.server behind its ssl module, and OpenSSL's opinion of certificates.
    @Test func pythonOverTLS() async throws {
        let certificates = try Certificates()
        let (authority, other) = (try certificates.authority(), try certificates.authority())
        let good = try certificates.issued("mta-sts.example.com", "IP:127.0.0.1", by: authority)
        let old = try certificates.issued("mta-sts.example.com", by: authority, days: -1)
        let (trusting, distrusting) = (
            try TLSClientContext(verifies: true, trustFile: authority.certificateFile),
            try TLSClientContext(verifies: true, trustFile: other.certificateFile)
        )
        let server = try PythonServer(good, in: certificates)
        defer { server.stop() }
        let expired = try PythonServer(old, in: certificates)
        defer { expired.stop() }
        let question = HTTPQuestion("GET", "/.well-known/mta-sts.txt")
        let name = "mta-sts.example.com"

        let answer = try await ask(question, server.address, host: name, tls: trusting).get()
        #expect(text(.success(answer)) == "200 /.well-known/mta-sts.txt of \(name):\(server.address.port ?? 0)")
        #expect(answer.values("content-type") == ["text/plain"])
        let byAddress = await ask(question, server.address, host: "127.0.0.1", tls: trusting)
        #expect(text(byAddress).hasPrefix("200 "))
        let large = HTTPQuestion("POST", "/", body: ByteBuffer(repeating: UInt8(ascii: "x"), count: 1 << 20))
        #expect(text(await ask(large, server.address, host: name, tls: trusting)) == "201 1048576")
        // A redirect is an answer; its target is not asked.
        let moved = try await ask(HTTPQuestion("GET", "/moved"), server.address, host: name, tls: trusting).get()
        #expect(moved.status == 302 && moved.values("location") == ["/elsewhere"])

        let wrong = await ask(question, server.address, host: "mta-sts.example.net", tls: trusting)
        #expect(text(wrong) == "tls verification")
        #expect(text(await ask(question, server.address, host: name, tls: distrusting)) == "tls verification")
        #expect(text(await ask(question, expired.address, host: name, tls: trusting)) == "tls verification")
        // Who speaks no TLS at all.
        let plain = try LyingServer(awaitsHead: false) { connection, _ in
            connection.send("HTTP/1.1 200 OK\r\n\r\n")
        }
        defer { plain.stop() }
        #expect(text(await ask(question, plain.address, host: name, tls: trusting)).hasPrefix("tls "))
    }

    /// A body without a length ends with close_notify, and is not whole without (RFC 9112 section 9.8).
    @Test func aCutConnectionIsNoEnd() async throws {
        let certificates = try Certificates()
        let authority = try certificates.authority()
        let trusting = try TLSClientContext(verifies: true, trustFile: authority.certificateFile)
        let server = try PythonServer(certificates.issued("a.example", by: authority), in: certificates)
        defer { server.stop() }
        let whole = await ask(HTTPQuestion("GET", "/whole"), server.address, host: "a.example", tls: trusting)
        #expect(text(whole) == "200 some text")
        let cut = await ask(HTTPQuestion("GET", "/cut"), server.address, host: "a.example", tls: trusting)
        #expect(text(cut) == "ended early")
    }

    // MARK: servers that do not

    /// What a server sends before it closes, and what becomes of it.
    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext", "200 text"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext and more", "200 text"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nte\r\n2\r\nxt\r\n0\r\nT: t\r\n\r\n",
            "200 text"
        ),
        ("HTTP/1.1 200 OK\r\n\r\ntext", "200 text"),
        ("HTTP/1.0 200 OK\r\n\r\ntext", "200 text"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "204 "),
        ("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 No\r\n\r\n", "204 "),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", "304 "),
        ("HTTP/1.1 301 Moved\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", "301 "),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!",
            "200 !"
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "malformed"),
        ("", "ended early"),
        ("HTTP/1.1 200", "ended early"),
        ("HTTP/1.1 200 OK\r\nContent-Len", "ended early"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "ended early"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntext", "ended early"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ntext", "ended early"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntext\r\n", "ended early"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntext\r\n0\r\n", "ended early"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 2\r\n\r\ntext", "malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\ntext", "malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\ntext", "malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\ntext", "malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\ntext", "malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "malformed"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfour\r\ntext", "malformed"),
        ("HTTP/2.0 200 OK\r\n\r\n", "malformed"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "malformed"),
        ("220 mx.example.com ESMTP\r\n", "malformed"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
    ])
    func whatComesOfAnAnswer(sent: String, outcome: String) async throws {
        let server = try LyingServer { connection, _ in connection.send(sent) }
        defer { server.stop() }
        #expect(text(await ask(HTTPQuestion("GET", "/"), server.address)) == outcome)
        // The same in single octets.
        let slow = try LyingServer { connection, _ in for octet in sent { connection.send(String(octet)) } }
        defer { slow.stop() }
        #expect(text(await ask(HTTPQuestion("GET", "/"), slow.address)) == outcome)
    }

    @Test func headHasNoBody() async throws {
        let server = try LyingServer { connection, _ in
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
            connection.read()
        }
        defer { server.stop() }
        #expect(text(await ask(HTTPQuestion("HEAD", "/"), server.address)) == "200 ")
    }

    /// A reset is no end, not even of a body that ends with the connection.
    @Test func aResetIsNoEnd() async throws {
        let server = try LyingServer { connection, _ in
            connection.send("HTTP/1.1 200 OK\r\n\r\ntext")
            connection.reset()
        }
        defer { server.stop() }
        #expect(text(await ask(HTTPQuestion("GET", "/"), server.address)) == "ended early")
    }

    /// What goes on for ever ends with the octets that it may have: the time would not be over.
    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\n", "X-Field: value\r\n"),
        ("HTTP/1.1 200 OK\r\nX-Field: ", "value"),
        ("HTTP/1.1 200 OK", "kay"),
        ("", "\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n\r\n", "text"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", "text"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "extension"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "Trailer: t\r\n"),
    ])
    func whatGoesOnForEver(begin: String, more: String) async throws {
        let server = try LyingServer { connection, _ in
            connection.send(begin)
            connection.repeated(String(repeating: more, count: 100))
        }
        defer { server.stop() }
        var limits = HTTPClientLimits()
        limits.timeout = .hours(1)
        #expect(text(await ask(HTTPQuestion("GET", "/"), server.address, limits: limits)) == "too large")
    }

    /// The limit of a body is exact, and does not count framing.
    @Test func theLimitOfABody() async throws {
        let server = try LyingServer { connection, head in
            let count = head.contains("/more") ? 5001 : 5000
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.send(String(repeating: "1\r\nx\r\n", count: count) + "0\r\n\r\n")
        }
        defer { server.stop() }
        var limits = HTTPClientLimits()
        (limits.head, limits.body) = (4096, 5000)
        let most = String(repeating: "x", count: 5000)
        #expect(text(await ask(HTTPQuestion("GET", "/"), server.address, limits: limits)) == "200 " + most)
        #expect(text(await ask(HTTPQuestion("GET", "/more"), server.address, limits: limits)) == "too large")
    }

    /// The time is for the whole: an octet now and then does not prolong it.
    @Test(arguments: ["", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\n\r\n", "silence"])
    func whoAnswersSlowly(begin: String) async throws {
        let ended = DispatchSemaphore(value: 0)
        let server = try LyingServer { connection, _ in
            if begin == "silence" {
                connection.read()
            } else if connection.send(begin) {
                while connection.send(begin.isEmpty ? "\n" : "x") { usleep(20_000) }
            }
            ended.signal()
        }
        defer { server.stop() }
        var limits = HTTPClientLimits()
        limits.timeout = .milliseconds(300)
        #expect(text(await ask(HTTPQuestion("GET", "/"), server.address, limits: limits)) == "timed out")
        // And the connection was closed.
        try await NIOThreadPool.singleton.runIfActive { ended.wait() }
    }

    @Test func whoIsCancelled() async throws {
        let (asked, ended) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let server = try LyingServer { connection, _ in
            asked.signal()
            connection.read()
            ended.signal()
        }
        defer { server.stop() }
        var limits = HTTPClientLimits()
        limits.timeout = .hours(1)
        let task = Task { [limits] in text(await ask(HTTPQuestion("GET", "/"), server.address, limits: limits)) }
        try await NIOThreadPool.singleton.runIfActive { asked.wait() }
        task.cancel()
        #expect(await task.value == "cancelled")
        try await NIOThreadPool.singleton.runIfActive { ended.wait() }
        // Before it began.
        let late = Task { [limits] in
            withUnsafeCurrentTask { $0?.cancel() }
            return text(await ask(HTTPQuestion("GET", "/"), server.address, limits: limits))
        }
        #expect(await late.value == "cancelled")
    }

    // MARK: addresses and requests

    @Test func theNextAddressIsTaken() async throws {
        let server = try LyingServer { connection, _ in connection.send("HTTP/1.1 200 OK\r\n\r\nsecond") }
        defer { server.stop() }
        // Nobody listens on that port there.
        let refusing = try SocketAddress(ipAddress: "127.0.0.77", port: #require(server.address.port))
        #expect(text(await ask(HTTPQuestion("GET", "/"), refusing, server.address)) == "200 second")
        let refused = await ask(HTTPQuestion("GET", "/"), refusing, refusing)
        #expect(text(refused) == "cannot connect 2")
        if case .failure(.cannotConnect(let failures)) = refused {
            #expect(failures.allSatisfy { $0 == "\(refusing): Connection refused" }, "\(failures)")
        }
        #expect(text(await ask(HTTPQuestion("GET", "/"))) == "cannot connect 0")
    }

    /// What others gave must not become a line of its own; nothing is sent.
    @Test func requestsThatAreNotSent() async throws {
        let address = try SocketAddress(ipAddress: "127.0.0.1", port: 1)
        for (question, what) in [
            (HTTPQuestion("GE T", "/"), "method"), (HTTPQuestion("", "/"), "method"),
            (HTTPQuestion("CONNECT", "/"), "method"), (HTTPQuestion("GET", ""), "target"),
            (HTTPQuestion("GET", "http://a/"), "target"), (HTTPQuestion("GET", "/a b"), "target"),
            (HTTPQuestion("GET", "/\r\nX: y"), "target"), (HTTPQuestion("GET", "/ü"), "target"),
            (HTTPQuestion("GET", "/", [("X", "a\r\nY: b")]), "field X"),
            (HTTPQuestion("GET", "/", [("X Y", "a")]), "field X Y"),
            (HTTPQuestion("GET", "/", [("Content-LENGTH", "1")]), "field Content-LENGTH"),
        ] {
            #expect(text(await ask(question, address)) == "invalid " + what)
        }
        for host in ["", "a b", "a/b", "a\r\nX: y", "a@b"] {
            #expect(text(await ask(HTTPQuestion("GET", "/"), address, host: host)) == "invalid host")
        }
    }
}

/// http.server of Python over TLS; until it is stopped.
private final class PythonServer: Sendable {
    private static let program = """
        import http.server, ssl, sys

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, text, *fields):
                self.send_response(status)
                for field in (("Content-Type", "text/plain"), ("Content-Length", str(len(text)))) + fields:
                    self.send_header(*field)
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self):
                if self.path in ("/whole", "/cut"):
                    self.wfile.write(b"HTTP/1.1 200 OK\\r\\n\\r\\nsome text")
                    self.close_connection = True
                    if self.path == "/whole":
                        self.connection.unwrap()
                elif self.path == "/moved":
                    self.answer(302, "", ("Location", "/elsewhere"))
                else:
                    self.answer(200, self.path + " of " + self.headers["Host"])

            def do_POST(self):
                self.answer(201, str(len(self.rfile.read(int(self.headers["Content-Length"])))))

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass

        server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        print(server.server_port, flush=True)
        server.serve_forever()
        """

    let address: SocketAddress
    private let process: ChildProcess

    init(_ pair: Certificates.Pair, in certificates: Certificates) throws {
        let output = Pipe()
        let program = try certificates.file(Self.program)
        process = try ChildProcess(
            "/usr/bin/python3", [program, pair.certificateFile, pair.keyFile], output: .pipe(output))
        var line = ""
        while line.last != "\n" {
            let more = output.fileHandleForReading.availableData
            guard !more.isEmpty else { break }
            line += String(decoding: more, as: UTF8.self)
        }
        let port = try #require(Int(line.trimmingCharacters(in: .whitespacesAndNewlines)))
        address = try SocketAddress(ipAddress: "127.0.0.1", port: port)
    }

    func stop() {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}
