// The ledger as `super` keeps it, from checkpoint to checkpoint.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// How the ledger is written in `super`: accounts of eight counters of eight octets in the order of the fields (what is
/// queued is counted anew at each start, so its place is zero), mismatched, since, operators { u64 count, u8 length, name }.
enum LedgerCodec {
    static func encode(_ ledger: Ledger, into output: OutputBuffer) {
        for account in [ledger.submitted, ledger.notices] {
            for counter in [
                account.accepted, account.repeated, account.delivered, account.bounced, account.expired,
                account.removed, account.lost, 0,
            ] { output.append(counter) }
        }
        output.append(ledger.mismatched)
        output.append(ledger.since.milliseconds)
        output.append(UInt32(ledger.removedBy.count))
        for (name, count) in ledger.removedBy.sorted(by: { $0.key < $1.key }) {
            // One that came from a damaged disk and was repaired may be longer.
            let name = name.cut(toOctets: Int(UInt8.max))
            output.append(count)
            output.append(UInt8(name.utf8.count))
            output.append(name)
        }
    }

    static func decode(_ cursor: inout InputCursor) throws(FormatError) -> Ledger {
        var ledger = Ledger(since: Timestamp(milliseconds: 0))
        for kind in [Ledger.Kind.submitted, .notice] {
            var account = Ledger.Account()
            account.accepted = try cursor.number()
            account.repeated = try cursor.number()
            account.delivered = try cursor.number()
            account.bounced = try cursor.number()
            account.expired = try cursor.number()
            account.removed = try cursor.number()
            account.lost = try cursor.number()
            _ = try cursor.number(UInt64.self)
            ledger[kind] = account
        }
        ledger.mismatched = try cursor.number()
        ledger.since = Timestamp(milliseconds: try cursor.number())
        let count: UInt32 = try cursor.number()
        for _ in 0..<count {
            let removed: UInt64 = try cursor.number()
            let length: UInt8 = try cursor.number()
            ledger.removedBy[String(decoding: try cursor.octets(Int(length)), as: UTF8.self)] = removed
        }
        return ledger
    }
}
