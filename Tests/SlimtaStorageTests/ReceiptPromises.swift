// What callers were promised of receipts, and whether a recovered storage keeps it: the part of the power cuts that is about
// them.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Synchronization

@testable import SlimtaStorage

/// What callers were promised of one receipt.
struct PromisedReceipt: Sendable {
    var ids: [QueueID]
    var isForgetBegun = false
    var isForgotten = false
}

extension Promises {
    /// The key of the receipt that the messages of a step of the script have.
    static func key(_ number: Int) -> Receipt.Digest { makeReceipt(number).key }

    /// A receipt that is there for good, by the step that committed it: the oldest.
    var receiptToForget: Receipt.Digest? {
        receipts.filter { !$1.isForgetBegun && $1.ids.allSatisfy { entries[$0]!.isAcknowledged } }
            .keys.min { $0.a < $1.a }
    }

    /// What is wrong with the receipts that a recovery has found.
    func auditReceipts(_ core: StorageCore) -> [String] {
        var wrong: [String] = []
        for (key, promised) in receipts {
            let (record, queued) = core.index.withLock { index in
                (
                    index.receipts.find(key, at: Timestamp(milliseconds: 0)),
                    promised.ids.map { index.entry($0) != nil }
                )
            }
            let entries = promised.ids.map { self.entries[$0]! }
            if promised.isForgotten {
                if record != nil { wrong.append("the receipt \(key.a) is back") }
                continue
            }
            guard let record else {
                if promised.isForgetBegun { continue }
                if entries.contains(where: \.isAcknowledged) { wrong.append("the receipt \(key.a) is lost") }
                if queued.contains(true) { wrong.append("the message of \(key.a) is there, its receipt is not") }
                continue
            }
            guard let receipt = try? record.receipt(), receipt.envelopes.map(\.id) == promised.ids else {
                wrong.append("the receipt \(key.a) is not the one that was committed")
                continue
            }
            for (place, entry) in entries.enumerated() {
                let hasEnded = receipt.envelopes[place].fates != nil
                if hasEnded == queued[place] { wrong.append("the receipt \(key.a) and the queue do not agree") }
                if entry.isRemoved && !hasEnded { wrong.append("an end is not noted in \(key.a)") }
            }
        }
        return wrong
    }
}
