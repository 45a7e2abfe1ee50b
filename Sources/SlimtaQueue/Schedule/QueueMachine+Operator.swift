// What operators do to the scheduler's envelopes, and what they see of it. Called by the queue's driver.

package import SlimtaMail

/// What can be told of the queue as a whole.
package struct QueueSnapshot: Hashable, Sendable {
    /// One destination.
    package struct Destination: Hashable, Sendable {
        /// A destination whose hosts do not answer.
        package struct BackOff: Hashable, Sendable {
            /// When its hosts stopped to answer.
            package let since: Timestamp
            /// When the next probe may be made.
            package let until: Timestamp
            /// Probes in vain.
            package let probes: Int
            /// What they fail with.
            package let reason: Outcome
        }

        /// As ``Relay/destination(for:)`` names it.
        package let name: String
        /// Envelopes, whatever their state.
        package let depth: Int
        /// Attempts that are being made.
        package let inFlight: Int
        /// Nil if its hosts answer, or nothing is known of them.
        package let backOff: BackOff?
    }

    /// Envelopes in the queue.
    package let depth: Int
    /// Attempts that are being made.
    package let inFlight: Int
    /// Envelopes that an operator holds.
    package let held: Int
    /// When the oldest envelope was accepted; nil if there is none.
    package let oldest: Timestamp?
    /// When there is something to do next; nil: when something happens.
    package let nextDue: Timestamp?
    /// Destinations that something waits for.
    package let destinationCount: Int
    /// Those that back off.
    package let backedOffCount: Int
    /// Those with the most envelopes, the greatest first.
    package let destinations: [Destination]
}

extension QueueMachine {
    /// An operator's command about an envelope begins: it is not attempted until ``unclaimed(_:isHeld:)``, ``held(_:)``,
    /// ``released(_:now:)`` or ``ended(_:report:now:)``. Returns whether it was held.
    package mutating func claim(_ id: QueueID) throws(QueueOperationError) -> Bool {
        guard let slot = entries.slot(of: id) else { throw .notFound }
        let place = entries[slot].place
        switch place {
        case .new, .retry, .held: break
        // The due time that it had is gone: it was before now.
        case .parked: entries[slot].due = Timestamp(milliseconds: 0)
        case .inFlight, .probe, .resolving, .busy: throw .inFlight
        case .free: throw .notFound
        }
        withdraw(slot)
        settle(entries[slot].destination)
        return place == .held
    }

    /// The command could not be carried out: everything is as before.
    package mutating func unclaimed(_ id: QueueID, isHeld: Bool) {
        guard let slot = entries.slot(of: id), entries[slot].place == .busy else { return }
        if isHeld { hold(slot) } else { wait(slot) }
    }

    /// An envelope that was claimed is no longer held: it is due, and goes with the new ones.
    package mutating func released(_ id: QueueID, now: Timestamp) {
        guard let slot = entries.slot(of: id), entries[slot].place == .busy else { return }
        entries[slot].due = now
        entries[slot].isNew = true
        wait(slot)
    }

    /// An envelope is due now and goes with the new ones; its destination's back-off is forgotten. What is in flight
    /// stays so.
    package mutating func flush(_ id: QueueID, now: Timestamp) throws(QueueOperationError) {
        guard let slot = entries.slot(of: id) else { throw .notFound }
        switch entries[slot].place {
        case .free: throw .notFound
        case .held: throw .held
        case .inFlight, .probe, .busy: return
        case .resolving: throw .inFlight
        case .new, .retry, .parked: break
        }
        withdraw(slot)
        forgetBackOff(entries[slot].destination)
        entries[slot].due = now
        entries[slot].isNew = true
        wait(slot)
    }

    /// All that waits for a destination is due now, and its back-off is forgotten. Returns how many that were.
    package mutating func flush(destination name: String, now: Timestamp) -> Int {
        destinations.numbers(of: name).reduce(0) { $0 + flush($1, now: now) }
    }

    /// The names of all destinations.
    package var destinationNames: Set<String> { Set(destinations.known.map { destinations[$0].name }) }

    private mutating func flush(_ number: UInt32, now: Timestamp) -> Int {
        func isDue(_ slot: UInt32, _ entries: inout QueueEntries) {
            entries[slot].due = min(entries[slot].due, now)
        }
        destinations[number].new.reorder(&entries, isDue)
        destinations[number].retries.reorder(&entries, isDue)
        forgetBackOff(number)
        settle(number)
        return destinations[number].waiting
    }

    /// All destinations are taken to answer until they turn out not to: the configuration or the network has changed.
    package mutating func forgetBackOffs() {
        for number in destinations.known {
            forgetBackOff(number)
            settle(number)
        }
    }

    /// Mail may go elsewhere from now on: each envelope is looked at when it is due. Back-offs are to be forgotten behind it.
    package mutating func doubtDestinations() { for number in destinations.known { destinations.doubt(number) } }

    private mutating func forgetBackOff(_ number: UInt32) {
        destinations[number].pausedUntil = Timestamp(milliseconds: .min)
        guard destinations.backOff(number) != nil else { return }
        destinations.setBackOff(number, nil)
        destinations[number].window = PlaceShares.firstWindow
        setPace(number, .unknown)
    }

    /// When the oldest envelope was accepted. Looks through all of them if the one that was has left since.
    package mutating func oldest() -> Timestamp? {
        if knownOldest == nil {
            for slot in 0..<entries.slots where entries[slot].place != .free {
                let id = entries[slot].id
                if knownOldest.map({ id < $0 }) ?? true { knownOldest = id }
            }
        }
        return knownOldest?.time
    }

    /// What can be told of the queue, with the `top` largest destinations.
    /// - Parameter shown: turns the queue's time into the one that people are told.
    package mutating func snapshot(top: Int, _ shown: (Timestamp) -> Timestamp = { $0 }) -> QueueSnapshot {
        var largest: [UInt32] = []
        for number in destinations.known where top > 0 {
            let depth = destinations[number].entries
            if largest.count == top, let last = largest.last, destinations[last].entries >= depth { continue }
            let place = largest.firstIndex { destinations[$0].entries < depth } ?? largest.count
            largest.insert(number, at: place)
            if largest.count > top { largest.removeLast() }
        }
        return QueueSnapshot(
            depth: count, inFlight: inFlight, held: heldCount, oldest: oldest(), nextDue: nextDue.map(shown),
            destinationCount: destinations.count, backedOffCount: destinations.backOffs.count,
            destinations: largest.map { number in
                QueueSnapshot.Destination(
                    name: destinations[number].name, depth: destinations[number].entries,
                    inFlight: Int(destinations[number].inFlight),
                    backOff: destinations.backOff(number).map {
                        .init(since: shown($0.since), until: shown($0.until), probes: $0.probes, reason: $0.reason)
                    })
            })
    }
}
