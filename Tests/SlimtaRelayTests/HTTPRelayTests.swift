// The relay over HTTP against our own HTTP server, which says what a test wants it to.

import NIOCore
import NIOPosix
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import SlimtaSMTP
import Synchronization
import Testing

@testable import SlimtaNet
@testable import SlimtaRelay

/// A request as it came.
private struct Got: Sendable {
    let request: HTTPRequest
    let body: String

    func field(_ name: String) -> String { request.values(name).joined(separator: "|") }

    var recipients: [String] {
        request.values("x-envelope-recipient").map {
            Base64.decode($0.utf8).map { String(decoding: $0, as: UTF8.self) } ?? "?"
        }
    }
}

/// Takes messages, and answers each as it is told.
private final class Inbox: HTTPService, HTTPAccess {
    private let requests = Mutex<[Got]>([])
    private let answer: @Sendable (Got) -> HTTPResponse

    init(_ answer: @escaping @Sendable (Got) -> HTTPResponse) { self.answer = answer }

    var got: [Got] { requests.withLock { $0 } }

    /// The first one; the test fails if there is none.
    func first() throws -> Got { try #require(got.first) }

    func respond(to request: HTTPRequest, body: HTTPBody) async throws -> HTTPResponse {
        let got = Got(request: request, body: String(buffer: try await body.all()))
        requests.withLock { $0.append(got) }
        return answer(got)
    }

    func noticed(_ event: HTTPServerEvent) {}
    func admit(_ peer: HTTPPeer) -> HTTPAdmission { .admitted }
}

private func reply(_ status: Int, _ reply: String, _ more: [(name: String, value: String)] = []) -> HTTPResponse {
    HTTPResponse(status, [("X-Smtp-Reply", reply)] + more)
}

private let accepted = reply(200, "250; message=\"2.6.0 Message accepted for delivery\"")

/// A relay to an inbox, while `body` runs.
private func withRelay(
    _ change: (inout HTTPRelay.Service) -> Void = { _ in }, _ answer: @escaping @Sendable (Got) -> HTTPResponse,
    _ body: (HTTPRelay, Inbox) async throws -> Void
) async throws {
    let inbox = Inbox(answer)
    let socket = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)[0]
    var service = HTTPRelay.Service(
        isSecure: false, host: "127.0.0.1", port: try #require(socket.port), target: "/submit?queue=a%20b")
    change(&service)
    var limits = HTTPLimits()
    limits.body = 64 << 20
    // However busy the machine is.
    (limits.headTimeout, limits.bodyTimeout, limits.answerTimeout) = (.minutes(5), nil, .minutes(5))
    let server = HTTPServer(service: inbox, access: inbox, limits: limits, group: Fixture.group.next())
    let relay = try HTTPRelay(
        FixedHostRelayTests.options { $0.connectTimeout = .seconds(300) }, to: service,
        resolver: FixedHostRelayTests.resolver, group: Fixture.group,
        logger: Fixture.logger)
    try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try? await server.run(on: socket) }
        try await body(relay, inbox)
        await relay.shutDown()
        #expect(relay.connectionCount == 0)
        tasks.cancelAll()
    }
}

