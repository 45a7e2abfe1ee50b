// Which envelope is to be attempted when: due times, what is in flight, how much at once, whose turn it is, which
// destinations do not answer. A value without I/O and without contents; the queue's driver feeds it and performs what it
// says. QueueMachine+Places.swift has the ways of an entry from place to place, QueueMachine+Operator.swift what operators
// ask for, QueueMachine+Release.swift how parts of the queue leave.

internal import DequeModule
package import SlimtaMail

/// The scheduler.
///
/// **Turns.** An envelope waits in its destination until it is due. Destinations that have something due and room take
/// turns, one attempt each, so that a million messages to one of them do not delay the one to another. Nothing is moved
/// when it becomes due, so a million messages that are due at once cost no more than one: a tick works on what it takes.
///
/// **Priorities.** Within a destination new envelopes, and those that an operator asked for, go before retries; of four
/// attempts one is a retry's all the same, or retries to a busy destination would never be made. Among equals the
/// earliest due goes first.
///
/// **Back-off.** A destination begins with five attempts at once. When a host has answered, our own limit is all there
/// is; each attempt that reaches no host halves what is reasonable, and when nothing is left of it the destination backs
/// off: one attempt at a time, a probe, at growing intervals (``RetrySchedule/probeInterval(after:)``), until one gets an
/// answer; then everything that waited is due at once. Halving is what lets a destination with one bad host out of
/// several go on, and five is what a dead one costs.
///
/// **Shares.** Destinations that back off, that are slow, or of which nothing is known, cannot take all places with
/// time-outs and slow answers: ``PlaceShares`` has the rules.
///
/// **Parked.** What is due to a destination that backs off is parked, a few at a time: it is not attempted and its state
/// does not change, but its sender must still be told of the delay and of the end. At that time it is taken with
/// ``Taken/failure``, which is what the last probe failed with. At the end only if that probe began after it: if not, the
/// host may have come back since (while the machine was suspended, say), and it is what goes as the next probe.
///
/// **Time** is the queue's own (``QueueClock``), and never jumps. What an envelope's id and `received` say is by the clock
/// that it was accepted by; ``ClockShifts`` knows what lies between.
package struct QueueMachine: ~Copyable {
    /// How much may be in flight.
    package struct Limits: Hashable, Sendable {
        /// Attempts at once, all destinations together.
        package var attempts: Int
        /// Attempts at once to one destination.
        package var attemptsPerDestination: Int

        /// Both are at least 1.
        package init(attempts: Int, attemptsPerDestination: Int) {
            self.attempts = attempts
            self.attemptsPerDestination = attemptsPerDestination
        }
    }

    /// An envelope whose turn it is.
    package struct Taken: Hashable, Sendable {
        /// The envelope.
        package let id: QueueID
        /// If not nil, no attempt is to be made: it is known to fail with this, and the sender is to be told something.
        package let failure: Outcome?
        /// When the attempt began that found this out.
        package let tried: Timestamp?

        /// An envelope to be attempted, unless `failure` says what is known already.
        package init(_ id: QueueID, failure: Outcome? = nil, tried: Timestamp? = nil) {
            self.id = id
            self.failure = failure
            self.tried = tried
        }
    }

    /// How many turns, and how many destinations that have become due, one call sees to: less than half a millisecond.
    private static let work = 256
    /// How many envelopes are parked in a turn.
    private static let parkedAtOnce = 32
    /// How many are parked in one call, and the time from such a call to the next. Nobody waits for it, and everybody
    /// waits while it is done: it takes half a millisecond. A million take two and a half minutes.
    private static let parkedInACall = 128
    private static let parkingPause = Duration.milliseconds(20)
    /// How long what is shut is put off, and by how much more, which is another for each: what waited is not all due at once
    /// when it can be recorded again. A million cost a tenth of a processor meanwhile.
    private static let putOff = Duration.seconds(15)
    private static let putOffSpread: UInt64 = 15_000

    var entries = QueueEntries()
    var destinations = Destinations()
    /// Destinations that have something to do, or had when they were put here.
    private var turns: Deque<UInt32> = []
    /// Destinations that will have something to do at a time that is known.
    private var wakes = IndexedHeap()
    private var shifts = ClockShifts()

    /// Takes effect for what begins from now on.
    package var limits: Limits { didSet { shares.places = limits.attempts } }
    var shares: PlaceShares
    /// Probes go by it from now on; what waits stays due when it was.
    package var schedule: RetrySchedule
    /// Attempts that have begun and not ended.
    package internal(set) var inFlight = 0
    var probes = 0
    /// Nothing is parked before.
    private var parking = Timestamp(milliseconds: .min)
    /// Envelopes that are held.
    package internal(set) var heldCount = 0
    /// See QueueMachine+Sites.swift.
    var shared = SharedSchedule()
    /// Parts of the queue that are being handed over, see QueueMachine+Release.swift.
    var leaving = LeavingBuckets()
    /// The oldest, if that is known; see `oldest`.
    var knownOldest: QueueID?

    /// A scheduler without envelopes.
    package init(limits: Limits, schedule: RetrySchedule) {
        self.limits = limits
        self.schedule = schedule
        shares = PlaceShares(places: limits.attempts)
    }

    /// How many envelopes are queued.
    package var count: Int { entries.count }

    /// When ``takeDue(now:atMost:)`` will have more to say though nothing happened; nil: only when something happens.
    package var nextDue: Timestamp? {
        if inFlight >= limits.attempts { return nil }
        return turns.isEmpty && openLine == .none
            ? wakes.first.map { destinations[$0].wake } : Timestamp(milliseconds: .min)
    }

    /// When the envelope was accepted, in the queue's time; nil if it is not queued.
    package func accepted(_ id: QueueID) -> Timestamp? { entries.slot(of: id).map { accepted(entries[$0]) } }

    private func accepted(_ entry: QueueEntry) -> Timestamp { entry.id.time + shifts[entry.shift] }

    // MARK: Events

    /// An envelope is in the queue; nothing is done about one that is being handed over, nor about one that is known: an
    /// attempt may be under way for it. Returns whether something was.
    /// - Parameters:
    ///   - now: if it was accepted just now; nil if it was found at start.
    ///   - isDoubted: whether it may be another destination's: see ``moved(_:to:now:)``.
    @discardableResult
    package mutating func added(
        _ summary: QueuedSummary, acceptedAt now: Timestamp? = nil, isDoubted: Bool = false
    ) -> Bool {
        if isLeaving(summary.id) || entries.slot(of: summary.id) != nil { return false }
        let number = use(summary.destination, isDoubted: isDoubted, now: now)
        var entry = QueueEntry(
            id: summary.id, due: summary.due, destination: number, isWarned: summary.isWarned)
        entry.isNew = summary.attempts == 0
        if let now { entry.shift = shifts.number(received: summary.received, at: now) }
        let slot = entries.add(entry)
        if let oldest = knownOldest, summary.id < oldest { knownOldest = summary.id }
        if summary.isHeld { hold(slot) } else { wait(slot) }
        return true
    }

    /// Takes envelopes whose turn it is now, as many as the limits and `atMost` allow. Each is in flight until
    /// ``attempted(_:next:destination:isWarned:report:now:)``, ``postponed(_:until:)``, ``held(_:)`` or
    /// ``ended(_:report:now:)``. There may be more: see ``nextDue``.
    ///
    /// - Parameter isShut: nothing is begun for these, nothing is told of them: they are put off for a while.
    package mutating func takeDue(
        now: Timestamp, atMost: Int = 64, except isShut: ((QueueID) -> Bool)? = nil
    ) -> [Taken] {
        for _ in 0..<Self.work {
            guard let number = wakes.first, destinations[number].wake <= now else { break }
            wakes.remove(number, &destinations)
            destinations[number].wakePosition = -1
            giveTurn(number)
        }
        var taken: [Taken] = []
        var work = Self.work
        var mayPark = parking <= now ? Self.parkedInACall : 0
        defer { if mayPark <= 0, parking <= now { parking = now + Self.parkingPause } }
        while taken.count < atMost, work > 0, inFlight < limits.attempts, let number = nextTurn() {
            work -= 1
            destinations[number].hasTurn = false
            if destinations[number].entries == 0 {
                destinations.forget(number)
                continue
            }
            let one: Taken?
            if let backOff = destinations.backOff(number) {
                mayPark -= park(number, min(mayPark, Self.parkedAtOnce), now)
                one = serve(number, backOff, now, isShut)
            } else {
                one = serve(number, now, isShut)
            }
            if let one { taken.append(one) }
            if wakeTime(number) <= now { giveTurn(number) } else { settle(number) }
        }
        return taken
    }

    /// Whose the envelope is that was taken is known now. Whether it was another one's: then it is due there, and this is no
    /// attempt.
    package mutating func moved(_ id: QueueID, to destination: String, now: Timestamp) -> Bool {
        guard let slot = entries.slot(of: id) else { return false }
        let old = entries[slot].destination
        guard destinations[old].isDoubted || destinations[old].name != destination else { return false }
        withdraw(slot)
        entries[slot].destination = use(destination, now: now)
        entries[slot].due = now
        release(old)
        wait(slot)
        return true
    }

    /// An attempt ended, and the envelope stays: the next one is due at `next`.
    package mutating func attempted(
        _ id: QueueID, next: Timestamp, destination: String, isWarned: Bool, report: HostReport, now: Timestamp
    ) -> DestinationChange? {
        guard let slot = entries.slot(of: id) else { return nil }
        let change = land(slot, report, now)
        let old = entries[slot].destination
        if destinations[old].isDoubted || destinations[old].name != destination {
            entries[slot].destination = use(destination, now: now)
            release(old)
        }
        entries[slot].due = next
        entries[slot].isWarned = isWarned
        entries[slot].isNew = false
        wait(slot)
        return change
    }

    /// An attempt ended, and it will be long until what came of it is told: it takes no place meanwhile.
    package mutating func landed(_ id: QueueID, now: Timestamp) {
        if let slot = entries.slot(of: id) { _ = land(slot, .unknown, now) }
    }

    /// An attempt could not even begin: the next one is due at `next`.
    package mutating func postponed(_ id: QueueID, until next: Timestamp) {
        guard let slot = entries.slot(of: id) else { return }
        _ = land(slot, .unknown, next)
        entries[slot].due = next
        wait(slot)
    }

    /// An envelope cannot be attempted until somebody looks at it: it stays, and is never due.
    package mutating func held(_ id: QueueID) {
        guard let slot = entries.slot(of: id) else { return }
        withdraw(slot)
        hold(slot)
    }

    /// An envelope has left the queue.
    package mutating func ended(_ id: QueueID, report: HostReport = .unknown, now: Timestamp) -> DestinationChange? {
        guard let slot = entries.slot(of: id) else { return nil }
        let change = land(slot, report, now)
        remove(slot)
        return change
    }

    // MARK: Turns

    private var isAlone: Bool { destinations.count <= 1 }

    private var openLine: PlaceShares.Line {
        shares.open(probes: probes, isAlone: isAlone, hasTurns: !turns.isEmpty)
    }

    /// Whose turn is next.
    private mutating func nextTurn() -> UInt32? {
        while case let line = openLine, line != .none, let number = shares.next(of: line) {
            // It may have been forgotten since, and be another.
            guard destinations[number].line == line else { continue }
            destinations[number].line = .none
            if !destinations[number].hasTurn { return number }
        }
        return turns.popFirst()
    }

    /// It is not the destination's turn before there is room in its share.
    private mutating func wait(_ number: UInt32, in line: PlaceShares.Line) {
        destinations[number].line = line
        shares.wait(number, in: line)
    }

    /// Whether its share of the places lets the destination have one more.
    private func mayHavePlace(_ number: UInt32) -> Bool {
        shares.permit(
            destinations[number].pace, here: destinations[number].inFlight, used: inFlight, isAlone: isAlone)
    }

    /// Something was learned of the destination: it need not go on waiting where it was put before that.
    mutating func setPace(_ number: UInt32, _ pace: Pace) {
        destinations[number].line = .none
        shares.count(destinations[number].pace, -Int(destinations[number].inFlight))
        destinations[number].pace = pace
        shares.count(pace, Int(destinations[number].inFlight))
    }

    /// The turn of a destination that answers, or of which nothing is known.
    private mutating func serve(_ number: UInt32, _ now: Timestamp, _ isShut: ((QueueID) -> Bool)?) -> Taken? {
        guard destinations[number].inFlight < room(number), destinations[number].pausedUntil <= now,
            isDue(number, now)
        else { return nil }
        guard mayHavePlace(number) else {
            // One that has places looks again when it gives one back.
            if destinations[number].inFlight == 0 {
                wait(number, in: destinations[number].pace == .slow ? .slow : .unknown)
            }
            return nil
        }
        guard let slot = pick(number, now) else { return nil }
        if let isShut, isShut(entries[slot].id) { return putOff(slot, now) }
        take(slot, .inFlight, now)
        return Taken(entries[slot].id)
    }

    private func isDue(_ number: UInt32, _ now: Timestamp) -> Bool {
        destinations[number].parked.first != nil || due(destinations[number].new, now) != nil
            || due(destinations[number].retries, now) != nil
    }

    /// The envelope that goes next, out of its heap; nil if none is due.
    private mutating func pick(_ number: UInt32, _ now: Timestamp) -> UInt32? {
        let new = due(destinations[number].new, now)
        let waited = destinations[number].parked.first ?? due(destinations[number].retries, now)
        guard let new, let waited else { return new ?? waited }
        destinations[number].served += 1
        guard destinations[number].served >= Destination.share else { return new }
        destinations[number].served = 0
        return waited
    }

    /// The turn of a destination that backs off.
    private mutating func serve(
        _ number: UInt32, _ backOff: Destination.BackOff, _ now: Timestamp, _ isShut: ((QueueID) -> Bool)?
    ) -> Taken? {
        guard destinations[number].inFlight < limits.attemptsPerDestination,
            let first = destinations[number].parked.first
        else { return nil }
        let isOwed = entries[first].due <= now && mayResolve(first, backOff)
        let mayProbe =
            probeTime(backOff, first) <= now && !destinations[number].isProbing && destinations[number].line == .none
        guard isOwed || mayProbe else { return nil }
        if let isShut, isShut(entries[first].id) { return putOff(first, now) }
        if isOwed {
            take(first, .resolving, now)
            return Taken(entries[first].id, failure: backOff.reason, tried: backOff.tried)
        }
        guard shares.permitProbe(probes: probes, isAlone: isAlone) else {
            wait(number, in: .probe)
            return nil
        }
        probes += 1
        destinations[number].isProbing = true
        take(first, .probe, now)
        return Taken(entries[first].id)
    }

    /// An entry whose turn it would be waits a while longer; nothing is taken.
    private mutating func putOff(_ slot: UInt32, _ now: Timestamp) -> Taken? {
        withdraw(slot)
        let more = Int64(entries[slot].id.low % Self.putOffSpread)
        entries[slot].due = now + Self.putOff + .milliseconds(more)
        enqueue(slot)
        return nil
    }

    /// Whether the sender of what is parked may be told, when it is time, without another attempt.
    private func mayResolve(_ slot: UInt32, _ backOff: Destination.BackOff) -> Bool {
        !schedule.isEnd(isWarned: entries[slot].isWarned) || backOff.tried >= entries[slot].due
    }

    /// Parks some of what is due; returns how many.
    private mutating func park(_ number: UInt32, _ limit: Int, _ now: Timestamp) -> Int {
        for count in 0..<limit {
            guard let slot = due(destinations[number].new, now) ?? due(destinations[number].retries, now) else {
                return count
            }
            withdraw(slot)
            let entry = entries[slot]
            entries[slot].due = schedule.deadline(received: accepted(entry), isWarned: entry.isWarned)
            entries[slot].place = .parked
            destinations[number].parked.insert(slot, &entries)
        }
        return limit
    }

    /// The first of a heap, if it is due.
    private func due(_ heap: IndexedHeap, _ now: Timestamp) -> UInt32? {
        guard let slot = heap.first, entries[slot].due <= now else { return nil }
        return slot
    }

    private mutating func take(_ slot: UInt32, _ place: QueueEntry.Place, _ now: Timestamp) {
        withdraw(slot)
        entries[slot].due = now
        entries[slot].place = place
        destinations[entries[slot].destination].inFlight += 1
        shares.count(destinations[entries[slot].destination].pace, 1)
        inFlight += 1
        noteUse(entries[slot].destination)
    }

    /// How many attempts at once the destination may have.
    func room(_ number: UInt32) -> Int { min(Int(destinations[number].window), share(number)) }

    /// When the destination has something to do; .max: only when something happens.
    private func wakeTime(_ number: UInt32) -> Timestamp {
        let never = Timestamp(milliseconds: .max)
        let new = dueTime(destinations[number].new) ?? never
        let retry = dueTime(destinations[number].retries) ?? never
        let parked = destinations[number].parked.first
        guard let backOff = destinations.backOff(number) else {
            guard destinations[number].inFlight < room(number), destinations[number].line == .none,
                destinations[number].inFlight == 0 || mayHavePlace(number)
            else { return never }
            let due = parked == nil ? min(new, retry) : Timestamp(milliseconds: .min)
            return max(due, destinations[number].pausedUntil)
        }
        let toPark = max(min(new, retry), parking)
        guard let first = parked, destinations[number].inFlight < limits.attemptsPerDestination else { return toPark }
        let mayProbe = !destinations[number].isProbing && destinations[number].line == .none
        let owed = mayResolve(first, backOff) ? entries[first].due : never
        return min(toPark, owed, mayProbe ? probeTime(backOff, first) : never)
    }

    private func dueTime(_ heap: IndexedHeap) -> Timestamp? {
        guard let slot = heap.first else { return nil }
        return entries[slot].due
    }

    private mutating func giveTurn(_ number: UInt32) {
        destinations[number].hasTurn = true
        turns.append(number)
    }

    /// Something about the destination changed: sees to it that its turn comes when it has something to do.
    mutating func settle(_ number: UInt32) {
        // Then that is found out anyway.
        if destinations[number].hasTurn { return }
        let wake = wakeTime(number)
        let isThere = destinations[number].wakePosition >= 0
        if isThere, wake == destinations[number].wake { return }
        destinations[number].wake = wake
        switch (isThere, wake.milliseconds < .max) {
        case (true, true): wakes.moved(number, &destinations)
        case (false, true): wakes.insert(number, &destinations)
        case (true, false):
            wakes.remove(number, &destinations)
            destinations[number].wakePosition = -1
        case (false, false): break
        }
    }
}
