// The receipts: all of them, in memory, as they are written down. Part of the index, so that a commit changes both at once;
// where there is none, an envelope that ends costs a look at an empty table.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// What submissions have left behind.
///
/// Less than a kilobyte for a receipt with one recipient. Those that expire have limits: of an owner the ones that expire
/// last are kept, and where those of all are too many, the owner gives that has most. Those that do not expire stay until
/// they are forgotten.
struct ReceiptTable {
    /// How many receipts that expire are kept, and how many octets they may have.
    struct Limits {
        /// Of all owners. It holds by the octets: none counts for less than its share.
        var count = 100_000
        var octets = 64 << 20
        var ofOwner = Receipt.ownerLimit
        var octetsOfOwner = Receipt.ownerOctets
    }

    /// The place of a receipt among those that expire.
    private struct Place: Comparable {
        var expires: Timestamp
        var key: Receipt.Digest

        static func < (one: Place, other: Place) -> Bool {
            // The key: what goes first is the same after a start, which comes upon them in another order.
            (one.expires, one.key.a, one.key.b) < (other.expires, other.key.a, other.key.b)
        }
    }

    /// What an owner has that expires.
    private struct Account {
        var line = LazyHeap<Place>()
        var count = 0
        var octets = 0
    }

    /// The place of an owner among all: first is who has most.
    private struct Size: Comparable {
        var octets: Int
        var owner: Receipt.Owner

        static func < (one: Size, other: Size) -> Bool {
            (other.octets, one.owner.high, one.owner.low) < (one.octets, other.owner.high, other.owner.low)
        }
    }

    private let limits: Limits
    private var entries: [Receipt.Digest: ReceiptRecord] = [:]
    /// The receipt of each envelope, and of each id that a client was told.
    private var keys: [QueueID: Receipt.Digest] = [:]
    /// Of those that expire.
    private var accounts: [Receipt.Owner: Account] = [:]
    private var line = LazyHeap<Place>()
    private var sizes = LazyHeap<Size>()
    private var expiring = 0
    private var octets = 0
    /// The limits for which receipts have gone before their time, and those of which that was told.
    private var overrun: Set<StorageEvent.ReceiptLimit> = []
    private var told: Set<StorageEvent.ReceiptLimit> = []
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

    /// The first receipts behind a key, in the order of keys, that have not expired at `now`.
    func page(after place: Receipt.Digest?, count: Int, at now: Timestamp) -> [ReceiptRecord] {
        let keys = entries.keys.filter { key in place.map { key > $0 } ?? true }
        return Array(keys.sorted().lazy.compactMap { find($0, at: now) }.prefix(count))
    }

    // MARK: what frames do

    /// A new receipt. One with this key that was there before is replaced. `now`: nil at a start, when nothing is thrown out
    /// before ``settle(at:)``.
    mutating func insert(_ record: ReceiptRecord, at now: Timestamp?) {
        let outline = record.outline
        remove(outline.key)
        entries[outline.key] = record
        for id in outline.envelopes { keys[id] = outline.key }
        keys[outline.id] = outline.key
        change(outline.key)
        if let expires = outline.expires {
            let place = Place(expires: expires, key: outline.key)
            expiring += 1
            accounts[outline.owner, default: Account()].count += 1
            let count = accounts[outline.owner]?.count ?? 0
            weigh(outline.owner, weight(record))
            let entries = entries
            line.insert(place, among: expiring) { Self.isThere($0, of: nil, in: entries) }
            accounts[outline.owner]?.line.insert(place, among: count) {
                Self.isThere($0, of: outline.owner, in: entries)
            }
        }
        guard let now else { return }
        expire(at: now)
        keepLimits(of: outline.owner)
        keepLimits()
    }

    /// Keeps the limits again, after a start.
    mutating func settle(at now: Timestamp) {
        expire(at: now)
        for owner in Array(accounts.keys) { keepLimits(of: owner) }
        keepLimits()
    }

    /// The limits for which receipts have gone before their time, each of them once.
    mutating func takeOverrun() -> Set<StorageEvent.ReceiptLimit> {
        defer { told.formUnion(overrun) }
        return overrun.subtracting(told)
    }

    /// An envelope has left the queue. What that makes too much goes with the next receipt.
    mutating func note(_ ending: Ending) {
        guard let key = key(of: ending.id), let old = entries[key], var receipt = try? old.receipt() else { return }
        receipt.note(ending)
        let new = ReceiptRecord(receipt)
        entries[key] = new
        if receipt.expires != nil { weigh(receipt.owner, weight(new) - weight(old)) }
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
        changed[key] = nil
        for id in outline.envelopes + [outline.id] where keys[id] == key { keys[id] = nil }
        guard outline.expires != nil else { return true }
        expiring -= 1
        accounts[outline.owner]?.count -= 1
        weigh(outline.owner, -weight(record))
        if accounts[outline.owner]?.count == 0 { accounts[outline.owner] = nil }
        return true
    }

    /// What a receipt counts for.
    private func weight(_ record: ReceiptRecord) -> Int { max(record.octets.count, limits.octets / limits.count) }

    private mutating func weigh(_ owner: Receipt.Owner, _ change: Int) {
        guard var account = accounts.removeValue(forKey: owner) else { return }
        octets += change
        account.octets += change
        accounts[owner] = account
        let accounts = accounts
        sizes.insert(Size(octets: account.octets, owner: owner), among: accounts.count) {
            accounts[$0.owner]?.octets == $0.octets
        }
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

    private mutating func expire(at now: Timestamp) {
        while let first = first(of: nil), first.expires <= now { remove(first.key) }
    }

    private mutating func keepLimits(of owner: Receipt.Owner) {
        while let account = accounts[owner], account.count > limits.ofOwner || account.octets > limits.octetsOfOwner,
            let first = first(of: owner)
        {
            remove(first.key)
            overrun.insert(.owner)
        }
    }

    private mutating func keepLimits() {
        while octets > limits.octets, let owner = largestOwner(), let first = first(of: owner) {
            remove(first.key)
            overrun.insert(.all)
        }
    }

    /// The receipt that expires first, of an owner or (nil) of all.
    private mutating func first(of owner: Receipt.Owner?) -> Place? {
        let entries = entries
        guard let owner else { return line.first { Self.isThere($0, of: nil, in: entries) } }
        return accounts[owner]?.line.first { Self.isThere($0, of: owner, in: entries) }
    }

    private static func isThere(
        _ place: Place, of owner: Receipt.Owner?, in entries: [Receipt.Digest: ReceiptRecord]
    ) -> Bool {
        guard let outline = entries[place.key]?.outline, outline.expires == place.expires else { return false }
        return owner == nil || outline.owner == owner
    }

    private mutating func largestOwner() -> Receipt.Owner? {
        let accounts = accounts
        return sizes.first { accounts[$0.owner]?.octets == $0.octets }?.owner
    }
}
