// What edges submit, through policies and the real queue into the real storage, and what they are told.

import Foundation
import Logging
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRules
import SlimtaStorage
import Synchronization
import Testing

@testable import SlimtaPolicy

private let now = Timestamp.now()

/// Makes no attempts: the queue does not run in these tests.
private struct NoRelay: Relay {
    func attempt(_ delivery: Delivery) async -> [Outcome] { [] }
}

/// What completions were called with.
private final class Answers: Sendable {
    let refusals = Mutex<[Reply?]>([])
    let texts = Mutex<[QueueID: [String]]>([:])
}

/// An intake with a queue in a folder of its own.
final class World {
    private let path = FileManager.default.temporaryDirectory.appendingPathComponent("intake-\(UUID().uuidString)").path
    let storage: JournaledStorage
    let queue: Queue
    let intake: Intake

    init(
        _ policies: [any QueuePolicy] = [DatePolicy(), ReceivedPolicy()], minimumFree: UInt64 = 0,
        quotas: QuotaBook? = nil
    ) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        var options = StorageOptions()
        options.segmentSize = 1 << 20
        options.minimumFree = minimumFree
        options.reserveSize = 0
        storage = try JournaledStorage.open(directory: path, owner: nil, options: options, report: { _ in })
        let queue = Queue(
            storage: storage, relay: NoRelay(),
            configuration: .init(
                schedule: RetrySchedule(intervals: [.seconds(1)], expire: .seconds(3600), warn: nil),
                limits: .init(attempts: 1, attemptsPerDestination: 1), delivers: false, hostname: "queue.test"),
            logger: logger)
        self.queue = queue
        intake = Intake(
            policies: PolicyChain(policies, receivedHops: 2), hostname: "mail.example.com", queue: queue,
            storage: storage, quotas: quotas, logger: logger)
        try await storage.start { queue.receive($0) }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func envelope(to recipients: [String] = ["b@x.test"]) throws -> Envelope {
        Envelope(
            id: intake.newID(at: now), sender: Mailbox(parsing: "a@example.com"),
            recipients: try recipients.map { try #require(Mailbox(parsing: $0)) }, received: now,
            client: ClientInfo(address: "192.0.2.7", name: "laptop", protocolWord: "ESMTP"))
    }

    /// The reply to a message. A second one would be a crash: a continuation is resumed once.
    func submit(
        _ envelope: Envelope, _ content: String = "Subject: x\r\n\r\ntext\r\n",
        _ terms: SubmissionTerms = SubmissionTerms(), receipt: Receipt? = nil
    ) async -> Reply {
        await withCheckedContinuation { continuation in
            intake.submit(
                envelope, Message(head: ByteBuffer(string: content)), terms: terms, receipt: receipt, session: "1"
            ) { continuation.resume(returning: $0) }
        }
    }

    /// What MAIL is told, which has to be known at once.
    func refusal(size: Int? = nil) throws -> Reply? {
        let answers = Answers()
        intake.refusal(size: size) { reply in answers.refusals.withLock { $0.append(reply) } }
        let told = answers.refusals.withLock { $0 }
        try #require(told.count == 1)
        return told[0]
    }

    /// Where there is room for none, once the storage has looked.
    func untilFull() async throws {
        for _ in 0..<500 where try refusal() == nil { try await Task.sleep(for: .milliseconds(10)) }
    }
}

@Suite struct IntakeTests {
    @Test func acceptedIsStoredWithWhatPoliciesAdd() async throws {
        let world = try await World([DatePolicy(), MessageIDPolicy(), ReceivedPolicy()])
        #expect(try world.refusal(size: 1000) == nil)
        let envelope = try world.envelope()
        #expect(await world.submit(envelope) == Reply(250, .init(2, 6, 0), "Message queued as \(envelope.id)"))
        let stored = try await world.storage.load(envelope.id)
        let fields = String(buffer: stored.envelope.prependedFields)
        #expect(fields.hasPrefix("Received: from laptop ([192.0.2.7])\r\n\tby mail.example.com"))
        #expect(fields.contains("\r\nMessage-ID: <\(envelope.id)@mail.example.com>\r\n"))
        #expect(fields.contains("\r\nDate: \(now.mailDate(offset: now.localOffset))\r\n"))
        #expect(String(buffer: stored.message.head) == "Subject: x\r\n\r\ntext\r\n")
        #expect(world.queue.count == 1)
        await world.storage.close()
    }

