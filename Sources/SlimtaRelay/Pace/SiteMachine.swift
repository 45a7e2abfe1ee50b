// How fast mail may go to one site: a value without hosts, connections and a clock. It stands between an attempt and the pool,
// behind the MX lookup, for the site is only known then; the queue keeps its turns and its fairness by domain.
//
//   turn ──place taken──▶ choose a host ──▶ opened ──▶ accepted / refused, next, next ... ──▶ closed ──▶ place free
//                             ▲     │ failed
//                             └─────┘ another host; the place is kept until `leave`
//
// - *Window*: sessions at a time. Begins at five and grows by one with each window's worth of successes.
// - *Ceiling*: sessions that the site has shown to be the most; a session more is tried every ten minutes.
// - *Rate* (SiteRate): learned from refusals of three different recipients in a minute; one or two may be about those.
// - *Health* (HostHealth) of each host, *greylisting* (GreylistMemory), and limits that are kept (SiteLearning).
//
// What a site refuses is not the message's doing: it is postponed, no attempt is counted, no step of the retry schedule taken,
// only its expiry goes on. Simulated in SiteSimulationTests with six sites; the figures there are bounds.
//
// Times are of the wall clock, so that what waits means the same after a restart. A clock that is set back makes waits longer
// by that at most: whoever drives it makes a new one then.

import SlimtaMail

/// The pace of one site.
struct SiteMachine<Host: Hashable & Sendable>: Sendable {
    struct Settings: Hashable, Sendable {
        /// The most sessions at a time: what the relay wants that wants most, unless an operator says less of the site.
        var connections = 20
        var firstWindow = 5
        /// How long a ceiling stays before one session more is tried.
        var ceilingTime: Duration = .seconds(600)
        /// How long a session may wait, open, for its next message.
        var idleTime: Duration = .seconds(5)
        /// Whether the site is a host of our operator's: then nothing counts but window, ceiling and rate.
        var isFixed = false
        /// What an operator says of the site: then nothing is learned of it.
        var rate: Double?
        var recipients: Int?
        var messages: Int?
        /// What this node has of that rate, where others have some of it: 0 to 1.
        var part = 1.0
        /// How long a host that failed is left alone, at first and at most.
        var waits = HostHealth<Host>.firstWait...HostHealth<Host>.longestWait

        /// Messages a second of this node, by what an operator says.
        fileprivate var ownRate: Double? { rate.map { $0 * part } }
    }

    /// Whether a message may go.
    enum Turn: Hashable, Sendable {
        /// At that time, which may be now. A place is taken.
        case go(Timestamp)
        /// Nothing goes before that.
        case wait(Timestamp)
        /// When a place becomes free.
        case full
    }

    /// What is to be done about a session that did not come to be.
    enum Next: Hashable, Sendable {
        /// The message waits for a place: the site has as many sessions as it wants.
        case waitForPlace
        case nextHost
    }

    /// What a reply to a message means for it.
    enum Disposition: Hashable, Sendable {
        /// It is the message's own matter: an attempt, and its retry schedule.
        case own
        /// The site's: it waits until then, and no attempt is counted.
        case postponed(Timestamp)
        /// An attempt, and the next one is then.
        case retry(Timestamp)
        /// The other recipients go in another transaction at once.
        case fewerRecipients
        /// The session is over for us; what is left goes in another one at once.
        case newSession
    }

    private(set) var settings: Settings
    private(set) var learning: SiteLearning
    /// When anything was last asked of it.
    private(set) var lastUsed: Timestamp
    private(set) var health = HostHealth<Host>()
    private(set) var rate: SiteRate
    /// Sessions that there may be; grows in fractions.
    private var window: Double
    /// nil: none is known. Above what is wanted it is none.
    private var ceiling: Int?
    private var ceilingUntil: Timestamp
    /// Messages and sessions that have a place.
    private(set) var places = 0
    /// Sessions that are open.
    private(set) var established = 0
    private var greylist: GreylistMemory
    private var refusals: Refusals

    /// A site that nothing is known of but what is kept.
    init(_ settings: Settings = Settings(), _ learning: SiteLearning = SiteLearning(), at now: Timestamp) {
        self.settings = settings
        self.learning = learning
        window = Double(settings.firstWindow)
        (ceilingUntil, lastUsed) = (now, now)
        rate = SiteRate(at: now)
        greylist = GreylistMemory(learning.greylisting)
        refusals = Refusals()
        health.waits = settings.waits
        if let known = settings.ownRate ?? learning.rate { rate.set(known, at: now) }
    }

    /// The configuration has changed, or an operator has said something else.
    mutating func configure(_ new: Settings, at now: Timestamp) {
        guard new != settings else { return }
        if settings.rate != new.rate {
            rate.set(new.ownRate ?? learning.rate, at: now)
        } else if settings.part != new.part, let own = new.ownRate {
            rate.share(own, at: now)
        }
        settings = new
        health.waits = new.waits
    }

    /// The most recipients in a transaction; nil: no limit is known.
    var mostRecipients: Int? { settings.recipients ?? learning.recipients }

