// Where every queued envelope is, and how many recipients it has: about fifty octets for each. No contents, no replies.
// Commits, checkpoints and reads go by it; a start fills it again.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// Where a record is: a frame of the journal, or a sealed file.
struct Location: Hashable, Comparable {
    /// 0: nowhere. Bit 63: the journal; then 39 bits of segment number, 24 bits of offset in units of 8 octets.
    /// Otherwise the number of a generation.
    let raw: UInt64

    static let none = Location(raw: 0)
    private init(raw: UInt64) { self.raw = raw }

    static func journal(_ segment: UInt64, _ offset: Int) -> Location {
        Location(raw: 1 << 63 | (segment & 0x7F_FFFF_FFFF) << 24 | UInt64(offset / 8))
    }

    static func generation(_ number: UInt32) -> Location { Location(raw: UInt64(number)) }

    var isJournal: Bool { raw >> 63 == 1 }
    var segment: UInt64 { raw >> 24 & 0x7F_FFFF_FFFF }
    var offset: Int { Int(raw & 0xFF_FFFF) * 8 }
    var generation: UInt32 { UInt32(truncatingIfNeeded: raw) }

    static func < (a: Location, b: Location) -> Bool { a.raw < b.raw }
}

/// What is known of one envelope.
struct IndexEntry {
    var id: QueueID
    /// Its record, and its body beside it. Nowhere: the entry is free.
    var envelope: Location
    /// The frame with its newest state; nowhere: see `meta`.
    var state: Location
    /// The slot of what it shares with other envelopes, or has in the spool; `noBody`: its body is its own.
    /// In a free entry the next free one.
    var body: UInt32
    /// The sealed file with its state; 0: none, then without a frame it is as it was accepted.
    var meta: UInt32
    /// How many recipients it has.
    var recipients = RecipientCount(raw: 0)
    /// The slot of the fates of those that have ended; `noFates`: none has.
    var fates = IndexEntry.noFates

    static let noFates = UInt32.max
    static let noBody = UInt32.max

    /// What orders entries as their states are best read: by the journal where they are in it.
    var readingPlace: Location { state.isJournal ? state : envelope }
}

/// A body that several envelopes have, or that has a file in the spool.
struct IndexBody {
    /// The key of the body in GDBM: the id of the first envelope of its transaction.
    var id: QueueID
    var count: UInt32
    var spool: SpoolReference?
}

/// The index. A value type that owns memory: it is kept in one place, behind a lock.
struct Index: ~Copyable {
    private static let chunkSize = 8192
    private var chunks: [UnsafeMutablePointer<IndexEntry>] = []
    private var used: UInt32 = 0
    private var firstFree = IndexEntry.noBody
    private var table = QueueIDTable()

    private(set) var bodies: [IndexBody] = []
    private var freeBodies: [UInt32] = []
    private var spoolUses: [QueueID: UInt32] = [:]

    /// Envelopes in the queue.
    var count: Int { table.count }
    /// Envelopes whose record is in the journal only.
    private(set) var inJournal = 0
    /// Envelopes whose newest state is in the journal only.
    private(set) var statesInJournal = 0
    /// Live envelopes of each file with contents.
    private(set) var live: [UInt32: Int] = [:]
    /// Envelopes that have left the queue and that a sealed file still lists.
    private(set) var tombstones: Set<QueueID> = []
    /// The last segment that the running checkpoint is about: what leaves meanwhile and is in it or before may be listed.
    var checkpointing: UInt64?
    /// What the frames up to ``applied`` have told, since the queue was made. Nothing of it is `queued`.
    private(set) var ledger = Ledger(since: Timestamp(milliseconds: 0))
    /// What no frame tells: what envelopes that were found to be unreadable are counted as.
    private(set) var lost = Ledger(since: Timestamp(milliseconds: 0))
    /// The recipients of queued envelopes: those that have ended, and those that are `queued`.
    private(set) var pending = Ledger(since: Timestamp(milliseconds: 0))
    /// What submissions have left behind.
    var receipts = ReceiptTable()
    /// The number of the last frame that was applied.
    var applied: UInt64 = 0
    private var fates: [Fates] = []
    private var freeFates: [UInt32] = []
    /// Slots that frames of segments were about, in the order in which that was.
    private var touched: [(segment: UInt64, slots: [UInt32])] = []