    /// All envelopes of a message are stored, and the client hears of it once, by the id of the first.
    @Test func whatPoliciesSplitIsOneSubmission() async throws {
        let world = try await World([DomainSplitPolicy(), ReceivedPolicy()])
        let envelope = try world.envelope(to: ["a@x.test", "b@y.test", "c@X.test"])
        #expect(await world.submit(envelope) == Reply(250, .init(2, 6, 0), "Message queued as \(envelope.id)"))
        let page = try await world.storage.page(after: nil, count: 10)
        var recipients: [[String]] = []
        for summary in page.envelopes {
            recipients.append(summary.envelope.recipients.map(\.text))
        }
        #expect(Set(recipients) == [["a@x.test", "c@X.test"], ["b@y.test"]] && world.queue.count == 2)
        #expect(try await world.storage.load(envelope.id).envelope.recipients.count == 2)
        await world.storage.close()
    }

    /// Fields go above our Received on each envelope, whatever policies made of the message.
    @Test func fieldsOfRulesAreOnTopOfEveryEnvelope() async throws {
        let world = try await World([DomainSplitPolicy(), ReceivedPolicy()])
        let terms = SubmissionTerms(fields: ["Received-SPF: pass\r\n", "X-Rule: a\r\n\tb\r\n"])
        let envelope = try world.envelope(to: ["a@x.test", "b@y.test"])
        #expect(await world.submit(envelope, "Subject: x\r\n\r\ntext\r\n", terms).code == 250)
        let page = try await world.storage.page(after: nil, count: 10)
        #expect(page.envelopes.count == 2)
        for queued in page.envelopes {
            let fields = String(buffer: queued.envelope.prependedFields)
            #expect(fields.hasPrefix("Received-SPF: pass\r\nX-Rule: a\r\n\tb\r\nReceived: from laptop"))
            #expect(!queued.state.isHeld)
        }
        await world.storage.close()
    }

    /// All of it is held in the commit that stores it.
    @Test func whatARuleHoldsIsQueuedHeld() async throws {
        let world = try await World([DomainSplitPolicy(), ReceivedPolicy()])
        let envelope = try world.envelope(to: ["a@x.test", "b@y.test"])
        let terms = SubmissionTerms(heldReason: "much at night")
        let reply = await world.submit(envelope, "Subject: x\r\n\r\ntext\r\n", terms)
        #expect(reply == Reply(250, .init(2, 6, 0), "Message queued as \(envelope.id)"))
        let page = try await world.storage.page(after: nil, count: 10)
        #expect(page.envelopes.map(\.state.isHeld) == [true, true])
        #expect(page.envelopes.map(\.state.heldReason) == ["much at night", "much at night"])
        #expect(world.queue.snapshot().held == 2)
        await world.storage.close()
    }

    /// What a submission leaves behind has all envelopes that policies made of it; one with its key makes no message.
    @Test func aReceiptIsOfAllEnvelopes() async throws {
        let world = try await World([DomainSplitPolicy(), ReceivedPolicy()])
        let envelope = try world.envelope(to: ["a@x.test", "b@y.test"])
        let receipt = Receipt(
            key: .init(1, 2, 3, 4), owner: .init(high: 5, low: 6), fingerprint: .init(7, 8, 9, 10), id: envelope.id,
            answer: [1], expires: .now() + .seconds(60))
        #expect(await world.submit(envelope, receipt: receipt).code == 250)
        let left = try await world.intake.receipt(for: receipt.key)
        #expect(left?.envelopes.map { $0.recipients.map(\.address) } == [["a@x.test"], ["b@y.test"]])
        #expect(left?.envelopes.first?.id == envelope.id && left?.answer == [1])
        #expect(await world.submit(try world.envelope(), receipt: receipt) == .repeated)
        #expect(world.queue.count == 2)
        let state = try await world.intake.submission(envelope.id, of: [receipt.owner])
        #expect(state?.recipients.map(\.fate) == [.queued, .queued])
        let error = await withCheckedContinuation { continuation in
            world.intake.forget([receipt.key]) { continuation.resume(returning: $0) }
        }
        #expect(error == nil)
        #expect(try await world.intake.receipt(for: receipt.key) == nil)
        #expect(await world.submit(try world.envelope(), receipt: receipt).code == 250)
        await world.storage.close()
    }

    /// Only what is in the queue leaves a receipt.
    @Test func whatIsRefusedLeavesNoReceipt() async throws {
        let world = try await World()
        let envelope = try world.envelope()
        let receipt = Receipt(
            key: .init(1, 2, 3, 4), owner: .init(high: 5, low: 6), fingerprint: .init(7, 8, 9, 10), id: envelope.id,
            expires: nil)
        let hops = String(repeating: "Received: from a by b; c\r\n", count: 3)
        #expect(await world.submit(envelope, hops + "\r\n", receipt: receipt).code == 554)
        #expect(try await world.intake.receipt(for: receipt.key) == nil)
        await world.storage.close()
    }

