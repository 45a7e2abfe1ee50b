// The quotas of all edges, shared: sessions ask at MAIL and RCPT, the intake counts what is there, the queue says what became
// of it, operators look, hold and release. The composition root has the one there is, and keeps it in a file.

package import SlimtaMail
import Synchronization

/// Quotas behind a lock. Each call is short: see ``Quotas``.
package final class QuotaBook: Sendable {
    /// What its keeper does for it.
    package struct Keeper: Sendable {
        /// Makes what is known durable, then calls back, on any thread, whether that has worked or not.
        package var write: @Sendable (@escaping @Sendable () -> Void) -> Void
        /// Tells the operator.
        package var tell: @Sendable (Quotas.Event) -> Void
        /// These envelopes were stored as held while their login was released.
        package var release: @Sendable ([QueueID]) -> Void

        /// All three.
        package init(
            write: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void,
            tell: @escaping @Sendable (Quotas.Event) -> Void, release: @escaping @Sendable ([QueueID]) -> Void
        ) {
            self.write = write
            self.tell = tell
            self.release = release
        }
    }

    private struct State {
        var quotas: Quotas
        var keeper: Keeper?
    }

    private let state: Mutex<State>
    /// Whether nobody counts anything and nobody is held: then nobody takes the lock.
    private let isIdle: Atomic<Bool>

    /// Goes on from what is known.
    package init(_ quotas: Quotas) {
        isIdle = Atomic(quotas.isIdle)
        state = Mutex(State(quotas: quotas))
    }

    /// Who keeps it: before the first message.
    package func setKeeper(_ keeper: Keeper) { state.withLock { $0.keeper = keeper } }

    /// Other limits: what was counted stays counted.
    package func reconfigure(_ rules: QuotaRules?) { change { $0.rules = rules } }

    @discardableResult
    private func change<Result: Sendable>(_ body: (inout Quotas) -> sending Result) -> Result {
        state.withLock { state in
            defer { isIdle.store(state.quotas.isIdle, ordering: .releasing) }
            return body(&state.quotas)
        }
    }

    /// What is known now. To copy it costs little until it is changed.
    package var now: Quotas { state.withLock { $0.quotas } }

    /// The same, if it has changed since the last call.
    package func takeChanged() -> Quotas? {
        state.withLock { state in
            guard state.quotas.isChanged else { return nil }
            state.quotas.isChanged = false
            return state.quotas
        }
    }

    /// It could not be written.
    package func setChanged() { change { $0.isChanged = true } }

    // MARK: Sessions

    /// What MAIL is told; nil: nothing is in the way.
    package func refusal(of subject: QuotaSubject, at now: Timestamp) -> Reply? {
        guard !isIdle.load(ordering: .acquiring) else { return nil }
        return state.withLock { $0.quotas.refusal(of: subject, recipients: 0, at: now) }
    }

    /// What RCPT is told; nil: nothing is in the way.
    ///
    /// - Parameters:
    ///   - accepted: recipients of the transaction so far.
    ///   - newRecipients: how many of them are new to the sender. It is counted here.
    package func refusal(
        of subject: QuotaSubject, to recipient: Mailbox, behind accepted: Int, _ newRecipients: inout Int,
        at now: Timestamp
    ) -> Reply? {
        guard !isIdle.load(ordering: .acquiring) else { return nil }
        let before = newRecipients
        let (reply, count) = state.withLock { state in
            let count = before + (state.quotas.isNew(recipient, to: subject, at: now) ? 1 : 0)
            return (
                state.quotas.refusal(of: subject, recipients: accepted + 1, newRecipients: count, at: now), count
            )
        }
        if reply == nil { newRecipients = count }
        return reply
    }

    // MARK: Messages

    /// Counts a message, and calls `completion` with what is to be done with it: at once, but where a login has just been
    /// held, and the message is refused for that, which is made durable before.
    package func take(
        _ envelope: Envelope, size: Int, completion: @escaping @Sendable (Quotas.Charge?, Reply?) -> Void
    ) {
        guard !isIdle.load(ordering: .acquiring) else { return completion(nil, nil) }
        let subject = QuotaSubject(envelope.client)
        let (decision, keeper) = state.withLock { state in
            (
                state.quotas.take(
                    subject, from: IPAddress(envelope.client.address), to: envelope.recipients, size: size,
                    at: envelope.received), state.keeper
            )
        }
        for event in decision.events { keeper?.tell(event) }
        guard decision.isNews, let keeper else { return completion(decision.charge, decision.refusal) }
        keeper.write { completion(decision.charge, decision.refusal) }
    }

    /// Whether a message that is stored now is to be held.
    package func isHeld(_ charge: Quotas.Charge) -> Bool { state.withLock { $0.quotas.isHeld(charge) } }

    /// What was counted is stored as `envelopes`, because its login is held or not; or is not, and there are none. Calls
    /// `completion` when the client may be told: at once, but where its login has just been held.
    package func settle(
        _ charge: Quotas.Charge, stored envelopes: [QueueID], isHeld: Bool, completion: @escaping @Sendable () -> Void
    ) {
        let fate: Quotas.Fate = envelopes.isEmpty ? .notStored : isHeld ? .held : .stored
        let settlement = change { $0.settle(charge, as: fate) }
        let keeper = state.withLock { $0.keeper }
        if settlement.isReleased { keeper?.release(envelopes) }
        guard let news = settlement.news, let keeper else { return completion() }
        keeper.tell(news)
        keeper.write(completion)
    }

    /// Recipients of an envelope have had their last attempt.
    package func ended(_ client: ClientInfo, refused: Int, others: Int, at now: Timestamp) {
        guard !isIdle.load(ordering: .acquiring), refused + others > 0 else { return }
        let subject = QuotaSubject(client)
        let (events, keeper) = state.withLock { state in
            (state.quotas.ended(subject, refused: refused, others: others, at: now), state.keeper)
        }
        for event in events {
            keeper?.tell(event)
            if case .held = event { keeper?.write {} }
        }
    }

    // MARK: Operators

    /// Whom an operator means: a login of which something was counted, an address, or else a login.
    ///
    /// - Parameter login: what a login of that name is called once it is in; nil: the same.
    package func subject(_ name: String, as login: String? = nil) -> QuotaSubject {
        let login = login ?? name
        return state.withLock { state in
            for name in [login, name] where state.quotas.accounts[.login(name)] != nil { return .login(name) }
            if let address = IPAddress(name) { return QuotaSubject(login: nil, address: address) }
            if name == QuotaSubject.local.description, state.quotas.facts(of: .local, at: .now()) != nil {
                return .local
            }
            return .login(login)
        }
    }

    /// Whether a login is held.
    package func isHeld(_ subject: QuotaSubject) -> Bool {
        state.withLock { $0.quotas.accounts[subject]?.hold != nil }
    }

    /// Holds a login; durable when this returns.
    package func hold(_ subject: QuotaSubject, because reason: String, at now: Timestamp) async {
        change { $0.hold(subject, because: reason, at: now) }
        await write()
    }

    /// Those that are held.
    package var holds: [QuotaSubject: QuotaHold] { state.withLock { $0.quotas.holds } }

    /// Whether any is.
    package var hasHolds: Bool { state.withLock { $0.quotas.held > 0 } }

    /// That is done for a login that is held since then.
    package func fulfilled(_ duties: HoldDuties, of subject: QuotaSubject, heldSince since: Timestamp) {
        change { $0.fulfilled(duties, of: subject, heldSince: since) }
    }

    /// So much of it is held: see ``Quotas/counted(messages:octets:of:before:)``.
    package func counted(messages: Int, octets: Int, of subject: QuotaSubject, before: QuotaHold) {
        change { $0.counted(messages: messages, octets: octets, of: subject, before: before) }
    }

    /// Ends its hold; durable when this returns. False: it is not held.
    package func release(_ subject: QuotaSubject, at now: Timestamp) async -> Bool {
        guard change({ $0.release(subject, at: now) }) else { return false }
        await write()
        return true
    }

    private func write() async {
        guard let keeper = state.withLock({ $0.keeper }) else { return }
        await withCheckedContinuation { continuation in keeper.write { continuation.resume() } }
    }
}
