// A control service with a real queue on the storage in memory, and a daemon that notes what it is told to do.

import Logging
import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaRules
import StorageKit
import Synchronization
import Testing

@testable import SlimtaControl

/// Notes what it is told, and is as the test says.
final class NotingDaemon: ControlledDaemon {
    private let state: Mutex<(facts: DaemonFacts, result: ReloadResult, orders: [String])>

    init() {
        let facts = DaemonFacts(
            version: "9.9", hostname: "mx.test", since: Timestamp.now() + .seconds(-90), file: "/etc/slimta.conf",
            read: Timestamp(milliseconds: 1_700_000_000_000), difference: nil, reload: nil,
            edges: [.init(name: "in", listen: ["[::]:25"]) { 3 }], validation: "working", validationReason: nil,
            isDraining: false, delivers: true, warnings: [])
        state = Mutex((facts, ReloadResult(), []))
    }

    var delivers: Bool { state.withLock { $0.facts.delivers } }
    var orders: [String] { state.withLock { $0.orders } }

    func set(_ change: (inout DaemonFacts) -> Void) { state.withLock { change(&$0.facts) } }
    func setResult(_ result: ReloadResult) { state.withLock { $0.result = result } }

    func facts(_ time: Timestamp) async -> DaemonFacts { state.withLock { $0.facts } }

    func reload() async -> ReloadResult {
        state.withLock { state in
            state.orders.append("reload")
            return state.result
        }
    }

    func drain() { state.withLock { $0.orders.append("drain") } }
    func guesses() -> [GuessReport] {
        let until = Timestamp(milliseconds: 1_700_000_000_000)
        return [
            GuessReport(
                kind: "address", name: "192.0.2.1", failures: 30, logins: 4, delay: 0, until: until, times: 2),
            GuessReport(kind: "login", name: "alice", failures: 11, logins: nil, delay: 2, until: nil, times: 0),
        ]
    }
    func releaseGuesses(_ what: String) -> Bool {
        state.withLock { $0.orders.append("release \(what)") }
        return what == "alice"
    }
    var pacedSites: Int { 1 }
    func sites() -> [SiteReport] {
        let time = Timestamp(milliseconds: 1_700_000_000_000)
        return [
            SiteReport(
                name: "1 a.test, 2 b.test:25", hosts: ["a.test", "b.test"], isFixed: false,
                set: .init(connections: nil, rate: nil, messages: 5, recipients: nil),
                configured: .init(connections: 3, rate: nil, messages: nil, recipients: nil),
                learned: .init(connections: nil, rate: 0.8, messages: nil, recipients: nil), greylists: true,
                greylistWait: .seconds(300), sessions: 2, window: 3, waiting: 4, pausedUntil: time,
                failed: [.init(address: "192.0.2.1:25", failures: 2, until: time)], lastUsed: time)
        ]
    }
    func setSite(_ name: String, _ change: SiteChange) -> Int {
        state.withLock { $0.orders.append("set \(name) \(change.rate == .some(nil)) \(change.messages == .some(7))") }
        return name == "b.test" ? 1 : 0
    }
    func forgetSite(_ name: String) -> Int {
        state.withLock { $0.orders.append("forget \(name)") }
        return name == "b.test" ? 1 : 0
    }
    func userName(_ uid: UInt32) async -> String { "user\(uid)" }

    /// One host, of example.com.
    func tlsMemory(of domain: String?) -> [TLSMemoryReport] {
        let known = TLSMemoryReport(
            domain: "example.com", host: "mx.example.com", days: 41, first: "2026-10-01", last: "2026-11-29",
            dane: "2026-11-29", policy: nil, isInForce: true)
        return domain == nil || domain == known.domain ? [known] : []
    }

    func forgetTLS(of domain: String) async -> Int {
        state.withLock { $0.orders.append("forget \(domain)") }
        return tlsMemory(of: domain).count
    }