    @Test func whatAPolicyRefusesIsNotQueued() async throws {
        let world = try await World()
        let hops = String(repeating: "Received: from a by b; c\r\n", count: 3)
        #expect(
            await world.submit(try world.envelope(), hops + "\r\n")
                == Reply(554, .init(5, 4, 6), "Too many hops, this message is in a loop"))
        #expect(world.queue.count == 0)
        let page = try await world.storage.page(after: nil, count: 10)
        #expect(page.envelopes.isEmpty)
        await world.storage.close()
    }

    /// A full disk is told at MAIL, and again to whoever sends a message all the same.
    @Test func fullIsToldAtMAILAndToTheMessage() async throws {
        let world = try await World(minimumFree: 1 << 60)
        try await world.untilFull()
        let full = Reply(452, .init(4, 3, 1), "Insufficient system storage")
        #expect(try world.refusal() == full && world.refusal(size: 1) == full)
        #expect(await world.submit(try world.envelope()) == full)
        #expect(world.queue.count == 0)
        await world.storage.close()
    }

    @Test func aMessageThatIsTooLargeForTheDiskIsRefusedAtMAIL() async throws {
        let world = try await World()
        #expect(try world.refusal(size: .max) == Reply(storing: .full))
        #expect(try world.refusal(size: 1) == nil)
        await world.storage.close()
    }

    @Test func closed() async throws {
        let world = try await World()
        await world.storage.close()
        #expect(
            await world.submit(try world.envelope()) == Reply(421, .init(4, 3, 2), "Service shutting down"))
        #expect(world.queue.count == 0)
    }

    @Test func reconfigurationHoldsForTheNextMessage() async throws {
        let world = try await World()
        world.intake.reconfigure(
            policies: PolicyChain([ReceivedPolicy()], receivedHops: 2), hostname: "new.example.com")
        let envelope = try world.envelope()
        _ = await world.submit(envelope)
        let fields = String(buffer: try await world.storage.load(envelope.id).envelope.prependedFields)
        #expect(fields.contains("\r\n\tby new.example.com ") && !fields.contains("\r\nDate:"))
        await world.storage.close()
    }

    /// Each of many submissions at once is answered, once, and by its own id.
    @Test func manyAtOnce() async throws {
        let world = try await World()
        let answers = Answers()
        for _ in 0..<200 {
            let envelope = try world.envelope()
            world.intake.submit(
                envelope, Message(head: ByteBuffer(string: "\r\n")), terms: SubmissionTerms(), session: "1"
            ) { reply in
                answers.texts.withLock { $0[envelope.id, default: []].append(reply.text) }
            }
        }
        // Only what is made before it is closed is finished.
        await world.storage.close()
        let told = answers.texts.withLock { $0 }
        #expect(told.count == 200 && told.allSatisfy { $0.value == ["Message queued as \($0.key)"] })
        #expect(world.queue.count == 200)
    }
}

/// What the keeper of quotas was asked for.
private final class KeeperNotes: Sendable {
    let notes = Mutex<[String]>([])

    var keeper: QuotaBook.Keeper {
        QuotaBook.Keeper(
            write: { completion in
                self.notes.withLock { $0.append("write") }
                Task { completion() }
            }, tell: { event in self.notes.withLock { $0.append("tell \(event)") } },
            release: { ids in self.notes.withLock { $0.append("release \(ids.count)") } })
    }
}

@Suite struct IntakeQuotaTests {
    /// Refuses what has a field X-No.
    private struct Refusing: QueuePolicy {
        var place: PolicyPlace { .forward }