    /// The most messages in a session; nil: no limit is known.
    var mostMessages: Int? { settings.messages ?? learning.messages }

    /// The most sessions just now, and why: what is shown to operators.
    var sessionLimits: (window: Int, ceiling: Int?) {
        (min(Int(window), most), ceiling.flatMap { $0 < settings.connections ? $0 : nil })
    }

    /// The most that it takes, and that are wanted.
    private var most: Int { min(ceiling ?? .max, settings.connections) }

    /// Far slots are to be waited for in the queue. That is as long as the slowest rate takes that is learned.
    private static var longestSlot: Duration { .seconds(61) }

    // MARK: Turns

    /// How many sessions there may be just now.
    mutating func room(at now: Timestamp) -> Int {
        if let known = ceiling, known < settings.connections, now > ceilingUntil {
            ceiling = known + 1
            ceilingUntil = now + settings.ceilingTime
        }
        let room = min(Int(window), most)
        // More than two that wait for a slow bucket only idle.
        return rate.perSecond.map { $0 < 2 } ?? false ? min(room, 2) : room
    }

    /// A message wants to go on a session of its own, or on one that is idle.
    mutating func turn(at now: Timestamp) -> Turn {
        lastUsed = now
        learning.tryMore(at: now)
        if rate.pausedUntil > now { return .wait(rate.pausedUntil) }
        guard places < room(at: now) else { return .full }
        let slot = rate.slot(at: now)
        guard slot - now <= Self.longestSlot else { return .wait(slot) }
        places += 1
        rate.take(slot)
        return .go(slot)
    }

    /// The session that has just done a message may do another: when; nil: it is to be closed, for the next slot is too far
    /// away, or there are too many sessions.
    mutating func next(at now: Timestamp) -> Timestamp? {
        let slot = rate.slot(at: now)
        guard places <= room(at: now), slot - now < settings.idleTime else { return nil }
        rate.take(slot)
        return slot
    }

    /// A message gives up the place that it had.
    ///
    /// - Parameter slot: when it was to go, if it did not.
    mutating func leave(unused slot: Timestamp? = nil) {
        places = max(0, places - 1)
        if let slot { rate.giveBack(slot) }
    }

    // MARK: Hosts

    /// The host to try, of those that the message has not tried yet, by preference; nil: none may be tried now, see
    /// ``reachable(_:at:)``. ``opened(_:)`` or ``failed(_:_:isReset:at:jitter:)`` is to follow.
    mutating func choose(from groups: [[Host]], at now: Timestamp) -> Host? {
        settings.isFixed ? groups.joined().first : health.choose(from: groups, at: now)
    }

    /// The host has answered, on a session that was there.
    mutating func answered(_ host: Host) { health.answered(host) }

    /// The host was chosen, and not tried after all.
    mutating func untried(_ host: Host, at now: Timestamp) { health.untried(host, at: now) }

    /// What came of the host was found out by another message that tried it, and told.
    mutating func released(_ host: Host) { health.released(host) }

    /// What is old and says nothing any more is forgotten.
    mutating func sweep(at now: Timestamp) { health.sweep(at: now) }

    /// A session with the host came to nothing: it is tried last for a while.
    mutating func hung(_ host: Host, until: Timestamp) { health.hung(host, until: until) }

    /// Hosts that did not answer are tried again: the network has changed, or an operator wants it.
    mutating func forgetFailures() { health.forget() }

    /// When one of the hosts may be tried again.
    func reachable(_ hosts: [Host], at now: Timestamp) -> Timestamp {
        max(now + .seconds(1), health.earliest(of: hosts) ?? now + HostHealth<Host>.firstWait)
    }

    /// A session is open, up to its EHLO.
    mutating func opened(_ host: Host) {
        established += 1
        health.answered(host)
        // It was still connecting when another one was refused.
        if let known = ceiling, established > known { ceiling = established }
        window = max(window, Double(min(established, most)))
    }

    /// A session that was open is over. Whoever had a place with it keeps that.
    mutating func closed() { established = max(0, established - 1) }

    /// There was no session: no connection, no greeting, or one that says no. The message keeps its place until it leaves.
    /// `reply`: what the host said, if it said anything; `jitter`: -1 to 1.
    mutating func failed(_ host: Host, _ reply: Reply?, isReset: Bool = false, at now: Timestamp, jitter: Double)
        -> Next
    {
        let isConcurrency =
            established > 0
            && (isReset
                || reply.map { ReplyClass($0, .init(stage: .opening, othersAreOpen: true)) == .connections } ?? false)
        guard isConcurrency else {
            health.failed(host, at: now, jitter: jitter)
            return .nextHost
        }
        // It has answered, whatever it said.
        health.answered(host)
        ceiling = established
        ceilingUntil = now + settings.ceilingTime
        window = Double(established)
        return .waitForPlace
    }

    // MARK: Messages

    /// A message was accepted, for these.
    mutating func accepted(_ pairs: [GreylistMemory.Pair], at now: Timestamp) {
        lastUsed = now
        if window < Double(most) { window = min(Double(most), window + 1 / max(window, 1)) }
        rate.accepted(at: now)
        learnRate()
        for pair in pairs { greylist.accepted(pair, at: now) }
        learning.greylisting = greylist.knowledge
    }

