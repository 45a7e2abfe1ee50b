// The database's side of a move: who carries joins the nodes, so that its name and its fence are its own, and beats as they do.
// QueueMove has one. It blocks: a command has nothing else to do.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads

/// A node that neither takes mail nor delivers: it carries. Belongs to one caller at a time.
final class MoveDatabase {
    /// What an item is found by.
    struct Place {
        var bucket: Int32
        var id: QueueID
    }

    let form: DatabaseForm
    let base: Int32
    private let options: ClusterOptions
    private let connection: PostgresConnection
    private let incarnation: Int64
    private let fence: Int64
    /// The content table that is written now.
    private(set) var part = 0
    /// By the monotonic clock.
    private var nextBeat: Int64 = 0
    /// What is on the other side no longer, and is to be set down with the next transaction.
    private var waiting: [Place] = []

    /// How long a transaction may take.
    private var patience: Duration { max(options.commitTimeout, .seconds(60)) }

    /// Joins under the node's name, which nobody else works under.
    init(_ options: ClusterOptions) throws(MoveError) {
        self.options = options
        let deadline = Deadline.after(max(options.commitTimeout, .seconds(60)))
        do throws(PostgresError) {
            connection = try PostgresConnection.session(
                options, NodeState(), patience: options.commitTimeout, by: deadline)
        } catch {
            throw MoveError(error)
        }
        do throws(ClusterDatabaseError) { form = try ClusterDatabase.check(connection, by: deadline) } catch {
            throw .database(error)
        }
        do {
            let joined = try connection.run(
                NodeStatements.join,
                [
                    .text(options.node), .text(options.machine), .int4(0), .text(options.egress),
                    .text(options.version), .int8(options.lease.milliseconds), .bool(true), .int8(0),
                    .int4(LineRun.number),
                ], by: deadline)
            guard joined.count == 1 else {
                throw MoveError.others(StorageOpenError.nameInUse(options.node).description)
            }
            (incarnation, fence) = (joined.int(0, 0), joined.int(0, 1))
            var number = try connection.run(MoveStatements.number, [.text(options.node)], by: deadline)
            // Another node has got the number at the same moment.
            if number.count == 0 {
                number = try connection.run(MoveStatements.number, [.text(options.node)], by: deadline)
            }
            guard number.count == 1, let found = Int32(exactly: number.int(0, 0)),
                MoveStatements.numbers.contains(found)
            else { throw MoveError.others("too many nodes carry mail at once: do it again") }
            base = MoveStatements.base(found)
        } catch let error as PostgresError {
            throw MoveError(error)
        } catch let error as MoveError {
            throw error
        } catch {
            throw .others("\(error)")
        }
        try beat()
    }

    /// The bucket of an envelope that nobody carries.
    func bucket(of id: QueueID) -> Int32 { Int32(id.bucket(of: max(1, form.buckets))) }

    // MARK: The node

    /// Tells that we live, if it is time for that.
    func beat() throws(MoveError) {
        let now = monotonicMilliseconds()
        if now < nextBeat { return }
        var batch = PostgresBatch()
        batch.run(NodeStatements.beat, [.text(options.node), .int8(incarnation), .int4(Int32(part))])
        batch.run(NodeStatements.ring, [])
        batch.sync()
        let rows = try run(batch)
        guard rows[0].count == 1 else { throw .fenced }
        let isNews = rows[1].count == 1 && Int(rows[1].int(0, 0)) != part
        if isNews { part = Int(rows[1].int(0, 0)) }
        nextBeat = now + (options.lease / 5).milliseconds
        // Nobody is to empty the table that we write.
        if isNews { nextBeat = now }
        if isNews { try beat() }
    }

    /// Leaves. If that does not come through, the others find out when the lease is over.
    func leave() {
        var batch = PostgresBatch()
        for statement in [NodeStatements.fence, NodeStatements.leave, NodeStatements.gone] {
            batch.run(statement, [.text(options.node), .int8(incarnation)])
        }
        batch.sync()
        _ = try? connection.run(batch, by: .after(options.commitTimeout))
        connection.close()
    }