    func tlsReports() -> TLSReportsReport {
        let time = Timestamp(milliseconds: 1_700_000_000_000)
        return TLSReportsReport(
            isOn: true,
            counts: [
                .init(
                    day: "2026-11-29", domain: "example.com", places: ["mailto:a@example.com"], policy: "sts",
                    policyDomain: "example.com", successes: 3, failures: 1,
                    results: [(result: "certificate-expired", count: 1)])
            ],
            waiting: [.init(day: "2026-11-28", domain: "example.org", places: ["x"], due: time, error: "why")],
            past: [.init(day: "2026-11-27", domain: "example.com", time: time, place: "x", error: nil)])
    }

    func sendTLSReports(withToday: Bool) async -> [TLSReportsReport.Past]? {
        state.withLock { $0.orders.append("send \(withToday)") }
        return withToday ? nil : tlsReports().past
    }

    func explainTLS(_ domain: String) async -> TLSPlanReport? {
        guard domain == "example.com" else { return nil }
        return TLSPlanReport(
            isTrusted: true, policy: "enforce",
            hosts: [.init(name: "mx.example.com", addresses: 2, plan: "encrypted", reasons: ["why"], error: nil)],
            error: nil)
    }

    /// One key, of example.com, which signs, and whose record is as of the last question.
    func signing() -> SigningReport {
        let time = Timestamp(milliseconds: 1_700_000_000_000)
        let life = SigningReport.Life(
            state: "active", since: time, signs: true, signed: nil, isRecordRight: true, record: orders.last,
            isUnanswered: false, answered: time, nextQuestion: time, advice: nil)
        let key = SigningReport.Key(
            domain: "example.com", selector: "r2026a", algorithm: "rsa-sha256", bits: 2048,
            recordName: "r2026a._domainkey.example.com", record: "v=DKIM1", zoneLine: "x", isOurs: true, life: life)
        return SigningReport(
            domains: [.init(name: "example.com", mail: "signed")], keys: [key], warnings: [])
    }

    func askForKeys(of domain: String?) async -> SigningReport {
        state.withLock { $0.orders.append("ask for \(domain ?? "all")") }
        return signing()
    }

    func makeSigningKey(_ wish: SigningKeyWish) async throws(SigningKeyRefusal) -> SigningReport.Key {
        state.withLock { $0.orders.append("make \(wish.selector ?? "any") \(wish.isNext)") }
        switch wish.algorithm {
        case "rsa-sha256": return signing().keys[0]
        case "ed25519-sha256": throw .notNow("there is one")
        default: throw .mistake("no algorithm")
        }
    }
    /// The users are ann and bob, whose case does not count; whether "x@..." is one somebody else knows.
    func login(_ name: String) async -> KnownLogin {
        let folded = name.lowercased()
        if ["ann", "bob"].contains(folded) { return KnownLogin(name: folded, isThere: true) }
        return KnownLogin(name: folded, isThere: name.hasPrefix("x@") ? nil : false)
    }
}

/// Keeps what is logged, a line each: the message and what is said of the command.
struct NotingLog: LogHandler {
    final class Lines: Sendable {
        private let all = Mutex<[String]>([])
        var lines: [String] { all.withLock { $0 } }
        func note(_ line: String) { all.withLock { $0.append(line) } }
    }

    let lines: Lines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let said = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        lines.note(([event.message.description] + said).joined(separator: " "))
    }
}

/// Delivers nothing to "later.test", nor to "gate.test", whose attempts last until the gate is opened, and is never done with
/// "slow.test" before the test lets go of it.
final class ManyFacedRelay: Relay {
    private let isOpen = Mutex(false)

    func openGate() { isOpen.withLock { $0 = true } }

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        let domain = delivery.envelope.recipients[delivery.recipients[0]].foldedDomain
        // A drain does not wait for it: the test's end cancels it.
        if domain == "slow.test" { try? await Task.sleep(for: .seconds(60)) }
        while domain == "gate.test", !isOpen.withLock({ $0 }), (try? await Task.sleep(for: .milliseconds(5))) != nil {}
        let outcome =
            domain == "later.test" || domain == "gate.test"
            ? Outcome(.temporary, Reply(451, .init(4, 2, 0), "Greylisted"), isRemote: true)
            : Outcome(.delivered, Reply(250, .init(2, 0, 0), "ok"), isRemote: true)
        return delivery.recipients.map { _ in outcome }
    }
}

