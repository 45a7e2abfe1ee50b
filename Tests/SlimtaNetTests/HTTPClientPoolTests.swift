// The HTTP client's connections over real sockets: kept and dead ones, limits; and bodies that come in parts.

import Foundation
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import SlimtaMail
import Synchronization
import Testing

@testable import SlimtaNet

private let group = MultiThreadedEventLoopGroup.singleton

private func keeping(_ change: (inout HTTPConnectionLimits) -> Void = { _ in }) -> HTTPClient {
    var connections = HTTPConnectionLimits()
    connections.idleTimeout = .seconds(60)
    change(&connections)
    return HTTPClient(limits: .init(), connections: connections, group: group)
}

private func answer(
    _ client: HTTPClient, _ question: HTTPQuestion = .init("GET", "/"), from server: LyingServer,
    host: String = "api.example.com", limits: HTTPClientLimits? = nil
) async -> Result<HTTPAnswer, HTTPClientError> {
    let origin = HTTPOrigin(host: host, addresses: [server.address], tls: nil)
    do throws(HTTPClientError) {
        return .success(try await client.answer(to: question, from: origin, limits: limits))
    } catch {
        return .failure(error)
    }
}

extension Result<HTTPAnswer, HTTPClientError> {
    fileprivate var text: String {
        switch self {
        case .success(let answer): "\(answer.status) \(String(buffer: answer.body))"
        case .failure(let error): "\(error)"
        }
    }
}

extension LyingServer.Connection {
    /// The next request's head; empty: there is none.
    fileprivate func nextHead() -> String { read { $0.contains("\r\n\r\n") } }

    /// Answers this request and those that follow, each with its number on the connection.
    fileprivate func serve(_ head: String, fields: String = "") {
        var (head, number) = (head, 1)
        while !head.isEmpty, send("HTTP/1.1 200 OK\r\n\(fields)Content-Length: 1\r\n\r\n\(number)") {
            number += 1
            head = nextHead()
        }
    }

    /// Octets that come behind a head, until the client goes away or there are so many.
    fileprivate func count(to limit: Int = .max) -> Int {
        var buffer = [UInt8](repeating: 0, count: 65536)
        var count = 0
        while count < limit {
            let got = Glibc.read(descriptor, &buffer, buffer.count)
            if got <= 0 { break }
            count += got
        }
        return count
    }
}

private func post(key: String? = nil, _ body: String = "x") -> HTTPQuestion {
    HTTPQuestion("POST", "/", key.map { [("Idempotency-Key", $0)] } ?? [], body: ByteBuffer(string: body))
}

