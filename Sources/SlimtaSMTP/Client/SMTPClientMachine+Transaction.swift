// The mail transactions of SMTPClientMachine (RFC 5321 section 3.3): MAIL, RCPT, DATA, and whose reply is whose. What is
// said to DATA and behind it is in SMTPClientMachine+Content.

package import NIOCore
package import SlimtaMail

/// A message for one server: what the commands need to know of it. The content itself is the driver's business.
package struct SMTPTransaction: Hashable, Sendable {
    /// The reverse-path; nil is the null reverse-path.
    package var sender: Mailbox?
    /// The forward-paths, at least one.
    package var recipients: [Mailbox]
    /// The size of the content in octets, without dot-stuffing.
    package var size: Int
    /// Whether the content has octets above 127.
    package enum EightBit: Hashable, Sendable {
        case no
        case yes
        /// Not all of it was seen: it is declared as if it had, and is found out while it is sent.
        case perhaps
    }

    /// What of the content needs 8BITMIME (RFC 6152).
    package var eightBit: EightBit
    /// What in the header may go to a server with SMTPUTF8 only, in words: "the address ü@example.com in the field To"; nil:
    /// nothing.
    package var smtpUTF8Need: String?

    /// `recipients` are not empty; their indices are those of the outcomes. `size` is that of the content in octets
    /// (RFC 1870).
    package init(sender: Mailbox?, recipients: [Mailbox], size: Int, eightBit: EightBit, smtpUTF8Need: String?) {
        self.sender = sender
        self.recipients = recipients
        self.size = size
        self.eightBit = eightBit
        self.smtpUTF8Need = smtpUTF8Need
    }

    /// Who of the message needs SMTPUTF8 whoever it goes to, in words: the sender, or something in the header.
    fileprivate var commonNeed: String? {
        if let sender, sender.needsSMTPUTF8 { return "the sender \(sender.text.visible)" }
        return smtpUTF8Need
    }
}

/// A transaction under way.
struct TransactionProgress {
    /// The commands of a transaction, and what is asked with them.
    enum Command: Equatable {
        case mail
        /// The index of the recipient in the transaction.
        case recipient(Int)
        case data
    }

    var transaction: SMTPTransaction
    /// What became of each recipient; nil while that is open.
    var outcomes: [Outcome?]
    /// Where that came from.
    var causes: [OutcomeCause]
    /// How far the content is.
    var stage: OutcomeCause.Stage?
    /// The recipients that this server can be asked for.
    var candidates: [Int] = []
    /// The recipients that the server accepted.
    var accepted: [Int] = []
    /// With LMTP: how many of them have their reply to the message.
    var heard = 0
    /// How many of the commands were sent, and how many answered. Command 0 is MAIL, then one for each candidate,
    /// then DATA.
    var sent = 0
    var answered = 0
    var isMailRefused = false

    init(_ transaction: SMTPTransaction) {
        self.transaction = transaction
        outcomes = Array(repeating: nil, count: transaction.recipients.count)
        causes = Array(repeating: OutcomeCause(.mail, .reply), count: transaction.recipients.count)
    }

    /// MAIL, the candidates, DATA.
    var commandCount: Int { candidates.count + 2 }

    func command(_ number: Int) -> Command {
        number == 0 ? .mail : number <= candidates.count ? .recipient(candidates[number - 1]) : .data
    }

    /// What is being waited for.
    var currentStage: OutcomeCause.Stage {
        if let stage { return stage }
        switch command(answered) {
        case .mail: return .mail
        case .recipient: return .recipient
        case .data: return .data
        }
    }

    /// Gives `outcome` to everyone who has none.
    mutating func settle(_ outcome: Outcome, _ kind: OutcomeCause.Kind) {
        let stage = currentStage
        for index in outcomes.indices where outcomes[index] == nil { settle(index, outcome, stage, kind) }
    }

    /// The reply to the message that one recipient has for itself (RFC 2033 section 4.2): of those accepted, in the order
    /// of RCPT, the next. Returns which one that is.
    mutating func settleNext(_ outcome: Outcome) -> Int {
        let index = accepted[heard]
        heard += 1
        settle(index, outcome, currentStage, .reply)
        return index
    }

    /// Gives `outcome` to one recipient.
    mutating func settle(_ index: Int, _ outcome: Outcome, _ stage: OutcomeCause.Stage, _ kind: OutcomeCause.Kind) {
        outcomes[index] = outcome
        causes[index] = OutcomeCause(stage, kind)
    }
}

