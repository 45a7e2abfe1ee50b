// New rows as columns of statements: items, states and receipts, whoever writes them. Used by WriteBatch for what the queue commits,
// and by Moving for what is carried in.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// Rows of `item`, without what an envelope has been through.
struct ItemColumns {
    private(set) var buckets = PostgresColumn(.int4)
    private(set) var ids = PostgresColumn(.uuid)
    private(set) var messages = PostgresColumn(.uuid)
    private(set) var parts = PostgresColumn(.int4)
    private(set) var octets = PostgresColumn(.int8)
    private(set) var rests = PostgresColumn(.uuid)
    private(set) var restOctets = PostgresColumn(.int8)
    private(set) var restSums = PostgresColumn(.int8)
    private(set) var received = PostgresColumn(.int8)
    private(set) var due = PostgresColumn(.int8)
    private(set) var flags = PostgresColumn(.int4)
    private(set) var destinations = PostgresColumn(.text)
    private(set) var recipients = PostgresColumn(.int4)
    private(set) var envelopes = PostgresColumn(.bytea)
    private let output = OutputBuffer(capacity: OutputBuffer.page)

    var isEmpty: Bool { ids.count == 0 }

    /// - Parameters:
    ///   - first: the envelope whose content the message is.
    ///   - part: the content table of that.
    ///   - flags: beside what the envelope itself says.
    mutating func add(
        _ envelope: Envelope, due time: Timestamp, _ message: Message, of first: QueueID, part: Int, bucket: Int32,
        _ flags: ItemFlags
    ) {
        buckets.append(bucket)
        ids.append(envelope.id)
        messages.append(first)
        parts.append(Int32(part))
        octets.append(Int64(message.size))
        if let reference = message.rest?.reference {
            rests.append(reference.id)
            restOctets.append(reference.length)
            restSums.append(Int64(reference.crc32c))
        } else {
            rests.appendNull()
            restOctets.appendNull()
            restSums.appendNull()
        }
        received.append(envelope.received.milliseconds)
        due.append(time.milliseconds)
        self.flags.append(flags.union(envelope.sender == nil ? .notice : []).rawValue)
        // A text of PostgreSQL's has no NUL.
        let domain = envelope.recipients.first?.foldedDomain ?? ""
        destinations.append(domain.utf8.contains(0) ? "" : domain)
        recipients.append(Int32(clamping: envelope.recipients.count))
        ItemRecord.withOctets(of: envelope, due: time, in: output) { envelopes.append($0) }
    }
}

/// What envelopes have been through.
struct StateColumns {
    private(set) var buckets = PostgresColumn(.int4)
    private(set) var ids = PostgresColumn(.uuid)
    private(set) var due = PostgresColumn(.int8)
    private(set) var tried = PostgresColumn(.int8)
    private(set) var attempts = PostgresColumn(.int4)
    private(set) var flags = PostgresColumn(.int4)
    /// The index of the first recipient that is still to be delivered, or -1.
    private(set) var pending = PostgresColumn(.int4)
    /// Delivered, bounced, expired, removed.
    private(set) var fates = Array(repeating: PostgresColumn(.int4), count: 4)
    private(set) var records = PostgresColumn(.bytea)
    private let output = OutputBuffer(capacity: OutputBuffer.page)

    var count: Int { ids.count }
    var isEmpty: Bool { ids.count == 0 }

    /// - Parameter isUntouched: nothing has come of it yet, and it needs no record.
    mutating func add(_ state: EnvelopeState, bucket: Int32, isUntouched: Bool = false) {
        buckets.append(bucket)
        ids.append(state.id)
        due.append(state.due.milliseconds)
        if let last = state.history.last { tried.append(last.time.milliseconds) } else { tried.appendNull() }
        attempts.append(Int32(clamping: state.attempts))
        flags.append(ItemFlags(state).rawValue)
        pending.append(state.recipients.firstIndex { $0.fate == .pending }.map { Int32(clamping: $0) } ?? -1)
        let ended = Fates(state)
        for (place, count) in [ended.delivered, ended.bounced, ended.expired, ended.removed].enumerated() {
            fates[place].append(Int32(clamping: count))
        }
        if isUntouched { return records.appendNull() }
        ItemRecord.withOctets(of: state, in: output) { records.append($0) }
    }
}

/// Rows of `receipt`, and of `receipt_part` for each of its envelopes.
struct ReceiptColumns {
    private var keys = PostgresColumn(.bytea)
    private var owners = PostgresColumn(.bytea)
    private var ids = PostgresColumn(.uuid)
    private var expiries = PostgresColumn(.int8)
    private var sizes = PostgresColumn(.int4)
    private var records = PostgresColumn(.bytea)
    private var parts = PostgresColumn(.uuid)
    private var partKeys = PostgresColumn(.bytea)

    init(_ receipts: [Receipt]) {
        let output = OutputBuffer(capacity: OutputBuffer.page)
        for receipt in receipts {
            keys.append(receipt.key.octets)
            owners.append(receipt.owner.octets)
            ids.append(receipt.id)
            if let expires = receipt.expires { expiries.append(expires.milliseconds) } else { expiries.appendNull() }
            output.removeAll()
            ReceiptCodec.encode(receipt, into: output)
            sizes.append(Int32(output.count))
            records.append(output.octets)
            for part in receipt.envelopes {
                parts.append(part.id)
                partKeys.append(receipt.key.octets)
            }
        }
    }

    var key: PostgresValue { keys.value }
    var values: [PostgresValue] { [keys, owners, ids, expiries, sizes, records].map(\.value) }
    /// Ids of envelopes, and their receipts' keys.
    var partValues: [PostgresValue] { [parts, partKeys].map(\.value) }
    var hasParts: Bool { parts.count > 0 }
}

extension ItemFlags {
    /// What a state says.
    init(_ state: EnvelopeState) {
        self = []
        if state.isHeld { insert(.held) }
        if state.isWarned { insert(.warned) }
    }
}

extension PostgresColumn {
    /// Keys of receipts.
    init(keys: [Receipt.Digest]) {
        self.init(.bytea)
        for key in keys { append(key.octets) }
    }
}
