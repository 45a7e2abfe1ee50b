// The server and the client over a real UNIX socket: answers, limits, times, and who may ask.

import Foundation
import Glibc
import Logging
import NIOCore
import NIOPosix
import SlimtaNet
import Synchronization
import TestKit
import Testing

@testable import SlimtaControl

/// Answers what the tests ask.
private struct Echo: ControlService {
    struct Broken: Error {}

    func respond(to request: ControlRequest) async -> HTTPResponse {
        switch request.path.first {
        case "stream":
            let pieces = AsyncStream<ByteBuffer>.makeStream()
            for number in 0..<300 {
                pieces.continuation.yield(ByteBuffer(repeating: UInt8(number % 250), count: 10_000))
            }
            pieces.continuation.finish()
            let box = Pieces(pieces.stream)
            return HTTPResponse(200, [("Content-Type", "x/y")], .stream { await box.next() })
        case "broken":
            let box = Pieces(
                AsyncStream {
                    $0.yield(ByteBuffer(string: "beginning")); $0.finish()
                })
            return HTTPResponse(
                200, [],
                .stream {
                    if let next = await box.next() { return next }
                    throw Broken()
                })
        case "slow":
            try? await Task.sleep(for: .seconds(3))
            return HTTPResponse(.object([.init("path", .array([.string("slow")]))]))
        case "error": return .error(418, "I cannot")
        default:
            return HTTPResponse(
                .object([
                    .init("method", .string(request.method.rawValue)), .init("uid", .count(request.peer.uid)),
                    .init("path", .array(request.path.map { .string($0) })),
                    .init("query", .array(request.query.map { .string("\($0.name)=\($0.value)") })),
                ]))
        }
    }
}

/// Ends the server with its answer, as `drain` may do.
private final class Ending: ControlService {
    let server = Mutex<Task<Void, Never>?>(nil)

    func respond(to request: ControlRequest) async -> HTTPResponse {
        let server = server.withLock { $0 }
        return HTTPResponse(.object([.init("ending", .bool(true))])) { server?.cancel() }
    }
}

private actor Pieces {
    private var iterator: AsyncStream<ByteBuffer>.Iterator

    init(_ stream: AsyncStream<ByteBuffer>) { iterator = stream.makeAsyncIterator() }

    func next() async -> ByteBuffer? {
        var copy = iterator
        defer { iterator = copy }
        return await copy.next(isolation: self)
    }
}

