// Which host is asked next, for whom, after what the last one said or did not say: the rules of an attempt as a value,
// without hosts and without a clock. Used by HostTrial.

import NIOCore
import SlimtaMail
import SlimtaSMTP

/// An attempt for some recipients, over the hosts that may take mail for them (RFC 5321 section 5.1).
///
/// Each recipient goes from host to host until one of them says something that counts: it takes the message, or refuses
/// the recipient for good. A host that only puts a recipient off, at whatever stage, or that goes away or says nothing, is
/// followed by the next one. The exception is a host that was sent the whole message and did not answer: it may have
/// taken it, so that nobody else is asked in this attempt.
///
/// A host that lacks nothing but 8BITMIME is asked again when all others were, with the message made 7-bit: as long as
/// another one may take it as it is, its signatures last.
struct HostTrialMachine {
    /// However many hosts there are, no more are tried in one attempt.
    static let maximumHosts = 20
    /// Nor are more given the message, if they put it off.
    static let maximumSessions = 5
    /// When a message comes back for which a host has no session left.
    private static let crowdTime: Duration = .seconds(3)

    /// A transaction to be made.
    struct Question: Equatable {
        let key: ConnectionKey
        /// Which of the recipients.
        let recipients: [Int]
    }

    typealias Lesson = HostLesson

    /// What an outcome means for a recipient.
    enum Verdict: Hashable {
        /// It is the outcome of the attempt.
        case settled
        /// The same host is to be asked again at once, in another transaction.
        case sameHost
        /// Another host is to be asked.
        case nextHost
        /// Nobody else is to be asked now.
        case nextAttempt
    }

    private let end: NIODeadline
    private let isByOperator: Bool
    private let convertsToSevenBit: Bool
    /// What counts.
    private var final: [Outcome?]
    /// The most telling of what did not.
    private var noted: [(outcome: Outcome, weight: Int)?]
    private var hosts: [ConnectionKey] = []
    private var current: ConnectionKey?
    /// Who is still to be asked for at the current host.
    private var waiting: [Int] = []
    private var tried = 0
    /// Whether the current host has answered nothing yet.
    private var isNew = false
    private var sessions = 0
    /// What came of recipients at a host without 8BITMIME: it does not count before the message was made 7-bit.
    private var lacking: [Int: Outcome] = [:]
    /// Those hosts.
    private var sevenBitHosts: [ConnectionKey] = []
    private var isSevenBit = false

    /// - Parameters:
    ///   - end: no host is begun with after that, except the first.
    ///   - isByOperator: the hosts were chosen by our operator, not by the recipients' domain.
    ///   - convertsToSevenBit: whether ``turnToSevenBit()`` is called at the end.
    init(recipients: Int, end: NIODeadline, isByOperator: Bool = false, convertsToSevenBit: Bool = false) {
        self.end = end
        self.isByOperator = isByOperator
        self.convertsToSevenBit = convertsToSevenBit
        final = Array(repeating: nil, count: recipients)
        noted = Array(repeating: nil, count: recipients)
    }

    // MARK: Hosts

    /// These are to be tried behind those that were named before.
    mutating func add(_ hosts: [ConnectionKey]) { self.hosts += hosts }

    /// Whether one more host would be asked.
    func takesHost(at now: NIODeadline) -> Bool {
        !isSettled && tried < Self.maximumHosts && sessions < Self.maximumSessions && (tried == 0 || now < end)
    }

    /// What is to be asked next; nil: nothing, unless more hosts are named. `limit`: how many recipients a host is known
    /// to take in one transaction.
    mutating func next(at now: NIODeadline, limit: (MailHost) -> Int?) -> Question? {
        while true {
            if let current, !waiting.isEmpty {
                return Question(key: current, recipients: Array(waiting.prefix(max(1, limit(current.host) ?? .max))))
            }
            current = nil
            guard !hosts.isEmpty, tried < Self.maximumHosts, sessions < Self.maximumSessions, tried == 0 || now < end
            else { return nil }
            waiting = final.indices.filter { final[$0] == nil }
            guard !waiting.isEmpty else { return nil }
            current = hosts.removeFirst()
            isNew = true
            tried += 1
        }
    }

    /// No other host is left. Whether there are hosts that may take the message once it is 7-bit: then they are next.
    mutating func turnToSevenBit() -> Bool {
        guard !isSevenBit, lacking.keys.contains(where: { final[$0] == nil }) else { return false }
        isSevenBit = true
        (hosts, current, waiting, tried) = (sevenBitHosts, nil, [], 0)
        return true
    }

    /// The message cannot be made 7-bit now, or never: what is said of it to those for whom it has to be.
    mutating func notSevenBit(_ result: Outcome.Result, _ reply: Reply) {
        hosts = []
        for (index, known) in lacking where final[index] == nil {
            var outcome = known
            (outcome.result, outcome.reply) = (result, reply)
            note(index, outcome, OutcomeCause(.mail, .lacksEightBit))
        }
    }

    /// Whether every recipient has an outcome that counts.
    var isSettled: Bool { final.allSatisfy { $0 != nil } }

    /// One outcome for each recipient, whatever comes of it later; nil if there is nothing to be said of one.
    var outcomes: [Outcome]? {
        let all = final.indices.compactMap { index in
            // Broken off, it was not made 7-bit: that is to be done yet.
            final[index] ?? noted[index]?.outcome ?? (lacking[index] == nil ? nil : SMTPJob.cancelled)
        }
        return all.count == final.count ? all : nil
    }

    // MARK: What comes of it

