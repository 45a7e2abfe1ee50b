// Goes through all that is queued, in the order of arrival, a page at a time: for `slimtad queue list` and its like.
// JournaledStorage and StorageInspector have one each; a page is read on whatever thread calls.

import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import Synchronization

/// Finds the ids behind a place in the order of ids, without an order in the index and without holding its lock for long.
///
/// A pass over the index picks out the first ids behind the place, as many as a window has, and pages come from the
/// window while it is fresh. So a walk through a million envelopes makes a few passes, and keeps a megabyte.
struct QueueWalk {
    /// Slots of the index that are looked at while its lock is held.
    private static let stride: UInt32 = 4096
    /// Milliseconds for which a window is believed. What comes into the queue meanwhile is behind its end.
    private static let freshness: Int64 = 2000

    let core: StorageCore
    /// Ids in a window, and in a page at most.
    var windowSize = 65536

    /// The first ids behind `place`, at most `count`; fewer only at the end.
    func ids(after place: QueueID, _ count: Int) -> [QueueID] {
        let now = monotonicMilliseconds()
        if let window = core.walkWindow.withLock({ $0 }), window.made + Self.freshness > now, window.start <= place {
            let ids = window.ids[window.ids.partitioningIndex { $0 > place }...].prefix(count)
            if ids.count == count { return Array(ids) }
        }
        let ids = pass(after: place)
        core.walkWindow.withLock { $0 = WalkWindow(start: place, ids: ids, made: now) }
        return Array(ids.prefix(count))
    }

    /// Looks at every slot once.
    private func pass(after place: QueueID) -> [QueueID] {
        var found: [QueueID] = []
        var bound: QueueID?
        var start: UInt32 = 0
        while true {
            let isEnd = core.index.withLock { index in
                let end = min(start + Self.stride, index.slots)
                for slot in start..<max(start, end) {
                    guard let id = index.entry(at: slot)?.id, id > place, bound.map({ id < $0 }) ?? true else {
                        continue
                    }
                    found.append(id)
                }
                return end == index.slots
            }
            if found.count > 2 * windowSize { cut(&found, &bound) }
            if isEnd { break }
            start += Self.stride
        }
        cut(&found, &bound)
        return found
    }

    /// Keeps the first of the ids, sorted; what is behind them is of no interest any more.
    private func cut(_ found: inout [QueueID], _ bound: inout QueueID?) {
        found.sort()
        if found.count > windowSize { found.removeLast(found.count - windowSize) }
        if found.count == windowSize { bound = found.last }
    }
}

extension [QueueID] {
    /// The index of the first element for which `isBehind` holds, where it holds for all that follow.
    fileprivate func partitioningIndex(_ isBehind: (QueueID) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if isBehind(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

extension QueueWalk {
    /// The envelopes behind `place`, at most `count`, read on the caller's thread.
    func page(after place: QueueID?, count: Int, _ reader: ContentReader) -> QueuedPage {
        let count = min(count, windowSize)
        let ids = ids(after: place ?? QueueID(high: 0, low: 0), count)
        var page = QueuedPage(next: ids.count < count ? nil : ids.last)
        for place in reader.readingOrder(ids) {
            let id = ids[place]
            do throws(StorageError) {
                page.envelopes.append(try reader.envelope(id))
            } catch {
                switch error {
                case .notFound: break  // it has left meanwhile
                case .damaged(let reason), .failed(let reason): page.unreadable.append((id, reason))
                case .full, .closed, .away, .doubtful, .lost, .repeated:
                    page.unreadable.append((id, "\(error)"))
                }
            }
        }
        page.envelopes.sort { $0.envelope.id < $1.envelope.id }
        page.unreadable.sort { $0.id < $1.id }
        return page
    }
}