        func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
            guard String(buffer: mail.message.head).contains("X-No") else { return }
            throw PolicyRefusal(Reply(550, .init(5, 7, 1), "no"))
        }
    }

    /// While it looks at what has a field X-Trip, another session of the login trips the breaker.
    private struct Tripping: QueuePolicy {
        let book: QuotaBook

        var place: PolicyPlace { .forward }

        func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
            guard String(buffer: mail.message.head).contains("X-Trip") else { return }
            var other = mail.envelopes[0]
            other.recipients = (0..<9).map { Mailbox(localPart: "r\($0)", domain: "y.test") }
            book.take(other, size: 1) { [book, other] charge, _ in
                if let charge { book.settle(charge, stored: [other.id], isHeld: true) {} }
            }
        }
    }

    private func world(_ limits: QuotaLimits) async throws -> (World, QuotaBook, KeeperNotes) {
        var rules = QuotaRules()
        (rules.limits, rules.learning, rules.learningRecipients) = (limits, .zero, 0)
        let book = QuotaBook(Quotas(rules: rules, key: SIMD2(1, 2)))
        let notes = KeeperNotes()
        book.setKeeper(notes.keeper)
        return (try await World([DomainSplitPolicy(), Refusing(), Tripping(book: book)], quotas: book), book, notes)
    }

    private func submit(_ world: World, to: [String] = ["b@x.test"], _ content: String = "X: y\r\n\r\n") async throws
        -> (Reply, QueueID)
    {
        var envelope = try world.envelope(to: to)
        envelope.client.login = "alice"
        return (await world.submit(envelope, content), envelope.id)
    }

    @Test func overTheLimitNothingIsStored() async throws {
        let (world, book, _) = try await world(QuotaLimits(hard: [.init(.messages, .hour, 2)]))
        // What a policy refuses is given back.
        for _ in 0..<3 { #expect(try await submit(world, "X-No: y\r\n\r\n").0.code == 550) }
        for _ in 0..<2 { #expect(try await submit(world).0.code == 250) }
        #expect(try await submit(world).0.description.hasPrefix("450 4.7.1 Too much at once: 3 messages in an hour"))
        #expect(world.queue.count == 2 && book.now.facts(of: .login("alice"), at: now)?.hour.messages == 2)
        await world.storage.close()
    }

    /// What is no message is refused as that, whatever was sent before, and does not count: not up to a limit, and not for
    /// the breaker.
    @Test func aHeaderThatIsNoneIsNotCounted() async throws {
        let (world, book, notes) = try await world(
            QuotaLimits(hard: [.init(.messages, .hour, 1)], breaker: [.init(.newRecipients, .hour, 2)]))
        let wrong = "From: a@x.test\r\nFrom: b@x.test\r\n\r\n"
        let strangers = (0..<9).map { "r\($0)@y.test" }
        #expect(try await submit(world, to: strangers, wrong).0.code == 550)
        #expect(notes.notes.withLock { $0 }.isEmpty && book.now.facts(of: .login("alice"), at: now) == nil)
        #expect(try await submit(world).0.code == 250)
        #expect(try await submit(world).0.code == 450)
        #expect(try await submit(world, wrong).0.code == 550)
        await world.storage.close()
    }

    /// Held in the commit that stores it, all envelopes of a split; durable, and told once, before the client hears of it.
    @Test func theBreakerHolds() async throws {
        let (world, book, notes) = try await world(QuotaLimits(breaker: [.init(.newRecipients, .hour, 2)]))
        #expect(try await submit(world, to: ["a@x.test", "b@x.test"]).0.code == 250)
        #expect(notes.notes.withLock { $0 }.isEmpty)
        let (reply, id) = try await submit(world, to: ["c@x.test", "d@y.test"])
        #expect(reply == Reply(250, .init(2, 6, 0), "Message queued as \(id)"))
        #expect(notes.notes.withLock { $0 }.map { $0.prefix(5) } == ["tell ", "write"])
        #expect(try await submit(world).0.code == 250)
        let page = try await world.storage.page(after: nil, count: 10)
        #expect(page.envelopes.count { $0.state.heldReason == nil } == 1)
        #expect(page.envelopes.count { $0.state.heldReason == "breaker" } == 3)
        // A rule's hold is the rule's.
        var envelope = try world.envelope()
        envelope.client.login = "alice"
        _ = await world.submit(envelope, "X: y\r\n\r\n", SubmissionTerms(heldReason: "rule"))
        #expect(try await world.storage.load(envelope.id).state.heldReason == "rule")
        #expect(await book.release(.login("alice"), at: now))
        #expect(try await submit(world).0.code == 250)
        #expect(notes.notes.withLock { $0 }.count == 3)
        await world.storage.close()
    }

    /// What a policy refuses does not trip it; who trips it meanwhile has what is stored then held.
    @Test func theBreakerLooksAtWhatIsStored() async throws {
        let (world, book, notes) = try await world(QuotaLimits(breaker: [.init(.newRecipients, .hour, 2)]))
        #expect(try await submit(world, to: ["a@x.test", "b@x.test", "c@x.test"], "X-No: y\r\n\r\n").0.code == 550)
        #expect(notes.notes.withLock { $0 }.isEmpty && book.now.facts(of: .login("alice"), at: now)?.hold == nil)
        let (reply, id) = try await submit(world, "X-Trip: y\r\n\r\n")
        #expect(reply.code == 250)
        #expect(try await world.storage.load(id).state.heldReason == "breaker")
        #expect(book.now.facts(of: .login("alice"), at: now)?.hold?.messages == 2)
        await world.storage.close()
    }
}
