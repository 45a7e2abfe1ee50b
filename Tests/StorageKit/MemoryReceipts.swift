// Receipts in memory: the plain way, to compare others with.

import SlimtaMail
import SlimtaQueue

/// What submissions have left behind.
struct MemoryReceipts {
    private var all: [Receipt.Digest: Receipt] = [:]
    /// Keys of those that expire, by their owner.
    private var owned: [Receipt.Owner: Set<Receipt.Digest>] = [:]
    private var ids: [QueueID: Receipt.Digest] = [:]

    func find(_ key: Receipt.Digest) -> Receipt? { all[key].flatMap { $0.isExpired(at: .now()) ? nil : $0 } }

    func find(_ id: QueueID) -> Receipt? { ids[id].flatMap(find).flatMap { $0.id == id ? $0 : nil } }

    func page(after place: Receipt.Digest?, count: Int) -> [Receipt] {
        let keys = all.keys.filter { key in place.map { key > $0 } ?? true }
        return Array(keys.sorted().lazy.compactMap(find).prefix(count))
    }

    mutating func insert(_ receipt: Receipt) {
        forget(receipt.key)
        all[receipt.key] = receipt
        for id in receipt.envelopes.map(\.id) + [receipt.id] { ids[id] = receipt.key }
        guard receipt.expires != nil else { return }
        owned[receipt.owner, default: []].insert(receipt.key)
        guard let keys = owned[receipt.owner], keys.count > Receipt.ownerLimit else { return }
        let first = keys.compactMap { all[$0] }.min { ($0.expires ?? .now()) < ($1.expires ?? .now()) }
        if let first { forget(first.key) }
    }

    mutating func forget(_ key: Receipt.Digest) {
        guard let receipt = all.removeValue(forKey: key) else { return }
        for id in receipt.envelopes.map(\.id) + [receipt.id] { ids[id] = nil }
        owned[receipt.owner]?.remove(key)
    }

    mutating func note(_ ending: Ending) {
        if let key = ids[ending.id] { all[key]?.note(ending) }
    }
}
