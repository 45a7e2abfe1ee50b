// The receipts: all of them, in memory, as they are written down. Part of the index, so that a commit changes both at once;
// where there is none, an envelope that ends costs a look at an empty table.

import SlimtaMail
import SlimtaQueue

/// What submissions have left behind.
///
/// Less than a kilobyte for a receipt with one recipient. Of an owner the newest ``Receipt/ownerLimit`` that expire are
/// kept, of all as many as `limits` says; those that do not expire stay until they are forgotten.
struct ReceiptTable {
    /// How many receipts that expire are kept of all owners, and how many octets they may have.
    struct Limits {
        var count = 100_000
        var octets = 64 << 20
        var ofOwner = Receipt.ownerLimit
    }

    private let limits: Limits
    private var entries: [Receipt.Digest: ReceiptRecord] = [:]
    /// The receipt of each envelope, and of each id that a client was told.
    private var keys: [QueueID: Receipt.Digest] = [:]
    /// Of those that expire.
    private var lines: [Receipt.Owner: ReceiptLine] = [:]
    private var line = ReceiptLine()
    private var octets = 0
    /// What a checkpoint has to write down, and since which change.
    private var changed: [Receipt.Digest: UInt64] = [:]
    private var changes: UInt64 = 0

    init(_ limits: Limits = Limits()) { self.limits = limits }

    var isEmpty: Bool { entries.isEmpty }
    var count: Int { entries.count }

    // MARK: reading

    /// A receipt that has not expired at `now`.
    func find(_ key: Receipt.Digest, at now: Timestamp) -> ReceiptRecord? {
        entries[key].flatMap { $0.isExpired(at: now) ? nil : $0 }
    }

    /// The key of the receipt of an envelope, or of an id that a client was told.
    func key(of id: QueueID) -> Receipt.Digest? { keys.isEmpty ? nil : keys[id] }

    // MARK: what frames do

    /// A new receipt. One with this key that was there before is replaced. `now`: nil at a start, when nothing is thrown out
    /// before ``settle(at:)``.
    mutating func insert(_ record: ReceiptRecord, at now: Timestamp?) {
        let outline = record.outline
        remove(outline.key)
        entries[outline.key] = record
        octets += record.octets.count
        for id in outline.envelopes { keys[id] = outline.key }
        keys[outline.id] = outline.key
        change(outline.key)
        if let expires = outline.expires {
            line.append(expires, outline.key)
            lines[outline.owner, default: ReceiptLine()].append(expires, outline.key)
        }
        guard let now else { return }
        keepLimits(of: outline.owner)
        keepLimits(at: now)
    }

    /// Keeps the limits again, after a start.
    mutating func settle(at now: Timestamp) {
        for owner in Array(lines.keys) { keepLimits(of: owner) }
        keepLimits(at: now)
    }

    /// An envelope has left the queue.
    mutating func note(_ ending: Ending) {
        guard let key = key(of: ending.id), let old = entries[key], var receipt = try? old.receipt() else { return }
        receipt.note(ending)
        let new = ReceiptRecord(receipt)
        octets += new.octets.count - old.octets.count
        entries[key] = new
        change(key)
    }

    /// A receipt is not needed any more.
    mutating func forget(_ key: Receipt.Digest) {
        // A sealed file may have it.
        if remove(key) { change(key) }
    }

    private mutating func change(_ key: Receipt.Digest) {
        changes += 1
        changed[key] = changes
    }

    @discardableResult
    private mutating func remove(_ key: Receipt.Digest) -> Bool {
        guard let record = entries.removeValue(forKey: key) else { return false }
        let outline = record.outline
        octets -= record.octets.count
        changed[key] = nil
        for id in outline.envelopes + [outline.id] where keys[id] == key { keys[id] = nil }
        guard outline.expires != nil else { return true }
        line.removed()
        lines[outline.owner]?.removed()
        if lines[outline.owner]?.count == 0 { lines[outline.owner] = nil }
        return true
    }

    // MARK: what checkpoints do

    /// What a checkpoint writes down.
    struct Changes {
        fileprivate(set) var records: [ReceiptRecord] = []
        fileprivate(set) var forgotten: [Receipt.Digest] = []
        fileprivate var upTo: UInt64 = 0

        var isEmpty: Bool { records.isEmpty && forgotten.isEmpty }
    }

    /// What was changed since the last checkpoint, or `all` that has not expired at `now`.
    func changes(all: Bool, at now: Timestamp) -> Changes {
        var found = Changes()
        found.upTo = changes
        if all {
            found.records = entries.values.filter { !$0.isExpired(at: now) }
            return found
        }
        for key in changed.keys {
            if let record = entries[key] { found.records.append(record) } else { found.forgotten.append(key) }
        }
        return found
    }

    /// A checkpoint counts that has written these.
    mutating func checkpointed(_ written: Changes) { changed = changed.filter { $1 > written.upTo } }

    /// All that is here is in sealed files.
    mutating func forgetChanges() { changed = [:] }

    // MARK: limits

    private mutating func keepLimits(of owner: Receipt.Owner) {
        while lines[owner, default: ReceiptLine()].count > limits.ofOwner, let first = first(of: owner) {
            remove(first.key)
        }
    }

    private mutating func keepLimits(at now: Timestamp) {
        while let first = first(of: nil),
            first.expires <= now || line.count > limits.count || octets > limits.octets
        { remove(first.key) }
    }

    /// The receipt that expires first, of an owner or (nil) of all.
    private mutating func first(of owner: Receipt.Owner?) -> ReceiptLine.Place? {
        let entries = self.entries
        func isThere(_ place: ReceiptLine.Place) -> Bool { entries[place.key]?.outline.expires == place.expires }
        guard let owner else { return line.first(where: isThere) }
        return lines[owner]?.first(where: isThere)
    }
}

/// Receipts in the order in which they expire: those that are gone are passed over when their turn comes.
private struct ReceiptLine {
    struct Place {
        var expires: Timestamp
        var key: Receipt.Digest
    }

    private var places: [Place] = []
    private var begin = 0
    private var isSorted = true
    /// How many of them are there.
    private(set) var count = 0

    mutating func append(_ expires: Timestamp, _ key: Receipt.Digest) {
        // But for a clock that was set back they come in this order.
        if let last = places.last, last.expires > expires { isSorted = false }
        places.append(Place(expires: expires, key: key))
        count += 1
    }

    /// One of them is gone.
    mutating func removed() { count -= 1 }

    mutating func first(where isThere: (Place) -> Bool) -> Place? {
        if places.count > 2 * count + 64 {
            places = places.filter(isThere)
            begin = 0
        }
        if !isSorted {
            places.removeFirst(begin)
            places.sort { $0.expires < $1.expires }
            (begin, isSorted) = (0, true)
        }
        while begin < places.count, !isThere(places[begin]) { begin += 1 }
        return begin < places.count ? places[begin] : nil
    }
}
