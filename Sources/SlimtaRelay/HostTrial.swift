// Hosts tried one after the other for some recipients of a delivery, until one of them can be used. What the MX relay
// and the relay to a fixed host have in common.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaSMTP
import Synchronization

/// What of a delivery is the same for every host and every recipient.
struct OutgoingMessage: Sendable {
    let sender: Mailbox?
    let content: OutgoingContent
    let size: Int
    let eightBit: SMTPTransaction.EightBit
    let needsSMTPUTF8: Bool

    init(_ delivery: Delivery) {
        let envelope = delivery.envelope
        sender = envelope.sender
        content = OutgoingContent(fields: envelope.prependedFields, message: delivery.message)
        size = envelope.prependedFields.readableBytes + delivery.message.size
        let head = delivery.message.head
        let isEightBit =
            head.withUnsafeReadableBytes(\.hasEightBit)
            || envelope.prependedFields.withUnsafeReadableBytes(\.hasEightBit)
        eightBit = isEightBit ? .yes : delivery.message.rest == nil ? .no : .perhaps
        // Only what came in with SMTPUTF8 has to go out with it; 8-bit octets in other headers are a fault that RFC 6152
        // lets pass.
        needsSMTPUTF8 =
            envelope.smtpUTF8 && isEightBit
            && (envelope.prependedFields.withUnsafeReadableBytes(\.hasEightBit)
                || head.withUnsafeReadableBytes { Self.header(of: $0).hasEightBit })
    }

    /// What is before the first empty line.
    private static func header(of octets: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let end = UInt8(ascii: "\n")
        var lineStart = 0
        while let lineEnd = octets[lineStart...].firstIndex(of: end) {
            if lineEnd - lineStart <= 1 { return UnsafeRawBufferPointer(rebasing: octets[..<lineStart]) }
            lineStart = lineEnd + 1
        }
        return octets
    }
}

/// Remembers which hosts could not be used a moment ago, so that the next message does not wait for them first.
final class DeadHosts: Sendable {
    private static let memory = TimeAmount.seconds(60)

    private let hosts = Mutex(ExpiringCache<SocketAddress, Bool>(capacity: 4096))

    func contains(_ host: MailHost) -> Bool {
        hosts.withLock { $0.value(for: host.address, at: .now()) != nil }
    }

    func insert(_ host: MailHost) {
        let now = NIODeadline.now()
        hosts.withLock { $0.insert(true, for: host.address, until: now + Self.memory, at: now) }
    }
}

/// One attempt for some recipients. Each host that is tried gets a transaction of its own.
struct HostTrial {
    /// However many hosts there are, no more are tried in one attempt.
    static let maximumHosts = 20
    /// RFC 5321 section 4.5.3.1.8: every server takes as many recipients at a time.
    static let maximumRecipients = 100

    let pool: ConnectionPool
    let deadHosts: DeadHosts
    let message: OutgoingMessage
    let recipients: [Mailbox]
    /// No host is begun with after that.
    let end: NIODeadline
    private var tried = 0
    /// What the hosts so far failed with: the most telling.
    private var failure: Outcome?
    /// Dead hosts, to be tried when there are no others.
    private var postponed: [MailHost] = []

    init(
        pool: ConnectionPool, deadHosts: DeadHosts, message: OutgoingMessage, recipients: [Mailbox], limit: Duration
    ) {
        self.pool = pool
        self.deadHosts = deadHosts
        self.message = message
        self.recipients = recipients
        end = .now() + TimeAmount(limit)
    }

    /// Tries `hosts` in this order, except that dead ones wait; nil if none could be used.
    mutating func attempt(_ hosts: [MailHost]) async -> [Outcome]? {
        for host in hosts {
            if deadHosts.contains(host) {
                postponed.append(host)
            } else if let outcomes = await attempt(host) {
                return outcomes
            }
        }
        return nil
    }

    /// There are no more hosts: tries those that wait, then says what is to be said of it all; nil if there was no host.
    mutating func finish() async -> [Outcome]? {
        for host in postponed {
            if let outcomes = await attempt(host) { return outcomes }
        }
        return failure.map { Array(repeating: $0, count: recipients.count) }
    }