    /// A host could not be used, or not even be tried. That is no matter of the recipients: others would fare no better,
    /// and the queue is told so, unless only `isTLSFailure` stands against it.
    mutating func note(_ outcome: Outcome, isTLSFailure: Bool = false) {
        var outcome = outcome
        outcome.isHostFailure = outcome.result == .temporary && !isTLSFailure
        for index in final.indices { note(index, outcome, nil) }
    }

    /// There was no session with the host of the last question. An exchanger that greets with 5xx says that its domain takes no
    /// mail; a host that our operator chose, that we are wrong there (RFC 5321 section 3.1: "probably in error"), which no
    /// sender can put right.
    mutating func unusable(_ failure: HostFailure) {
        var outcome = failure.outcome
        if isByOperator { outcome.result = .temporary }
        note(outcome, isTLSFailure: failure.isTLSFailure)
        waiting = []
    }

    /// The host of the last question wants no more sessions, and there are some with its site: another host may, or it is said
    /// that the message waits.
    mutating func crowdedOut(_ outcome: Outcome) {
        var outcome = outcome
        (outcome.result, outcome.postponed) = (.temporary, Self.crowdTime * Double.random(in: 1...2))
        postpone(outcome)
        waiting = []
    }

    /// Of everybody who has nothing better to be told.
    mutating func postpone(_ outcome: Outcome) {
        for index in final.indices where noted[index] == nil { note(index, outcome, nil) }
    }

    /// What came of the last question, for each of its recipients.
    mutating func answered(_ question: Question, _ outcomes: [Outcome], _ causes: [OutcomeCause]) -> Set<Lesson> {
        var again: [Int] = []
        var lessons: Set<Lesson> = []
        var hasProgress = false
        // One without 8BITMIME is asked for nothing.
        if isNew, causes.contains(where: { $0.kind != .lacksEightBit }) { sessions += 1 }
        isNew = false
        waiting.removeFirst(question.recipients.count)
        for (index, (outcome, cause)) in zip(question.recipients, zip(outcomes, causes)) {
            switch Self.verdict(outcome, cause) {
            case .settled:
                final[index] = outcome
                hasProgress = hasProgress || outcome.postponed == nil
            case .nextAttempt:
                final[index] = outcome
                lessons.insert(.mayHaveIt)
            case .nextHost where cause.kind == .lacksEightBit && convertsToSevenBit && !isSevenBit:
                lacking[index] = outcome
                if !sevenBitHosts.contains(question.key) { sevenBitHosts.append(question.key) }
            case .nextHost: note(index, outcome, cause)
            case .sameHost:
                note(index, outcome, cause)
                again.append(index)
            }
            if cause.kind == .timedOut { lessons.insert(.hung) }
        }
        if !again.isEmpty {
            // What it has announced (LIMITS, RFC 9422) holds for its session, and the next one announces it again.
            let isRefused = zip(outcomes, causes).contains { $0.isRemote && $1.kind == .tooManyRecipients }
            if isRefused { lessons.insert(.takes(max(1, causes.count { $0.stage > .recipient }))) }
            // Without progress it would be the same again.
            if hasProgress { waiting = again + waiting }
        }
        if let (outcome, cause) = zip(outcomes, causes).first(where: { Self.isEnd($0, $1) }) {
            // It wants, or gets, no more of us.
            for index in waiting where noted[index] == nil { note(index, outcome, cause) }
            waiting = []
            switch cause.kind {
            case .lost, .protocolError: if cause.stage == .mail { lessons.insert(.dead) }
            case .reply: if outcome.reply.code == 421, cause.stage == .mail { lessons.insert(.dead) }
            case .timedOut, .cancelled, .tooManyRecipients, .lacking, .lacksEightBit, .message: break
            }
        }
        return lessons
    }

    /// What an outcome means, by where it came from.
    static func verdict(_ outcome: Outcome, _ cause: OutcomeCause) -> Verdict {
        // What the site as a whole has put off is not for its other hosts.
        if outcome.result == .delivered || outcome.postponed != nil { return .settled }
        switch cause.kind {
        case .reply: return outcome.result == .permanent ? .settled : .nextHost
        case .tooManyRecipients: return .sameHost
        // Others may have the extension; no message bounces because the one that was up lacks it.
        case .lacking, .lacksEightBit: return .nextHost
        case .lost, .timedOut, .protocolError: return cause.stage == .finalReply ? .nextAttempt : .nextHost
        case .message: return .settled
        // Nobody is asked any more; what a host said before is more telling.
        case .cancelled: return .nextHost
        }
    }

    /// Whether the host is through with us, whoever the recipient.
    private static func isEnd(_ outcome: Outcome, _ cause: OutcomeCause) -> Bool {
        switch cause.kind {
        case .lost, .timedOut, .protocolError, .cancelled: true
        case .reply: outcome.reply.code == 421 || (cause.stage == .mail && outcome.result == .temporary)
        case .tooManyRecipients, .lacking, .lacksEightBit, .message: false
        }
    }

    /// That somebody may take it later weighs more than that somebody else never will; then what a host said, more than
    /// what we make of its silence; then what was said of the message.
    private mutating func note(_ index: Int, _ outcome: Outcome, _ cause: OutcomeCause?) {
        let weight =
            cause?.kind == .cancelled
            ? 0 : (outcome.result == .temporary ? 4 : 0) + (outcome.isRemote ? 2 : 0) + (cause == nil ? 0 : 1)
        if let known = noted[index], known.weight > weight { return }
        noted[index] = (outcome, weight)
    }
}
