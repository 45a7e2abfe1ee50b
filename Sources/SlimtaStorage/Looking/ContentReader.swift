// Reads an envelope back from wherever it is: a frame of the journal or a sealed file. Called by the threads of the
// pool for `load`, by the checkpoint, and by the inspector.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import Synchronization

extension Envelope {
    /// Whose it is and for whom, for reports of damage. A thousand recipients are no line of a log.
    var summary: String {
        let shown = recipients.prefix(20).map(\.text).joined(separator: ", ")
        return "from \(senderText) to \(shown)" + (recipients.count > 20 ? ", ... (\(recipients.count - 20) more)" : "")
    }
}

/// Reads envelopes. Belongs to one thread.
struct ContentReader {
    let core: StorageCore
    private let frames: FrameReader
    /// States are elsewhere in the journal than contents: who reads both by turns would read all anew each time.
    private let stateFrames: FrameReader
    private let isReadOnly: Bool

    /// `windowSize` octets of the journal are read at a time. `isReadOnly`: damage is told, and nothing moved aside.
    init(_ core: StorageCore, windowSize: Int, isReadOnly: Bool = false) {
        self.core = core
        self.isReadOnly = isReadOnly
        frames = FrameReader(core.fileSystem, windowSize: windowSize)
        stateFrames = FrameReader(core.fileSystem, windowSize: windowSize)
    }

    /// The envelope `id`, as it is now. If only its state is damaged it is as it was before, or as it was accepted.
    func load(_ id: QueueID, spool: (SpoolReference) -> any SpooledBody) throws(StorageError) -> StoredEnvelope {
        try find(id) { entry, body in
            try read(entry, body, spool)
        } orElse: { entry, body, failure in
            isReadOnly ? nil : withOlderState(entry, body, failure, spool)
        }
    }

    /// What can still be read of an envelope that `load` cannot read: whose it is and for whom, without its message. nil:
    /// not even that, or not who of several has it already.
    func remains(of id: QueueID) -> StoredEnvelope? {
        let found = core.index.withLock { index in index.entry(id).map { ($0, index.fates($0)) } }
        guard let (entry, fates) = found else { return core.lostEnvelopes.withLock { $0[id] } }
        return remains(entry, fates)
    }

    func remains(_ entry: IndexEntry, _ fates: Fates) -> StoredEnvelope? {
        // Of a frame whose checksum is wrong most is still what it was.
        let known = (try? withEnvelope(entry) { try EnvelopeCodec.decode($0) }) ?? legible(entry)
        guard let (envelope, due) = known, envelope.id == entry.id, RecipientCount(envelope) == entry.recipients else {
            return nil
        }
        let state =
            (try? withState(entry) { try StateCodec.decode($0) }) ?? EnvelopeState(of: envelope, due: due)
        guard Fates(state) == fates, state.recipients.count == envelope.recipients.count else { return nil }
        return StoredEnvelope(envelope: envelope, state: state, message: Message(head: ByteBuffer()), isRemains: true)
    }

    /// The envelope of a frame of the journal whose checksum is wrong.
    private func legible(_ entry: IndexEntry) -> (Envelope, Timestamp)? {
        defer { withExtendedLifetime(frames) {} }
        guard entry.envelope.isJournal, let segment = core.segment(entry.envelope.segment),
            let octets = try? frames.frameOctets(segment, at: entry.envelope.offset), octets.count > FrameHeader.size
        else { return nil }
        var cursor = InputCursor(UnsafeRawBufferPointer(rebasing: octets.dropFirst(FrameHeader.size)))
        while let field = try? cursor.field() {
            guard field.tag == RecordTag.envelope, let found = try? EnvelopeCodec.decode(field.value),
                found.0.id == entry.id
            else { continue }
            return found
        }
        return nil
    }