@Suite struct ControlServerTests {
    /// Runs a server while `body`, which blocks, has a thread of its own.
    private func serve(
        _ limits: HTTPLimits = .init(), users: Set<UInt32> = [geteuid()],
        _ body: @escaping @Sendable (String) throws -> Void
    ) async throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("c-\(UUID().uuidString.prefix(8))")
            .path
        let server = ControlServer(
            service: Echo(), access: .init(users: users, group: nil), limits: limits,
            group: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "test"))
        let socket = try ListeningSocket.unix(path: path)
        defer { unlink(path) }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await server.run(on: socket) }
            try await NIOThreadPool.singleton.runIfActive { try body(path) }
            tasks.cancelAll()
        }
        // Nobody listens there any more, but a process that another test is just starting may have the socket until it
        // is one of its own.
        var found: ControlError?
        for _ in 0..<500 where found != .noDaemon {
            do throws(ControlError) { _ = try ControlClient(path) } catch { found = error }
            if found != .noDaemon { try await Task.sleep(for: .milliseconds(10)) }
        }
        #expect(found == .noDaemon)
    }

    @Test func anAnswerThatEndsTheServerArrives() async throws {
        for _ in 0..<100 {
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("e-\(UUID().uuidString.prefix(8))")
                .path
            let service = Ending()
            let server = ControlServer(
                service: service, access: .init(users: [geteuid()], group: nil),
                group: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "test"))
            let socket = try ListeningSocket.unix(path: path)
            defer { unlink(path) }
            let task = Task { await server.run(on: socket) }
            service.server.withLock { $0 = task }
            let answer = try await NIOThreadPool.singleton.runIfActive {
                try exchange(path, "POST /drain HTTP/1.1\r\nHost: x\r\n\r\n", until: 1)
            }
            #expect(answer.contains(#"{"ending":true}"#), "\(answer)")
            await task.value
        }
    }

    private func withAddress(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    /// A plain connection, which blocks for two minutes at most: other tests may keep all threads busy for long.
    private func connect(_ path: String) throws -> CInt {
        let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var time = timeval(tv_sec: 120, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        try #require(withAddress(path) { Glibc.connect(descriptor, $0, $1) } == 0)
        return descriptor
    }

    /// What comes until the connection ends, or `isEnough`; throws if it does not end.
    private func readAll(_ descriptor: CInt, isEnough: ([UInt8]) -> Bool = { _ in false }) throws -> [UInt8] {
        var octets: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while !isEnough(octets) {
            let count = read(descriptor, &buffer, buffer.count)
            // A server that ends the connection with something unread resets it.
            if count < 0 { try #require(errno == ECONNRESET, "errno \(errno) after \(octets.count) octets") }
            if count <= 0 { break }
            octets += buffer[..<count]
        }
        return octets
    }

    /// Waits until the server has ended the connection, and reads nothing; false if it does not.
    private func hasEnded(_ descriptor: CInt) -> Bool {
        var wanted = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&wanted, 1, 120_000) == 1 && Int32(wanted.revents) & Int32(POLLHUP) != 0
    }

    /// Sends `text` and reads until `count` answers have come, or the end.
    private func exchange(_ path: String, _ text: String, until count: Int) throws -> String {
        let descriptor = try connect(path)
        defer { close(descriptor) }
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let sent = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            if sent <= 0 { break }
            rest = rest.dropFirst(sent)
        }
        let octets = try readAll(descriptor) { octets in
            // Answers end with the brace of an object and a line feed.
            String(decoding: octets, as: UTF8.self).components(separatedBy: "}\n").count > count
        }
        return String(decoding: octets, as: UTF8.self)
    }

    @Test func asksAndIsAnsweredManyTimesOnOneConnection() async throws {
        try await serve { path in
            let client = try ControlClient(path)
            for number in 0..<50 {
                let (status, json) = try client.ask(.post, ["a b", "\(number)"], [.init("x", "é&=")])
                #expect(status == 200)
                #expect(json["method"].text == "POST")
                #expect(json["path"].elements == [.string("a b"), .string("\(number)")])
                #expect(json["query"].elements == [.string("x=é&=")])
                #expect(json["uid"].integer == Int64(geteuid()))
            }
            let (status, json) = try client.ask(.get, ["error"])
            #expect(status == 418)
            #expect(json["error"].text == "I cannot")
        }
    }

    @Test func streamsWhole() async throws {
        try await serve { path in
            var count = 0
            let client = try ControlClient(path)
            #expect(try client.ask(.get, ["stream"], []) { count += $1.count } == 200)
            #expect(count == 3_000_000)
            #expect(try client.ask(.get, ["next"]).status == 200)
        }
    }

    @Test func aStreamThatBreaksIsNotTakenForWhole() async throws {
        try await serve { path in
            let client = try ControlClient(path)
            #expect(throws: ControlError.self) { _ = try client.ask(.get, ["broken"], []) { _, _ in } }
            #expect(try ControlClient(path).ask(.get, ["next"]).status == 200)
        }
    }

    @Test func whoSaysNothingIsSentAway() async throws {
        var limits = HTTPLimits()
        limits.headTimeout = .milliseconds(500)
        try await serve(limits) { path in
            let silent = try connect(path)
            defer { close(silent) }
            #expect(hasEnded(silent))
            // Nor is one that has asked before, and asks no more, kept for ever.
            let descriptor = try connect(path)
            defer { close(descriptor) }
            let request = Array("GET /a HTTP/1.1\r\nHost: x\r\n\r\n".utf8)
            #expect(send(descriptor, request, request.count, CInt(MSG_NOSIGNAL)) == request.count)
            #expect(hasEnded(descriptor))
            #expect(String(decoding: try readAll(descriptor), as: UTF8.self).hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func requestsHaveALimit() async throws {
        try await serve { path in
            let client = try ControlClient(path)
            #expect(try client.ask(.get, [String(repeating: "x", count: 30_000)]).status == 200)
            #expect(throws: (any Error).self) {
                let (status, _) = try client.ask(.get, [String(repeating: "x", count: 100_000)])
                if status != 200 { throw Echo.Broken() }
            }
        }
    }

    @Test func requestsInOnePieceAreAnsweredInOrder() async throws {
        try await serve { path in
            let names = (0..<40).map { "n\($0)" }
            let answer = try exchange(path, names.map { "GET /\($0) HTTP/1.1\r\nHost: x\r\n\r\n" }.joined(), until: 40)
            #expect(answer.components(separatedBy: "HTTP/1.1 200 OK").count == 41)
            var rest = answer[...]
            for name in names {
                let found = try #require(rest.range(of: "\"path\":[\"\(name)\"]"))
                rest = rest[found.upperBound...]
            }
        }
    }

    @Test func aRequestThatWaitedHasItsTime() async throws {
        var limits = HTTPLimits()
        limits.headTimeout = .seconds(1)
        try await serve(limits) { path in
            // The second one is there at once, and takes longer than a client may take to ask.
            let two = "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
            let answer = try exchange(path, two, until: 2)
            #expect(answer.components(separatedBy: "HTTP/1.1 200 OK").count == 3)
        }
    }

    @Test(arguments: [
        "HELO there\r\n\r\n", "\u{16}\u{3}\u{1}", "GET\r\n\r\n", "GET /a HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /a HTTP/9.9\r\nHost: x\r\n\r\n", "GET /\u{0} HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "PUT /a HTTP/1.1\r\nHost: x\r\n\r\n",
    ])
    func whatIsNoRequestIsRefused(_ text: String) async throws {
        var limits = HTTPLimits()
        limits.headTimeout = .seconds(1)
        try await serve(limits) { path in
            let answer = try exchange(path, text, until: .max)
            #expect(answer.isEmpty || answer.hasPrefix("HTTP/1.1 4"), "\(answer)")
            #expect(try ControlClient(path).ask(.get, ["next"]).status == 200)
        }
    }

    @Test(arguments: [
        "GET /a HTTP/1.1\r\nX: ", "GET /", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n",
    ])
    func tooMuchEndsTheConnection(_ beginning: String) async throws {
        try await serve { path in
            let answer = try exchange(path, beginning + String(repeating: "x", count: 1_000_000), until: .max)
            #expect(answer.isEmpty || answer.hasPrefix("HTTP/1.1 4"))
            #expect(try ControlClient(path).ask(.get, ["next"]).status == 200)
        }
    }

    @Test func whoAsksSlowlyIsSentAway() async throws {
        var limits = HTTPLimits()
        limits.headTimeout = .milliseconds(200)
        try await serve(limits) { path in
            let descriptor = try connect(path)
            defer { close(descriptor) }
            // An octet now and then does not buy more time.
            var sent = 0
            for octet in "GET /".utf8 + [UInt8](repeating: 0x78, count: 12_000) {
                var octet = octet
                if send(descriptor, &octet, 1, CInt(MSG_NOSIGNAL)) != 1 { break }
                sent += 1
                usleep(5000)
            }
            #expect(sent < 12_000)
        }
    }

    @Test func whoDoesNotListenIsSentAway() async throws {
        var limits = HTTPLimits()
        limits.answerTimeout = .milliseconds(200)
        try await serve(limits) { path in
            let descriptor = try connect(path)
            defer { close(descriptor) }
            let request = Array("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n".utf8)
            #expect(send(descriptor, request, request.count, CInt(MSG_NOSIGNAL)) == request.count)
            #expect(hasEnded(descriptor))
            // What had been sent is there, and not all was.
            #expect(try readAll(descriptor).count < 3_000_000)
        }
    }

    @Test func whoMayNotIsRefused() async throws {
        let other: UInt32 = 65534
        let isRoot = geteuid() == 0
        // Root always may, so the one who asks has to be somebody else.
        try await serve(users: isRoot ? [1] : []) { path in
            chmod(path, 0o666)
            let curl = [
                "curl", "-s", "-w", "%{http_code}", "--unix-socket", path, "http://x/status",
            ]
            let asks = isRoot ? ["setpriv", "--reuid=\(other)", "--regid=\(other)", "--clear-groups"] + curl : curl
            let output = Pipe()
            let process = try ChildProcess("/usr/bin/env", asks, output: .pipe(output), errors: .inherited)
            let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            #expect(said.hasPrefix("{\"error\":"))
            #expect(said.hasSuffix("403"))
        }
    }

    @Test func whoMay() {
        let access = ControlServer.Access(users: [7], group: 30)
        #expect(access.allows(uid: 0, groups: []))
        #expect(access.allows(uid: 7, groups: [8]))
        #expect(access.allows(uid: 9, groups: [8, 30]))
        #expect(!access.allows(uid: 9, groups: [0, 8]))
        #expect(!ControlServer.Access(users: [7], group: nil).allows(uid: 9, groups: [0, 30]))
    }

    @Test func nobodyThere() {
        #expect(throws: ControlError.noDaemon) { try ControlClient("/nonexistent/control") }
        #expect(throws: ControlError.self) { try ControlClient(String(repeating: "x", count: 200)) }
    }
}
