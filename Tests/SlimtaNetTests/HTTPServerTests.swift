// The HTTP server over real sockets: bodies, what is refused and how that still arrives, and who asks. Limits and times of
// plain requests are tested with the control socket (ControlServerTests).

import Foundation
import Glibc
import NIOCore
import NIOPosix
import SlimtaMail
import Synchronization
import TestKit
import Testing

@testable import SlimtaNet

/// Answers what the tests ask, and remembers what it was asked.
private final class Answers: HTTPService {
    let asked = Mutex<[String]>([])
    let events = Mutex<[String]>([])

    func respond(to request: HTTPRequest, body: HTTPBody) async throws -> HTTPResponse {
        let path = HTTPTarget(request.target)?.path.first ?? ""
        asked.withLock { $0.append("\(request.method) \(path)") }
        switch path {
        case "count":
            var (pieces, octets) = (0, 0)
            while let piece = try await body.next() { (pieces, octets) = (pieces + 1, octets + piece.readableBytes) }
            return HTTPResponse(
                .object([.init("octets", .count(octets)), .init("length", .count(request.length ?? -1))]))
        case "pieces":
            var pieces = 0
            while try await body.next() != nil { pieces += 1 }
            return HTTPResponse(.count(pieces))
        case "all":
            return HTTPResponse(200, [("Content-Type", "text/plain")], .whole(try await body.all()))
        case "refuse": return .error(403, "not you")
        case "slow":
            try await Task.sleep(for: .milliseconds(300))
            return HTTPResponse(.count(try await body.all().readableBytes))
        case "hang":
            try await Task.sleep(for: .seconds(3600))
            return HTTPResponse(.count(0))
        case "stream":
            let left = Mutex(3)
            return HTTPResponse(
                200, [],
                .stream {
                    left.withLock { left in
                        left -= 1
                        return left < 0 ? nil : ByteBuffer(string: "piece")
                    }
                })
        default: return HTTPResponse(.string(request.values("x-field").joined(separator: "|")))
        }
    }

    func noticed(_ event: HTTPServerEvent) {
        let text =
            switch event {
            case .tooMany(let limit): "too many: \(limit)"
            case .refused: "refused"
            case .malformed(_, let status, _): "malformed: \(status)"
            case .broken(_, let error): "broken: \(type(of: error))"
            }
        events.withLock { $0.append(text) }
    }
}

/// Everyone may, or nobody.
private struct Door: HTTPAccess {
    var isOpen = true

    func admit(_ peer: HTTPPeer) -> HTTPAdmission { isOpen ? .admitted : .refused(.error(403, "closed")) }
}

