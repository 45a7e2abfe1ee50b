// Reads an envelope back, with its message or what is left of it. For attempts, and for operators who look at one.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords

extension ClusterReader {
    /// Reads an envelope back: see ``QueueStorage/load(_:)``.
    func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope {
        try node.reachable()
        return try await pool.run { connection, deadline in
            do {
                return try self.read(id, mustBeOurs: true, connection, deadline)
            } catch let damage as Damage {
                self.losses.note(damage, connection, deadline)
                throw StorageError.damaged(damage.text)
            }
        }
    }

    /// Reads an envelope back, whoever has it: see ``QueueBackend/look(at:)``.
    func look(at id: QueueID) async throws(StorageError) -> StoredEnvelope {
        try node.reachable()
        return try await pool.run { connection, deadline in
            do {
                return try self.read(id, mustBeOurs: false, connection, deadline)
            } catch let damage as Damage {
                throw StorageError.damaged(damage.text)
            }
        }
    }

    /// What is left of an envelope: see ``QueueStorage/remains(of:)``. Nothing if it is not known who has it already.
    func remains(of id: QueueID) async -> StoredEnvelope? {
        if node.unreachable != nil { return nil }
        let found: StoredEnvelope?? = try? await pool.run { [node] connection, deadline in
            let rows = try connection.run(
                ContentStatements.item, [.int4(node.bucketNumber(of: id)), .uuid(id)], by: deadline)
            guard rows.count == 1, node.owns(id) else { return nil }
            guard let queued = Self.remains(rows, of: id) else { return nil }
            return StoredEnvelope(
                envelope: queued.envelope, state: queued.state, message: Message(head: ByteBuffer()), isRemains: true)
        }
        return found ?? nil
    }

    /// The states of envelopes: see ``QueueStorage/states(_:)``.
    func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] {
        var states: [Result<EnvelopeState, StorageError>] = []
        states.reserveCapacity(ids.count)
        // What is answered at once is in memory at once.
        for start in stride(from: 0, to: ids.count, by: 500) {
            states += await someStates(Array(ids[start..<min(start + 500, ids.count)]))
        }
        return states
    }

    private func someStates(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] {
        do throws(StorageError) {
            try node.reachable()
            return try await pool.run { [node] connection, deadline in
                var buckets = PostgresColumn(.int4)
                var names = PostgresColumn(.uuid)
                for id in ids {
                    buckets.append(node.bucketNumber(of: id))
                    names.append(id)
                }
                let rows = try connection.run(
                    ContentStatements.states, [buckets.value, names.value], by: deadline)
                var found: [QueueID: Result<EnvelopeState, StorageError>] = [:]
                for row in 0..<rows.count {
                    let id = rows.id(row, 0)
                    found[id] = Self.state(rows, row, of: id)
                }
                return ids.map { found[$0] ?? .failure(.notFound) }
            }
        } catch {
            return ids.map { _ in .failure(error) }
        }
    }

    private static func state(
        _ rows: PostgresRows, _ row: Int, of id: QueueID
    ) -> Result<EnvelopeState, StorageError> {
        do throws(FormatError) {
            if let state = try rows.state(row, of: id, 1) { return .success(state) }
            return .success(try rows.record(row, of: id, envelope: 2, state: 1).state)
        } catch {
            return .failure(.damaged(error.text))
        }
    }

    // MARK: On a thread of the pool

    private func read(
        _ id: QueueID, mustBeOurs: Bool, _ connection: PostgresConnection, _ deadline: Deadline
    ) throws -> StoredEnvelope {
        var last: Int64?
        while true {
            let rows = try connection.run(
                ContentStatements.item, [.int4(node.bucketNumber(of: id)), .uuid(id)], by: deadline)
            // Behind the look: what another node has by now it may have delivered.
            guard !mustBeOurs || node.owns(id) else { throw StorageError.lost }
            guard rows.count == 1 else { throw StorageError.notFound }
            let queued: QueuedEnvelope
            do throws(FormatError) {
                queued = try rows.record(0, of: id, envelope: 0, state: 1)
            } catch {
                throw Damage(id, "its record is unreadable (\(error.text))", Self.remains(rows, of: id)?.envelope)
            }
            let part = rows.int(0, 3)
            guard 0...Int64(ContentTable.long) ~= part else {
                throw Damage(id, "its message is in no table", queued.envelope)
            }
            let head = try connection.run(
                ContentStatements.chunks[Int(part)], [.uuid(rows.id(0, 2)), .int4(0)], by: deadline)
            if head.count == 0 {
                // It may have been moved between the two. Where it was sought twice it was all the time.
                if part == last { throw Damage(id, "its message is gone", queued.envelope) }
                last = part
                continue
            }
            let octets = head.withOctets(0, 0) { ByteBuffer(bytes: $0) }
            let rest = rows.rest(0, 5)
            guard Int64(octets.readableBytes) + (rest?.length ?? 0) == rows.int(0, 4) else {
                throw Damage(id, "its message has another length", queued.envelope)
            }
            let body = rest.map { StoredRest($0, part: Int(part), of: id, access) }
            return StoredEnvelope(
                envelope: queued.envelope, state: queued.state, message: Message(head: octets, rest: body))
        }
    }

    /// The envelope of a row of `item`, and how far it is; nil if that cannot be read.
    private static func remains(_ rows: PostgresRows, of id: QueueID) -> QueuedEnvelope? {
        if let queued = try? rows.record(0, of: id, envelope: 0, state: 1) { return queued }
        let known = try? rows.withOctets(0, 0) { octets throws(FormatError) in try EnvelopeCodec.decode(octets) }
        guard let (envelope, due) = known, envelope.id == id, rows.int(0, 12) == envelope.recipients.count else {
            return nil
        }
        // Nobody has it yet: then it is as it was accepted.
        let ended = (8...11).reduce(0) { $0 + rows.int(0, $1) }
        return ended == 0 ? QueuedEnvelope(envelope: envelope, state: EnvelopeState(of: envelope, due: due)) : nil
    }
}
