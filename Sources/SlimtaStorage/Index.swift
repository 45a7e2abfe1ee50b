// Where every queued envelope is: about fifty octets for each. No contents, no replies, no recipients.

import SlimtaMail
import SlimtaQueue

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

    static let noBody = UInt32.max
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
    private var table = IDTable()

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
    /// While a checkpoint runs it may be listing anything: all that leave get a tombstone.
    var isCheckpointing = false
    /// Slots that frames of each segment were about.
    private var touched: [UInt64: [UInt32]] = [:]

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

    func usesSpool(_ id: QueueID) -> Bool { spoolUses[id] != nil }

    /// The spooled bodies that envelopes refer to.
    var spooled: Set<QueueID> { Set(spoolUses.keys) }

    /// The slots that frames of segments up to `segment` were about, each once, ascending.
    func touched(upTo segment: UInt64) -> [UInt32] {
        var slots = touched.filter { $0.key <= segment }.flatMap(\.value)
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
    /// there before with this id.
    @discardableResult
    mutating func accept(_ id: QueueID, at location: Location, body: UInt32, meta: UInt32 = 0) -> QueueID? {
        if body != IndexEntry.noBody { bodies[Int(body)].count += 1 }
        // An id that is there already is replaced: a record is never counted twice.
        let spool = remove(id)
        tombstones.remove(id)
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
            to: IndexEntry(id: id, envelope: location, state: .none, body: body, meta: meta))
        let chunks = self.chunks
        table.insert(id, slot) { chunks[Int($0) / Self.chunkSize][Int($0) % Self.chunkSize].id }
        if location.isJournal {
            inJournal += 1
            touched[location.segment, default: []].append(slot)
        } else {
            live[location.generation, default: 0] += 1
        }
        return spool
    }

    /// A newer state of an envelope; of one that is not in the queue it means nothing.
    mutating func setState(_ id: QueueID, at location: Location) {
        guard let slot = slot(of: id) else { return }
        if !pointer(slot).pointee.state.isJournal { statesInJournal += 1 }
        pointer(slot).pointee.state = location
        touched[location.segment, default: []].append(slot)
    }

    /// An envelope leaves the queue. Returns the spooled body that nobody needs any more, if it had one.
    mutating func remove(_ id: QueueID) -> QueueID? {
        guard let slot = slot(of: id) else { return nil }
        let entry = pointer(slot).pointee
        table.remove(id) { [chunks] in chunks[Int($0) / Self.chunkSize][Int($0) % Self.chunkSize].id }
        if entry.meta != 0 || !entry.envelope.isJournal || isCheckpointing { tombstones.insert(id) }
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
        touched = touched.filter { $0.key > segment }
        tombstones.subtract(buried)
    }

    /// Forgets the tombstones that were read from sealed files: they are written down.
    mutating func forgetTombstones() { tombstones = [] }

    /// Forgets a file with contents.
    mutating func retired(_ generation: UInt32) { live[generation] = nil }

    private mutating func left(_ location: Location) {
        if location.isJournal {
            inJournal -= 1
        } else if let count = live[location.generation] {
            live[location.generation] = count - 1
        }
    }
}

/// Slots by id: open addressing, in 64 parts that grow one by one, so that growing never takes long.
struct IDTable: ~Copyable {
    private struct Part {
        var slots: UnsafeMutablePointer<UInt32>
        var mask: Int
        var count = 0
    }

    private static let empty = UInt32.max
    private var parts: [Part]
    private(set) var count = 0

    init() {
        parts = (0..<64).map { _ in Self.part(64) }
    }

    deinit { for part in parts { part.slots.deallocate() } }

    func find(_ id: QueueID, _ matches: (UInt32) -> Bool) -> UInt32? {
        let hash = Self.hash(id)
        let part = parts[hash & 63]
        var place = hash >> 6 & part.mask
        while part.slots[place] != Self.empty {
            if matches(part.slots[place]) { return part.slots[place] }
            place = (place + 1) & part.mask
        }
        return nil
    }

    /// Adds an id that is not there.
    mutating func insert(_ id: QueueID, _ slot: UInt32, id idOf: (UInt32) -> QueueID) {
        let hash = Self.hash(id)
        if parts[hash & 63].count * 4 >= (parts[hash & 63].mask + 1) * 3 { grow(hash & 63, idOf) }
        Self.place(slot, hash, in: parts[hash & 63])
        parts[hash & 63].count += 1
        count += 1
    }

    mutating func remove(_ id: QueueID, id idOf: (UInt32) -> QueueID) {
        let hash = Self.hash(id)
        let part = parts[hash & 63]
        var hole = hash >> 6 & part.mask
        while true {
            if part.slots[hole] == Self.empty { return }
            if idOf(part.slots[hole]) == id { break }
            hole = (hole + 1) & part.mask
        }
        // What follows moves up, unless that would put it before where it is looked for first.
        var place = hole
        while true {
            place = (place + 1) & part.mask
            let slot = part.slots[place]
            if slot == Self.empty { break }
            let home = Self.hash(idOf(slot)) >> 6 & part.mask
            if (place - home) & part.mask >= (place - hole) & part.mask {
                part.slots[hole] = slot
                hole = place
            }
        }
        part.slots[hole] = Self.empty
        parts[hash & 63].count -= 1
        count -= 1
    }

    private mutating func grow(_ number: Int, _ idOf: (UInt32) -> QueueID) {
        let old = parts[number]
        var larger = Self.part((old.mask + 1) * 2)
        for place in 0...old.mask where old.slots[place] != Self.empty {
            Self.place(old.slots[place], Self.hash(idOf(old.slots[place])), in: larger)
        }
        larger.count = old.count
        old.slots.deallocate()
        parts[number] = larger
    }

    private static func place(_ slot: UInt32, _ hash: Int, in part: Part) {
        var place = hash >> 6 & part.mask
        while part.slots[place] != empty { place = (place + 1) & part.mask }
        part.slots[place] = slot
    }

    private static func part(_ size: Int) -> Part {
        let slots = UnsafeMutablePointer<UInt32>.allocate(capacity: size)
        slots.initialize(repeating: empty, count: size)
        return Part(slots: slots, mask: size - 1)
    }

    // Ids end in 64 random bits; the multiplication is for ids that were made otherwise.
    private static func hash(_ id: QueueID) -> Int {
        Int(truncatingIfNeeded: (id.low ^ id.high &* 0x9E37_79B9_7F4A_7C15) &* 0xD6E8_FEB8_6659_FD93 >> 16)
    }
}