    /// A host could not be used, or not even be tried. That is no matter of the recipients: others would fare no better,
    /// and the queue is told so.
    mutating func note(_ outcome: Outcome) {
        var outcome = outcome
        outcome.isHostFailure = outcome.result == .temporary
        // That somebody may take it later weighs more than that somebody else never will; and what a host said, more
        // than what we make of its silence.
        func weight(_ outcome: Outcome) -> Int {
            (outcome.result == .temporary ? 2 : 0) + (outcome.isRemote ? 1 : 0)
        }
        if let failure, weight(failure) > weight(outcome) { return }
        failure = outcome
    }

    private mutating func attempt(_ host: MailHost) async -> [Outcome]? {
        guard tried < Self.maximumHosts, tried == 0 || .now() < end, !Task.isCancelled else { return nil }
        tried += 1
        let transaction = SMTPTransaction(
            sender: message.sender, recipients: recipients, size: message.size, eightBit: message.eightBit,
            needsSMTPUTF8: message.needsSMTPUTF8)
        let job = SMTPJob(host: host, transaction: transaction, content: message.content)
        switch await pool.deliver(job) {
        case .success(let outcomes): return outcomes
        case .failure(let unusable):
            deadHosts.insert(host)
            note(unusable.outcome)
            return nil
        }
    }

    /// Makes attempts for parts of `recipients`, no more than a server has to take at a time, and puts the outcomes in
    /// order again.
    static func inParts(
        _ recipients: [Int], _ attempt: @escaping @Sendable ([Int]) async -> [Outcome]
    ) async -> [Outcome] {
        if recipients.count <= maximumRecipients { return await attempt(recipients) }
        let parts = stride(from: 0, to: recipients.count, by: maximumRecipients).map {
            Array(recipients[$0..<min($0 + maximumRecipients, recipients.count)])
        }
        return await inOrder(parts.count) { await attempt(parts[$0]) }.flatMap(\.self)
    }

    /// Does `count` things at once; the results are in the order of the things.
    static func inOrder<Value: Sendable>(
        _ count: Int, _ one: @escaping @Sendable (Int) async -> Value
    ) async -> [Value] {
        await withTaskGroup(of: (Int, Value).self) { group in
            for index in 0..<count { group.addTask { (index, await one(index)) } }
            var results: [Value?] = Array(repeating: nil, count: count)
            for await (index, value) in group { results[index] = value }
            return results.compactMap(\.self)
        }
    }
}

/// A host could not be used: another may be tried.
struct HostUnusable: Error {
    let outcome: Outcome
}

extension ConnectionPool {
    /// Has the job done: one outcome for each recipient, or the reason why the host cannot be used.
    func deliver(_ job: SMTPJob) async -> Result<[Outcome], HostUnusable> {
        await withTaskCancellationHandler {
            submit(job)
            while true {
                switch await job.next() {
                case .wantsRest(let connection): await Self.sendRest(of: job, over: connection)
                case .done(let outcomes): return .success(outcomes)
                case .unusable(let outcome): return .failure(HostUnusable(outcome: outcome))
                }
            }
        } onCancel: {
            cancel(job)
        }
    }

    /// Reads the rest of a large message and hands it to the connection, as fast as that sends it.
    private static func sendRest(of job: SMTPJob, over connection: SMTPConnection) async {
        let driver = connection.driver
        guard let reader = job.content.message.rest?.makeReader() else { return }
        do {
            while let part = try await reader.next(65_536) {
                let mayGoOn = await withCheckedContinuation { reply in
                    connection.eventLoop.execute { driver.value.send(part, for: job, reply: reply) }
                }
                if !mayGoOn { return }
            }
            connection.eventLoop.execute { driver.value.endContent(for: job) }
        } catch {
            let outcome = Outcome(
                .temporary, Reply(451, EnhancedStatus(4, 3, 0), "the stored message cannot be read"))
            connection.eventLoop.execute { driver.value.failContent(outcome, for: job) }
        }
    }
}