    deinit { for chunk in chunks { chunk.deallocate() } }

    // MARK: reading

    /// The number of slots ever used: they go from 0 to this.
    var slots: UInt32 { used }

    @inline(__always)
    private func pointer(_ slot: UInt32) -> UnsafeMutablePointer<IndexEntry> {
        chunks[Int(slot) / Self.chunkSize] + Int(slot) % Self.chunkSize
    }

    /// The entry in a slot; nil if it is free.
    func entry(at slot: UInt32) -> IndexEntry? {
        let entry = pointer(slot).pointee
        return entry.envelope == .none ? nil : entry
    }

    func slot(of id: QueueID) -> UInt32? { table.find(id) { pointer($0).pointee.id == id } }

    func entry(_ id: QueueID) -> IndexEntry? { slot(of: id).map { pointer($0).pointee } }

    func body(_ entry: IndexEntry) -> IndexBody? {
        entry.body == IndexEntry.noBody ? nil : bodies[Int(entry.body)]
    }

    /// What has become of the recipients of an envelope.
    func fates(_ entry: IndexEntry) -> Fates {
        entry.fates == IndexEntry.noFates ? Fates() : fates[Int(entry.fates)]
    }

    func usesSpool(_ id: QueueID) -> Bool { spoolUses[id] != nil }

    /// The spooled bodies that envelopes refer to.
    var spooled: Set<QueueID> { Set(spoolUses.keys) }

    /// The slots that frames of segments up to `segment` were about, each once, ascending.
    func touched(upTo segment: UInt64) -> [UInt32] {
        var slots = touched.filter { $0.segment <= segment }.flatMap(\.slots)
        slots.sort()
        var unique: [UInt32] = []
        unique.reserveCapacity(slots.count)
        for slot in slots where unique.last != slot { unique.append(slot) }
        return unique
    }

    // MARK: what frames do

    /// A body that an `accepted` refers to; used by `count` envelopes.
    mutating func addBody(_ id: QueueID, spool: SpoolReference?) -> UInt32 {
        if let spool { retainSpool(spool.id) }
        let body = IndexBody(id: id, count: 0, spool: spool)
        if let slot = freeBodies.popLast() {
            bodies[Int(slot)] = body
            return slot
        }
        bodies.append(body)
        return UInt32(bodies.count - 1)
    }

    /// An envelope is in the queue. `body` is the slot of what it shares. Returns what `remove` would of one that was
    /// there before with this id. The ledger is not told.
    @discardableResult
    mutating func accept(
        _ id: QueueID, _ recipients: RecipientCount, at location: Location, body: UInt32, meta: UInt32 = 0
    ) -> QueueID? {
        if body != IndexEntry.noBody { bodies[Int(body)].count += 1 }
        // An id that is there already is replaced: a record is never counted twice.
        let spool = remove(id)
        if !tombstones.isEmpty { tombstones.remove(id) }
        let slot: UInt32
        if firstFree != IndexEntry.noBody {
            slot = firstFree
            firstFree = pointer(slot).pointee.body
        } else {
            slot = used
            if Int(slot) / Self.chunkSize == chunks.count { chunks.append(.allocate(capacity: Self.chunkSize)) }
            used += 1
        }
        pointer(slot).initialize(
            to: IndexEntry(
                id: id, envelope: location, state: .none, body: body, meta: meta, recipients: recipients))
        pending[recipients.kind].queued &+= UInt64(recipients.count)
        let chunks = self.chunks
        table.insert(id, slot) { chunks[Int($0) / Self.chunkSize][Int($0) % Self.chunkSize].id }
        if location.isJournal {
            inJournal += 1
            touch(slot, location.segment)
        } else {
            live[location.generation, default: 0] += 1
        }
        return spool
    }