    private func withOlderState(
        _ entry: IndexEntry, _ body: IndexBody?, _ failure: FileFailure, _ spool: (SpoolReference) -> any SpooledBody
    ) -> StoredEnvelope? {
        guard let (envelope, due) = try? withEnvelope(entry, { try EnvelopeCodec.decode($0) }),
            let head = try? withBody(entry, body, { ByteBuffer(bytes: $0) })
        else { return nil }
        var older = entry
        older.state = .none
        let known = try? withState(older) { try StateCodec.decode($0) }
        let state = known ?? EnvelopeState(of: envelope, due: due)
        guard state.recipients.count == envelope.recipients.count else { return nil }
        core.index.withLock { index in
            // Nothing newer is known of its recipients either.
            if let slot = index.slot(of: entry.id), index.entry(at: slot)?.state == entry.state {
                index.settle(slot, Fates(state))
            }
        }
        let kept = entry.state.isJournal ? nil : core.quarantine(.meta, entry.id, of: entry.meta)
        core.report(
            .damaged(
                what: "state of an envelope", id: entry.id, description: "\(failure): \(envelope.summary)",
                quarantine: kept))
        core.report(.resurrected(entry.id))
        return StoredEnvelope(
            envelope: envelope, state: state, message: Message(head: head, rest: body?.spool.map(spool)))
    }

    /// The envelope `id` without its message, as it is now.
    func envelope(_ id: QueueID) throws(StorageError) -> QueuedEnvelope {
        try find(id) { entry, _ in
            let (envelope, state) = try envelope(entry)
            return QueuedEnvelope(envelope: envelope, state: state)
        }
    }

    /// The state of the envelope `id`, as it is now.
    func state(_ id: QueueID) throws(StorageError) -> EnvelopeState {
        try find(id) { entry, _ in
            if let state = try withState(entry, { try StateCodec.decode($0) }) { return state }
            let (envelope, due) = try withEnvelope(entry) { try EnvelopeCodec.decode($0) }
            return EnvelopeState(of: envelope, due: due)
        }
    }

    /// The places of `ids` in the order in which they are best read: that of the journal, where each window that is
    /// read comes from the disk.
    func readingOrder(_ ids: [QueueID]) -> [Int] {
        let places = core.index.withLock { index in
            ids.map { index.entry($0)?.readingPlace ?? .none }
        }
        return ids.indices.sorted { places[$0] < places[$1] }
    }

    private func find<Result>(
        _ id: QueueID, _ read: (IndexEntry, IndexBody?) throws -> Result,
        orElse mended: (IndexEntry, IndexBody?, FileFailure) -> Result? = { _, _, _ in nil }
    ) throws(StorageError) -> Result {
        var last: FileFailure?
        // A checkpoint may move it while it is read: then it is looked up again.
        for _ in 0..<8 {
            let found = core.index.withLock { index in index.entry(id).map { ($0, index.body($0)) } }
            guard let (entry, body) = found else {
                guard core.lostEnvelopes.withLock({ $0[id] }) == nil else {
                    throw .damaged("its record was unreadable")
                }
                throw .notFound
            }
            do {
                return try read(entry, body)
            } catch {
                let failure = FileFailure(error)
                if let now = core.index.withLock({ $0.entry(id) }),
                    now.envelope == entry.envelope, now.state == entry.state, now.meta == entry.meta
                {
                    if case .system = failure { throw .failed(failure.description) }
                    if let result = mended(entry, body, failure) { return result }
                    throw damaged(entry, body, failure)
                }
                last = failure
            }
        }
        throw .failed(last?.description ?? "the record is moving")
    }

    private func read(
        _ entry: IndexEntry, _ body: IndexBody?, _ spool: (SpoolReference) -> any SpooledBody
    ) throws -> StoredEnvelope {
        let (envelope, state) = try envelope(entry)
        let head = try withBody(entry, body) { ByteBuffer(bytes: $0) }
        return StoredEnvelope(
            envelope: envelope, state: state, message: Message(head: head, rest: body?.spool.map(spool)))
    }

    private func envelope(_ entry: IndexEntry) throws -> (Envelope, EnvelopeState) {
        let (envelope, due) = try withEnvelope(entry) { try EnvelopeCodec.decode($0) }
        let state = try withState(entry) { try StateCodec.decode($0) } ?? EnvelopeState(of: envelope, due: due)
        return (envelope, state)
    }

    /// Calls `use` with the record of the envelope.
    func withEnvelope<Result>(_ entry: IndexEntry, _ use: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
        defer { withExtendedLifetime(frames) {} }
        if entry.envelope.isJournal {
            return try use(try field(entry.envelope, RecordTag.envelope, entry.id, frames))
        }
        return try sealed(entry.envelope.generation).fetch(.envelope, entry.id) { try use($0.payload) }
    }