extension SMTPClientMachine {
    /// Begins a transaction: only when ``isReady``.
    ///
    /// What cannot go to this server (too large, 8-bit or internationalised without the extension for it) is settled
    /// without a word to it.
    package mutating func begin(_ transaction: SMTPTransaction, into out: inout ByteBuffer) -> Action {
        precondition(isReady, "a transaction in a session that is not ready")
        var progress = TransactionProgress(transaction)
        var domains: Set<String> = []
        if let (refusal, kind) = refusal(of: transaction) {
            progress.settle(refusal, kind)
        } else {
            for (index, recipient) in transaction.recipients.enumerated() {
                if !recipient.isSafeInCommand {
                    let refusal = Outcome(.permanent, Reply(553, EnhancedStatus(5, 1, 3), "not a valid address"))
                    progress.settle(index, refusal, .recipient, .message)
                } else if !extensions.smtpUTF8, recipient.needsSMTPUTF8 {
                    progress.settle(
                        index, Self.withoutSMTPUTF8("the recipient \(recipient.text.visible)"), .recipient, .lacking)
                } else if let limit = excess(recipient, progress.candidates.count, domains) {
                    // RFC 9422 section 4: the others go in another one.
                    let reply = Reply(452, EnhancedStatus(4, 5, 3), "the server takes \(limit) at a time")
                    progress.settle(index, Outcome(.temporary, reply), .recipient, .tooManyRecipients)
                } else {
                    progress.candidates.append(index)
                    if extensions.maximumDomains != nil { domains.insert(recipient.foldedDomain) }
                }
            }
        }
        self.progress = progress
        transactions += 1
        if progress.candidates.isEmpty { return finish(isReusable: true) }
        state = .replies
        sendNextCommands(into: &out)
        return .wait
    }

    /// The server's limit that this recipient is too much for, behind so many others of these domains, in words.
    private func excess(_ recipient: Mailbox, _ count: Int, _ domains: Set<String>) -> String? {
        if let most = extensions.maximumRecipients, count >= most { return "\(most) recipients" }
        if let most = extensions.maximumDomains, domains.count >= most, !domains.contains(recipient.foldedDomain) {
            return "recipients of \(most) domains"
        }
        return nil
    }

    /// What this server lacks for the message as a whole.
    private func refusal(of transaction: SMTPTransaction) -> (Outcome, OutcomeCause.Kind)? {
        if let sender = transaction.sender, !sender.isSafeInCommand {
            let reply = Reply(553, EnhancedStatus(5, 1, 7), "not a valid sender address")
            return (Outcome(.permanent, reply), .message)
        }
        if let limit = extensions.maximumSize, transaction.size > limit {
            let reply = Reply(
                552, EnhancedStatus(5, 3, 4),
                "the message has \(transaction.size) octets, the server takes at most \(limit)")
            return (Outcome(.permanent, reply), .lacking)
        }
        if !extensions.smtpUTF8, let need = transaction.commonNeed { return (Self.withoutSMTPUTF8(need), .lacking) }
        if !extensions.eightBitMIME, transaction.eightBit == .yes { return (Self.withoutEightBitMIME, .lacksEightBit) }
        return nil
    }

    /// RFC 6531 section 3.5: the X.6.7 that a server would answer, and who needs it.
    private static func withoutSMTPUTF8(_ need: String) -> Outcome {
        Outcome(
            .permanent,
            Reply(550, EnhancedStatus(5, 6, 7), "the server does not support SMTPUTF8, which \(need) needs"))
    }

    /// RFC 6152 section 3: octets above 127 must not be sent to a server without 8BITMIME. Whether the message is given another
    /// form is not this session's choice.
    package static let withoutEightBitMIME = Outcome(
        .permanent, Reply(554, EnhancedStatus(5, 6, 3), "the server does not support 8BITMIME"))

    // MARK: Commands

    /// Sends all commands of the transaction at once (RFC 2920 section 3.1), or the next one to a server without PIPELINING.
    private mutating func sendNextCommands(into out: inout ByteBuffer) {
        let last = extensions.pipelining ? progress.commandCount : progress.sent + 1
        while progress.sent < last {
            switch progress.command(progress.sent) {
            case .mail: writeMail(into: &out)
            case .recipient(let index):
                out.writeStaticString("RCPT TO:<")
                out.writeString(progress.transaction.recipients[index].text)
                out.writeStaticString(">\r\n")
            case .data: out.writeStaticString("DATA\r\n")
            }
            progress.sent += 1
        }
        deadlineBegins()
    }

    private func writeMail(into out: inout ByteBuffer) {
        let transaction = progress.transaction
        out.writeStaticString("MAIL FROM:<")
        if let sender = transaction.sender { out.writeString(sender.text) }
        out.writeStaticString(">")
        if extensions.size {
            out.writeStaticString(" SIZE=")
            out.writeString(String(transaction.size))
        }
        if extensions.eightBitMIME, transaction.eightBit != .no { out.writeStaticString(" BODY=8BITMIME") }
        if extensions.smtpUTF8 {
            let isInternational =
                transaction.commonNeed != nil || transaction.recipients.contains(where: \.needsSMTPUTF8)
            if isInternational { out.writeStaticString(" SMTPUTF8") }
        }
        // RFC 4954 section 5: whoever we say that we are, for whom it is we do not say.
        if configuration.credentials != nil { out.writeStaticString(" AUTH=<>") }
        out.writeStaticString("\r\n")
    }