    /// All of the queue becomes ours, or, if anybody else works with it, nothing.
    func takeAll() throws(MoveError) {
        let lease = options.lease.milliseconds
        let others = try run(MoveStatements.others, [.text(options.node), .int8(lease)])
        for row in 0..<others.count {
            let name = others.text(row, 0)
            if others.bool(row, 1) {
                var batch = PostgresBatch()
                let values: [PostgresValue] = [.text(name), .int8(others.int(row, 3))]
                batch.run(NodeStatements.declareDead, values + [.int8(lease)])
                batch.run(NodeStatements.fenceOff, values)
                batch.run(NodeStatements.setFree, values)
                batch.sync()
                _ = try run(batch)
            } else if !others.bool(row, 2) || others.int(row, 4) > 0 {
                throw .others(Self.works(name))
            }
        }
        let left = try run(MoveStatements.takeAll, [.text(options.node), .int8(incarnation)])
        if left.int(0, 0) > 0 { throw .others(Self.works("another one")) }
    }

    private static func works(_ name: String) -> String {
        "node \(name) works with the queue: stop slimtad on all machines that share it, then try again"
    }

    // MARK: Transactions

    private func run(_ batch: PostgresBatch) throws(MoveError) -> [PostgresRows] {
        do throws(PostgresError) { return try connection.run(batch, by: .after(patience)) } catch {
            throw .database(.server(error))
        }
    }

    private func run(_ statement: PostgresStatement, _ values: [PostgresValue]) throws(MoveError) -> PostgresRows {
        do throws(PostgresError) { return try connection.run(statement, values, by: .after(patience)) } catch {
            throw .database(.server(error))
        }
    }

    /// One transaction, as long as we are who we were, and durable where it has to be.
    private func transact(_ fill: (inout PostgresBatch) -> Void) throws(MoveError) -> [PostgresRows] {
        try beat()
        var batch = PostgresBatch()
        fill(&batch)
        let last = batch.count
        batch.run(
            WriteStatements.fenced, [.text(options.node), .int4(LineRun.number), .int8(fence)])
        batch.sync()
        if options.needsStandby {
            batch.run(WriteStatements.standby, [])
            batch.sync()
        }
        var attempts = 0
        while true {
            do throws(PostgresError) {
                let rows = try connection.run(batch, by: .after(patience))
                if options.needsStandby, !rows[last + 1].bool(0, 0) { throw .warned(PostgresConnection.noStandby) }
                return rows
            } catch {
                guard case .refused(let code, _, let step) = error else { throw .database(.server(error)) }
                if step == last, code == PostgresCode.divisionByZero { throw .fenced }
                attempts += 1
                guard step <= last, PostgresCode.retriable.contains(code), attempts < 4 else {
                    throw .database(.server(error))
                }
            }
        }
    }

    // MARK: Into the database

    /// What is carried in together.
    struct Group {
        /// Each with the id of the first one that has its message, and the content table of a large one's rest.
        var envelopes: [(stored: StoredEnvelope, message: QueueID, part: Int?)] = []
        var octets = 0
    }

