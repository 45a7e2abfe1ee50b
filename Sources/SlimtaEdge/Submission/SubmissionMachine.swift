// The stages of a message that comes as a whole: what SMTPServerMachine is for a session, without a protocol. A value without
// I/O. SubmissionSession drives it.

internal import SlimtaMail
internal import SlimtaSASL
internal import SlimtaSMTP

/// One message on its way through the stages at which it can be refused, in SMTP's order:
///
///     [authenticate | identified | unidentified] ─▶ begin ─▶ … content … ─▶ end
///      connect, ehlo, (password), auth                  mail, room, rcpt…, data      message, end
///
/// Each of the four events leads to a ``Step``. While it is a question, ``answered(_:)`` leads to the next one; the edge goes
/// on when it is an ``Outcome``. Before the first of them come the stages connect and ehlo, whichever it is: nobody tries
/// passwords who may not talk to us. Questions and answers are SMTP's, so that whoever answers need not know what mail came
/// in by.
struct SubmissionMachine: Sendable {
    typealias Question = SMTPServerMachine.Question
    typealias Answer = SMTPServerMachine.Answer
    typealias Refusal = SMTPServerMachine.Refusal

    /// What is to be done next.
    enum Step: Equatable, Sendable {
        /// Find out, and report ``SubmissionMachine/answered(_:)``.
        case ask(Question)
        case done(Outcome)
    }

    /// What an event has come to.
    enum Outcome: Equatable, Sendable {
        /// Nothing is in the way.
        case goOn
        /// No recipient was accepted; why is in ``SubmissionMachine/verdicts``.
        case noRecipients
        case refused(Reply)
        /// Refused, because of who sends.
        case forbidden(Reply)
        /// 2xx to the whole message.
        case stored(Reply)
    }

    private let rules: TransactionRules
    private let stages: SMTPStages
    /// Whether the client may send without having said who it is.
    let isTrusted: Bool
    private let clientName: String
    private let protocolWord: String
    private let tls: TLSDescription?

    private(set) var user: AuthenticatedUser?
    private var mechanism: String?
    private var hasArrived = false
    private var isGreeted = false
    private var needsAll = true
    /// How many recipients were named.
    private var recipientCount = 0
    /// 1 from MAIL on.
    private var transaction: UInt64 = 0
    private var mail: MailCommand?
    /// For each recipient that was asked about: nil, or why it is refused.
    private(set) var verdicts: [Reply?] = []
    private var accepted: [Mailbox] = []
    /// What is still to be asked, the next one last.
    private var plan: [Question] = []
    private var open: Question?
    private var refusals: [Refusal] = []

    /// - Parameters:
    ///   - stages: where somebody is asked.
    ///   - clientName: what the client calls itself, as in EHLO.
    ///   - protocolWord: as Received has it: "HTTP".
    init(
        _ rules: TransactionRules, stages: SMTPStages, isTrusted: Bool, clientName: String, protocolWord: String,
        tls: TLSDescription?
    ) {
        self.rules = rules
        self.stages = stages
        self.isTrusted = isTrusted
        self.clientName = clientName
        self.protocolWord = protocolWord
        self.tls = tls
    }

    /// What has been said so far, for whoever answers.
    var session: SMTPServerMachine.Session {
        SMTPServerMachine.Session(
            clientName: isGreeted ? clientName : nil, tls: tls, login: user?.login,
            mechanism: user == nil ? nil : mechanism, mail: mail, recipients: accepted, transactionNumber: transaction)
    }

    /// What was refused since the last call, but for a wrong password: for the log.
    mutating func takeRefusals() -> [Refusal] {
        defer { if !refusals.isEmpty { refusals = [] } }
        return refusals
    }

    // MARK: Events

    /// The client says who it is, in the one response that the mechanism has.
    mutating func authenticate(_ mechanism: SASLMechanism, _ response: SecretOctets) -> Step {
        self.mechanism = mechanism.rawValue
        return go([.authentication(.begin(mechanism, initialResponse: response, listed: [mechanism]))])
    }

    /// Somebody who is to be believed says who the client is: the kernel, a certificate.
    mutating func identified(as user: AuthenticatedUser) -> Step { go([.login(user)]) }

    /// The client does not say who it is.
    mutating func unidentified() -> Step {
        guard let reply = rules.refusal(ofClient: user, isTrusted: isTrusted) else { return .done(.goOn) }
        let outcome = refuse(.connect, with: reply) ?? .goOn
        return .done(rules.authentication == .none ? .forbidden(reply) : outcome)
    }

    /// A message is to come.
    mutating func begin(_ request: SubmissionRequest) -> Step {
        (needsAll, recipientCount) = (request.needsAll, request.recipients.count)
        let mail = MailCommand(
            sender: request.sender, size: request.size, body: request.body, smtpUTF8: request.smtpUTF8)
        let recipients = request.recipients.map { Question.recipient($0, name: $0.text) }
        return go([.mail(mail)] + recipients + [.data])
    }

    /// The message is there.
    mutating func end(hasEightBit: Bool) -> Step {
        guard let mail, !accepted.isEmpty else { preconditionFailure("a message that was not begun") }
        let submission = SMTPServerMachine.Submission(
            sender: mail.sender, recipients: accepted.eachOnce, body: hasEightBit ? .eightBitMIME : mail.body,
            smtpUTF8: mail.smtpUTF8, clientName: clientName, protocolWord: protocolWord, tls: tls, login: user?.login,
            senders: rules.header(of: user))
        self.mail = nil
        return go([.message(submission)])
    }

