// What the scheduler knows of each envelope: 32 octets, in memory that grows by pieces and is never copied. Used by
// QueueMachine alone.

import SlimtaMail

/// What the scheduler knows of one envelope.
struct QueueEntry {
    /// Where it is on its way.
    enum Place: UInt8 {
        /// Nowhere: the slot is free.
        case free = 0
        /// In the heap of its destination's new ones: never attempted, or asked for by an operator.
        case new = 1
        /// In the heap of its destination's retries.
        case retry = 2
        /// In the heap of its destination's parked ones: due, but the destination does not answer. `due` is then when
        /// its sender is to be told something.
        case parked = 3
        case inFlight = 4
        /// In flight, and sent to find out whether a destination answers again.
        case probe = 5
        /// Taken because its sender is to be told something; no attempt is made.
        case resolving = 6
        /// Held by an operator, or damaged: never due.
        case held = 7
        /// An operator's command about it is being recorded.
        case busy = 8
    }

    let id: QueueID
    /// 48 bits of due time, 4 of the shift of its clock, 6 free, 2 of flags, 4 of place.
    private var bits: UInt64
    var destination: UInt32
    /// Where it is in its heap; in a free slot the next free one.
    var position: UInt32 = 0

    init(id: QueueID, due: Timestamp, destination: UInt32, isWarned: Bool) {
        self.id = id
        self.destination = destination
        bits = 0
        self.due = due
        self.isWarned = isWarned
    }

    /// In milliseconds since the epoch as far as they fit: until the year 10889, and never before 1970. While it is in
    /// flight, when that began.
    var due: Timestamp {
        get { Timestamp(milliseconds: Int64(bits >> 16)) }
        set { bits = bits & 0xFFFF | UInt64(max(0, min(newValue.milliseconds, 0xFFFF_FFFF_FFFF))) << 16 }
    }

    var place: Place {
        get { Place(rawValue: UInt8(bits & 0xF)) ?? .free }
        set { bits = bits & ~0xF | UInt64(newValue.rawValue) }
    }

    /// Whether the sender was told of the delay, or nobody is to be told.
    var isWarned: Bool {
        get { bits & 0x10 != 0 }
        set { bits = newValue ? bits | 0x10 : bits & ~0x10 }
    }

    /// Whether it goes with the new ones when it waits the next time: it has not been attempted since it came, or since
    /// an operator asked for it.
    var isNew: Bool {
        get { bits & 0x20 != 0 }
        set { bits = newValue ? bits | 0x20 : bits & ~0x20 }
    }

    /// Its number in ``ClockShifts``: by which clock it was accepted.
    var shift: UInt8 {
        get { UInt8(bits >> 12 & 0xF) }
        set { bits = bits & ~0xF000 | UInt64(newValue & 0xF) << 12 }
    }
}

/// All entries, by slot and by id.
struct QueueEntries: ~Copyable {
    private static let chunkSize = 8192
    private static let none = UInt32.max

    private var chunks: [UnsafeMutablePointer<QueueEntry>] = []
    private var used: UInt32 = 0
    private var firstFree = none
    private var table = QueueIDTable()

    deinit { for chunk in chunks { chunk.deallocate() } }

    var count: Int { table.count }

    /// The slots ever used: from 0 to this.
    var slots: UInt32 { used }

    @inline(__always)
    private func pointer(_ slot: UInt32) -> UnsafeMutablePointer<QueueEntry> {
        chunks[Int(slot) / Self.chunkSize] + Int(slot) % Self.chunkSize
    }

    subscript(slot: UInt32) -> QueueEntry {
        get { pointer(slot).pointee }
        set { pointer(slot).pointee = newValue }
    }

    func slot(of id: QueueID) -> UInt32? { table.find(id) { self[$0].id == id } }

    /// Adds an entry whose id is not there.
    mutating func add(_ entry: QueueEntry) -> UInt32 {
        let slot: UInt32
        if firstFree != Self.none {
            slot = firstFree
            firstFree = self[slot].position
        } else {
            slot = used
            if Int(slot) / Self.chunkSize == chunks.count { chunks.append(.allocate(capacity: Self.chunkSize)) }
            used += 1
        }
        pointer(slot).initialize(to: entry)
        let chunks = self.chunks
        table.insert(entry.id, slot) { chunks[Int($0) / Self.chunkSize][Int($0) % Self.chunkSize].id }
        return slot
    }

    mutating func remove(_ slot: UInt32) {
        let chunks = self.chunks
        table.remove(self[slot].id) { chunks[Int($0) / Self.chunkSize][Int($0) % Self.chunkSize].id }
        self[slot].place = .free
        self[slot].position = firstFree
        firstFree = slot
    }
}

extension QueueEntries: HeapItems {
    /// By time; then by id, which is the order in which they came.
    func precedes(_ a: UInt32, _ b: UInt32) -> Bool {
        self[a].due == self[b].due ? self[a].id < self[b].id : self[a].due < self[b].due
    }

    func position(of item: UInt32) -> Int { Int(self[item].position) }

    mutating func setPosition(of item: UInt32, _ position: Int) { self[item].position = UInt32(position) }
}