    /// Makes envelopes durable where no node looks for them; what has left the other side before is set down.
    func carryIn(_ group: Group) throws(MoveError) {
        try beat()
        var items = MovedColumns()
        var contents: [Int: (ids: PostgresColumn, octets: PostgresColumn)] = [:]
        var rests: [Int: (ids: PostgresColumn, octets: PostgresColumn)] = [:]
        for (stored, message, restPart) in group.envelopes {
            let id = stored.envelope.id
            let part = restPart ?? self.part
            items.add(stored, message: message, part: part, bucket: bucket(of: id))
            guard message == id else { continue }
            contents[part, default: (PostgresColumn(.uuid), PostgresColumn(.bytea))].ids.append(id)
            contents[part]?.octets.append(stored.message.head)
            if let reference = stored.message.rest?.reference {
                rests[part, default: (PostgresColumn(.uuid), PostgresColumn(.int8))].ids.append(reference.id)
                rests[part]?.octets.append(reference.length)
            }
        }
        let down = waiting
        _ = try transact { batch in
            setDown(down, in: &batch)
            for (part, rests) in rests.sorted(by: { $0.key < $1.key }) {
                batch.run(WriteStatements.whole[part], [rests.ids.value, rests.octets.value])
            }
            for (part, contents) in contents.sorted(by: { $0.key < $1.key }) {
                batch.run(WriteStatements.contentsAgain[part], [contents.ids.value, contents.octets.value])
            }
            batch.run(MoveStatements.carriedIn, items.values(base: base))
        }
        waiting = []
    }

    /// These have left the other side.
    func arrived(_ ids: [QueueID]) { waiting += ids.map { Place(bucket: base - bucket(of: $0), id: $0) } }

    /// Sets down what has left the other side.
    func setDown() throws(MoveError) {
        if waiting.isEmpty { return }
        let down = waiting
        _ = try transact { setDown(down, in: &$0) }
        waiting = []
    }

    /// These are as if nobody had ever taken them up.
    func putBack(_ places: [Place]) throws(MoveError) {
        if !places.isEmpty { _ = try transact { setDown(places, in: &$0) } }
    }

    private func setDown(_ places: [Place], in batch: inout PostgresBatch) {
        if places.isEmpty { return }
        let (buckets, ids) = Self.columns(places)
        batch.run(MoveStatements.setDown, [.int4(base), buckets, ids])
    }

    private static func columns(_ places: [Place]) -> (PostgresValue, PostgresValue) {
        var buckets = PostgresColumn(.int4)
        var ids = PostgresColumn(.uuid)
        for place in places {
            buckets.append(place.bucket)
            ids.append(place.id)
        }
        return (buckets.value, ids.value)
    }

    /// A piece of a large message, from 1 on.
    func put(_ number: Int32, of id: QueueID, _ octets: ByteBuffer, part: Int) throws(MoveError) {
        try beat()
        _ = try run(MoveStatements.piece[part], [.uuid(id), .int4(number), .bytea(octets)])
    }

    /// Receipts come in whose keys are not there.
    func put(_ receipts: [Receipt]) throws(MoveError) {
        let columns = ReceiptColumns(receipts)
        let values = columns.values + columns.partValues
        _ = try transact { $0.run(MoveStatements.receiptsIn, values) }
    }

    // MARK: Out of the database

    /// How much is in the queue, and how much is carried.
    func counts() throws(MoveError) -> (queued: Int, carried: Int) {
        let rows = try run(MoveStatements.counts, [.int4(base)])
        return (Int(rows.int(0, 0)), Int(rows.int(0, 1)))
    }

    /// Takes up what comes behind a place; the last of it. nil: there is no more.
    func takeUp(after place: Place, count: Int) throws(MoveError) -> Place? {
        let rows = try transact { batch in
            batch.run(
                MoveStatements.takeUp, [.int4(base), .int4(place.bucket), .uuid(place.id), .int8(Int64(count))])
        }[0]
        return rows.count == 0 ? nil : Place(bucket: Int32(rows.int(0, 0)), id: rows.id(0, 1))
    }

    /// What is carried, behind a place.
    func carried(after place: Place?, count: Int) throws(MoveError) -> PostgresRows {
        try beat()
        return try run(
            MoveStatements.carried,
            [
                .int4(base), .int4(place?.bucket ?? .min), .uuid(place?.id ?? QueueID(high: 0, low: 0)),
                .int8(Int64(count)),
            ])
    }

