// What a list of the queue needs to know of the scheduler: called by the control socket, any thread.

package import SlimtaMail
import Synchronization

extension Queue {
    /// Slots that are looked at while the lock is held.
    private static let stride: UInt32 = 1 << 16

    /// Whether an attempt for an envelope is being made, or an operator's command carried out.
    package func isActive(_ id: QueueID) -> Bool { state.withLock { $0.machine.isActive(id) } }

    /// How many envelopes are due and wait: for their turn, or for their destination to answer. Looks at all of them.
    package func dueCount() -> Int {
        let now = clock.read().now
        var count = 0
        var start: UInt32 = 0
        while true {
            let (found, isEnd) = state.withLock { state in
                let end = min(start + Self.stride, state.machine.slots)
                return (state.machine.dueCount(in: start..<max(start, end), now: now), end == state.machine.slots)
            }
            count += found
            if isEnd { return count }
            start += Self.stride
        }
    }
}

extension QueueMachine {
    /// The number of slots ever used.
    var slots: UInt32 { entries.slots }

    func isActive(_ id: QueueID) -> Bool {
        guard let slot = entries.slot(of: id) else { return false }
        switch entries[slot].place {
        case .inFlight, .probe, .resolving, .busy: return true
        case .free, .new, .retry, .parked, .held: return false
        }
    }

    func dueCount(in slots: Range<UInt32>, now: Timestamp) -> Int {
        var count = 0
        for slot in slots {
            switch entries[slot].place {
            case .parked: count += 1
            case .new, .retry: if entries[slot].due <= now { count += 1 }
            case .free, .inFlight, .probe, .resolving, .held, .busy: break
            }
        }
        return count
    }
}
