// How the scheduler's entries go from place to place, and what an attempt that has ended tells of its destination. Called by
// the other parts of the machine.

import SlimtaMail

extension QueueMachine {
    /// An entry that is nowhere begins to wait until it is due.
    mutating func wait(_ slot: UInt32) {
        let entry = entries[slot]
        if isLeaving(entry.id) { return remove(slot) }
        enqueue(slot)
        settle(entry.destination)
    }

    /// Puts an entry that is nowhere where it waits; its destination is to be settled.
    mutating func enqueue(_ slot: UInt32) {
        let number = entries[slot].destination
        if entries[slot].isNew {
            entries[slot].place = .new
            destinations[number].new.insert(slot, &entries)
        } else {
            entries[slot].place = .retry
            destinations[number].retries.insert(slot, &entries)
        }
    }

    /// An entry that is nowhere is held.
    mutating func hold(_ slot: UInt32) {
        if isLeaving(entries[slot].id) { return remove(slot) }
        entries[slot].place = .held
        heldCount += 1
        settle(entries[slot].destination)
    }

    /// Takes an entry out of where it is: it is then nowhere.
    mutating func withdraw(_ slot: UInt32) {
        let number = entries[slot].destination
        switch entries[slot].place {
        case .new: destinations[number].new.remove(slot, &entries)
        case .retry: destinations[number].retries.remove(slot, &entries)
        case .parked: destinations[number].parked.remove(slot, &entries)
        case .held: heldCount -= 1
        case .inFlight, .resolving, .probe:
            inFlight -= 1
            destinations[number].inFlight -= 1
            shares.count(destinations[number].pace, -1)
            if entries[slot].place == .probe {
                probes -= 1
                destinations[number].isProbing = false
            }
        case .busy, .free: break
        }
        entries[slot].place = .busy
    }

    /// Takes an entry out of where it is, and learns what an attempt told of the destination.
    mutating func land(_ slot: UInt32, _ report: HostReport, _ now: Timestamp) -> DestinationChange? {
        let place = entries[slot].place
        let number = entries[slot].destination
        let began = entries[slot].due
        withdraw(slot)
        defer { settle(number) }
        switch place {
        case .inFlight, .probe: return learn(number, report, isProbe: place == .probe, began, now)
        case .free, .new, .retry, .parked, .resolving, .held, .busy: return nil
        }
    }

    private mutating func learn(
        _ number: UInt32, _ report: HostReport, isProbe: Bool, _ began: Timestamp, _ now: Timestamp
    ) -> DestinationChange? {
        // What is left there may be another one's.
        guard !destinations[number].isDoubted else { return nil }
        let name = destinations[number].name
        let known = destinations.backOff(number)
        if now - began > PlaceShares.quick {
            setPace(number, .slow)
        } else if report == .answered {
            setPace(number, .quick)
        }
        switch report {
        case .answered:
            destinations[number].window = .max
            destinations.setBackOff(number, nil)
            if known != nil { tellReturn(name) }
            return known == nil ? nil : .cameBack(name)
        case .paced(let wait):
            destinations[number].pausedUntil = max(destinations[number].pausedUntil, now + wait)
            destinations.setBackOff(number, nil)
            if known != nil { tellReturn(name) }
            return known == nil ? nil : .cameBack(name)
        case .unreachable(let reason):
            var backOff = known ?? Destination.BackOff(since: now, until: now, tried: began, reason: reason)
            if known == nil {
                // None of its hosts may be asked, and there is nothing to be found out.
                destinations[number].window = reason.postponed == nil ? Int32(room(number) / 2) : 0
                if destinations[number].window > 0 { return nil }
                destinations[number].window = 1
            } else if isProbe {
                if reason.postponed == nil { backOff.probes += 1 }
            } else {
                // It had begun before the destination backed off.
                return nil
            }
            setPace(number, .slow)
            backOff.until = now + (reason.postponed ?? schedule.probeInterval(after: backOff.probes))
            backOff.tried = began
            backOff.reason = reason
            destinations.setBackOff(number, backOff)
            return .backedOff(name, until: backOff.until, reason: reason)
        case .unknown:
            guard isProbe, var backOff = known else { return nil }
            backOff.until = now + schedule.probeInterval(after: backOff.probes)
            destinations.setBackOff(number, backOff)
            return nil
        }
    }

    mutating func remove(_ slot: UInt32) {
        withdraw(slot)
        let entry = entries[slot]
        if knownOldest == entry.id { knownOldest = nil }
        entries.remove(slot)
        left(entry.id)
        release(entry.destination)
    }

    /// One envelope less has the destination.
    mutating func release(_ number: UInt32) {
        destinations[number].entries -= 1
        settle(number)
        // One that stands in line is forgotten when its turn comes.
        if destinations[number].entries == 0, !destinations[number].hasTurn { destinations.forget(number) }
    }
}
