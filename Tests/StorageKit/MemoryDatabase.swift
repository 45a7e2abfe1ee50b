// A queue in memory that several storages have a part of, as nodes of a cluster have of one database. What it does at once
// under a lock a database does in a transaction. MemoryStorage is the way to it; tests hold the database to do to it what
// happens to real ones.

package import SlimtaMail
package import SlimtaQueue
import Synchronization

/// The queue that MemoryStorages share.
package final class MemoryDatabase: Sendable {
    /// A queued envelope.
    struct Item {
        var envelope: Envelope
        var state: EnvelopeState
        var message: Message
        /// Its message cannot be read.
        var isDamaged = false
    }

    /// Tells a storage from an earlier one of the same name.
    struct Identity: Hashable {
        let name: String
        let session = UInt64.random(in: 0 ... .max)
    }

    /// A storage that has begun to work.
    struct Node {
        var storage: MemoryStorage
        var identity: Identity
        /// Taken for dead: nothing that it commits counts any more.
        var isFenced = false
        /// Why it cannot reach the database; nil: it can.
        var away: String?
        /// For the next commits, the last one first: whether they come through, though nobody is told.
        var doubts: [Bool] = []
    }

    struct State {
        var items: [QueueID: Item] = [:]
        var receipts = MemoryReceipts()
        /// Without what is queued.
        var ledger: Ledger
        var losses: [String] = []
        /// Octets of messages, and how many there may be.
        var octets = 0
        var capacity = Int.max
        /// Nil where it is nobody's.
        var owners: [UInt16: String] = [:]
        /// Who gets what is being released.
        var heirs: [UInt16: String] = [:]
        var nodes: [String: Node] = [:]
    }

    /// How many buckets there are: their numbers are below it.
    package let bucketCount: UInt16
    let state: Mutex<State>

    package init(bucketCount: UInt16 = 16, since: Timestamp = .now()) {
        self.bucketCount = bucketCount
        state = Mutex(State(ledger: Ledger(since: since)))
    }

    // MARK: What happens to databases

    /// How many octets of messages there may be.
    package func setCapacity(_ octets: Int) { state.withLock { $0.capacity = octets } }

    /// The message of an envelope is lost, and somebody has found out.
    package func damage(_ id: QueueID) {
        state.withLock { state in
            state.items[id]?.isDamaged = true
            state.losses.append("the message of \(id) is unreadable")
        }
    }

    /// A node cannot reach the database, for the given reason; nil: it can again.
    package func setAway(_ name: String, _ reason: String?) { state.withLock { $0.nodes[name]?.away = reason } }

    /// The node's next commit is answered `doubtful`, and in truth it came through, or did not.
    package func doubtNext(_ name: String, cameThrough: Bool) {
        state.withLock { $0.nodes[name]?.doubts.insert(cameThrough, at: 0) }
    }

    /// Buckets are to change hands: their owners are asked for them.
    package func move(_ buckets: QueueBuckets, to heir: String) {
        state.withLock { state in
            var asked: [String: Set<UInt16>] = [:]
            var free: Set<UInt16> = []
            for number in buckets.numbers where state.owners[number] != heir {
                state.heirs[number] = heir
                if let owner = state.owners[number] {
                    asked[owner, default: []].insert(number)
                } else {
                    free.insert(number)
                }
            }
            for (owner, numbers) in asked {
                state.nodes[owner]?.storage.tell([.releasing(QueueBuckets(numbers: numbers))])
            }
            state.handOver(QueueBuckets(numbers: free))
        }
    }

    /// A node is taken for dead though it may work on: `heir` gets all that it had.
    /// - Parameter isTold: whether the node finds out by itself, before it is refused.
    package func fence(_ name: String, heir: String, isTold: Bool = true) {
        state.withLock { state in
            state.nodes[name]?.isFenced = true
            let buckets = QueueBuckets(numbers: Set(state.owners.filter { $0.value == name }.keys))
            if isTold {
                state.nodes[name]?.storage.tell([.withdrawn(state.items.keys.filter { buckets.contains($0) })])
            }
            state.give(buckets, to: heir)
        }
    }

    /// `heir` has these buckets from now on, and who had them has not heard of it.
    package func steal(_ buckets: QueueBuckets, for heir: String) {
        state.withLock { $0.give(buckets, to: heir) }
    }
}

extension MemoryDatabase.State {
    mutating func give(_ buckets: QueueBuckets, to heir: String) {
        for number in buckets.numbers { heirs[number] = heir }
        handOver(buckets)
    }

