// Places in a table in an order of their own, for what goes from it first. ReceiptTable has them by time and by size.

internal import HeapModule

/// What is in a table, by its order there. What has left the table, or has another place now, is passed over when its turn
/// comes: nothing has to be looked for. Each call costs what a heap does, however late a place comes.
struct LazyHeap<Place: Comparable> {
    private var places = Heap<Place>()

    /// A further place.
    ///
    /// - Parameter count: how many are there, this one among them. The memory is that of some two times as many.
    mutating func insert(_ place: Place, among count: Int, where isThere: (Place) -> Bool) {
        if places.count > 2 * count + 64 { places = Heap(places.unordered.filter(isThere)) }
        places.insert(place)
    }

    /// The first one that is there.
    mutating func first(where isThere: (Place) -> Bool) -> Place? {
        while let first = places.min {
            if isThere(first) { return first }
            places.removeMin()
        }
        return nil
    }

    /// Those that are there, and those that have gone and were not passed over yet.
    var count: Int { places.count }
}
