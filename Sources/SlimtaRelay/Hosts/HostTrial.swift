// Hosts tried one after the other for some recipients of a delivery, until one of them can be used. What the MX relay
// and the relay to a fixed host have in common.

import NIOCore
import SlimtaMIME
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
    let eightBit: SMTPTransaction.EightBit
    /// What in its header may go to a host with SMTPUTF8 only, in words; nil: nothing.
    let smtpUTF8Need: String?
    /// What hosts without 8BITMIME get; nil: nothing, if it has octets above 127.
    let sevenBit: SevenBitForm?
    /// Whether it brings a TLS report: of its sessions nothing is told, or two servers would report on each other's reports for
    /// ever (Stalwart issue 923, tlsrpt-reporter issue 50).
    let isTLSReport: Bool

    /// What it demands of TLS. A report says so in its header, too (TLS-Required: No): broken TLS must not keep it from those
    /// who have to know of that (RFC 8460 section 3).
    var demand: MessageDemand { isTLSReport ? .tlsNotRequired : .nothing }

    /// - Parameter convertsToSevenBit: whether it may be made 7-bit for hosts without 8BITMIME.
    init(_ delivery: Delivery, convertsToSevenBit: Bool) {
        let envelope = delivery.envelope
        id = envelope.id
        received = max(envelope.received, envelope.id.time)
        sender = envelope.sender?.forNextHop
        isTLSReport = envelope.isTLSReport
        content = OutgoingContent(fields: envelope.prependedFields, message: delivery.message)
        sevenBit = convertsToSevenBit ? SevenBitForm(of: content) : nil
        let head = delivery.message.head
        let isEightBit =
            head.withUnsafeReadableBytes(\.hasEightBit)
            || envelope.prependedFields.withUnsafeReadableBytes(\.hasEightBit)
        eightBit = isEightBit ? .yes : delivery.message.rest == nil ? .no : .perhaps
        // Only what came in with SMTPUTF8 has to go out with it; 8-bit octets in other headers are a fault that RFC 6152
        // section 3 lets pass.
        smtpUTF8Need =
            envelope.smtpUTF8 && isEightBit ? Self.smtpUTF8Need(of: [head, envelope.prependedFields]) : nil
    }

    /// The first address or identifier in headers, each of which begins a part, that needs it. Where octets above 127 are
    /// elsewhere alone, such as in our Received, it is the header itself. Nil: there are none.
    private static func smtpUTF8Need(of parts: [ByteBuffer]) -> String? {
        let raw = parts.filter { $0.withUnsafeReadableBytes { header(of: $0).hasEightBit } }
        guard !raw.isEmpty else { return nil }
        let faults = raw.lazy.compactMap { HeaderContainment(of: HeaderBlock(scanning: $0), in: $0).smtputf8Need?.need }
        return faults.first ?? "the header"
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

/// One attempt for some recipients: asks the hosts that HostTrialMachine names, through the pool. It has a place at its site.
struct HostTrial {
    /// RFC 5321 section 4.5.3.1.8: every server takes as many recipients at a time.
    static let maximumRecipients = 100

    private let pool: ConnectionPool
    private let policy: SessionPolicy
    private let shared: RelaySecurity
    private let site: Site
    private let doubts: DoubtMemory
    private let message: OutgoingMessage
    private let recipients: [Mailbox]
    private let leftOut: [String]
    private let report: @Sendable (Int, Outcome) -> Void
    /// How long the message has waited.
    private let age: Duration
    /// The attempt is over then, but for the reply to a message that was sent.
    private let end: NIODeadline
    private var machine: HostTrialMachine
    /// What is sent: the message as it is, or made 7-bit.
    private var content: OutgoingContent
    private var eightBit: SMTPTransaction.EightBit
    /// nil: the message is sent as it is.
    private var conversion: Outcome.Conversion?
    /// Hosts that are to be tried when there are no others.
    private var last: [ConnectionKey] = []
    /// Hosts that do not answer, and that somebody else finds out about.
    private var leftAlone: [ConnectionKey] = []
    /// What was decided of those that are asked.
    private var secured: [ConnectionKey: SecuredHost] = [:]
    /// Hosts that are not asked, and of which that was told: however many addresses they have, it is once.
    private var told: Set<String> = []
    /// Whether a host was told of the message: what a site counts.
    private(set) var hasSent = false

    /// - Parameters:
    ///   - leftOut: hosts that the domain's policy does not name.
    ///   - isByOperator: the hosts were chosen by our operator, not by the recipients' domain.
    ///   - report: is called with the index of a recipient whose outcome is known while others' are not.
    init(
        pool: ConnectionPool, policy: SessionPolicy, shared: RelaySecurity, site: Site, doubts: DoubtMemory,
        message: OutgoingMessage, recipients: [Mailbox], leftOut: [String] = [], isByOperator: Bool = false,
        report: @escaping @Sendable (Int, Outcome) -> Void = { _, _ in }
    ) {
        self.pool = pool
        self.policy = policy
        self.shared = shared
        self.site = site
        self.doubts = doubts
        self.message = message
        self.recipients = recipients
        self.leftOut = leftOut
        self.report = report
        content = message.content
        eightBit = message.eightBit
        age = .now() - message.received
        let options = pool.options
        // A host may hang once or twice, and the others are still asked.
        let now = NIODeadline.now()
        end = now + TimeAmount(options.attemptLimit(size: message.content.size, recipients: recipients.count))
        machine = HostTrialMachine(
            recipients: recipients.count, end: min(end, now + TimeAmount(options.commandTimeout * 3)),
            isByOperator: isByOperator, convertsToSevenBit: message.sevenBit != nil)
    }

    /// Asks `hosts`, which are of one preference, in this order, except that those that could not be used a moment ago wait; nil
    /// if that was not enough.
    mutating func attempt(_ hosts: [SecuredHost]) async -> [Outcome]? {
        var keys: [ConnectionKey] = []
        for host in hosts {
            guard let key = key(of: host), !last.contains(key) else { continue }
            if doubts.isInDoubt(message.id, at: key) { last.append(key) } else { keys.append(key) }
        }
        while !Task.isCancelled, machine.takesHost(at: .now()), let key = site.choose(from: keys) {
            keys.removeAll { $0 == key }
            machine.add([key])
            if await !ask() { site.untried(key) }
        }
        for key in keys {
            if site.isLeftAlone(key) { leftAlone.append(key) } else { last.append(key) }
        }
        return machine.isSettled ? machine.outcomes : nil
    }

    /// How a session with the host is to be made; nil: none now, and why is noted.
    private mutating func key(of one: SecuredHost) -> ConnectionKey? {
        switch one.security.verdict {
        case .plan(let plan):
            var session = policy.session(plan, age: age)
            session.source = pool.source(
                for: one.host.address, site.key, sender: message.sender?.foldedDomain ?? "")
            let key = ConnectionKey(host: one.host, plan: session)
            secured[key] = one
            return key
        case .unusable(let failure):
            report(failure, of: one)
            note(
                Outcome(
                    .temporary, failure.reply, relay: one.host.label, remoteHost: one.host.remoteHost
                ).secured(by: one))
            return nil
        }
    }

    /// Whom this attempt's sessions are told to; nil: nobody is.
    private var reports: TLSReports? { message.isTLSReport ? nil : shared.reports }

    /// A host is not asked: its domain is told why.
    private mutating func report(_ failure: SecurityFailure, of host: SecuredHost) {
        guard let reports, let subject = host.subject, let (policy, result) = subject.result(of: failure),
            told.insert(subject.host).inserted
        else { return }
        reports.count(result, of: policy, mxName: subject.host, for: subject.domain)
    }

    /// What is told of a session that is made with a host.
    private func watch(_ host: SecuredHost?) -> TLSReportWatch? {
        guard let reports, let subject = host?.subject else { return nil }
        return TLSReportWatch(subject: subject, reports: reports, trusted: policy.trusting, leftOut: leftOut)
    }

    /// There are no more hosts: asks those that wait, then those that want the message in 7 bits, and says what is to be said of
    /// it all; nil if there was no host.
    mutating func finish() async -> [Outcome]? {
        machine.add(last)
        last = []
        await ask()
        // Nobody was asked: the message has had no attempt.
        if machine.outcomes == nil, !leftAlone.isEmpty { machine.postpone(site.unreachable(leftAlone)) }
        guard !Task.isCancelled, let sevenBit = message.sevenBit, machine.turnToSevenBit() else {
            return machine.outcomes
        }
        switch await sevenBit.finding() {
        case .unchanged: eightBit = .no
        case .converted(let converted, let signature):
            (content, eightBit, conversion) = (converted, .no, signature)
        case .impossible(let reason):
            let reply = Reply(
                554, EnhancedStatus(5, 6, 3),
                "the server does not support 8BITMIME, and the message cannot be converted to 7 bits: \(reason)")
            machine.notSevenBit(.permanent, reply)
        case .unreadable: machine.notSevenBit(.temporary, SMTPJob.unreadable.reply)
        }
        await ask()
        return machine.outcomes
    }

    /// What a session has shown of its host's TLS.
    private func learnTLS(of host: SecuredHost?, _ outcomes: [Outcome]) {
        guard let host, let key = host.memory else { return }
        if outcomes.contains(where: { $0.tls != nil }) {
            shared.memory.encrypted(key, at: .now(), by: host.security.proof)
        } else if let known = host.reported, outcomes.contains(where: \.isRemote) {
            shared.wentInClear(host, known)
        }
    }

    /// A host could not even be tried.
    mutating func note(_ outcome: Outcome) { machine.note(outcome) }

    /// Asks the hosts that are named. Whether any was.
    @discardableResult
    private mutating func ask() async -> Bool {
        var isAsked = false
        while !Task.isCancelled,
            let question = machine.next(at: .now(), limit: { [site] _ in site.mostRecipients })
        {
            isAsked = true
            // What was not seen is looked for before it is sent to a host where it must not be, and not found there.
            let isDeclared = eightBit == .perhaps && message.sevenBit != nil
            let transaction = SMTPTransaction(
                sender: message.sender, recipients: question.recipients.map { recipients[$0] }, size: content.size,
                eightBit: isDeclared ? .yes : eightBit, smtpUTF8Need: message.smtpUTF8Need)
            let job = SMTPJob(
                key: question.key, transaction: transaction, content: content, end: end, site: site,
                watch: watch(secured[question.key])
            ) { [report, conversion, host = secured[question.key]] index, outcome in
                report(question.recipients[index], outcome.converted(conversion).secured(by: host))
            }
            switch await pool.deliver(job) {
            case .success(let (outcomes, causes)):
                if causes.contains(where: { !$0.isBeforeMessage }) { hasSent = true }
                if isDeclared, causes.contains(where: { $0.kind == .lacksEightBit }), let form = message.sevenBit {
                    eightBit = await form.hasEightBit() ? .yes : .no
                    // Asked again, it lacks nothing.
                    if eightBit == .no { continue }
                }
                let host = secured[question.key]
                let told = zip(outcomes, causes).map { outcome, cause in
                    (cause.stage >= .content ? outcome.converted(conversion) : outcome).secured(by: host)
                }
                learnTLS(of: host, told)
                learn(from: told, causes, of: job, question)
            case .failure(let failure):
                let told = failure.secured(by: secured[question.key])
                if failure.isOfOther { site.released(question.key) }
                if failure.isOfPace { machine.crowdedOut(told.outcome) } else { machine.unusable(told) }
            }
        }
        return isAsked
    }
}

extension HostTrial {
    /// What came of a question is learned, by the site and by the rules of the attempt.
    private mutating func learn(
        from outcomes: [Outcome], _ causes: [OutcomeCause], of job: SMTPJob, _ question: HostTrialMachine.Question
    ) {
        var transaction = Transaction(
            sender: message.sender, recipients: job.transaction.recipients, outcomes: outcomes, causes: causes,
            messagesBefore: job.messagesBefore)
        if causes.allSatisfy({ $0.kind == .cancelled }) {
            site.untried(question.key)
        } else {
            site.answered(question.key)
            site.learn(from: &transaction)
        }
        for lesson in machine.answered(question, transaction.outcomes, causes) {
            if lesson == .mayHaveIt { doubts.note(message.id, at: question.key) }
            site.learn(lesson, of: question.key)
        }
    }
}

extension OutcomeCause {
    /// Whether it ended before MAIL: nobody wanted it any more, or it is not for such a host. What is wrong with a message may
    /// also turn up in its content, behind DATA.
    var isBeforeMessage: Bool {
        switch kind {
        case .cancelled: stage == .mail
        case .lacking, .lacksEightBit, .message: stage <= .recipient
        case .reply, .tooManyRecipients, .lost, .timedOut, .protocolError: false
        }
    }
}

extension HostFailure {
    /// Said in the words of the decision that the session was to be made by.
    fileprivate func secured(by host: SecuredHost?) -> HostFailure {
        guard let host else { return self }
        var copy = self
        if let fault,
            let failure = host.security.failure(
                fault, tlsError, words: outcome.reply.text, host: host.host.name ?? host.host.label, domain: host.domain
            )
        {
            copy.outcome.reply = failure.reply
            copy.outcome.isRemote = false
        }
        copy.outcome = copy.outcome.secured(by: host)
        return copy
    }
}

extension Outcome {
    /// With what was decided of the host's TLS, and what its certificate was found to be by.
    fileprivate func secured(by host: SecuredHost?) -> Outcome {
        var outcome = self
        let said = [host?.security.summary, tls?.proof].compactMap(\.self)
        outcome.security = said.isEmpty ? nil : said.joined(separator: ": ")
        return outcome
    }

    /// The outcome of content that was changed so.
    fileprivate func converted(_ conversion: Conversion?) -> Outcome {
        var outcome = self
        outcome.conversion = conversion
        return outcome
    }
}