    /// Gives buckets that are nobody's any more to who is to have them.
    mutating func handOver(_ buckets: QueueBuckets) {
        var given: [String: Set<UInt16>] = [:]
        for number in buckets.numbers {
            owners[number] = nil
            guard let heir = heirs.removeValue(forKey: number), nodes[heir] != nil else { continue }
            owners[number] = heir
            given[heir, default: []].insert(number)
        }
        for (heir, numbers) in given {
            nodes[heir]?.storage.tell([.acquired(summaries(in: QueueBuckets(numbers: numbers)))])
        }
    }

    func summaries(in buckets: QueueBuckets) -> [QueuedSummary] { summaries(items.keys.filter(buckets.contains)) }

    private func summaries(_ ids: [QueueID]) -> [QueuedSummary] {
        ids.compactMap { items[$0] }.map {
            QueuedSummary(of: StoredEnvelope(envelope: $0.envelope, state: $0.state, message: $0.message))
        }
    }

    /// The node of a storage that has begun and has not ended.
    func node(_ identity: MemoryDatabase.Identity) -> MemoryDatabase.Node? {
        nodes[identity.name].flatMap { $0.identity == identity ? $0 : nil }
    }

    /// Whether an envelope is this node's to change.
    func isOwner(_ name: String, of id: QueueID) -> Bool {
        nodes[name]?.isFenced == false && owners[id.bucket] == name
    }

    /// Why a commit of this node is refused; nil: it is not.
    func refusal(_ commit: QueueCommit, of identity: MemoryDatabase.Identity) -> StorageError? {
        guard let node = node(identity) else { return .closed }
        if let reason = node.away { return .away(reason) }
        let ids =
            commit.accepted.map(\.envelope.id) + commit.states.map(\.id) + commit.ended.map(\.id)
            + commit.departed
        let mayCommit =
            commit.isForOthers
            ? !node.isFenced && commit.isOfItselfAlone : ids.allSatisfy { isOwner(identity.name, of: $0) }
        if !mayCommit { return .lost }
        if commit.receipts.contains(where: { receipts.find($0.key) != nil }) { return .repeated }
        if let message = commit.message, octets + message.size > capacity { return .full }
        return nil
    }

    /// Does what a commit says, all of it.
    mutating func perform(_ commit: QueueCommit) {
        for new in commit.accepted {
            // It may be made again after a doubt.
            guard items[new.envelope.id] == nil, let message = commit.message else { continue }
            items[new.envelope.id] = .init(
                envelope: new.envelope, state: EnvelopeState(of: new.envelope, due: new.due), message: message)
            ledger[.init(of: new.envelope)].accepted += UInt64(new.envelope.recipients.count)
            octets += message.size
        }
        for state in commit.states { items[state.id]?.state = state }
        for ending in commit.ended {
            guard let item = take(ending.id) else { continue }
            let fates = Fates(ending)
            if !fates.follows(Fates(item.state)) { ledger.mismatched += 1 }
            if fates.sum != UInt64(item.envelope.recipients.count) { ledger.mismatched += 1 }
            ledger[.init(of: item.envelope)].add(fates)
            ledger.countRemoved(fates.removed, by: ending.by)
            receipts.note(ending)
        }
        takeBack(commit.departed, [])
        for receipt in commit.receipts { receipts.insert(receipt) }
        for key in commit.forgotten { receipts.forget(key) }
        guard commit.isForOthers else { return }
        for id in commit.accepted.map(\.envelope.id) where items[id] != nil {
            guard let owner = owners[id.bucket] else { continue }
            nodes[owner]?.storage.tell([.acquired(summaries([id]))])
        }
    }

    private mutating func take(_ id: QueueID) -> MemoryDatabase.Item? {
        guard let item = items.removeValue(forKey: id) else { return nil }
        octets -= item.message.size
        return item
    }

    /// Takes envelopes out again whose client was told that they may not be here, and what was to tell of them.
    mutating func takeBack(_ ids: [QueueID], _ receipts: [Receipt]) {
        for receipt in receipts { self.receipts.forget(receipt.key) }
        for id in ids {
            guard let item = take(id) else { continue }
            ledger[.init(of: item.envelope)].accepted -= UInt64(item.envelope.recipients.count)
        }
    }

    /// The ledger with what is queued.
    var balance: Ledger {
        var balance = ledger
        for item in items.values {
            let kind = Ledger.Kind(of: item.envelope)
            let ended = Fates(item.state)
            balance[kind].add(ended)
            balance[kind].queued += UInt64(item.envelope.recipients.count) - ended.sum
        }
        return balance
    }
}