    /// Calls `use` with the message's octets that are kept beside the envelope.
    func withBody<Result>(
        _ entry: IndexEntry, _ body: IndexBody?, _ use: (UnsafeRawBufferPointer) throws -> Result
    ) throws -> Result {
        defer { withExtendedLifetime(frames) {} }
        if entry.envelope.isJournal {
            return try use(try field(entry.envelope, RecordTag.body, nil, frames))
        }
        return try sealed(entry.envelope.generation).fetch(.body, body?.id ?? entry.id) { try use($0.payload) }
    }

    /// Calls `use` with the newest state; nil: it is as it was accepted.
    func withState<Result>(
        _ entry: IndexEntry, _ use: (UnsafeRawBufferPointer) throws -> Result
    ) throws -> Result? {
        defer { withExtendedLifetime(stateFrames) {} }
        if entry.state.isJournal { return try use(try field(entry.state, RecordTag.state, entry.id, stateFrames)) }
        guard entry.meta != 0 else { return nil }
        return try sealed(entry.meta).fetch(.meta, entry.id) { try use(try MetaRecord.decode($0.payload).state) }
    }

    /// Calls `use` with the sealed record of an envelope's state.
    func withMeta<Result>(_ entry: IndexEntry, _ use: (MetaRecord) throws -> Result) throws -> Result {
        try sealed(entry.meta).fetch(.meta, entry.id) { try use(try MetaRecord.decode($0.payload).0) }
    }

    private func sealed(_ number: UInt32) throws -> Generation {
        guard let generation = core.generation(number) else { throw FileFailure.retired }
        return generation
    }

    /// The field of a frame: the last one with this tag, and this id if it is the record of an envelope or a state.
    private func field(
        _ location: Location, _ tag: UInt8, _ id: QueueID?, _ frames: FrameReader
    ) throws -> UnsafeRawBufferPointer {
        guard let segment = core.segment(location.segment) else { throw FileFailure.retired }
        var cursor = InputCursor(try frames.frame(segment, at: location.offset).payload)
        var found: UnsafeRawBufferPointer?
        while found == nil || tag == RecordTag.state, let field = try cursor.field() {
            guard field.tag == tag else { continue }
            if let id {
                var inner = field.cursor
                guard let first = try inner.field(), first.tag == 1, try first.id() == id else { continue }
            }
            found = field.value
        }
        guard let found else { throw FormatError("frame content") }
        return found
    }

    /// Moves what is left of an unreadable record aside.
    private func damaged(_ entry: IndexEntry, _ body: IndexBody?, _ failure: FileFailure) -> StorageError {
        defer { withExtendedLifetime(frames) {} }
        var kept: String?
        var description = failure.description
        if !isReadOnly, entry.envelope.isJournal, let segment = core.segment(entry.envelope.segment),
            let octets = try? frames.frameOctets(segment, at: entry.envelope.offset)
        {
            let size = FrameHeader(octets).map { min($0.frameSize, octets.count) } ?? OutputBuffer.page
            kept = core.quarantine("\(entry.id)", UnsafeRawBufferPointer(rebasing: octets.prefix(size)))
        }
        if !isReadOnly, !entry.envelope.isJournal { kept = core.quarantineRecords(entry, body) }
        if let (envelope, _) = try? withEnvelope(entry, { try EnvelopeCodec.decode($0) }) {
            description += ": \(envelope.summary)"
        }
        core.report(
            .damaged(what: "record of an envelope", id: entry.id, description: description, quarantine: kept))
        return .damaged(description)
    }
}

extension StorageCore {
    /// Keeps the sealed records of an envelope, one of which cannot be read; the path of one of them.
    func quarantineRecords(_ entry: IndexEntry, _ body: IndexBody?) -> String? {
        let contents = entry.envelope.generation
        let envelope = quarantine(.envelope, entry.id, of: contents)
        let message = quarantine(.body, body?.id ?? entry.id, of: contents)
        let state = entry.meta == 0 ? nil : quarantine(.meta, entry.id, of: entry.meta)
        return envelope ?? message ?? state
    }
}
