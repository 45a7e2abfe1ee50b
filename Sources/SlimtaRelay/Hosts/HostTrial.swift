// Hosts tried one after the other for some recipients of a delivery, until one of them can be used. What the MX relay
// and the relay to a fixed host have in common.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaSMTP
import Synchronization

/// What of a delivery is the same for every host and every recipient.
struct OutgoingMessage: Sendable {
    let id: QueueID
    let received: Timestamp
    let sender: Mailbox?
    let content: OutgoingContent
    let size: Int
    let eightBit: SMTPTransaction.EightBit
    let needsSMTPUTF8: Bool

    init(_ delivery: Delivery) {
        let envelope = delivery.envelope
        id = envelope.id
        received = envelope.received
        sender = envelope.sender?.forNextHop
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

/// One attempt for some recipients: asks the hosts that HostTrialMachine names, through the pool.
struct HostTrial {
    /// RFC 5321 section 4.5.3.1.8: every server takes as many recipients at a time.
    static let maximumRecipients = 100

    let pool: ConnectionPool
    let memory: HostMemory
    let message: OutgoingMessage
    let recipients: [Mailbox]
    let plan: TLSPlan
    /// The attempt is over then, but for the reply to a message that was sent.
    private let end: NIODeadline
    private var machine: HostTrialMachine
    /// Hosts that could not be used a moment ago, to be tried when there are no others.
    private var postponed: [MailHost] = []

    /// - Parameter canLogIn: whether there are credentials; a password is never sent in clear.
    init(
        pool: ConnectionPool, memory: HostMemory, message: OutgoingMessage, recipients: [Mailbox],
        options: RelayOptions, canLogIn: Bool = false
    ) {
        self.pool = pool
        self.memory = memory
        self.message = message
        self.recipients = recipients
        let isOpportunistic = options.security == .opportunistic && !canLogIn
        let mayGoInClear = isOpportunistic && .now() - message.received >= options.clearTextAfter
        plan = TLSPlan(security: options.security, mayGoInClear: mayGoInClear)
        // A host may hang once or twice, and the others are still asked.
        let now = NIODeadline.now()
        end = now + TimeAmount(options.attemptLimit(size: message.size, recipients: recipients.count))
        machine = HostTrialMachine(
            recipients: recipients.count, end: min(end, now + TimeAmount(options.commandTimeout * 3)))
    }

    /// Asks `hosts` in this order, except that those that could not be used a moment ago wait; nil if that was not enough.
    mutating func attempt(_ hosts: [MailHost]) async -> [Outcome]? {
        let (usable, others) = memory.sorted(hosts, for: message.id)
        postponed += others
        machine.add(usable)
        await ask()
        return machine.isSettled ? machine.outcomes : nil
    }

    /// There are no more hosts: asks those that wait, then says what is to be said of it all; nil if there was no host.
    mutating func finish() async -> [Outcome]? {
        machine.add(postponed)
        postponed = []
        await ask()
        return machine.outcomes
    }

    /// A host could not even be tried.
    mutating func note(_ outcome: Outcome) { machine.note(outcome) }

    private mutating func ask() async {
        while !Task.isCancelled,
            let question = machine.next(at: .now(), limit: { [memory] in memory.recipients(of: $0) })
        {
            let transaction = SMTPTransaction(
                sender: message.sender, recipients: question.recipients.map { recipients[$0] }, size: message.size,
                eightBit: message.eightBit, needsSMTPUTF8: message.needsSMTPUTF8)
            let key = ConnectionKey(host: question.host, plan: plan)
            let job = SMTPJob(key: key, transaction: transaction, content: message.content, end: end)
            switch await pool.deliver(job) {
            case .success(let (outcomes, causes)):
                let lessons = machine.answered(question, outcomes, causes)
                for lesson in lessons { memory.learn(lesson, of: question.host, message.id) }
            case .failure(let failure):
                let lesson = machine.unusable(failure)
                if let lesson { memory.learn(lesson, of: question.host, message.id) }
            }
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

extension ConnectionPool {
    /// Has the job done: one outcome for each recipient and where it came from, or the reason why the host cannot be
    /// used.
    func deliver(_ job: SMTPJob) async -> Result<([Outcome], [OutcomeCause]), HostFailure> {
        await withTaskCancellationHandler {
            submit(job)
            while true {
                switch await job.next() {
                case .wantsRest(let connection): await Self.sendRest(of: job, over: connection)
                case .done(let outcomes, let causes): return .success((outcomes, causes))
                case .unusable(let failure): return .failure(failure)
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