    /// The answer to the question that is open.
    mutating func answered(_ answer: Answer) -> Step {
        guard let question = open else { preconditionFailure("an answer without a question") }
        open = nil
        switch (question, answer) {
        case (.authentication, .authentication(let result)):
            switch result {
            case .right(let user): plan.append(.login(user))
            // A challenge is for who has more to say; here it tells what is wrong.
            case .wrong, .malformed, .challenge: return fail(.refused(.credentialsInvalid))
            case .refused(let text): return fail(.refused(Reply(535, .init(5, 7, 8), text)))
            case .unavailable, .undecided: return fail(.refused(.credentialsUnchecked))
            case .turnedAway: return fail(.refused(.tooManyFailedLogins))
            }
        case (.end, .reply(let reply)) where reply.isPositive: return .done(.stored(reply))
        case (.authentication, .goOn), (.end, .goOn), (_, .authentication):
            if let outcome = refuse(question, with: .unanswered) { return fail(outcome) }
        case (_, .goOn): pass(question)
        case (_, .reply(let reply)):
            let refusal = reply.code >= 400 ? reply : Reply.unanswered
            if let outcome = refuse(question, with: refusal) { return fail(outcome) }
        }
        return advance()
    }

    // MARK: On the way

    private mutating func go(_ questions: [Question]) -> Step {
        let arrival: [Question] = hasArrived ? [] : [.connect, .hello(name: clientName, isExtended: true)]
        hasArrived = true
        plan = (arrival + questions).reversed()
        return advance()
    }

    private mutating func advance() -> Step {
        while let question = plan.popLast() {
            if case .mail = question { transaction = 1 }
            if let (reply, isForbidden, allowed) = objection(to: question) {
                guard let outcome = refuse(question, with: reply, allowed: allowed) else { continue }
                return fail(isForbidden ? .forbidden(reply) : outcome)
            }
            if case .data = question, accepted.isEmpty { return .done(.noRecipients) }
            if let stage = question.stage, !stages.contains(stage) {
                pass(question)
                continue
            }
            open = question
            return .ask(question)
        }
        return .done(.goOn)
    }

    /// What is decided without asking anybody.
    private func objection(to question: Question) -> (Reply, isForbidden: Bool, allowed: String?)? {
        switch question {
        case .mail(let mail):
            if let reply = rules.refusal(ofClient: user, isTrusted: isTrusted) {
                // Where it can say who it is, it has only not done so yet.
                return (reply, rules.authentication == .none, nil)
            }
            if let (reply, allowed) = rules.refusal(of: mail.sender, from: user, smtpUTF8: mail.smtpUTF8) {
                return (reply, true, allowed)
            }
            let refusal = rules.refusal(ofSize: mail.size) ?? (needsAll ? rules.refusal(ofAll: recipientCount) : nil)
            return refusal.map { ($0, false, nil) }
        case .recipient(let recipient, _):
            return rules.refusal(of: recipient, smtpUTF8: mail?.smtpUTF8 ?? false, behind: accepted.count)
                .map { ($0, false, nil) }
        case .connect, .hello, .startTLS, .authentication, .login, .room, .data, .message, .end: return nil
        }
    }

    /// Nothing is in the way of what `question` asks about.
    private mutating func pass(_ question: Question) {
        switch question {
        case .hello: isGreeted = true
        case .login(let user):
            self.user = user
            mechanism = mechanism ?? "EXTERNAL"
        case .mail(let mail): plan.append(.room(mail))
        case .room(let mail): self.mail = mail
        case .recipient(let recipient, _):
            accepted.append(recipient)
            verdicts.append(nil)
        case .message(let submission): plan.append(.end(submission))
        case .connect, .startTLS, .authentication, .data, .end: break
        }
    }

    /// The answer is no.
    ///
    /// - Parameter allowed: what the login may send as, if that is the reason.
    /// - Returns: nil if the message goes on without what was asked about.
    private mutating func refuse(_ question: Question, with reply: Reply, allowed: String? = nil) -> Outcome? {
        var (sender, address): (Mailbox?, String?) = (mail?.sender, nil)
        var isRecipient = false
        let command: String
        switch question {
        case .connect: command = "CONNECT"
        case .hello: command = "EHLO"
        case .startTLS: command = "STARTTLS"
        case .authentication, .login: command = "AUTH"
        case .mail(let mail), .room(let mail):
            command = "MAIL"
            (sender, address) = (mail.sender, "<\(mail.sender?.text ?? "")>")
        case .recipient(_, let name):
            (command, address, isRecipient) = ("RCPT", "<\(name)>", true)
            verdicts.append(reply)
        case .data: command = "DATA"
        case .message(let submission), .end(let submission): (command, sender) = ("DATA", submission.sender)
        }
        refusals.append(
            Refusal(
                reply: reply, command: command, address: address, sender: sender, login: user?.login, allowed: allowed))
        // RFC 5321 section 3.8; 521 as at the stages of a session.
        let endsAll = reply.code == 421 || reply.code == 521
        return isRecipient && !needsAll && !endsAll ? nil : .refused(reply)
    }

    private mutating func fail(_ outcome: Outcome) -> Step {
        plan = []
        return .done(outcome)
    }
}
