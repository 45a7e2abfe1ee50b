// How parts of the queue leave the scheduler, since another node is to have them. Called by the queue's driver.

package import SlimtaMail

extension QueueMachine {
    /// Nothing more is begun for what is in `buckets`, and what comes into them is not ours to deliver, until
    /// ``takeReleased()`` returns them. ``withdrawLeaving(atMost:)`` is to be called until it returns false.
    package mutating func releasing(_ buckets: QueueBuckets) { leaving.add(buckets) }

    /// Looks at some slots, and takes out what waits there and is to be handed over. Returns whether there are more.
    package mutating func withdrawLeaving(atMost count: UInt32 = 4096) -> Bool {
        guard let search = leaving.search else { return false }
        let slots = search.next..<min(search.next + count, entries.slots)
        for slot in slots where entries[slot].place != .free && search.buckets.contains(entries[slot].id) {
            switch entries[slot].place {
            case .inFlight, .probe, .resolving, .busy: leaving.found(busy: entries[slot].id)
            case .free, .new, .retry, .parked, .held: remove(slot)
            }
        }
        leaving.searched(upTo: slots.upperBound, of: entries.slots)
        return true
    }

    /// The buckets of which nothing is under way any more; nil: none. Each is returned as soon as that is so, whatever
    /// left with it, and once; then it is forgotten that it left.
    package mutating func takeReleased() -> QueueBuckets? { leaving.takeReleased() }

    /// Whether ``takeReleased()`` has something to return.
    package var hasReleased: Bool { leaving.hasReleased }

    /// Whether the envelope is in a bucket that is being handed over.
    package func isLeaving(_ id: QueueID) -> Bool { leaving.contains(id) }

    /// A commit with these new envelopes begins: until ``arrived(_:)`` their buckets do not leave, since it would come
    /// through before they are another node's, and be known after that.
    package mutating func arriving(_ ids: some Sequence<QueueID>) { for id in ids { leaving.arriving(id) } }

    /// The commit is over, and what it brought was added.
    package mutating func arrived(_ ids: some Sequence<QueueID>) { for id in ids { leaving.arrived(id) } }

    /// An entry is there no more.
    mutating func left(_ id: QueueID) { leaving.left(id) }
}

/// Buckets that are being handed over, and what keeps each of them. Nothing here is looked through for each envelope.
struct LeavingBuckets {
    /// Entries are looked through for what is in buckets that began to leave together.
    struct Search {
        let buckets: QueueBuckets
        /// The first slot that was not looked at yet.
        var next: UInt32 = 0
    }

    /// How many buckets there are, as it was said last.
    private var count = QueueBuckets.most
    /// How much keeps each bucket that leaves: a search that has not ended, what is in `busy`, commits.
    private var keepers: [UInt16: Int] = [:]
    /// Those that nothing keeps.
    private var released: Set<UInt16> = []
    private var searches: [Search] = []
    /// What an attempt or a command is under way for.
    private var busy: Set<QueueID> = []
    /// New envelopes in commits that are under way, by bucket, whether that leaves or not.
    private var coming: [UInt16: Int] = [:]

    /// The search that is to go on.
    var search: Search? { searches.first }

    var hasReleased: Bool { !released.isEmpty }

    func contains(_ id: QueueID) -> Bool {
        if keepers.isEmpty { return false }
        return id.sharedBucket(of: count).map { keepers[$0] != nil } ?? false
    }

    /// One that leaves already is not searched again: nothing has come into it, and it goes once.
    mutating func add(_ buckets: QueueBuckets) {
        count = buckets.count
        let new = buckets.numbers.filter { keepers[$0] == nil }
        if new.isEmpty { return }
        for bucket in new { keepers[bucket] = 1 + (coming[bucket] ?? 0) }
        searches.append(Search(buckets: QueueBuckets(numbers: new, of: count)))
    }

    /// Something is under way for the entry, which the search has found.
    mutating func found(busy id: QueueID) {
        if let bucket = id.sharedBucket(of: count), busy.insert(id).inserted { keep(bucket) }
    }

    mutating func left(_ id: QueueID) {
        if !busy.isEmpty, busy.remove(id) != nil, let bucket = id.sharedBucket(of: count) { letGo(bucket) }
    }

    /// The search has looked at the slots below `slot`, of `count`.
    mutating func searched(upTo slot: UInt32, of count: UInt32) {
        searches[0].next = slot
        if slot < count { return }
        for bucket in searches.removeFirst().buckets.numbers { letGo(bucket) }
    }

    mutating func arriving(_ id: QueueID) {
        guard let bucket = id.sharedBucket(of: count) else { return }
        coming[bucket, default: 0] += 1
        keep(bucket)
    }

    mutating func arrived(_ id: QueueID) {
        guard let bucket = id.sharedBucket(of: count), let count = coming[bucket] else { return }
        coming[bucket] = count > 1 ? count - 1 : nil
        letGo(bucket)
    }

    mutating func takeReleased() -> QueueBuckets? {
        if released.isEmpty { return nil }
        defer { released = [] }
        for bucket in released { keepers[bucket] = nil }
        return QueueBuckets(numbers: released, of: count)
    }

    private mutating func keep(_ bucket: UInt16) {
        guard !keepers.isEmpty, let count = keepers[bucket] else { return }
        keepers[bucket] = count + 1
        released.remove(bucket)
    }

    private mutating func letGo(_ bucket: UInt16) {
        guard !keepers.isEmpty, let count = keepers[bucket] else { return }
        keepers[bucket] = count - 1
        if count == 1 { released.insert(bucket) }
    }
}