    /// Messages without the rest of large ones, by their ids: those that are there.
    func heads(_ ids: [QueueID], part: Int) throws(MoveError) -> [QueueID: ByteBuffer] {
        var column = PostgresColumn(.uuid)
        for id in ids { column.append(id) }
        let rows = try run(MoveStatements.heads[part], [column.value])
        var heads: [QueueID: ByteBuffer] = [:]
        for row in 0..<rows.count { heads[rows.id(row, 0)] = rows.withOctets(row, 1) { ByteBuffer(bytes: $0) } }
        return heads
    }

    /// A piece of a large message; nil: it is not there.
    func piece(_ number: Int32, of id: QueueID, part: Int) throws(MoveError) -> ByteBuffer? {
        try beat()
        let rows = try run(ContentStatements.chunks[part], [.uuid(id), .int4(number)])
        return rows.count == 0 ? nil : rows.withOctets(0, 0) { ByteBuffer(bytes: $0) }
    }

    /// These are on the other side: they were never accepted here.
    func takeOut(_ places: [Place]) throws(MoveError) {
        if places.isEmpty { return }
        let (buckets, ids) = Self.columns(places)
        _ = try transact { $0.run(WriteStatements.departed, [buckets, ids]) }
    }

    /// Some receipts.
    struct ReceiptPage {
        var receipts: [Receipt] = []
        /// Those that cannot be read, by their keys in hexadecimal, and why.
        var damaged: [(key: String, reason: String)] = []
        /// The key of the last one, readable or not; nil: there is none.
        var last: [UInt8]?
    }

    /// Receipts behind a key, as they are now.
    func receipts(after key: [UInt8], count: Int) throws(MoveError) -> ReceiptPage {
        try beat()
        let rows = try run(MoveStatements.keys, [.bytea(key), .int8(Int64(count))])
        var found: [(key: [UInt8], receipt: Result<Receipt, FormatError>)] = []
        var places: [[UInt8]: Int] = [:]
        var keys = PostgresColumn(.bytea)
        for row in 0..<rows.count {
            let key = rows.octets(row, 0)
            keys.append(key)
            places[key] = row
            found.append((key, Self.receipt(of: key, rows, row)))
        }
        var page = ReceiptPage(last: found.last?.key)
        if found.isEmpty { return page }
        let endings = try run(MoveStatements.endings, [keys.value])
        for row in 0..<endings.count {
            guard let place = places[endings.octets(row, 0)], case .success(var receipt) = found[place].receipt else {
                continue
            }
            let id = endings.id(row, 1)
            do throws(FormatError) {
                receipt.note(
                    try endings.withOctets(row, 2) { octets throws(FormatError) in
                        try EndedCodec.decode(octets, of: id)
                    })
                found[place].receipt = .success(receipt)
            } catch {
                found[place].receipt = .failure(error)
            }
        }
        for (key, receipt) in found {
            switch receipt {
            case .success(let receipt): page.receipts.append(receipt)
            case .failure(let error):
                let text = key.map { String(hexadecimal: UInt64($0), digits: 2) }.joined()
                page.damaged.append((text, "its record is unreadable (\(error.text))"))
            }
        }
        return page
    }

    private static func receipt(of key: [UInt8], _ rows: PostgresRows, _ row: Int) -> Result<Receipt, FormatError> {
        do throws(FormatError) {
            let receipt = try rows.withOctets(row, 1) { octets throws(FormatError) in try ReceiptCodec.decode(octets) }
            // By another key it would never be forgotten.
            guard receipt.key.octets == key else { throw FormatError("receipt key") }
            return .success(receipt)
        } catch {
            return .failure(error)
        }
    }

    /// Receipts are on the other side.
    func forget(_ keys: [Receipt.Digest]) throws(MoveError) {
        let column = PostgresColumn(keys: keys).value
        _ = try transact { batch in
            batch.run(WriteStatements.forgottenParts, [column])
            batch.run(WriteStatements.forgotten, [column])
        }
    }
}
