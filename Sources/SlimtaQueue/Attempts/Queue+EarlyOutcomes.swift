// Outcomes that a relay tells of before its attempt ends: what is delivered is made durable then, and a crash meanwhile delivers
// it to nobody twice. Called by the queue's driver around an attempt.

import SlimtaMail
import Synchronization

/// What is known of an attempt that goes on, and not written yet.
private final class EarlyOutcomes: Sendable {
    private let delivered = Mutex<[Int: Outcome]>([:])
    private let continuation: AsyncStream<Void>.Continuation
    /// There is something to write. It is one word, however much that is.
    let news: AsyncStream<Void>

    init() { (news, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }

    /// Only what is delivered must not be done again; the rest is recorded when the attempt ends, with what follows from it.
    func tell(_ recipient: Int, _ outcome: Outcome) {
        guard outcome.result == .delivered else { return }
        delivered.withLock { $0[recipient] = outcome }
        continuation.yield()
    }

    func take() -> [Int: Outcome] {
        delivered.withLock { delivered in
            defer { delivered = [:] }
            return delivered
        }
    }
}

extension Queue {
    /// How long to gather behind a commit what is told next: a state is written with all of its recipients.
    private static let gathering = Duration.milliseconds(50)

    /// Has the relay make an attempt, and records what it tells of before the end.
    /// - Parameter state: the envelope's, as the attempt begins.
    func attempt(_ delivery: Delivery, in state: EnvelopeState, _ relay: any Relay) async -> [Outcome] {
        // Of one recipient nothing is known before the end.
        guard delivery.recipients.count > 1 else { return await relay.attempt(delivery) }
        let early = EarlyOutcomes()
        var delivery = delivery
        delivery.report = { early.tell($0, $1) }
        // Is cancelled at the end of the attempt, and waited for: what is written of the end is to be the last word.
        async let _: Void = record(early, in: state)
        return await relay.attempt(delivery)
    }

    private func record(_ early: EarlyOutcomes, in state: EnvelopeState) async {
        var state = state
        for await _ in early.news {
            for (recipient, outcome) in early.take() {
                state.recipients[recipient].fate = .delivered
                state.recipients[recipient].reply = outcome.reply.description
                state.recipients[recipient].relay = outcome.relay ?? ""
            }
            // Nobody is left: that is the end, which comes at once.
            guard !Task.isCancelled, !state.pending.isEmpty else { return }
            // A commit that fails is no loss: the end says all of it again, until it is written.
            try? await storage.commit(QueueCommit(states: [state]))
            try? await Task.sleep(for: Self.gathering)
        }
    }
}