    /// A newer state of an envelope; of one that is not in the queue it means nothing.
    mutating func setState(_ id: QueueID, _ fates: Fates, at location: Location) {
        guard let slot = slot(of: id) else { return }
        settle(slot, fates)
        if !pointer(slot).pointee.state.isJournal { statesInJournal += 1 }
        pointer(slot).pointee.state = location
        touch(slot, location.segment)
    }

    /// An envelope leaves the queue. Returns the spooled body that nobody needs any more, if it had one.
    mutating func remove(_ id: QueueID) -> QueueID? { slot(of: id).flatMap { remove($0) } }

    private mutating func remove(_ slot: UInt32) -> QueueID? {
        settle(slot, Fates())
        let entry = pointer(slot).pointee
        let id = entry.id
        pending[entry.recipients.kind].queued &-= UInt64(entry.recipients.count)
        table.remove(id) { [chunks] in chunks[Int($0) / Self.chunkSize][Int($0) % Self.chunkSize].id }
        if entry.meta != 0 || !entry.envelope.isJournal || entry.envelope.segment <= checkpointing ?? 0 {
            tombstones.insert(id)
        }
        if entry.state.isJournal { statesInJournal -= 1 }
        left(entry.envelope)
        pointer(slot).pointee = IndexEntry(
            id: QueueID(high: 0, low: 0), envelope: .none, state: .none, body: firstFree, meta: 0)
        firstFree = slot
        guard entry.body != IndexEntry.noBody else { return nil }
        bodies[Int(entry.body)].count -= 1
        guard bodies[Int(entry.body)].count == 0 else { return nil }
        let spool = bodies[Int(entry.body)].spool
        bodies[Int(entry.body)].spool = nil
        freeBodies.append(entry.body)
        return spool.flatMap { releaseSpool($0.id) ? $0.id : nil }
    }

    /// These recipients of an envelope have ended, the others are pending.
    mutating func settle(_ slot: UInt32, _ now: Fates) {
        let entry = pointer(slot).pointee
        let before = fates(entry)
        if before == now { return }
        let kind = entry.recipients.kind
        pending[kind].subtract(before)
        pending[kind].add(now)
        pending[kind].queued = pending[kind].queued &+ before.sum &- now.sum
        if now.isNone {
            freeFates.append(entry.fates)
            pointer(slot).pointee.fates = IndexEntry.noFates
        } else if entry.fates != IndexEntry.noFates {
            fates[Int(entry.fates)] = now
        } else if let free = freeFates.popLast() {
            fates[Int(free)] = now
            pointer(slot).pointee.fates = free
        } else {
            fates.append(now)
            pointer(slot).pointee.fates = UInt32(fates.count - 1)
        }
    }

    // MARK: the ledger

    /// What was accepted, what ended, and what is queued.
    var balance: Ledger { ledger + lost + pending }

    /// The ledger begins as it was written down.
    mutating func begin(_ ledger: Ledger) { self.ledger = ledger }

    /// A ledger that begins with what is queued.
    func countedAnew() -> Ledger {
        var ledger = Ledger(since: .now())
        for kind in Ledger.Kind.allCases {
            ledger[kind].accepted = UInt64(bitPattern: -pending[kind].unaccounted)
        }
        return ledger
    }

    /// A frame has accepted these recipients.
    mutating func count(_ recipients: RecipientCount) {
        ledger[recipients.kind].accepted &+= UInt64(recipients.count)
    }

    /// Frames that cannot be read have accepted these recipients.
    mutating func count(_ missed: AcceptedCount) { ledger.add(missed) }

    /// Something was damaged: recipients of which nothing is known any more are lost, and those that are queued though
    /// they had ended are repeated.
    mutating func settleDamage() {
        for kind in Ledger.Kind.allCases {
            let missing = balance[kind].unaccounted
            lost[kind].lost &+= UInt64(max(0, missing))
            lost[kind].repeated &+= UInt64(max(0, -missing))
        }
    }

    /// An envelope leaves the queue as a frame says. Returns what `remove` does.
    mutating func end(_ id: QueueID, _ fates: Fates, by name: String?) -> QueueID? {
        guard let slot = slot(of: id) else { return nil }
        let entry = pointer(slot).pointee
        if !fates.follows(self.fates(entry)) { ledger.mismatched &+= 1 }
        count(fates, of: entry.recipients, by: name)
        return remove(slot)
    }