    /// A message, or one of its recipients, was refused for now.
    ///
    /// - Parameters:
    ///   - accepted: recipients that were accepted before in the same transaction.
    ///   - messages: what the session has done before.
    ///   - spread: 0 to 1: messages that waited together do not all come at once.
    mutating func refused(
        _ reply: Reply, _ pair: GreylistMemory.Pair, accepted: Int = 0, messages: Int = 0, at now: Timestamp,
        spread: Double
    ) -> Disposition {
        let context = ReplyClass.Context(
            stage: .message, othersAreOpen: established > 1, someAreAccepted: accepted > 0,
            isFirstForGreylister: !settings.isFixed && greylist.isKnown(at: now) && greylist.isNew(pair))
        var kind = ReplyClass(reply, context)
        let isRepeated = refusals.note(reply, pair.recipient, isRate: kind == .rate, at: now)
        if kind == .own, isRepeated, Self.mayBeRate(reply) { kind = .rate }
        switch kind {
        case .connections:
            guard established > 1 else { return refusedAlone(isRepeated, at: now, spread: spread) }
            let others = established - 1
            (ceiling, ceilingUntil, window) = (others, now + settings.ceilingTime, Double(others))
            return .newSession
        case .rate:
            // One or two may be about the recipient.
            guard isRepeated || rate.perSecond != nil else { return .own }
            refusals = Refusals()
            if rate.refused(at: now) { window = max(1, window / 2) }
            learnRate()
            return .postponed(max(now, rate.pausedUntil) + .seconds(5 * spread))
        case .greylist:
            guard !settings.isFixed else { return .own }
            let until = greylist.refused(pair, at: now)
            learning.greylisting = greylist.knowledge
            return .retry(until)
        case .recipients:
            learning.stopped(afterRecipients: accepted, at: now)
            return .fewerRecipients
        case .messages:
            guard messages > 0 else { return .own }
            learning.stopped(afterMessages: messages, at: now)
            return .newSession
        case .own: return .own
        }
    }

    /// Too many connections, and none but one of them is ours: others of the account, or behind our address, have them. Less
    /// than one we cannot have; it is waited for, longer each time, and no rate is learned of it.
    private mutating func refusedAlone(_ isRepeated: Bool, at now: Timestamp, spread: Double) -> Disposition {
        guard isRepeated || rate.isBehindPause else { return .own }
        refusals = Refusals()
        _ = rate.pause(at: now)
        return .postponed(max(now, rate.pausedUntil) + .seconds(5 * spread))
    }

    /// Whether the same words to three recipients mean us: not if the code says that it is about mailboxes or addresses.
    private static func mayBeRate(_ reply: Reply) -> Bool {
        reply.isTemporary && reply.status.map { ![1, 2].contains($0.subject) } ?? true
    }

    /// What an operator says is no matter of experience.
    private mutating func learnRate() {
        if let fixed = settings.ownRate { rate.hold(fixed) } else { learning.rate = rate.perSecond }
    }

    // MARK: Operators

    /// An operator knows the rate; nil: there is none.
    mutating func setRate(_ perSecond: Double?, at now: Timestamp) {
        rate.set(perSecond, at: now)
        learning.rate = rate.perSecond
    }

    /// All that was learned is forgotten. Places and sessions stay.
    mutating func forget(at now: Timestamp) {
        learning = SiteLearning()
        (window, ceiling) = (Double(settings.firstWindow), nil)
        rate = SiteRate(at: now)
        if let fixed = settings.ownRate { rate.set(fixed, at: now) }
        greylist = GreylistMemory()
        refusals = Refusals()
        health.forget()
    }

    /// A transaction takes no more recipients than that.
    mutating func stopped(afterRecipients count: Int, at now: Timestamp) {
        learning.stopped(afterRecipients: count, at: now)
    }

    /// A session takes no more messages than that.
    mutating func stopped(afterMessages count: Int, at now: Timestamp) {
        learning.stopped(afterMessages: count, at: now)
    }
}

/// Whom a site has refused in the last minute, and in which words.
private struct Refusals: Sendable {
    /// Different recipients that it takes.
    private static let enough = 3
    private static let time: Duration = .seconds(60)
    /// Of each kind; more say nothing new.
    private static let most = 16

    private struct Refusal {
        let wording: String
        let recipient: String
        let isRate: Bool
        let time: Timestamp
    }

    private var recent: [Refusal] = []

    /// Notes one. Whether as many recipients as it takes were refused of its kind: for the rate, or in the same words.
    mutating func note(_ reply: Reply, _ recipient: String, isRate: Bool, at now: Timestamp) -> Bool {
        recent.removeAll { now - $0.time >= Self.time }
        let new = Refusal(wording: reply.wording, recipient: recipient, isRate: isRate, time: now)
        if recent.count < Self.most { recent.append(new) }
        let kind = (recent + [new]).filter { isRate ? $0.isRate : $0.wording == new.wording }
        return Set(kind.map(\.recipient)).count >= Self.enough
    }
}
