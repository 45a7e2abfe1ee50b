// What follows from an attempt: new states, what leaves the queue, whom to tell. A function of values; the queue's driver
// calls it with a relay's outcomes and makes what it says durable in one commit.

package import SlimtaMail

/// What is to be recorded after an attempt, and told.
package struct AttemptResolution: Sendable {
    /// One recipient, for the log.
    package struct Event: Hashable, Sendable {
        /// The event as the log names it.
        package enum Kind: String, Sendable {
            case delivered, deferred, bounced, expired
            /// The recipient's site takes no mail now: no attempt was made.
            case postponed
        }

        /// What became of the recipient in this attempt.
        package let kind: Kind
        /// Whom it is about.
        package let recipient: Mailbox
        /// What the relay said.
        package let outcome: Outcome
    }

    /// The whole commit: the new state or the ending, and notices with it (RFC 5321 section 6.1: a failure and the
    /// notice of it become durable together).
    package var commit: QueueCommit
    /// The new state; nil: the envelope leaves the queue.
    package var state: EnvelopeState?
    /// Notices that go into the queue with the commit.
    package var notices: [Notice]
    /// One for each recipient that was tried.
    package var events: [Event]

    /// - Parameters:
    ///   - stored: the envelope as it was when the attempt began.
    ///   - outcomes: one for each pending recipient of `stored.state`, in that order.
    ///   - age: what the schedule goes by.
    ///   - now: by the system's clock, when the attempt ended.
    ///   - isFinal: false if the attempt was cut short by our own stop: what was not delivered is then due as before.
    package init(
        _ stored: StoredEnvelope, outcomes: [Outcome], isFinal: Bool = true, _ age: AttemptAge, now: Timestamp,
        schedule: RetrySchedule, notices builder: NoticeBuilder
    ) {
        let envelope = stored.envelope
        let schedule = schedule.of(envelope)
        var state = stored.state
        let pending = state.pending
        precondition(outcomes.count == pending.count, "an outcome for each pending recipient")
        // What a site puts off as a whole is no attempt; only its expiry goes on.
        let put = outcomes.filter { $0.result == .temporary }
        let postponed = put.isEmpty || put.contains { $0.postponed == nil } ? nil : put.compactMap(\.postponed).max()
        if isFinal, postponed == nil { state.attempts += 1 }
        // Recipients of an envelope are due together: whoever wants to be asked latest is heard.
        let least = put.compactMap { $0.postponed ?? $0.retryAfter }.max()
        let wait =
            postponed.map { schedule.wait(postponed: $0, age) }
            ?? schedule.wait(after: state.attempts, age, least: least ?? .zero)

        let told = Self.settle(zip(pending, outcomes), of: envelope, in: &state, isOver: wait == nil && isFinal)
        let (failures, delays) = (told.failures, told.delays)
        events = told.events
        notices = []
        // Never a notice about a notice: the null reverse-path asks for none (RFC 5321 section 4.5.5).
        if let sender = envelope.sender {
            let failures = failures.filter { envelope.notifies(of: $0.mailbox).contains(.failure) }
            if !failures.isEmpty {
                notices.append(builder.failure(of: stored, to: sender, recipients: failures, now: now))
            }
            let delays = delays.filter { envelope.notifies(of: $0.mailbox).contains(.delay) }
            if !delays.isEmpty, isFinal, !state.isWarned, schedule.isWarningDue(age) {
                state.isWarned = true
                let end = now + max(schedule.expire - age.ended, .zero)
                notices.append(builder.delay(of: stored, to: sender, recipients: delays, until: end, now: now))
            }
        }

        commit = QueueCommit()
        if delays.isEmpty {
            self.state = nil
            commit.ended = [Ending(of: state)]
        } else {
            if isFinal, let wait { state.due = now + wait }
            // Cut short, only what is final is a result.
            let results = zip(pending, outcomes).filter { isFinal || $0.1.result != .temporary }
            state.record(results, at: now, isRepeated: postponed != nil)
            self.state = state
            commit.states = [state]
        }
        // A commit has one message: a second notice is committed by itself, before the state that says that it was sent.
        if let first = notices.first {
            commit.accepted = [.init(first.envelope, due: now)]
            commit.message = first.message
        }
    }

    /// Gives a notice another envelope with the same id, in the commit as well.
    mutating func replace(_ envelope: Envelope, ofNotice index: Int) {
        notices[index].envelope = envelope
        if index == 0 { commit.accepted[0].envelope = envelope }
    }

    /// What is told of recipients: in the log, and to the sender.
    private struct Told {
        var events: [Event] = []
        var failures: [NoticeBuilder.Recipient] = []
        var delays: [NoticeBuilder.Recipient] = []
    }

    /// Puts outcomes, by the index of their recipient, into the state. `isOver`: who is not delivered now never will be.
    private static func settle(
        _ outcomes: some Sequence<(Int, Outcome)>, of envelope: Envelope, in state: inout EnvelopeState, isOver: Bool
    ) -> Told {
        var told = Told()
        for (index, outcome) in outcomes {
            let recipient = envelope.recipients[index]
            let original = envelope.original(of: recipient)
            let kind: Event.Kind
            switch outcome.result {
            case .delivered:
                state.recipients[index].fate = .delivered
                kind = .delivered
            case .permanent:
                state.recipients[index].fate = .bounced
                told.failures.append(.init(mailbox: recipient, outcome: outcome, isExpired: false, original: original))
                kind = .bounced
            case .temporary where isOver:
                state.recipients[index].fate = .expired
                told.failures.append(.init(mailbox: recipient, outcome: outcome, isExpired: true, original: original))
                kind = .expired
            case .temporary:
                told.delays.append(.init(mailbox: recipient, outcome: outcome, isExpired: false, original: original))
                kind = outcome.postponed == nil || outcome.isHostFailure ? .deferred : .postponed
            }
            state.recipients[index].reply = outcome.reply.description
            state.recipients[index].relay = outcome.relay ?? ""
            told.events.append(Event(kind: kind, recipient: recipient, outcome: outcome))
        }
        return told
    }
}

extension Ending {
    /// The end of the envelope whose recipients all have a final fate.
    package init(of state: EnvelopeState) {
        self.init(id: state.id)
        recipients = state.recipients
        for recipient in state.recipients {
            switch recipient.fate {
            case .pending: preconditionFailure("a pending recipient leaves the queue")
            case .delivered: delivered += 1
            case .bounced: bounced += 1
            case .expired: expired += 1
            case .removed: removed += 1
            }
        }
    }
}
