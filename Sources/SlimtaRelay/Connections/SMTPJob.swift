// One message on its way through one host: made by HostTrial, done by a connection of the pool. What they tell each other
// is here; a job knows neither pool nor connection.

import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaSMTP
import SlimtaTLS
import Synchronization

/// What goes out behind 354.
struct OutgoingContent: Sendable {
    /// The fields that policies prepended.
    let fields: ByteBuffer
    let message: Message

    /// In octets (RFC 1870).
    var size: Int { fields.readableBytes + message.size }
}

/// Why a host could not be used.
struct HostFailure: Error {
    var outcome: Outcome
    /// It kept us waiting.
    var isTimeout = false
    /// Only TLS failed: mail that has waited for longer goes in clear.
    var isTLSFailure = false
    /// What failed is how the session was to be made: under another plan the host may be usable.
    var isOfPlan = false
    /// What failed is ours, and says nothing of the host: we lack an address, or can open no more files.
    var isOurs = false
    /// It was the connection of another job, which tells the host's site.
    var isOfOther = false
    /// What of TLS is to blame; nil: it is not TLS.
    var fault: SMTPClientMachine.SessionFailure.TLSFault?
    /// What the handshake failed with; nil: it was not begun, or just ended.
    var tlsError: TLSError?
    /// Its site has as many sessions as it wants, and there are some.
    var isOfPace = false
}

/// A connection that sends what is not in memory of a large message, as far as the attempt is concerned.
protocol ContentReceiver: Sendable {
    /// The next part of the job's content. Returns when there is room for one more; false: no more is wanted.
    func send(_ part: ByteBuffer, of job: SMTPJob) async -> Bool
    /// That was all.
    func endContent(of job: SMTPJob)
    /// The rest cannot be had.
    func failContent(_ outcome: Outcome, of job: SMTPJob)
}

/// A transaction to be made with one host, and the place where the attempt waits for what becomes of it.
///
/// Whoever works on it says at most two things: that it wants the rest of a large message, and how it ended.
final class SMTPJob: PooledWork {
    enum Event: Sendable {
        /// The connection sent the content up to the part that is in memory: the attempt sends the rest through it.
        case wantsRest(any ContentReceiver)
        /// One outcome for each recipient of the transaction, and where each came from.
        case done([Outcome], [OutcomeCause])
        /// The host could not be used. Nothing was sent: another may be tried.
        case unusable(HostFailure)
    }

    /// How often a job is begun again because a connection turned out to be dead.
    static let repetitions = 3

    private struct State {
        var event: Event?
        var continuation: CheckedContinuation<Event, Never>?
        var isOver = false
        var repetitions = 0
        var messagesBefore = 0
    }

    let key: ConnectionKey
    let transaction: SMTPTransaction
    let content: OutgoingContent
    /// The message must have been sent until then.
    let end: NIODeadline
    /// The site of the host: it is told of sessions, and says how many messages they do; nil: nobody cares.
    let site: Site?
    /// Is told of the TLS of a connection that is made for it; nil: nobody cares.
    let watch: TLSReportWatch?
    /// Is called with the index of a recipient whose outcome is known while others' are not.
    let report: @Sendable (Int, Outcome) -> Void
    private let state = Mutex(State())

    var host: MailHost { key.host }

    init(
        key: ConnectionKey, transaction: SMTPTransaction, content: OutgoingContent, end: NIODeadline,
        site: Site? = nil, watch: TLSReportWatch? = nil,
        report: @escaping @Sendable (Int, Outcome) -> Void = { _, _ in }
    ) {
        self.key = key
        self.transaction = transaction
        self.content = content
        self.end = end
        self.site = site
        self.watch = watch
        self.report = report
    }

    /// What happens next; one caller at a time.
    func next() async -> Event {
        await withCheckedContinuation { continuation in
            let event: Event? = state.withLock { state in
                guard let event = state.event else {
                    state.continuation = continuation
                    return nil
                }
                state.event = nil
                return event
            }
            if let event { continuation.resume(returning: event) }
        }
    }

    /// Reads the rest of a large message and hands it on, as fast as it is taken.
    func sendRest(to receiver: any ContentReceiver) async {
        guard let reader = content.message.rest?.makeReader() else { return }
        do {
            while let part = try await reader.next(65_536) {
                guard await receiver.send(part, of: self) else { return }
            }
            receiver.endContent(of: self)
        } catch {
            receiver.failContent(Self.unreadable, of: self)
        }
    }

    /// Tells the attempt.
    func tell(_ event: Event) {
        let continuation = state.withLock { state in
            guard let continuation = state.continuation else {
                state.event = event
                return nil as CheckedContinuation<Event, Never>?
            }
            state.continuation = nil
            return continuation
        }
        continuation?.resume(returning: event)
    }

    /// Tells the attempt that it was broken off before anything came of it.
    func tellCancelled() {
        let count = transaction.recipients.count
        tell(
            .done(
                Array(repeating: Self.cancelled, count: count),
                Array(repeating: OutcomeCause(.mail, .cancelled), count: count)))
    }

    /// The attempt no longer wants it.
    func cancel() { state.withLock { $0.isOver = true } }

    var isOver: Bool { state.withLock { $0.isOver } }

    /// How many messages the session has done before this one.
    var messagesBefore: Int {
        get { state.withLock { $0.messagesBefore } }
        set { state.withLock { $0.messagesBefore = newValue } }
    }

    /// Whether it may be begun once more; counts.
    func mayRepeat() -> Bool {
        state.withLock { state in
            state.repetitions += 1
            return state.repetitions <= Self.repetitions
        }
    }

    /// What everyone gets where the storage does not give the message.
    static let unreadable = Outcome(
        .temporary, Reply(451, EnhancedStatus(4, 3, 0), "the stored message cannot be read"))

    /// What everyone gets whose attempt was broken off before it was decided.
    static let cancelled = Outcome(.temporary, Reply(451, EnhancedStatus(4, 3, 2), "the attempt was broken off"))
}

extension ContentError {
    /// What it means for every recipient.
    var outcome: Outcome {
        switch self {
        case .bareLineEnd:
            Outcome(
                .permanent, Reply(554, EnhancedStatus(5, 6, 0), "the message has a CR or LF that is no end of line"))
        case .nul: Outcome(.permanent, Reply(554, EnhancedStatus(5, 6, 0), "the message has a NUL"))
        case .eightBit: SMTPClientMachine.withoutEightBitMIME
        }
    }

    /// Whether that is for this server to blame.
    var cause: OutcomeCause.Kind {
        switch self {
        case .bareLineEnd, .nul: .message
        case .eightBit: .lacksEightBit
        }
    }
}
