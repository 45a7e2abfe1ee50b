// Which envelope is to be attempted when: due times, what is in flight, how much at once, whose turn it is. A value
// without I/O and without contents; the queue's driver feeds it and performs what it says.

internal import DequeModule
internal import HeapModule
package import SlimtaMail

/// The scheduler.
///
/// An envelope waits in the heap until it is due, then in the line of its destination (the domain of its first pending
/// recipient), then it is in flight. Destinations that have something to attempt take turns, so that a million messages
/// to one of them do not delay the one to another.
package struct QueueMachine: Sendable {
    /// How much may be in flight.
    package struct Limits: Hashable, Sendable {
        /// Attempts at once, all destinations together.
        package var attempts: Int
        /// Attempts at once to one destination.
        package var attemptsPerDestination: Int

        package init(attempts: Int, attemptsPerDestination: Int) {
            self.attempts = attempts
            self.attemptsPerDestination = attemptsPerDestination
        }
    }

    private enum Place: UInt8 {
        case waiting, ready, inFlight, held
    }

    private struct Entry {
        var due: Timestamp
        var destination: Int32
        var place: Place
    }

    private struct Due: Comparable {
        let time: Timestamp
        let id: QueueID

        static func < (a: Due, b: Due) -> Bool { a.time == b.time ? a.id < b.id : a.time < b.time }
    }

    private struct Destination {
        var name: String
        /// Envelopes that name it.
        var entries = 0
        var inFlight = 0
        var ready: Deque<QueueID> = []
        /// Whether it stands in `turns`.
        var hasTurn = false
    }

    private var entries: [QueueID: Entry] = [:]
    private var heap = Heap<Due>()
    private var destinations: [Destination] = []
    private var freeDestinations: [Int32] = []
    private var destinationsByName: [String: Int32] = [:]
    private var turns: Deque<Int32> = []

    package var limits: Limits
    /// Attempts that have begun and not ended.
    package private(set) var inFlight = 0

    package init(limits: Limits) { self.limits = limits }

    /// How many envelopes are queued.
    package var count: Int { entries.count }

    /// When ``takeDue(now:)`` will have more to say though nothing happened; nil: only when something happens.
    package var nextDue: Timestamp? { heap.min?.time }

    /// An envelope is in the queue: just accepted, or found at start.
    package mutating func added(_ summary: QueuedSummary) {
        let destination = use(summary.destination)
        let place = summary.isHeld ? Place.held : .waiting
        entries[summary.id] = Entry(due: summary.due, destination: destination, place: place)
        if place == .waiting { heap.insert(Due(time: summary.due, id: summary.id)) }
    }

    /// Takes envelopes whose attempts are to begin now, as many as the limits allow. Each is in flight until
    /// ``attempted(_:next:destination:)`` or ``removed(_:)``.
    package mutating func takeDue(now: Timestamp) -> [QueueID] {
        while let due = heap.min, due.time <= now {
            heap.removeMin()
            // An entry that was rescheduled or removed meanwhile has left its old due time in the heap.
            guard var entry = entries[due.id], entry.place == .waiting, entry.due == due.time else { continue }
            entry.place = .ready
            entries[due.id] = entry
            destinations[Int(entry.destination)].ready.append(due.id)
            giveTurn(entry.destination)
        }
        var taken: [QueueID] = []
        while inFlight < limits.attempts, let index = turns.popFirst() {
            destinations[Int(index)].hasTurn = false
            guard destinations[Int(index)].inFlight < limits.attemptsPerDestination,
                let id = destinations[Int(index)].ready.popFirst()
            else { continue }
            if var entry = entries[id], entry.place == .ready {
                entry.place = .inFlight
                entries[id] = entry
                destinations[Int(index)].inFlight += 1
                inFlight += 1
                taken.append(id)
            }
            giveTurn(index)
        }
        return taken
    }

    /// An attempt ended, and the envelope stays: the next one is due at `next`.
    package mutating func attempted(_ id: QueueID, next: Timestamp, destination: String) {
        guard var entry = entries[id] else { return }
        land(entry)
        if destinations[Int(entry.destination)].name != destination {
            let old = entry.destination
            entry.destination = use(destination)
            release(old)
        }
        entry.due = next
        entry.place = .waiting
        entries[id] = entry
        heap.insert(Due(time: next, id: id))
    }

    /// An attempt could not even begin: the next one is due at `next`.
    package mutating func postponed(_ id: QueueID, until next: Timestamp) {
        guard let entry = entries[id] else { return }
        attempted(id, next: next, destination: destinations[Int(entry.destination)].name)
    }

    /// An envelope cannot be attempted until somebody looks at it: it stays, and is never due.
    package mutating func held(_ id: QueueID) {
        guard var entry = entries[id] else { return }
        land(entry)
        entry.place = .held
        entries[id] = entry
    }

    /// An envelope has left the queue.
    package mutating func removed(_ id: QueueID) {
        guard let entry = entries.removeValue(forKey: id) else { return }
        land(entry)
        release(entry.destination)
    }

    /// What was in flight no longer is.
    private mutating func land(_ entry: Entry) {
        guard entry.place == .inFlight else { return }
        inFlight -= 1
        destinations[Int(entry.destination)].inFlight -= 1
        giveTurn(entry.destination)
    }

    private mutating func giveTurn(_ index: Int32) {
        let destination = destinations[Int(index)]
        guard !destination.hasTurn, !destination.ready.isEmpty,
            destination.inFlight < limits.attemptsPerDestination
        else { return }
        destinations[Int(index)].hasTurn = true
        turns.append(index)
    }

    /// The destination named `name`, with one envelope more.
    private mutating func use(_ name: String) -> Int32 {
        if let index = destinationsByName[name] {
            destinations[Int(index)].entries += 1
            return index
        }
        let index: Int32
        if let free = freeDestinations.popLast() {
            index = free
            destinations[Int(free)] = Destination(name: name)
        } else {
            index = Int32(destinations.count)
            destinations.append(Destination(name: name))
        }
        destinationsByName[name] = index
        destinations[Int(index)].entries = 1
        return index
    }

    /// One envelope less names the destination. Nothing is kept of one that none names; the place in `turns` that it may
    /// have is passed over when its turn comes.
    private mutating func release(_ index: Int32) {
        destinations[Int(index)].entries -= 1
        guard destinations[Int(index)].entries == 0 else { return }
        destinationsByName[destinations[Int(index)].name] = nil
        let hadTurn = destinations[Int(index)].hasTurn
        destinations[Int(index)] = Destination(name: "")
        if hadTurn { turns.removeAll { $0 == index } }
        freeDestinations.append(index)
    }
}
