// A group of commits as what is sent to the database: columns of all that is new, changed and gone.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// The transaction of a group, and how its answers are read.
struct WriteBatch {
    /// What the database said.
    struct Answer {
        /// Whether there were fewer envelopes than were said to have a new state.
        var isShort = false
        /// What was said to end, and was not there.
        var missing: [QueueID] = []
        /// Whether a standby is configured; nil: that was not asked.
        var hasStandby: Bool?
        /// How many receipts an owner has, and their octets.
        var owners: [(Receipt.Owner, ReceiptCounts.Count)] = []
    }

    /// Which line of which node, and what its fence has to be.
    struct Fence {
        let node: String
        let line: Int32
        let incarnation: Int64
    }

    fileprivate enum Step {
        case fenced, receipts, standby, ended, other
        /// Of how many envelopes.
        case states(Int)
        case trimmed(Receipt.Owner)
    }

    private(set) var batch = PostgresBatch()
    private var steps: [Step] = []
    private let buckets: Int
    private let isNew: Bool

    /// - Parameters:
    ///   - isNew: nothing of the new mail can be there; if it is, all is refused with `PostgresCode.uniqueViolation`.
    ///   - part: the content table that is written now.
    ///   - buckets: how many there are.
    ///   - trimming: owners of receipts of whom it is not known that they have no more than they may.
    init(
        _ group: CommitGroup, isNew: Bool, fence: Fence, part: Int, buckets: Int, trimming owners: [Receipt.Owner],
        asksForStandby: Bool
    ) {
        (self.isNew, self.buckets) = (isNew, buckets)
        let commits = group.commits.map(\.commit)
        addReceipts(commits.flatMap(\.receipts))
        // In one order, as the receipts.
        for owner in owners.sorted(by: { ($0.high, $0.low) < ($1.high, $1.low) }) {
            run(
                .trimmed(owner), WriteStatements.trimmedReceipts,
                [.bytea(owner.octets), .int8(Int64(Receipt.ownerLimit)), .int8(Int64(Receipt.ownerOctets))])
        }
        addMail(commits, part)
        addStates(commits)
        addEnds(commits)
        addDepartures(commits)
        let forgotten = commits.flatMap(\.forgotten)
        if !forgotten.isEmpty {
            let keys = PostgresColumn(keys: forgotten).value
            run(.other, WriteStatements.forgottenParts, [keys])
            run(.other, WriteStatements.forgotten, [keys])
        }
        // Last: whoever wants to take us for dead waits for a transaction that has it, and this one has come whole.
        run(.fenced, WriteStatements.fenced, [.text(fence.node), .int4(fence.line), .int8(fence.incarnation)])
        batch.sync()
        if asksForStandby {
            run(.standby, WriteStatements.standby, [])
            batch.sync()
        }
    }

    private mutating func run(_ step: Step, _ statement: PostgresStatement, _ values: [PostgresValue]) {
        steps.append(step)
        batch.run(statement, values)
    }

    /// What the answers to the steps come to.
    func answer(_ rows: [PostgresRows]) -> Answer {
        var answer = Answer()
        for (step, rows) in zip(steps, rows) {
            switch step {
            case .fenced, .receipts, .other: break
            case .states(let count): if rows.int(0, 0) < count { answer.isShort = true }
            case .ended: answer.missing = (0..<rows.count).map { rows.id($0, 0) }
            case .standby: answer.hasStandby = rows.bool(0, 0)
            case .trimmed(let owner):
                answer.owners.append((owner, .init(number: Int(rows.int(0, 0)), octets: Int(rows.int(0, 1)))))
            }
        }
        return answer
    }

    /// Whether the step that was refused says that the line was fenced off.
    func isFence(step: Int) -> Bool { step < steps.count && steps[step].isFenced }

    /// Whether all was committed, and only what it is worth was not said.
    func isStandby(step: Int) -> Bool { step < steps.count && steps[step].isStandby }

    /// Whether it says that a receipt is there already.
    func isReceipts(step: Int) -> Bool { step < steps.count && steps[step].isReceipts }
}

extension WriteBatch.Step {
    fileprivate var isFenced: Bool { if case .fenced = self { true } else { false } }
    fileprivate var isStandby: Bool { if case .standby = self { true } else { false } }
    fileprivate var isReceipts: Bool { if case .receipts = self { true } else { false } }
}

// MARK: Columns

extension WriteBatch {
    private mutating func addReceipts(_ receipts: [Receipt]) {
        if receipts.isEmpty { return }
        // In the order of their keys: groups of two nodes wait for each other, and never in a circle.
        let receipts = receipts.sorted { $0.key.octets.lexicographicallyPrecedes($1.key.octets) }
        let columns = ReceiptColumns(receipts)
        run(.other, WriteStatements.clearedParts, [columns.key])
        run(.receipts, WriteStatements.receipts, columns.values + [.int8(Int64(receipts.count))])
        if columns.hasParts { run(.other, WriteStatements.receiptParts, columns.partValues) }
    }

