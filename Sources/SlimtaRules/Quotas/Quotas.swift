// How much who sends: counts, limits, and the breaker, which holds a login that suddenly sends otherwise than it did. A
// value; QuotaBook shares it between edges, intake, queue and operators.

package import SlimtaMail

/// What is counted of all senders, and what follows from it.
///
/// A message is asked about at MAIL and at each RCPT (``refusal(of:recipients:isNew:at:)``), so that a client learns early that it is too much; it
/// counts when it is there (``take(_:to:size:at:)``), before anybody else has a say, so that no two at once get past a
/// limit; whether it is held is asked when it is stored (``isHeld(_:)``); and what was not stored is given back
/// (``settle(_:as:)``). The breaker trips on what was stored: what a policy refuses holds nobody.
///
///           new pattern, or an operator            released by an operator
///     free ────────────────────────────▶ held ────────────────────────────▶ forgiven ──24 h──▶ free
///
/// Memory is bounded: senders by number, whom they have written to for each and for all together. Each step costs the same
/// whatever there is, but for what is pushed out, which is done for many at once.
package struct Quotas: Sendable {
    /// Why a message is held, as the queue and the log have it.
    package static let heldReason = "breaker"

    /// What is allowed.
    package struct Bounds: Sendable {
        /// Senders that are remembered.
        package var accounts = 100_000
        /// Recipients that one of them is known to have written to.
        package var knownByOne = 20_000
        /// The same of all together.
        package var known = 8_000_000

        /// As always, but for tests.
        package init() {}
    }

    /// A message that was counted.
    package struct Charge: Hashable, Sendable {
        let subject: QuotaSubject
        let amounts: QuotaAmounts
        let digests: [UInt64]
        let size: Int
        let received: Timestamp
        var time: UInt32 { received.short }
        /// Its login was held, and this counts as held.
        var isHeld = false
        /// Its login is to be held for this, once it is stored.
        var excess: QuotaExcess?
    }

    /// What became of a message that was counted.
    package enum Fate: Hashable, Sendable {
        /// Its login was held.
        case held
        /// Not held, or for another reason.
        case stored
        /// Refused, or it could not be.
        case notStored
    }

    /// What follows from that.
    package struct Settlement: Hashable, Sendable {
        /// It was stored as held, and its login has been released meanwhile.
        package var isReleased = false
        /// The login that has just been held, and why: this must be durable before the client is told anything.
        package var news: Event?
    }

    /// What the operator is to be told.
    package enum Event: Hashable, Sendable {
        /// A soft limit.
        case exceeded(QuotaSubject, QuotaExcess)
        /// The breaker.
        case held(String, QuotaExcess)
    }

    /// What is to be done with a message.
    package struct Decision: Hashable, Sendable {
        /// nil: it is not counted.
        package var charge: Charge?
        /// It is refused, and not counted.
        package var refusal: Reply?
        /// A login has just been held: this must be durable before the client is told anything.
        package var isNews = false
        /// Who is told what.
        package var events: [Event] = []
    }

    /// nil: nothing is counted; whom an operator holds stays held.
    package var rules: QuotaRules?
    let digest: SipHash
    let bounds: Bounds
    var accounts: [QuotaSubject: QuotaAccount] = [:]
    /// Recipients known of all accounts together.
    private(set) var known = 0
    private var knownByOne: Int
    /// Logins that are held.
    private(set) var held = 0
    /// Something has changed since it was last written.
    package var isChanged = false

    /// Nothing is known yet. `key` is random, and stays the same for as long as what is known is kept.
    package init(rules: QuotaRules?, key: SIMD2<UInt64>, bounds: Bounds = Bounds()) {
        self.rules = rules
        digest = SipHash(key: key)
        self.bounds = bounds
        knownByOne = bounds.knownByOne
    }

    /// As it was, with these senders.
    init(key: SIMD2<UInt64>, _ accounts: [QuotaSubject: QuotaAccount]) {
        self.init(rules: nil, key: key)
        self.accounts = accounts
        for account in accounts.values {
            known += account.known.count
            if account.hold != nil { held += 1 }
        }
    }

    /// How many senders are remembered.
    package var count: Int { accounts.count }

    /// How many octets it takes, about.
    package var size: Int { accounts.count * 700 + known * 8 }

    // MARK: Before the message

    /// Whether there is anything to ask.
    package var isIdle: Bool { rules == nil && held == 0 }

    /// What MAIL or RCPT is told; nil: nothing is in the way.
    ///
    /// - Parameters:
    ///   - recipients: with the one that is asked about; 0: it is MAIL.
    ///   - newRecipients: how many of them the sender has not written to.
    package func refusal(
        of subject: QuotaSubject, recipients: Int, newRecipients: Int = 0, at now: Timestamp
    ) -> Reply? {
        let now = now.short
        let account = accounts[subject] ?? QuotaAccount(at: now)
        if let hold = account.hold { return refusal(hold, adding: 0) }
        guard let rules else { return nil }
        let amounts = QuotaAmounts(messages: 1, recipients: recipients, newRecipients: newRecipients)
        return excess(subject, account, rules, rules.limits(of: subject), amounts, now).map(Self.refusal)
    }

    /// Whether the sender has not written to the recipient.
    package func isNew(_ recipient: Mailbox, to subject: QuotaSubject, at now: Timestamp) -> Bool {
        !(accounts[subject]?.known.contains(digest(recipient), on: now.day) ?? false)
    }

    /// What is over a hard limit, or over the breaker's where it holds nobody: who has no login, and who is new.
    private func excess(
        _ subject: QuotaSubject, _ account: QuotaAccount, _ rules: QuotaRules, _ limits: QuotaLimits,
        _ amounts: QuotaAmounts, _ now: UInt32
    ) -> QuotaExcess? {
        if let excess = account.over(limits.hard, adding: amounts, at: now).first { return excess }
        guard account.forgivenUntil <= now, !subject.isLogin || account.isLearning(rules, at: now) else { return nil }
        return account.over(limits.breaker, adding: amounts, at: now).first
    }

    private static func refusal(_ excess: QuotaExcess) -> Reply {
        Reply(450, .init(4, 7, 1), "Too much at once: \(excess); try again later")
    }

    /// What is told where a login is held; nil: its mail is taken.
    private func refusal(_ hold: QuotaHold, adding size: Int) -> Reply? {
        if rules?.action == .refuse { return Reply(450, .init(4, 7, 1), "Sending is suspended; ask your postmaster") }
        let rules = rules ?? QuotaRules()
        guard hold.messages >= rules.heldMessages || hold.octets + size > rules.heldSize else { return nil }
        return Reply(452, .init(4, 3, 1), "Insufficient system storage")
    }

    // MARK: The message

    /// A message is there.
    package mutating func take(
        _ subject: QuotaSubject, from client: IPAddress? = nil, to recipients: [Mailbox], size: Int, at time: Timestamp
    ) -> Decision {
        let now = time.short
        if let hold = accounts[subject]?.hold { return takeHeld(subject, hold, recipients, size, time) }
        guard let rules else { return Decision() }
        let limits = rules.limits(of: subject)
        guard !limits.isEmpty else { return Decision() }
        var account = accounts[subject] ?? QuotaAccount(at: now)
        if subject.isLogin, let client { account.networks.note(digest(client.accessNetwork), at: now) }
        let digests = recipients.map { digest($0) }
        let amounts = QuotaAmounts(
            messages: 1, recipients: recipients.count,
            newRecipients: digests.count { !account.known.contains($0, on: time.day) })
        if let excess = excess(subject, account, rules, limits, amounts, now) {
            return Decision(refusal: Self.refusal(excess))
        }
        var charge = Charge(subject: subject, amounts: amounts, digests: digests, size: size, received: time)
        if account.forgivenUntil <= now, let excess = account.over(limits.breaker, adding: amounts, at: now).first {
            let reason = "\(excess)"
            // What is refused in any case is never stored.
            if let refusal = refusal(QuotaHold(since: time, reason: reason), adding: size) {
                hold(subject, because: reason, at: time, isBreaker: true)
                return Decision(refusal: refusal, isNews: true, events: [.held(subject.description, excess)])
            }
            charge.excess = excess
        }
        makeRoom(for: subject, at: now)
        let networks = account.networks
        let over = change(subject, at: now) { account in
            account.add(amounts, at: now)
            account.networks = networks
            return account.newlyOver(limits.soft, at: now)
        }
        return Decision(charge: charge, events: over.map { .exceeded(subject, $0) })
    }

    /// It counts, but nobody becomes known by what a hijacker sends.
    private mutating func takeHeld(
        _ subject: QuotaSubject, _ hold: QuotaHold, _ recipients: [Mailbox], _ size: Int, _ time: Timestamp
    ) -> Decision {
        let now = time.short
        if let refusal = refusal(hold, adding: size) { return Decision(refusal: refusal) }
        let amounts = QuotaAmounts(messages: 1, recipients: recipients.count)
        change(subject, at: now) { account in
            account.add(amounts, at: now)
            account.hold?.add(size)
        }
        return Decision(
            charge: Charge(
                subject: subject, amounts: amounts, digests: [], size: size, received: time, isHeld: true))
    }

    /// Whether a message that is stored now is to be held: its login may have been held, or released, since it was taken.
    package func isHeld(_ charge: Charge) -> Bool {
        let account = accounts[charge.subject]
        return account?.hold != nil || charge.excess != nil && account?.forgivenUntil ?? 0 <= charge.time
    }

    /// What was counted is stored, or is not.
    package mutating func settle(_ charge: Charge, as fate: Fate) -> Settlement {
        guard let before = accounts[charge.subject] else { return Settlement() }
        var settlement = Settlement()
        if fate != .notStored, let excess = charge.excess, before.hold == nil, before.forgivenUntil <= charge.time {
            hold(charge.subject, because: "\(excess)", at: charge.received, isBreaker: true)
            settlement.news = .held(charge.subject.description, excess)
        }
        let day = UInt16(charge.time / 86400)
        let limit = knownByOne
        change(charge.subject, at: charge.time) { account in
            if fate == .notStored { account.subtract(charge.amounts, at: charge.time) }
            switch (fate, charge.isHeld) {
            case (.held, false): account.hold?.add(charge.size)
            case (.notStored, true): account.hold?.subtract(charge.size)
            // It was on its way while its login was held: who looked for recent mail may not have seen it.
            case (.stored, false): account.hold?.duties.insert(.recent)
            default: break
            }
            guard fate != .notStored else { return }
            account.recipients = UInt32(clamping: Int(account.recipients) + charge.amounts.recipients)
            if fate == .stored, charge.excess == nil { account.known.note(charge.digests, on: day, limit: limit) }
        }
        if known > bounds.known { forgetRecipients(on: day) }
        settlement.isReleased = fate == .held && accounts[charge.subject]?.hold == nil
        return settlement
    }

    /// So many recipients of a sender have had their last attempt; `refused` of them do not exist, or not for it.
    package mutating func ended(
        _ subject: QuotaSubject, refused: Int, others: Int, at time: Timestamp
    ) -> [Event] {
        guard let rules, accounts[subject] != nil else { return [] }
        let (now, limits) = (time.short, rules.limits(of: subject))
        guard !limits.isEmpty else { return [] }
        let (over, excess) = change(subject, at: now) { account -> ([QuotaExcess], QuotaExcess?) in
            for _ in 0..<min(others, LastOutcomes.most) { account.outcomes.note(isRefused: false) }
            guard refused > 0 else { return ([], nil) }
            for _ in 0..<min(refused, LastOutcomes.most) { account.outcomes.note(isRefused: true) }
            account.add(QuotaAmounts(refused: refused), at: now)
            let over = account.newlyOver(limits.soft, at: now)
            guard account.hold == nil, account.forgivenUntil <= now, subject.isLogin,
                !account.isLearning(rules, at: now)
            else { return (over, nil) }
            if let share = limits.refusedShare, account.outcomes.isOver(share) {
                return (over, .refused(account.outcomes.refused, of: account.outcomes.count))
            }
            return (over, account.over(limits.breaker, at: now).first)
        }
        var events = over.map { Event.exceeded(subject, $0) }
        if let excess {
            hold(subject, because: "\(excess)", at: time, isBreaker: true)
            events.append(.held(subject.description, excess))
        }
        return events
    }

    // MARK: Holding

    /// Holds a login, whether anything is known of it or not. One that is held stays so, for its reason.
    ///
    /// - Parameter isBreaker: nobody has asked for it, so somebody is to be told.
    package mutating func hold(
        _ subject: QuotaSubject, because reason: String, at time: Timestamp, isBreaker: Bool = false
    ) {
        guard accounts[subject]?.hold == nil else { return }
        makeRoom(for: subject, at: time.short)
        held += 1
        let duties: HoldDuties = isBreaker && rules?.notify != nil ? [.recent, .notice] : .recent
        change(subject, at: time.short) { $0.hold = QuotaHold(since: time, reason: reason, duties: duties) }
    }

    /// That is done for a login, as long as it is the same hold.
    package mutating func fulfilled(_ duties: HoldDuties, of subject: QuotaSubject, heldSince since: Timestamp) {
        guard let hold = accounts[subject]?.hold, hold.since == since, !hold.duties.isDisjoint(with: duties) else {
            return
        }
        isChanged = true
        accounts[subject]?.hold?.duties.subtract(duties)
    }

    /// So much of it was found in the queue, when somebody had begun to look at the hold as it was `before`: what has come
    /// since then is added.
    package mutating func counted(
        messages: Int, octets: Int, of subject: QuotaSubject, before: QuotaHold
    ) {
        guard let hold = accounts[subject]?.hold, hold.since == before.since else { return }
        let (messages, octets) = (
            max(0, messages + hold.messages - before.messages), max(0, octets + hold.octets - before.octets)
        )
        guard (messages, octets) != (hold.messages, hold.octets) else { return }
        isChanged = true
        accounts[subject]?.hold?.messages = messages
        accounts[subject]?.hold?.octets = octets
    }

    /// Its hold ends, and the breaker is off for a day; false: it is not held. Limits begin anew: what a hijacker, or
    /// somebody who had every right to it, has sent is not to be in the way now.
    package mutating func release(_ subject: QuotaSubject, at time: Timestamp) -> Bool {
        guard accounts[subject]?.hold != nil else { return false }
        held -= 1
        change(subject, at: time.short) { account in
            account.hold = nil
            account.forgivenUntil = UInt32(clamping: Int64(time.short) + 86400)
            account.outcomes = LastOutcomes()
            (account.hour, account.day, account.networks) = (QuotaHistory(), QuotaHistory(), KnownNetworks())
        }
        return true
    }

    // MARK: Room

    @discardableResult
    private mutating func change<Result>(
        _ subject: QuotaSubject, at now: UInt32, _ body: (inout QuotaAccount) -> Result
    ) -> Result {
        isChanged = true
        func change(_ account: inout QuotaAccount) -> (Result, Int) {
            let before = account.known.count
            return (body(&account), account.known.count - before)
        }
        let (result, more) = change(&accounts[subject, default: QuotaAccount(at: now)])
        known += more
        return result
    }

    /// Where a new sender finds no room, those go that were silent for the longest time: a hundredth of all at once, so
    /// that a flood of new ones does not cost a search each. Who is held stays.
    private mutating func makeRoom(for subject: QuotaSubject, at now: UInt32) {
        guard accounts.count >= bounds.accounts, accounts[subject] == nil else { return }
        let silent = accounts.filter { $0.value.hold == nil }.map { ($0.value.last, $0.key) }
            .sorted { $0.0 < $1.0 }
        for (_, subject) in silent.prefix(max(1, bounds.accounts / 100)) {
            known -= accounts.removeValue(forKey: subject)?.known.count ?? 0
        }
    }

    /// Who is known of too many loses some, those with most first.
    private mutating func forgetRecipients(on day: UInt16) {
        while known > bounds.known - bounds.known / 16, knownByOne > 64 {
            known = 0
            for subject in accounts.keys {
                let limit = knownByOne
                accounts[subject]?.known.forget(on: day, limit: limit)
                known += accounts[subject]?.known.count ?? 0
            }
            if known > bounds.known - bounds.known / 16 { knownByOne -= knownByOne / 4 }
        }
    }
}

extension Timestamp {
    /// Seconds since 1970, as accounts have them.
    var short: UInt32 { UInt32(clamping: seconds) }

    /// Days since 1970.
    fileprivate var day: UInt16 { UInt16(clamping: seconds / 86400) }
}