@Suite(.timeLimit(.minutes(4))) struct HTTPClientPoolTests {
    // MARK: kept connections

    @Test func oneForManyRequests() async throws {
        let server = try LyingServer { connection, head in connection.serve(head) }
        defer { server.stop() }
        let client = keeping()
        for number in 1...5 { #expect(await answer(client, post(), from: server).text == "200 \(number)") }
        #expect(client.connectionCount == 1)
        // To another host there is another one, though it is at the same address.
        #expect(await answer(client, from: server, host: "other.example.com").text == "200 1")
        #expect(client.connectionCount == 2)
        await client.shutDown()
        #expect(client.connectionCount == 0)
        #expect(await answer(client, from: server).text == "cancelled")
    }

    @Test(arguments: [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ])
    func notKept(sent: String) async throws {
        let server = try LyingServer { connection, _ in
            connection.send(sent)
            connection.read()
        }
        defer { server.stop() }
        let client = keeping()
        for _ in 1...2 { #expect(await answer(client, from: server).text == "200 ok") }
        await client.shutDown()
    }

    /// What a server says unasked on a connection that is idle is no answer to what is asked next.
    @Test func saidUnasked() async throws {
        let (speak, closed) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let server = try LyingServer { connection, _ in
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
            speak.wait()
            connection.send("HTTP/1.1 200 OK\r\nContent-Len")
            connection.read()
            closed.signal()
        }
        defer { server.stop() }
        let client = keeping()
        // What is asked next may be on its way to the connection that is just closed: hence several times.
        for _ in 1...20 {
            try #require(await answer(client, from: server).text == "200 first")
            speak.signal()
            // The client has closed.
            try await NIOThreadPool.singleton.runIfActive { closed.wait() }
        }
        #expect(await answer(client, from: server).text == "200 first")
        speak.signal()
        await client.shutDown()
    }

    @Test func idleOnesEnd() async throws {
        let ended = DispatchSemaphore(value: 0)
        let server = try LyingServer { connection, head in
            connection.serve(head)
            ended.signal()
        }
        defer { server.stop() }
        let client = keeping { $0.idleTimeout = .milliseconds(50) }
        #expect(await answer(client, from: server).text == "200 1")
        try await NIOThreadPool.singleton.runIfActive { ended.wait() }
        #expect(await answer(client, from: server).text == "200 1")
        // And old ones.
        let old = keeping { $0.lifetime = .zero }
        for _ in 1...2 { #expect(await answer(old, from: server).text == "200 1") }
    }

    // MARK: dead connections

    /// Says one answer, and to the next request on the connection something that is none, before it closes.
    private func mortal(_ last: String) throws -> LyingServer {
        try LyingServer { connection, _ in
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            if !connection.nextHead().isEmpty { connection.send(last) }
        }
    }

    @Test func whoMayAskTwice() async throws {
        let server = try mortal("")
        defer { server.stop() }
        let client = keeping()
        var asking = post()
        asking.mayBeRepeated = true
        for (question, outcome) in [
            (HTTPQuestion("GET", "/"), "200 ok"), (HTTPQuestion("PUT", "/", body: ByteBuffer()), "200 ok"),
            (post(key: "a"), "200 ok"), (asking, "200 ok"), (post(), "endedEarly"),
        ] {
            _ = await answer(client, from: server)
            #expect(await answer(client, question, from: server).text == outcome, "\(question.method)")
        }
        await client.shutDown()
    }

    @Test func anAnswerThatHasBegunIsNotAskedForAgain() async throws {
        let server = try mortal("H")
        defer { server.stop() }
        let client = keeping()
        #expect(await answer(client, from: server).text == "200 ok")
        #expect(await answer(client, from: server).text == "endedEarly")
        await client.shutDown()
    }

    // MARK: limits

    @Test func noMoreThanThereMayBe() async throws {
        let most = Mutex((now: 0, most: 0))
        let server = try LyingServer { connection, head in
            var head = head
            while !head.isEmpty {
                most.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
                usleep(20_000)
                most.withLock { $0.now -= 1 }
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                head = connection.nextHead()
            }
        }
        defer { server.stop() }
        for idle in [TimeAmount.zero, .seconds(60)] {
            let client = keeping { ($0.perOrigin, $0.idleTimeout) = (3, idle) }
            let texts = await withTaskGroup(of: String.self) { tasks in
                for _ in 1...12 { tasks.addTask { await answer(client, post(), from: server).text } }
                return await tasks.reduce(into: []) { $0.append($1) }
            }
            #expect(texts == Array(repeating: "200 ", count: 12))
            #expect(most.withLock { $0.most } == 3)
            await client.shutDown()
        }
    }

    /// Whoever waits for a place waits within his time, and takes nobody's place when it is over.
    @Test func waitingForAPlace() async throws {
        let go = DispatchSemaphore(value: 0)
        let server = try LyingServer { connection, head in
            go.wait()
            connection.serve(head)
        }
        defer { server.stop() }
        let client = keeping { $0.perOrigin = 1 }
        async let first = answer(client, from: server).text
        var limits = HTTPClientLimits()
        limits.requestTimeout = .milliseconds(100)
        try await Task.sleep(for: .milliseconds(50))
        #expect(
            await answer(client, from: server, limits: limits).text
                == "timedOut(SlimtaNet.HTTPClientError.Phase.connecting)")
        go.signal()
        #expect(await first == "200 1")
        #expect(await answer(client, from: server).text == "200 2")
        await client.shutDown()
    }

    // MARK: bodies in parts

    /// So many parts of 64 KiB, and how many were asked for.
    private func parts(
        _ count: Int, said: Int? = nil, fails: Bool = false
    ) -> (question: HTTPQuestion, asked: @Sendable () -> Int) {
        let asked = Counter()
        let stream = HTTPRequestStream(length: (said ?? count) << 16) {
            let left = Counter(count)
            return {
                guard left.add(-1) >= 0 else {
                    if fails { throw StreamFailure() }
                    return nil
                }
                _ = asked.add(1)
                return ByteBuffer(repeating: 0x61, count: 1 << 16)
            }
        }
        return (HTTPQuestion("POST", "/", body: ByteBuffer(string: "head"), stream: stream), { asked.add(0) })
    }

    @Test func aLargeBody() async throws {
        let count = 128
        let server = try LyingServer { connection, head in
            var (head, number) = (head, 0)
            while let end = head.firstRange(of: "\r\n\r\n") {
                let begun = head[end.upperBound...].utf8.count
                let all = begun + connection.count(to: 4 + count << 16 - begun)
                number += 1
                connection.send(
                    "HTTP/1.1 200 OK\r\nContent-Length: \("\(all) \(number)".utf8.count)\r\n\r\n\(all) \(number)")
                head = connection.nextHead()
            }
        }
        defer { server.stop() }
        let client = keeping()
        let (question, asked) = parts(count)
        for number in 1...2 {
            #expect(await answer(client, question, from: server).text == "200 \(4 + count << 16) \(number)")
        }
        #expect(asked() == 2 * count)
        await client.shutDown()
    }

    /// Who does not read is sent no more than buffers hold, and not waited for for long.
    @Test func whoDoesNotRead() async throws {
        let server = try LyingServer { connection, _ in usleep(20_000_000) }
        defer { server.stop() }
        var limits = HTTPClientLimits()
        limits.transfer.stallTimeout = .milliseconds(300)
        let (question, asked) = parts(1 << 14)
        let text = await answer(keeping(), question, from: server, limits: limits).text
        #expect(text == "timedOut(SlimtaNet.HTTPClientError.Phase.sending)")
        #expect(asked() < 256, "16 MiB")
    }

    /// A server that has taken all there is waits for us: its time does not pass while we read the next part, or find out
    /// that there is none.
    @Test func whoWaitsForUs() async throws {
        let server = try LyingServer { connection, head in
            guard let end = head.firstRange(of: "\r\n\r\n") else { return }
            _ = connection.count(to: 13 - head[end.upperBound...].utf8.count)
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nread")
        }
        defer { server.stop() }
        var limits = HTTPClientLimits()
        limits.transfer.stallTimeout = .milliseconds(100)
        let stream = HTTPRequestStream(length: 9) {
            let left = Counter(3)
            return {
                try await Task.sleep(for: .milliseconds(350))
                return left.add(-1) >= 0 ? ByteBuffer(string: "end") : nil
            }
        }
        let client = keeping()
        let question = HTTPQuestion("POST", "/", body: ByteBuffer(string: "head"), stream: stream)
        #expect(await answer(client, question, from: server, limits: limits).text == "200 read")
        await client.shutDown()
    }

    /// Who reads an octet now and then.
    @Test func whoReadsSlowly() async throws {
        let server = try LyingServer { connection, _ in
            var buffer = [UInt8](repeating: 0, count: 1024)
            while Glibc.read(connection.descriptor, &buffer, buffer.count) > 0 { usleep(5_000) }
        }
        defer { server.stop() }
        var limits = HTTPClientLimits()
        limits.transfer = .init(leastRate: 1 << 20, stallTimeout: .milliseconds(500))
        let (question, _) = parts(1 << 14)
        let text = await answer(keeping(), question, from: server, limits: limits).text
        #expect(text == "timedOut(SlimtaNet.HTTPClientError.Phase.sending)")
    }

    @Test func anAnswerBeforeTheEnd() async throws {
        let server = try LyingServer { connection, _ in
            connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
            usleep(100_000)
        }
        defer { server.stop() }
        let client = keeping()
        let (question, asked) = parts(1 << 14)
        let got = try await answer(client, question, from: server).get()
        #expect(got.status == 413 && got.isEarly)
        #expect(asked() < 1 << 13)
        await client.shutDown()
    }

    @Test func whatCannotBeSentWhole() async throws {
        let got = Counter()
        let server = try LyingServer { connection, _ in _ = got.add(connection.count()) }
        defer { server.stop() }
        for (question, why) in [
            (parts(3, said: 4).question, "it is shorter than was said"),
            (parts(5, said: 4).question, "it is longer than was said"),
            (parts(3, said: 4, fails: true).question, "StreamFailure()"),
        ] {
            #expect(await answer(keeping(), question, from: server).text == "noBody(\"\(why)\")")
        }
        #expect(got.add(0) < 3 * (4 << 16))
    }

    /// The answer to what was sent whole is worth waiting for.
    @Test func cancelledBehindTheEnd() async throws {
        let (asked, go) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let server = try LyingServer { connection, head in
            asked.signal()
            go.wait()
            usleep(200_000)
            connection.serve(head)
        }
        defer { server.stop() }
        var limits = HTTPClientLimits()
        limits.cancelledTimeout = .seconds(30)
        let task = Task { [limits] in await answer(keeping(), post(), from: server, limits: limits).text }
        try await NIOThreadPool.singleton.runIfActive { asked.wait() }
        task.cancel()
        go.signal()
        #expect(await task.value == "200 1")
        limits.cancelledTimeout = .milliseconds(50)
        let impatient = Task { [limits] in await answer(keeping(), post(), from: server, limits: limits).text }
        try await NIOThreadPool.singleton.runIfActive { asked.wait() }
        impatient.cancel()
        #expect(await impatient.value == "cancelled")
        go.signal()
    }

    // MARK: Retry-After

    @Test(
        arguments: [
            ("120", 120), ("0", 0), ("99999999999999999999999", 1 << 32), ("-1", nil), ("1.5", nil), ("", nil),
            ("soon", nil), ("Sun, 06 Nov 1994 08:49:37 GMT", 37), ("Sunday, 06-Nov-94 08:49:37 GMT", 37),
            ("Sun Nov  6 08:49:37 1994", 37), ("Sat, 05 Nov 1994 08:49:37 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 CET", nil),
            ("Sun, 31 Foo 1994 08:49:37 GMT", nil), ("Sun, 06 Nov 1994 08:49 GMT", nil),
        ] as [(String, Int?)])
    func retryAfter(value: String, seconds: Int?) {
        let date = "Sun, 06 Nov 1994 08:49:00 GMT"
        let head = { (fields: [(String, String)]) in
            HTTPAnswer(.init(version: .http1_1, status: .serviceUnavailable, headers: .init(fields)))
        }
        let asked = Timestamp(milliseconds: 784_111_740_000)
        let expected = seconds.map { Duration.seconds($0) }
        #expect(head([("Retry-After", value)]).retryAfter(now: asked) == expected)
        // The server's clock counts.
        #expect(head([("Retry-After", value), ("Date", date)]).retryAfter(now: .now()) == expected)
        #expect(head([("Retry-After", value), ("Retry-After", value)]).retryAfter(now: asked) == nil)
    }
}

private struct StreamFailure: Error {}

/// A number that several tasks change.
private final class Counter: Sendable {
    private let value: Atomic<Int>

    init(_ start: Int = 0) { value = Atomic(start) }

    func add(_ count: Int) -> Int { value.add(count, ordering: .relaxed).newValue }
}