/// The service and all that it looks at.
final class ControlFixture: Sendable {
    let storage: any QueueBackend
    let relay = ManyFacedRelay()
    let queue: Queue
    let daemon = NotingDaemon()
    let quotas: QuotaBook
    let control: Control
    private let log = NotingLog.Lines()

    convenience init(
        _ database: MemoryDatabase = MemoryDatabase(), _ quotas: Quotas = Quotas(rules: nil, key: SIMD2(1, 2))
    ) async throws {
        try await self.init(MemoryStorage(database), quotas)
    }

    init(
        _ storage: any QueueBackend, _ quotas: Quotas = Quotas(rules: nil, key: SIMD2(1, 2))
    ) async throws {
        self.storage = storage
        let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        queue = Queue(
            storage: storage, relay: relay,
            configuration: .init(
                schedule: RetrySchedule(intervals: [.seconds(3600)], expire: .seconds(86400), warn: nil),
                limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: true, hostname: "queue.test"),
            logger: silent)
        self.quotas = QuotaBook(quotas)
        control = Control(
            storage: storage, queue: queue, quotas: self.quotas, daemon: daemon,
            logger: Logger(label: "test") { [log] _ in NotingLog(lines: log) })
        try await storage.start { [queue] in queue.receive($0) }
    }

    var lines: [String] { log.lines }

    /// Stores envelopes of one message; their ids in the queue's order.
    @discardableResult
    func accept(
        _ count: Int = 1, to recipient: String = "x@x.test", login: String? = nil, edge: String = "",
        heldReason: String? = nil
    ) async throws -> [QueueID] {
        let now = Timestamp.now()
        let envelopes = (0..<count).map { _ in
            Envelope(
                id: storage.newID(at: now), sender: Mailbox(parsing: "sender@later.test"),
                recipients: [Mailbox(parsing: recipient)!], received: now,
                client: ClientInfo(address: "192.0.2.1", name: "c", protocolWord: "ESMTP", login: login, edge: edge),
                prependedFields: ByteBuffer(string: "Received: here\r\n"))
        }
        let result: Result<Void, StorageError> = await withCheckedContinuation { continuation in
            queue.accept(
                envelopes, Message(head: ByteBuffer(string: "Subject: x\r\n\r\nbody\r\n")), heldReason: heldReason
            ) {
                continuation.resume(returning: $0)
            }
        }
        try result.get()
        return envelopes.map(\.id).sorted()
    }

    /// The answer to one request: its status, and its content as JSON.
    func ask(
        _ method: ControlRequest.Method, _ path: String, _ query: (String, String)...
    ) async throws -> (status: Int, json: JSON) {
        try await ask(method, path, query)
    }

    func ask(
        _ method: ControlRequest.Method, _ path: String, _ query: [(String, String)]
    ) async throws -> (status: Int, json: JSON) {
        let answer = await response(method, path, query)
        guard case .whole(let octets) = answer.content else {
            Issue.record("no JSON")
            return (answer.status, .null)
        }
        return (answer.status, try JSON(parsing: octets.readableBytesView))
    }

    func response(
        _ method: ControlRequest.Method, _ path: String, _ query: [(String, String)] = []
    ) async -> HTTPResponse {
        await control.respond(
            to: ControlRequest(
                method: method, path: path.split(separator: "/").map(String.init),
                query: query.map { HTTPTarget.Parameter($0.0, $0.1) }, peer: .init(uid: 7, pid: 42)))
    }

    /// How far each message is that can be read, by its id.
    func places() async throws -> [String: String] {
        let list = try await ask(.get, "queue", ("limit", "1000")).json
        return Dictionary(
            uniqueKeysWithValues: list["messages"].elements.map { ($0["id"].text ?? "", $0["state"].text ?? "") })
    }

    /// Has the queue make attempts while `body` runs.
    func delivering(_ body: () async throws -> Void) async throws {
        let running = Task { [queue] in await queue.run() }
        defer { running.cancel() }
        try await body()
    }
}

/// Waits until something is so; an issue if that takes too long.
func eventually(_ what: Comment, _ condition: () async throws -> Bool) async throws {
    for _ in 0..<4000 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record(what)
}