    /// A frame tells the end of an envelope that is not here: it left before a checkpoint took it up, which counted it as
    /// accepted, or the record of its acceptance is lost.
    mutating func count(_ fates: Fates, of recipients: RecipientCount, by name: String?) {
        if fates.sum != UInt64(recipients.count) { ledger.mismatched &+= 1 }
        ledger[recipients.kind].add(fates)
        ledger.countRemoved(fates.removed, by: name)
    }

    /// An envelope goes on in another storage: it was never accepted here. One that is not here any more left before a checkpoint
    /// took it up, which counted it as accepted. Returns what `remove` does.
    mutating func depart(_ id: QueueID, _ recipients: RecipientCount) -> QueueID? {
        ledger[recipients.kind].accepted &-= UInt64(recipients.count)
        return remove(id)
    }

    /// What is to be written down of an envelope that leaves.
    func leaving(_ id: QueueID) -> Batch.Leaving {
        guard let entry = entry(id) else { return Batch.Leaving(hasReceipt: receipts.key(of: id) != nil) }
        return Batch.Leaving(
            recipients: entry.recipients, fates: fates(entry), hasReceipt: receipts.key(of: id) != nil)
    }

    /// An envelope leaves the queue since its records cannot be read. Returns what `remove` does.
    mutating func lose(_ id: QueueID) -> QueueID? {
        guard let slot = slot(of: id) else { return nil }
        let entry = pointer(slot).pointee
        let ended = fates(entry)
        lost[entry.recipients.kind].add(ended)
        lost[entry.recipients.kind].lost &+= UInt64(entry.recipients.count) &- ended.sum
        return remove(slot)
    }

    /// One more reason to keep a spooled body.
    mutating func retainSpool(_ id: QueueID) { spoolUses[id, default: 0] += 1 }

    /// One less; whether it was the last.
    mutating func releaseSpool(_ id: QueueID) -> Bool {
        guard let uses = spoolUses[id] else { return false }
        spoolUses[id] = uses > 1 ? uses - 1 : nil
        return uses == 1
    }

    // MARK: what checkpoints do

    /// The checkpoint that has just been committed put `before` into `contents` (0: its contents stayed where they are)
    /// and its state into `meta`.
    mutating func checkpointed(slot: UInt32, _ before: IndexEntry, contents: UInt32, meta: UInt32) {
        let entry = pointer(slot)
        guard entry.pointee.id == before.id, entry.pointee.envelope == before.envelope else { return }
        if contents != 0 {
            left(before.envelope)
            entry.pointee.envelope = .generation(contents)
            live[contents, default: 0] += 1
        }
        entry.pointee.meta = meta
        if entry.pointee.state == before.state, before.state.isJournal {
            entry.pointee.state = .none
            statesInJournal -= 1
        }
    }

    /// The state of an envelope was copied to a new base as it is.
    mutating func moved(slot: UInt32, _ id: QueueID, meta: UInt32) {
        if pointer(slot).pointee.id == id, pointer(slot).pointee.envelope != .none { pointer(slot).pointee.meta = meta }
    }

    /// Forgets what segments up to `segment` were about, and tombstones that were written down.
    mutating func recycled(upTo segment: UInt64, buried: Set<QueueID>) {
        touched.removeAll { $0.segment <= segment }
        tombstones.subtract(buried)
    }

    /// Forgets the tombstones that were read from sealed files: they are written down.
    mutating func forgetTombstones() { tombstones = [] }

    /// Forgets a file with contents.
    mutating func retired(_ generation: UInt32) { live[generation] = nil }

    private mutating func touch(_ slot: UInt32, _ segment: UInt64) {
        if touched.last?.segment != segment { touched.append((segment, [])) }
        touched[touched.count - 1].slots.append(slot)
    }

    private mutating func left(_ location: Location) {
        if location.isJournal {
            inJournal -= 1
        } else if let count = live[location.generation] {
            live[location.generation] = count - 1
        }
    }
}