    private mutating func addMail(_ commits: [QueueCommit], _ part: Int) {
        var contents = (ids: PostgresColumn(.uuid), octets: PostgresColumn(.bytea))
        /// Of large messages, whose rest is in a table that was written before.
        var other: [(part: Int, id: QueueID, head: ByteBuffer)] = []
        var rests: [Int: (ids: PostgresColumn, octets: PostgresColumn)] = [:]
        var items = ItemColumns()
        for commit in commits {
            guard let first = commit.accepted.first, let message = commit.message else { continue }
            let rest = message.rest as? SpooledChunks
            let withReceipt = Set(commit.receipts.flatMap { $0.envelopes.map(\.id) })
            if let rest {
                rests[rest.part, default: (PostgresColumn(.uuid), PostgresColumn(.int8))].ids.append(rest.reference.id)
                rests[rest.part]?.octets.append(rest.reference.length)
            }
            if let rest, rest.part != part {
                other.append((rest.part, first.envelope.id, message.head))
            } else {
                contents.ids.append(first.envelope.id)
                contents.octets.append(message.head)
            }
            for accepted in commit.accepted {
                let envelope = accepted.envelope
                items.add(
                    envelope, due: accepted.due, message, of: first.envelope.id, part: rest?.part ?? part,
                    bucket: Int32(envelope.id.bucket(of: buckets)),
                    withReceipt.contains(envelope.id) ? .receipt : [])
            }
        }
        if items.isEmpty { return }
        for (part, rests) in rests.sorted(by: { $0.key < $1.key }) {
            run(.other, WriteStatements.whole[part], [rests.ids.value, rests.octets.value])
        }
        let statements = isNew ? WriteStatements.contents : WriteStatements.contentsAgain
        if contents.ids.count > 0 {
            run(.other, statements[part], [contents.ids.value, contents.octets.value])
        }
        for (part, id, head) in other {
            var one = (ids: PostgresColumn(.uuid), octets: PostgresColumn(.bytea))
            one.ids.append(id)
            one.octets.append(head)
            run(.other, statements[part], [one.ids.value, one.octets.value])
        }
        var names = (buckets: PostgresColumn(.int4), ids: PostgresColumn(.uuid))
        for commit in commits where commit.isForOthers {
            let ended = Set(commit.ended.map(\.id))
            for id in commit.accepted.map(\.envelope.id) where !ended.contains(id) {
                names.buckets.append(Int32(id.bucket(of: buckets)))
                names.ids.append(id)
            }
        }
        run(.other, isNew ? WriteStatements.accepted : WriteStatements.acceptedAgain, items.asNew)
        if names.ids.count > 0 { run(.other, WriteStatements.named, [names.buckets.value, names.ids.value]) }
    }

    private mutating func addStates(_ commits: [QueueCommit]) {
        var columns = StateColumns()
        for commit in commits {
            // What is said last of an envelope is the truth.
            var last: [QueueID: EnvelopeState] = [:]
            for state in commit.states { last[state.id] = state }
            for state in last.values { columns.add(state, bucket: Int32(state.id.bucket(of: buckets))) }
        }
        if !columns.isEmpty { run(.states(columns.count), WriteStatements.states, columns.asChanged) }
    }

    private mutating func addEnds(_ commits: [QueueCommit]) {
        var numbers = PostgresColumn(.int4)
        var ids = PostgresColumn(.uuid)
        var counts = Array(repeating: PostgresColumn(.int4), count: 4)
        var names = PostgresColumn(.text)
        var records = PostgresColumn(.bytea)
        let output = OutputBuffer(capacity: OutputBuffer.page)
        for ending in commits.flatMap(\.ended) {
            numbers.append(Int32(ending.id.bucket(of: buckets)))
            ids.append(ending.id)
            for (place, count) in [ending.delivered, ending.bounced, ending.expired, ending.removed].enumerated() {
                counts[place].append(Int32(clamping: count))
            }
            names.append((ending.by ?? "").cut(toOctets: Ledger.nameLimit))
            output.removeAll()
            EndedCodec.encode(ending, into: output)
            records.append(output.octets)
        }
        if ids.count == 0 { return }
        run(
            .ended, WriteStatements.ended,
            [numbers.value, ids.value] + counts.map(\.value) + [names.value, records.value])
    }

    private mutating func addDepartures(_ commits: [QueueCommit]) {
        var numbers = PostgresColumn(.int4)
        var ids = PostgresColumn(.uuid)
        for id in commits.flatMap(\.departed) {
            numbers.append(Int32(id.bucket(of: buckets)))
            ids.append(id)
        }
        if ids.count > 0 { run(.other, WriteStatements.departed, [numbers.value, ids.value]) }
    }
}

extension ItemColumns {
    /// As `accepted` has them.
    fileprivate var asNew: [PostgresValue] {
        [
            buckets, ids, messages, parts, octets, rests, restOctets, restSums, received, due, flags, destinations,
            recipients, envelopes,
        ].map(\.value)
    }
}

extension StateColumns {
    /// As `states` has them.
    fileprivate var asChanged: [PostgresValue] {
        ([buckets, ids, due, tried, attempts, flags, pending] + fates + [records]).map(\.value)
    }
}
