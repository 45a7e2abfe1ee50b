// What an audit looks at in a row of slimtad.item: whether its columns say the same as its records. Pure; ClusterAudit reads
// the rows.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// A row of `item` beside its records.
struct ItemRow {
    /// In the order of the fields below; ``init(_:_:)`` reads them by their places.
    static let columns = """
        i.id, i.message, i.part, i.octets, i.rest, i.rest_octets, i.rest_crc, i.received, i.due, i.tried, i.attempts,
        i.flags, i.destination, i.pending, i.recipients, i.delivered, i.bounced, i.expired, i.removed, i.envelope, i.state
        """

    var id: QueueID
    var message: QueueID
    var part: Int
    var octets: Int64
    var rest: SpoolReference?
    var received: Int64
    var due: Int64
    var tried: Int64?
    var attempts: Int64
    var flags: ItemFlags
    var destination: String
    var pending: Int64
    var recipients: Int64
    var fates: Fates
    /// Whether all columns of the rest are there, or none.
    var isWhole: Bool
    /// What the records say, or why they cannot be read.
    var record: Result<QueuedEnvelope, FormatError>

    init(_ rows: PostgresRows, _ row: Int) {
        id = rows.id(row, 0)
        message = rows.id(row, 1)
        part = Int(rows.int(row, 2))
        octets = rows.int(row, 3)
        rest = rows.rest(row, 4)
        let nulls = (4...6).map { rows.isNull(row, $0) }
        isWhole = nulls.allSatisfy { $0 == nulls[0] }
        received = rows.int(row, 7)
        due = rows.int(row, 8)
        tried = rows.isNull(row, 9) ? nil : rows.int(row, 9)
        attempts = rows.int(row, 10)
        flags = ItemFlags(rawValue: Int32(truncatingIfNeeded: rows.int(row, 11)))
        destination = rows.text(row, 12)
        pending = rows.int(row, 13)
        recipients = rows.int(row, 14)
        fates = Fates()
        fates.delivered = UInt32(truncatingIfNeeded: rows.int(row, 15))
        fates.bounced = UInt32(truncatingIfNeeded: rows.int(row, 16))
        fates.expired = UInt32(truncatingIfNeeded: rows.int(row, 17))
        fates.removed = UInt32(truncatingIfNeeded: rows.int(row, 18))
        do throws(FormatError) {
            record = .success(try rows.record(row, of: id, envelope: 19, state: 20))
        } catch {
            record = .failure(error)
        }
    }

    /// Octets of the message that are with chunk 0.
    var head: Int64 { octets - (rest?.length ?? 0) }

    /// What is wrong with it, as far as that can be seen without its message.
    var faults: [String] {
        let queued: QueuedEnvelope
        switch record {
        case .failure(let error): return ["its records are unreadable: \(error.text)"]
        case .success(let found): queued = found
        }
        let (envelope, state) = (queued.envelope, queued.state)
        var wrong: [String] = []
        func expect(_ isRight: Bool, _ column: String) { if !isRight { wrong.append(column) } }
        expect(recipients == envelope.recipients.count, "recipients")
        expect(fates == Fates(state), "how many have ended how")
        expect(received == envelope.received.milliseconds, "received")
        expect(due == state.due.milliseconds, "due")
        expect(tried == state.history.last?.time.milliseconds, "tried")
        expect(attempts == state.attempts, "attempts")
        expect(flags.contains(.held) == state.isHeld, "held")
        expect(flags.contains(.warned) == state.isWarned, "warned")
        expect(flags.contains(.notice) == (envelope.sender == nil), "notice")
        // A text of PostgreSQL's has no NUL.
        let domain = envelope.recipients.first?.foldedDomain ?? ""
        expect(destination == (domain.utf8.contains(0) ? "" : domain), "destination")
        expect(pending == state.pending.first.map(Int64.init) ?? -1, "pending")
        expect(isWhole && head >= 0, "rest")
        if wrong.isEmpty { return [] }
        return ["its row says something else than its records: \(wrong.joined(separator: ", "))"]
    }
}