    // MARK: Replies

    /// A reply to the oldest of the commands that were sent.
    mutating func replied(toCommandWith reply: Reply, into out: inout ByteBuffer) -> Action? {
        let command = progress.command(progress.answered)
        // RFC 5321 section 3.8: the server closes the connection, whatever it was asked.
        if reply.code == 421 { return endedByServer(Outcome(.temporary, shown(reply), isRemote: true), .reply) }
        switch command {
        case .mail:
            if reply.code / 100 == 3 { return protocolError("\(reply.code) in reply to MAIL") }
            if !reply.isPositive {
                progress.isMailRefused = true
                progress.settle(Outcome(Outcome.result(of: reply), shown(reply), isRemote: true), .reply)
                // Perhaps it was one message too many for the session, whatever the words: a new one is asked.
                if isReused { return stale() }
            }
        case .recipient(let index):
            if reply.code / 100 == 3 { return protocolError("\(reply.code) in reply to RCPT") }
            // A server that refused MAIL refuses RCPT for that alone: the reply to MAIL is the outcome.
            if !progress.isMailRefused {
                if reply.isPositive {
                    progress.accepted.append(index)
                } else {
                    let isTooMany = saysTooMany(reply)
                    let outcome = Outcome(
                        isTooMany ? .temporary : Outcome.result(of: reply), shown(reply), isRemote: true)
                    progress.settle(index, outcome, .recipient, isTooMany ? .tooManyRecipients : .reply)
                }
            }
        case .data: return replied(toDataWith: reply, into: &out)
        }
        progress.answered += 1
        if progress.answered < progress.sent { return nil }
        if progress.isMailRefused { return finish(isReusable: true) }
        if parser.hasUnread { return unsolicited() }
        if progress.answered > progress.candidates.count, progress.accepted.isEmpty {
            // Nobody is left to send DATA for; MAIL is still open on the server's side.
            sendReset(into: &out)
        } else {
            sendNextCommands(into: &out)
        }
        return nil
    }

    /// Whether a recipient is one too many for this transaction (RFC 5321 section 4.5.3.1.10), and welcome in another.
    /// Old servers say 552 where they mean 452, and many say neither with a status.
    ///
    /// That can only be meant if they accepted some; 452 and 552 with another status are a full disk or mailbox.
    private func saysTooMany(_ reply: Reply) -> Bool {
        guard !progress.accepted.isEmpty else { return false }
        if reply.status == EnhancedStatus(4, 5, 3) { return reply.code / 100 == 4 }
        return (reply.code == 452 && reply.status == nil)
            || (reply.code == 552 && (reply.status == nil || reply.status == EnhancedStatus(5, 5, 3)))
    }

    /// The server ends the session before it took any content. If that is an old one, a new one may go better.
    mutating func endedByServer(_ outcome: Outcome, _ kind: OutcomeCause.Kind) -> Action {
        progress.settle(outcome, kind)
        return isReused ? stale() : finish(isReusable: false)
    }

    /// Ends a transaction without content, so that the next MAIL is not a nested one.
    mutating func sendReset(into out: inout ByteBuffer) {
        out.writeStaticString("RSET\r\n")
        state = .reset
        deadlineBegins()
    }

    // MARK: The end of a transaction

    /// The transaction is over, and so is the session if more was said than was asked for.
    mutating func finish(isReusable: Bool) -> Action {
        let isReusable = isReusable && !parser.hasUnread
        let outcomes = endTransaction(isReusable: isReusable)
        return .finished(outcomes, isReusable: isReusable)
    }

    mutating func stale() -> Action { .stale(endTransaction(isReusable: false)) }

    private mutating func endTransaction(isReusable: Bool) -> [Outcome] {
        state = isReusable ? .ready : .closed
        isReused = true
        causes = progress.causes
        let outcomes = progress.outcomes.map { outcome in
            guard let outcome else { preconditionFailure("a transaction ended with a recipient's outcome open") }
            return outcome
        }
        progress = Self.noTransaction
        deadlineBegins()
        return outcomes
    }

    static let noTransaction = TransactionProgress(
        SMTPTransaction(sender: nil, recipients: [], size: 0, eightBit: .no, smtpUTF8Need: nil))
}

extension Mailbox {
    /// Whether the address can be part of a command: no octet that ends a line, or that no address has.
    ///
    /// The parsers see to that; this is the last door, for addresses from a damaged or foreign store.
    package var isSafeInCommand: Bool { text.hasNoASCIIControl }
}
