// How parts of the queue leave the scheduler, since another node is to have them. Called by the queue's driver.

package import SlimtaMail

extension QueueMachine {
    /// Nothing more is begun for what is in `buckets`, and what comes into them is not ours to deliver, until
    /// ``takeReleased()`` returns them. ``withdrawLeaving(atMost:)`` is to be called until it returns false.
    package mutating func releasing(_ buckets: QueueBuckets) { leaving.append(Leaving(buckets: buckets)) }

    /// Looks at some slots, and takes out what waits there and is to be handed over. Returns whether there are more.
    package mutating func withdrawLeaving(atMost count: UInt32 = 4096) -> Bool {
        guard let number = leaving.firstIndex(where: { !$0.isSearched }) else { return false }
        let buckets = leaving[number].buckets
        let slots = leaving[number].next..<min(leaving[number].next + count, entries.slots)
        for slot in slots where entries[slot].place != .free && buckets.contains(entries[slot].id) {
            switch entries[slot].place {
            case .inFlight, .probe, .resolving, .busy: leaving[number].busy.insert(entries[slot].id)
            case .free, .new, .retry, .parked, .held: remove(slot)
            }
        }
        leaving[number].next = slots.upperBound
        leaving[number].isSearched = slots.upperBound == entries.slots
        return true
    }

    /// The buckets of which nothing is in flight any more. Each is returned once; then it is forgotten that it left.
    package mutating func takeReleased() -> [QueueBuckets] {
        if leaving.isEmpty { return [] }
        let released = leaving.filter { $0.isSearched && $0.busy.isEmpty }
        leaving.removeAll { $0.isSearched && $0.busy.isEmpty }
        return released.map(\.buckets)
    }

    /// Whether the envelope is in a bucket that is being handed over.
    package func isLeaving(_ id: QueueID) -> Bool {
        !leaving.isEmpty && leaving.contains { $0.buckets.contains(id) }
    }

    /// An entry is there no more.
    mutating func left(_ id: QueueID) {
        for number in leaving.indices { leaving[number].busy.remove(id) }
    }
}
