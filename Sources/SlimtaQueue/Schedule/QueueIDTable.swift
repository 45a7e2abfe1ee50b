// A table from queue ids to the numbers of slots that somebody else keeps: five to eleven octets for each id. The
// scheduler finds its entries with it, and the storage's index its own.

package import SlimtaMail

/// Slots by id: open addressing, in 64 parts that grow one by one, so that growing never takes long.
package struct QueueIDTable: ~Copyable {
    private struct Part {
        var slots: UnsafeMutablePointer<UInt32>
        var mask: Int
        var count = 0
    }

    private static let empty = UInt32.max
    private var parts: [Part]
    /// How many ids are in it.
    package private(set) var count = 0

    /// Empty; some kilobytes.
    package init() {
        parts = (0..<64).map { _ in Self.part(64) }
    }

    deinit { for part in parts { part.slots.deallocate() } }

    /// The slot of an id; `matches` says whether the id of a slot is it.
    package func find(_ id: QueueID, _ matches: (UInt32) -> Bool) -> UInt32? {
        let hash = Self.hash(id)
        let part = parts[hash & 63]
        var place = hash >> 6 & part.mask
        while part.slots[place] != Self.empty {
            if matches(part.slots[place]) { return part.slots[place] }
            place = (place + 1) & part.mask
        }
        return nil
    }

    /// Adds an id that is not there; `idOf` says the id of a slot.
    package mutating func insert(_ id: QueueID, _ slot: UInt32, id idOf: (UInt32) -> QueueID) {
        let hash = Self.hash(id)
        if parts[hash & 63].count * 4 >= (parts[hash & 63].mask + 1) * 3 { grow(hash & 63, idOf) }
        Self.place(slot, hash, in: parts[hash & 63])
        parts[hash & 63].count += 1
        count += 1
    }

    /// Takes an id away, if it is there.
    package mutating func remove(_ id: QueueID, id idOf: (UInt32) -> QueueID) {
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