@Suite struct HTTPServerTests {
    /// Runs a server on a TCP port while `body`, which blocks, has a thread of its own.
    private func serve(
        _ limits: HTTPLimits = .init(), isOpen: Bool = true, _ body: @escaping @Sendable (Int, Answers) throws -> Void
    ) async throws {
        let answers = Answers()
        let socket = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)[0]
        let port = try #require(socket.port)
        let server = HTTPServer(
            service: answers, access: Door(isOpen: isOpen), limits: limits,
            group: MultiThreadedEventLoopGroup.singleton.next())
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try? await server.run(on: socket) }
            try await NIOThreadPool.singleton.runIfActive { try body(port, answers) }
            tasks.cancelAll()
        }
    }

    /// Sends pieces of text, and returns all that comes until the end, or until `isEnough`.
    private func exchange(
        _ port: Int, _ pieces: [String], isEnough: (String) -> Bool = { _ in false }
    ) throws -> String {
        let client = try BlockingClient(port)
        for piece in pieces { client.send(Array(piece.utf8)) }
        return client.read { isEnough(String(decoding: $0, as: UTF8.self)) }
    }

    private func post(_ path: String, _ fields: String, _ body: String = "") -> String {
        "POST /\(path) HTTP/1.1\r\nHost: x\r\n\(fields)\r\n\r\n\(body)"
    }

    @Test func bodiesOfBothKinds() async throws {
        try await serve { port, _ in
            let two =
                post("all", "Content-Length: 5", "whole")
                + post("all", "Transfer-Encoding: chunked", "2;x=y\r\nin\r\n7\r\n pieces\r\n0\r\nTrailer: t\r\n\r\n")
                + "GET /x HTTP/1.1\r\nHost: x\r\nX-Field: a\r\nx-field: b, c\r\n\r\n"
            let answer = try exchange(port, [two]) { $0.contains("a|b, c") }
            #expect(answer.components(separatedBy: "HTTP/1.1 200 OK").count == 4)
            #expect(answer.contains("\r\n\r\nwholeHTTP/1.1"))
            #expect(answer.contains("\r\n\r\nin piecesHTTP/1.1"))
        }
    }

    @Test func largeBodiesInManyForms() async throws {
        var limits = HTTPLimits()
        limits.body = 20 << 20
        let octets = 10_000_000
        try await serve(limits) { port, _ in
            let whole = post("count", "Content-Length: \(octets)", String(repeating: "x", count: octets))
            #expect(
                try exchange(port, [whole]) { $0.hasSuffix("}\n") }.contains(
                    "{\"octets\":\(octets),\"length\":\(octets)}"))
            // A chunk has more framing than content, and far more in all than a head may have.
            let chunks = String(repeating: "1\r\nx\r\n", count: 200_000) + "0\r\n\r\n"
            let answer = try exchange(port, [post("count", "Transfer-Encoding: chunked", chunks)]) {
                $0.hasSuffix("}\n")
            }
            #expect(answer.contains("{\"octets\":200000,\"length\":-1}"), "\(answer)")
        }
    }

    /// What the service is given is as large as what was read: chunks of an octet are no steps of their own.
    @Test func smallChunksComeTogether() async throws {
        var limits = HTTPLimits()
        limits.body = 20 << 20
        let count = 20_000
        try await serve(limits) { port, _ in
            let chunks = String(repeating: "1\r\nx\r\n", count: count) + "0\r\n\r\n"
            let answer = try exchange(port, [post("pieces", "Transfer-Encoding: chunked", chunks)]) {
                $0.hasSuffix("\n") && $0.contains("\r\n\r\n")
            }
            let pieces = try #require(Int(answer.split(separator: "\r\n").last?.dropLast() ?? ""), "\(answer)")
            #expect(pieces * 50 < count)
        }
    }

    @Test func framingIsNotFree() async throws {
        var limits = HTTPLimits()
        limits.body = 20 << 20
        try await serve(limits) { port, _ in
            let extended = String(repeating: "1;\(String(repeating: "y", count: 500))\r\nx\r\n", count: 1000)
            let answer = try exchange(port, [post("count", "Transfer-Encoding: chunked", extended)])
            #expect(!answer.hasPrefix("HTTP/1.1 200"), "\(answer)")
            let next = try exchange(port, ["GET /x HTTP/1.1\r\nHost: x\r\n\r\n"]) { $0.hasSuffix("\"\"\n") }
            #expect(next.hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func whoWaitsToBeToldToGoOnIsTold() async throws {
        try await serve { port, _ in
            let client = try BlockingClient(port)
            client.send(Array(post("all", "Content-Length: 5\r\nExpect: 100-continue").utf8))
            #expect(client.read { $0.count >= 25 } == "HTTP/1.1 100 Continue\r\n\r\n")
            client.send(Array("whole".utf8))
            #expect(client.read { $0.count >= 25 && $0.suffix(5) == Array("whole".utf8) }.hasPrefix("HTTP/1.1 200 OK"))
            // Who is refused is not told to send anything, and nothing that follows is taken for a request.
            let refused = try exchange(port, [post("refuse", "Content-Length: 5\r\nExpect: 100-continue")])
            #expect(refused.hasPrefix("HTTP/1.1 403"))
            #expect(refused.lowercased().contains("connection: close"))
            #expect(try exchange(port, [post("all", "Content-Length: 5\r\nExpect: money")]).hasPrefix("HTTP/1.1 417"))
        }
    }

    /// An early answer arrives, though the client goes on sending what nobody reads.
    @Test func anEarlyAnswerArrives() async throws {
        var limits = HTTPLimits()
        limits.body = 10 << 20
        try await serve(limits) { port, answers in
            for (path, length, status) in [("refuse", 900_000, 403), ("count", 11 << 20, 413)] {
                let client = try BlockingClient(port)
                client.send(Array(post(path, "Content-Length: \(length)").utf8))
                for _ in 0..<8 { client.send([UInt8](repeating: 0x78, count: 100_000)) }
                let answer = client.read { _ in false }
                #expect(answer.hasPrefix("HTTP/1.1 \(status)"), "\(answer)")
            }
            // What nobody read was not taken for a request.
            #expect(answers.asked.withLock { $0 } == ["POST refuse"])
            // A little that was not read costs no connection.
            let two = post("refuse", "Content-Length: 5", "whole") + "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
            #expect(try exchange(port, [two]) { $0.hasSuffix("\"\"\n") }.contains("HTTP/1.1 200 OK"))
        }
    }

    /// Who is refused again and again, or asks and has nothing taken, waits for its answer, and no more of its requests is
    /// looked at; nobody else does, nor who has something taken in between.
    @Test func whatLeadsToNothingWaits() async throws {
        var limits = HTTPLimits()
        (limits.errors, limits.pause) = (5, .hours(1))
        try await serve(limits) { port, answers in
            let refused = post("refuse", "Content-Length: 0")
            let (taken, asked) = (post("all", "Content-Length: 0"), "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            let (idle, curious) = (try BlockingClient(port), try BlockingClient(port))
            idle.send(Array(String(repeating: refused, count: 20).utf8))
            curious.send(Array(String(repeating: asked, count: 20).utf8))
            func answered(_ answer: String) -> Int { answer.components(separatedBy: "HTTP/1.1 ").count - 1 }
            #expect(answered(idle.read { $0.count { $0 == 0x7D } == 2 }) == 2)
            #expect(answered(curious.read { String(decoding: $0, as: UTF8.self).count { $0 == "\"" } == 14 }) == 7)
            let good = String(repeating: refused + asked + refused + taken, count: 50)
            let last = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            #expect(answered(try exchange(port, [good + last])) == 201)
            let count = answers.asked.withLock { asked in
                (idle: asked.count { $0 == "POST refuse" }, curious: asked.count { $0 == "GET x" })
            }
            #expect(count == (100 + 3, 50 + 8))
        }
    }

    /// A body that stops ends its connection, also where its head was sent ahead of the answer to another.
    @Test(arguments: [false, true], ["Content-Length: 9", "Transfer-Encoding: chunked"])
    func aBodyThatStops(isSentAhead: Bool, field: String) async throws {
        var limits = HTTPLimits()
        limits.bodyTimeout = nil
        limits.transfer = .init(leastRate: 0, stallTimeout: .milliseconds(200))
        try await serve(limits) { port, _ in
            let client = try BlockingClient(port)
            let before = isSentAhead ? post("all", "Content-Length: 5", "whole") : ""
            client.send(Array((before + post("all", field, "5\r\nwh")).utf8))
            #expect(client.isEnded())
        }
    }

    /// Who has its answer, sends on, and never ends, is not listened to for ever.
    @Test func lingeringEnds() async throws {
        try await serve { port, _ in
            let client = try BlockingClient(port)
            client.send(Array(post("refuse", "Content-Length: 1000000000").utf8))
            #expect(client.read { _ in false }.hasPrefix("HTTP/1.1 413"))
            var rounds = 0
            while client.send([0x78]), rounds < 3000 {
                rounds += 1
                usleep(20_000)
            }
            #expect(rounds < 3000)
        }
    }

    /// A chunked body has no announced length: the limit is where it is passed.
    @Test func tooLargeInChunks() async throws {
        var limits = HTTPLimits()
        limits.body = 100_000
        try await serve(limits) { port, _ in
            let chunk = "4000\r\n\(String(repeating: "x", count: 0x4000))\r\n"
            let answer = try exchange(
                port, [post("count", "Transfer-Encoding: chunked")] + [String](repeating: chunk, count: 20))
            #expect(answer.hasPrefix("HTTP/1.1 413"), "\(answer)")
        }
    }

    /// What is not read stays with the client: a service that waits does not fill our memory.
    @Test func aServiceThatWaitsHoldsTheClientBack() async throws {
        var limits = HTTPLimits()
        limits.body = 1 << 30
        try await serve(limits) { port, _ in
            let client = try BlockingClient(port)
            let length = 64 << 20
            client.send(Array(post("slow", "Content-Length: \(length)").utf8))
            let start = ContinuousClock.now
            client.send([UInt8](repeating: 0x78, count: length))
            #expect(ContinuousClock.now - start > .milliseconds(250))
            #expect(client.read { $0.suffix(1) == [0x0A] }.hasSuffix("\(length)\n"))
        }
    }

    @Test func whoSendsABodySlowlyIsSentAway() async throws {
        var limits = HTTPLimits()
        limits.bodyTimeout = .milliseconds(300)
        try await serve(limits) { port, answers in
            let client = try BlockingClient(port)
            client.send(Array(post("count", "Content-Length: 10000").utf8))
            var sent = 0
            while client.send([0x78]), sent < 5000 {
                sent += 1
                usleep(5000)
            }
            #expect(sent < 5000)
            // It was no message: the service was not told that the body had ended.
            #expect(client.read { _ in false } == "")
        }
    }

    /// Where another server may see another end or another host (RFC 9112 sections 2.2, 3.2, 5.1, 6 and 7.1).
    @Test(arguments: [
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: 0x4\r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: 4 4\r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\na",
        "POST /all HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\u{B}chunked\r\n\r\n0\r\n\r\n",
        "POST /all HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nX-Field: a\r\n b\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\n X-Field: a\r\n\r\n",
        "GET /x HTTP/1.1\nHost: x\n\n", "GET /x HTTP/1.1\r\nHost: x\nX-Field: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\rX-Field: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nX-Field: a\u{0}b\r\n\r\n", "GET /x HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nX Field: a\r\n\r\n",
        "GET /x HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET http://y/x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /x y HTTP/1.1\r\nHost: x\r\n\r\n", "GET /x HTTP/1.2\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /x\r\n\r\n",
    ])
    func whatMayBeReadInTwoWaysIsRefused(_ text: String) async throws {
        var limits = HTTPLimits()
        limits.headTimeout = .milliseconds(500)
        limits.bodyTimeout = .milliseconds(500)
        try await serve(limits) { port, answers in
            let answer = try exchange(port, [text + "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"])
            let isRefused = answer.isEmpty || answer.hasPrefix("HTTP/1.1 4") || answer.hasPrefix("HTTP/1.1 5")
            #expect(isRefused, "\(text.debugDescription): \(answer)")
            #expect(answer.components(separatedBy: "HTTP/1.1 ").count <= 2, "\(text.debugDescription): \(answer)")
            #expect(answers.asked.withLock { $0 }.allSatisfy { $0 == "POST all" }, "\(text.debugDescription)")
        }
    }

    /// What is wrong behind a request that is being answered is told once, though NIO has two errors for it.
    @Test(arguments: [
        "GET /x\r\n\r\n", "GET /x HTTP/2.0\r\nHost: x\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\n : y\r\n\r\nGET /x",
    ])
    func whatIsNoRequestIsToldOnce(_ text: String) async throws {
        try await serve { port, _ in
            let answer = try exchange(port, ["GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + text])
            #expect(answer.components(separatedBy: "HTTP/1.1 200 OK").count == 2, "\(answer)")
            #expect(answer.components(separatedBy: "HTTP/1.1 400 Bad Request").count == 2, "\(answer)")
        }
    }

    @Test func oldClientsAndHeads() async throws {
        try await serve { port, _ in
            let old = try exchange(port, ["GET /stream HTTP/1.0\r\n\r\n"])
            #expect(old.hasPrefix("HTTP/1.0 200 OK"))
            #expect(old.hasSuffix("\r\n\r\npiecepiecepiece"))
            let head = try exchange(port, ["HEAD /x HTTP/1.1\r\nHost: x\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n"]) {
                $0.hasSuffix("\"\"\n")
            }
            #expect(head.components(separatedBy: "Content-Length: 3\r\n").count == 3)
            #expect(head.components(separatedBy: "\"\"\n").count == 2)
            // Another protocol is not spoken, and what follows is not lost in silence.
            let upgrade = try exchange(
                port, ["GET /x HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"])
            #expect(upgrade.hasPrefix("HTTP/1.1 200 OK"))
        }
    }

    @Test func whoIsNotAdmitted() async throws {
        var limits = HTTPLimits()
        limits.refusals = 1
        try await serve(limits, isOpen: false) { port, answers in
            let waiting = try BlockingClient(port)
            while answers.events.withLock({ $0.isEmpty }) { _ = try exchange(port, []) }
            #expect(answers.events.withLock { $0[0] } == "too many: 1")
            waiting.send(Array(post("all", "Content-Length: 800000").utf8) + [UInt8](repeating: 0x78, count: 800_000))
            #expect(waiting.read { _ in false }.hasPrefix("HTTP/1.1 403"))
            #expect(answers.asked.withLock { $0.isEmpty })
            #expect(answers.events.withLock { $0.contains("refused") })
        }
    }

    /// Who still works on an answer when the server ends is cancelled, and says nothing.
    @Test func servicesAreCancelledAtTheEnd() async throws {
        let answers = Answers()
        let socket = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)[0]
        let port = try #require(socket.port)
        let server = HTTPServer(
            service: answers, access: Door(), limits: .init(), group: MultiThreadedEventLoopGroup.singleton)
        let task = Task { try? await server.run(on: socket) }
        let (idle, client) = try await NIOThreadPool.singleton.runIfActive {
            (try BlockingClient(port), try BlockingClient(port))
        }
        client.send(Array("GET /hang HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
        while answers.asked.withLock({ $0.isEmpty }) { try await Task.sleep(for: .milliseconds(5)) }
        task.cancel()
        let said = try await NIOThreadPool.singleton.runIfActive { client.read { _ in false } }
        // The service itself was cancelled in its sleep, and has no answer; who was idle is sent away at once.
        #expect(said == "")
        #expect(try await NIOThreadPool.singleton.runIfActive { idle.read { _ in false } } == "")
        await task.value
    }

    /// Connections that are accepted just when the server ends: nobody serves them, they are closed, and all goes on.
    @Test func endsWhileClientsCome() async throws {
        for round in 0..<40 {
            let socket = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)[0]
            let port = try #require(socket.port)
            let server = HTTPServer(
                service: Answers(), access: Door(), limits: .init(), group: MultiThreadedEventLoopGroup.singleton)
            let task = Task { try? await server.run(on: socket) }
            try await NIOThreadPool.singleton.runIfActive {
                let clients = (0..<30).map { number in
                    if number == round / 2 { task.cancel() }
                    return try? BlockingClient(port)
                }
                for case let client? in clients {
                    // The kernel forgets some whose handshake was not over, and tells them when they send.
                    client.send([0x47])
                    #expect(client.read { _ in false } == "")
                }
            }
            await task.value
        }
    }

    /// A program that we did not write, over TCP: large bodies, 100-continue, keep-alive.
    @Test func curl() async throws {
        var limits = HTTPLimits()
        limits.body = 20 << 20
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("b-\(UUID().uuidString.prefix(8))")
        try Data(repeating: 0x79, count: 5_000_000).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        try await serve(limits) { port, _ in
            let url = "http://127.0.0.1:\(port)/count"
            for extra in [["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect:"]] {
                let output = Pipe()
                // Twice over one connection: the second would fail if octets of the first were left.
                let process = try ChildProcess(
                    "/usr/bin/env", ["curl", "-sS"] + extra + ["--data-binary", "@\(file.path)", url, url],
                    output: .pipe(output), errors: .inherited)
                let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                process.waitUntilExit()
                #expect(said.components(separatedBy: "{\"octets\":5000000,").count == 3, "\(said)")
            }
        }
    }
}
