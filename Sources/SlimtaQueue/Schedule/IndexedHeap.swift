// A heap of numbers whose order somebody else knows: four octets for each, and any one can be taken out of the middle.
// The scheduler has one for each destination's envelopes and one for the destinations.

/// What the numbers in a heap stand for.
protocol HeapItems: ~Copyable {
    /// Whether `a` comes before `b`.
    func precedes(_ a: UInt32, _ b: UInt32) -> Bool
    /// Where `item` is in its heap.
    func position(of item: UInt32) -> Int
    /// To be remembered: where `item` now is in its heap.
    mutating func setPosition(of item: UInt32, _ position: Int)
}

/// A binary heap. Its items are told where they are in it.
struct IndexedHeap: Sendable {
    private var items: [UInt32] = []

    var count: Int { items.count }
    var isEmpty: Bool { items.isEmpty }
    /// The item that comes first.
    var first: UInt32? { items.first }

    /// How many items, from the first one on, are what `isWanted` asks for, up to a bound. Nothing that comes behind an unwanted
    /// one may be wanted.
    func count(atMost limit: Int, _ isWanted: (UInt32) -> Bool) -> Int {
        var places = items.isEmpty ? [] : [0]
        var count = 0
        while count < limit, let place = places.popLast() {
            guard isWanted(items[place]) else { continue }
            count += 1
            for child in [place * 2 + 1, place * 2 + 2] where child < items.count { places.append(child) }
        }
        return count
    }

    mutating func insert<Items: HeapItems & ~Copyable>(_ item: UInt32, _ all: inout Items) {
        items.append(item)
        rise(items.count - 1, item, &all)
    }

    /// Takes out an item that is in the heap.
    mutating func remove<Items: HeapItems & ~Copyable>(_ item: UInt32, _ all: inout Items) {
        let hole = all.position(of: item)
        precondition(items[hole] == item, "the item is in this heap")
        let last = items.removeLast()
        if last != item { settle(hole, last, &all) }
        if items.isEmpty { items = [] }
    }

    /// The place of an item in the order has changed.
    mutating func moved<Items: HeapItems & ~Copyable>(_ item: UInt32, _ all: inout Items) {
        settle(all.position(of: item), item, &all)
    }

    /// The place of any item may have changed: `change` is called for each, then all are put in order.
    mutating func reorder<Items: HeapItems & ~Copyable>(
        _ all: inout Items, _ change: (UInt32, inout Items) -> Void
    ) {
        for item in items { change(item, &all) }
        for position in (0..<items.count / 2).reversed() { sink(position, items[position], &all) }
    }

    private mutating func settle<Items: HeapItems & ~Copyable>(_ hole: Int, _ item: UInt32, _ all: inout Items) {
        if hole > 0, all.precedes(item, items[(hole - 1) / 2]) {
            rise(hole, item, &all)
        } else {
            sink(hole, item, &all)
        }
    }

    private mutating func rise<Items: HeapItems & ~Copyable>(_ start: Int, _ item: UInt32, _ all: inout Items) {
        var hole = start
        while hole > 0 {
            let parent = (hole - 1) / 2
            guard all.precedes(item, items[parent]) else { break }
            items[hole] = items[parent]
            all.setPosition(of: items[hole], hole)
            hole = parent
        }
        items[hole] = item
        all.setPosition(of: item, hole)
    }

    private mutating func sink<Items: HeapItems & ~Copyable>(_ start: Int, _ item: UInt32, _ all: inout Items) {
        var hole = start
        while true {
            var child = hole * 2 + 1
            guard child < items.count else { break }
            if child + 1 < items.count, all.precedes(items[child + 1], items[child]) { child += 1 }
            guard all.precedes(items[child], item) else { break }
            items[hole] = items[child]
            all.setPosition(of: items[hole], hole)
            hole = child
        }
        items[hole] = item
        all.setPosition(of: item, hole)
    }
}
