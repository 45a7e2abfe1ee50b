// One message on its way through one host: made by a relay's attempt, done by a connection of the pool.

import NIOCore
import SlimtaMail
import SlimtaSMTP
import Synchronization

/// What goes out behind 354.
struct OutgoingContent: Sendable {
    /// The fields that policies prepended.
    let fields: ByteBuffer
    let message: Message
}

/// A transaction to be made with one host, and the place where the attempt waits for what becomes of it.
///
/// Whoever works on it says at most two things: that it wants the rest of a large message, and how it ended.
final class SMTPJob: Sendable {
    enum Event: Sendable {
        /// The connection sent the content up to the part that is in memory: the attempt sends the rest through it.
        case wantsRest(SMTPConnection)
        /// One outcome for each recipient of the transaction.
        case done([Outcome])
        /// The host could not be used. Nothing was sent: another may be tried.
        case unusable(Outcome)
    }

    /// How often a job is begun again because a connection turned out to be dead.
    static let repetitions = 3

    private struct State {
        var event: Event?
        var continuation: CheckedContinuation<Event, Never>?
        var isCancelled = false
        var repetitions = 0
    }

    let host: MailHost
    let transaction: SMTPTransaction
    let content: OutgoingContent
    private let state = Mutex(State())

    init(host: MailHost, transaction: SMTPTransaction, content: OutgoingContent) {
        self.host = host
        self.transaction = transaction
        self.content = content
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

    /// Tells the attempt that nothing came of it for anyone.
    func tell(done outcome: Outcome) {
        tell(.done(Array(repeating: outcome, count: transaction.recipients.count)))
    }

    /// The attempt no longer wants it.
    func cancel() { state.withLock { $0.isCancelled = true } }

    var isCancelled: Bool { state.withLock { $0.isCancelled } }

    /// Whether it may be begun once more; counts.
    func mayRepeat() -> Bool {
        state.withLock { state in
            state.repetitions += 1
            return state.repetitions <= Self.repetitions
        }
    }

    /// What everyone gets whose attempt was broken off before it was decided.
    static let cancelled = Outcome(.temporary, Reply(451, EnhancedStatus(4, 3, 2), "the attempt was broken off"))
}