@Suite(.timeLimit(.minutes(4))) struct HTTPRelayTests {
    @Test func theRequest() async throws {
        try await withRelay({ $0.login = .basic(username: "relay", password: "s\u{E9}cret") }, { _ in accepted }) {
            relay, inbox in
            for _ in 1...3 {
                let outcomes = await relay.attempt(Delivery(to: ["a@x.test", "b@y.test"]))
                #expect(outcomes.map(\.result) == [.delivered, .delivered])
                #expect(outcomes[0].reply.description == "250 2.6.0 Message accepted for delivery")
                #expect(outcomes[0].isRemote && outcomes[0].remoteHost == "127.0.0.1")
                #expect(outcomes[0].relay?.hasPrefix("http://127.0.0.1:") == true)
                #expect(outcomes[0].relay?.hasSuffix("/submit") == true, "a query may have a secret in it")
            }
            #expect(relay.connectionCount == 1)
            let got = try inbox.first()
            #expect(got.request.method == "POST" && got.request.target == "/submit?queue=a%20b")
            #expect(got.field("content-type") == "message/rfc822")
            #expect(got.field("x-ehlo") == "client.test")
            #expect(got.field("x-envelope-sender") == "c2VuZGVyQGNsaWVudC50ZXN0")
            #expect(got.recipients == ["a@x.test", "b@y.test"])
            #expect(got.field("authorization") == "Basic cmVsYXk6c8OpY3JldA==")
            #expect(got.body == "Received: here\r\n" + Fixture.text)
            #expect(got.request.length == got.body.utf8.count && got.field("transfer-encoding") == "")
            #expect(Set(inbox.got.map { $0.field("idempotency-key") }).count == 3)
        }
    }

    @Test func nullSendersAndUTF8() async throws {
        try await withRelay({ $0.login = .bearer(token: "abc") }, { _ in accepted }) { relay, inbox in
            _ = await relay.attempt(Delivery(to: ["\u{FC}@x.test"], from: nil, smtpUTF8: true))
            let got = try inbox.first()
            #expect(got.request.values("x-envelope-sender") == [""])
            #expect(got.recipients == ["\u{FC}@x.test"])
            #expect(got.field("authorization") == "Bearer abc")
        }
    }

    @Test func aLargeMessage() async throws {
        try await withRelay({ _ in }, { _ in accepted }) { relay, inbox in
            let parts = (0..<80).map { ByteBuffer(repeating: UInt8(0x61 + $0 % 26), count: 65_536) }
            let outcomes = await relay.attempt(Delivery(to: ["a@x.test"], rest: SpooledOctets(parts)))
            #expect(outcomes.map(\.result) == [.delivered])
            let got = try inbox.first()
            #expect(got.body.utf8.count == 80 * 65_536 + 16 + Fixture.text.utf8.count)
            // What cannot be read is not taken for whole by anybody.
            let damaged = Delivery(to: ["a@x.test"], rest: SpooledOctets(parts, failsAtEnd: true))
            let outcome = await relay.attempt(damaged)[0]
            #expect(outcome.result == .temporary && outcome.reply.status == EnhancedStatus(4, 3, 0))
            #expect(inbox.got.count == 1, "all octets were there, but the last ones were not sent")
        }
    }

    /// The same message has the same keys at each attempt, whoever else has been delivered; another one has others.
    @Test func keys() async throws {
        try await withRelay({ _ in }, { _ in reply(503, "451; message=\"4.3.0 later\"") }) { relay, inbox in
            var delivery = Delivery(to: (0..<250).map { "r\($0)@x.test" })
            let outcomes = await relay.attempt(delivery)
            #expect(outcomes.allSatisfy { $0.result == .temporary })
            let first = inbox.got.sorted { $0.recipients[0] < $1.recipients[0] }
            #expect(first.map(\.recipients.count).sorted() == [50, 100, 100])
            // The first hundred are delivered.
            delivery.recipients = Array(100..<250)
            _ = await relay.attempt(delivery)
            let keys = { (got: [Got]) in Set(got.map { $0.field("idempotency-key") }) }
            #expect(keys(Array(inbox.got.dropFirst(3))).isSubset(of: keys(first)))
            #expect(keys(inbox.got).count == 3)
            #expect(keys(inbox.got).allSatisfy { $0.utf8.count == 66 && $0.hasPrefix("\"") })
            delivery.envelope.prependedFields = ByteBuffer(string: "X: y\r\n")
            _ = await relay.attempt(delivery)
            #expect(keys(inbox.got).count == 5)
        }
    }

    /// One answer for all is asked for again for each, where it may be about one of them.
    @Test func eachRecipientItsOwn() async throws {
        try await withRelay(
            { _ in },
            { got in
                if got.recipients.contains("bad@x.test") { return reply(422, "550; message=\"5.1.1 no such user\"") }
                if got.recipients.contains("later@x.test") { return reply(503, "450; message=\"4.2.0 greylisted\"") }
                return accepted
            }
        ) { relay, inbox in
            var delivery = Delivery(to: ["a@x.test", "bad@x.test", "later@x.test", "b@x.test", "later@x.test"])
            let outcomes = await relay.attempt(delivery)
            #expect(outcomes.map(\.result) == [.delivered, .permanent, .temporary, .delivered, .temporary])
            #expect(inbox.got.map(\.recipients.count) == [5, 1, 1, 1, 1, 1])
            // Those that are left are no longer asked about together: one of them may have the message.
            delivery.recipients = [2, 4]
            _ = await relay.attempt(delivery)
            #expect(inbox.got.suffix(2).map(\.recipients.count) == [1, 1])
            #expect(Set(inbox.got.map { $0.field("idempotency-key") }).count == 5, "two are the same recipient")
        }
    }

    @Test func whatIsSaidOfTheMessageIsSaidOfAll() async throws {
        try await withRelay({ _ in }, { _ in reply(413, "552; message=\"5.3.4 too large\"") }) { relay, inbox in
            let outcomes = await relay.attempt(Delivery(to: ["a@x.test", "b@x.test"]))
            #expect(outcomes.map(\.result) == [.permanent, .permanent])
            #expect(inbox.got.count == 1)
        }
    }

    @Test func loginsAreTheOperatorsAffair() async throws {
        let isRefusing = Mutex(true)
        try await withRelay(
            { _ in },
            { _ in
                isRefusing.withLock { $0 }
                    ? HTTPResponse(401, [("WWW-Authenticate", "Basic realm=\"x\"")]) : accepted
            }
        ) { relay, _ in
            #expect(relay.complaint == nil)
            #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.temporary])
            #expect(relay.complaint?.contains("refuses our login") == true)
            isRefusing.withLock { $0 = false }
            #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered])
            #expect(relay.complaint == nil)
        }
    }

    @Test func retryAfter() async throws {
        try await withRelay({ _ in }, { _ in reply(503, "451; message=\"4.3.0 x\"", [("Retry-After", "77")]) }) {
            relay, _ in
            #expect(await relay.attempt(Delivery(to: ["a@x.test"]))[0].retryAfter == .seconds(77))
        }
    }

    @Test func noServer() async throws {
        try await withRelay({ $0.port = 1 }, { _ in accepted }) { relay, _ in
            let outcome = await relay.attempt(Delivery(to: ["a@x.test"]))[0]
            #expect(outcome.result == .temporary && outcome.isHostFailure)
            #expect(outcome.reply.description.hasPrefix("451 4.4.1 cannot connect: "))
        }
        try await withRelay({ $0.socket = "/nowhere/at/all" }, { _ in accepted }) { relay, _ in
            let outcome = await relay.attempt(Delivery(to: ["a@x.test"]))[0]
            #expect(outcome.isHostFailure && outcome.relay == "unix:/nowhere/at/all/submit")
            #expect(relay.destination(for: "x.test") == "unix:/nowhere/at/all/submit")
        }
    }

    /// Cancelled before anything came of it.
    @Test func cancelled() async throws {
        try await withRelay({ _ in }, { _ in accepted }) { relay, _ in
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return await relay.attempt(Delivery(to: ["a@x.test"]))
            }
            #expect(await task.value.map(\.result) == [.temporary])
        }
    }
}
