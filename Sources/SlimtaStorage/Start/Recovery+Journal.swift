// The part of the start that replays the journal, and tells of what it could not read. Behind Recovery+States.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import Synchronization

extension Recovery {
    func readJournal(upTo limit: UInt64?) throws {
        let counted = isCounted ? superblock.ledger?.accepted : nil
        var scan = JournalScan(
            core, segments, after: isRebuilding ? nil : superblock.checkpointed, upTo: limit, accepted: counted)
        try scan.run { (type, payload, location) throws(FormatError) in
            switch type {
            case .accept, .state, .remove: try self.replay(payload, location)
            case .marker, .abort: AcceptedCount()
            }
        }
        expected = scan.expected
        frames = scan.frames
        let overrun = core.index.withLock { index in
            index.receipts.settle(at: .now())
            return index.receipts.takeOverrun()
        }
        for limit in overrun { core.report(.receiptsForgotten(limit)) }
        for gap in scan.gaps {
            // That the file is missing has been told.
            let isFileMissing = missingSegments.contains { (gap.segment?.number ?? 0) < $0 && $0 < gap.before }
            if gap.first <= scan.durable || isFileMissing {
                if !isFileMissing { damaged(gap) }
                core.index.withLock { $0.count(gap.accepted) }
            } else {
                torn.append(gap.first...gap.last)
                report(gap.segment, gap.from, gap.to) { .tornTail(segment: $0, offset: $1, quarantine: $2) }
            }
        }
        let ledger = core.index.withLock { $0.ledger }
        for segment in segments { segment.ledger = ledger }
        if scan.gaps.isEmpty, scan.tail == nil {
            emptySegments = segments.filter { $0.end == SegmentHeader.space }
            segments.removeAll { $0.end == SegmentHeader.space }
        }
        // While it is written there is always something unfinished at its end.
        if let (segment, offset) = scan.tail, limit == nil {
            report(segment, offset, segment.size) { .tornTail(segment: $0, offset: $1, quarantine: $2) }
        }
    }

    /// Does what a frame says; the recipients that it accepted.
    private func replay(
        _ payload: UnsafeRawBufferPointer, _ location: Location
    ) throws(FormatError) -> AcceptedCount {
        let frame = try FrameContent(payload)
        var body = IndexEntry.noBody
        if let first = frame.envelopes.first, frame.envelopes.count > 1 || frame.spool != nil {
            body = core.index.withLock { $0.addBody(first.id, spool: frame.spool) }
        }
        var accepted = AcceptedCount()
        for outline in frame.envelopes {
            accepted.add(outline.recipients)
            let slot = core.index.withLock { index in
                index.count(outline.recipients)
                index.accept(outline.id, outline.recipients, at: location, body: body)
                return index.slot(of: outline.id)!
            }
            summaries.set(slot, received: outline.received, outline.initial, outline.domains)
        }
        for state in frame.states {
            let slot = core.index.withLock { index in
                index.setState(state.id, state.fates, at: location)
                return index.slot(of: state.id)
            }
            if let slot { summaries.update(slot, state) }
        }
        for (ending, recipients) in frame.endings {
            if frame.departed.contains(ending.id) {
                guard let recipients else { continue }
                accepted.subtract(recipients)
                _ = core.index.withLock { $0.depart(ending.id, recipients) }
                continue
            }
            core.index.withLock { index in
                if index.slot(of: ending.id) != nil {
                    _ = index.end(ending.id, Fates(ending), by: ending.by)
                } else if let recipients {
                    index.count(Fates(ending), of: recipients, by: ending.by)
                }
                index.receipts.note(ending)
            }
        }
        core.index.withLock { index in
            for receipt in frame.receipts { index.receipts.insert(receipt, at: nil) }
            for key in frame.forgotten { index.receipts.forget(key) }
        }
        return accepted
    }

    /// Acknowledged frames are unreadable: what can be read of them is told, and their octets are kept.
    private func damaged(_ gap: JournalGap) {
        isComplete = false
        guard gap.segment != nil else {
            // A segment that an older version made does not say which one was before it.
            return lost(core.paths.journal, "records \(gap.first) to \(gap.last) are missing")
        }
        note(loss: "\(core.paths.journal): records \(gap.first) to \(gap.last) are unreadable")
        var known: [(QueueID, String)] = []
        if let segment = gap.segment,
            let octets = try? core.fileSystem.readAligned(segment, from: gap.from, to: min(gap.to, gap.from + 1 << 20))
        {
            octets.withOctets { known = Self.legible($0, at: gap.from) }
        }
        if known.isEmpty {
            report(gap.segment, gap.from, gap.to) {
                .damaged(
                    what: "journal segment \($0)", id: nil, description: "record \(gap.first) at \($1) is unreadable",
                    quarantine: $2)
            }
        }
        for (id, description) in known {
            report(gap.segment, gap.from, gap.to) {
                .damaged(what: "journal segment \($0)", id: id, description: description, quarantine: $2)
            }
        }
    }

    /// The envelopes that can still be told from the octets of damaged frames, which stood at `offset` of a segment.
    private static func legible(_ octets: UnsafeRawBufferPointer, at offset: Int) -> [(QueueID, String)] {
        var known: [(QueueID, String)] = []
        var place = roundedUp(offset, to: 8) - offset
        while place + FrameHeader.size < octets.count {
            defer { place += 8 }
            // Where a commit begins there is a frame, whatever its header looks like.
            let frame = UnsafeRawBufferPointer(rebasing: octets.dropFirst(place))
            guard FrameHeader(frame) != nil || (offset + place) % OutputBuffer.page == 0 else { continue }
            var cursor = InputCursor(UnsafeRawBufferPointer(rebasing: frame.dropFirst(FrameHeader.size)))
            while let field = try? cursor.field() {
                guard let (id, text) = legible(field), !known.contains(where: { $0.0 == id }) else { continue }
                known.append((id, text))
            }
        }
        return known
    }

    /// What a field of a damaged frame was about.
    private static func legible(_ field: Field) -> (QueueID, String)? {
        switch field.tag {
        case RecordTag.envelope: (try? EnvelopeCodec.decode(field.value)).map { ($0.0.id, $0.0.summary) }
        case RecordTag.state: (try? StateCodec.outline(field.value)).map { ($0.id, "what an attempt came to") }
        case RecordTag.ending: (try? EndingCodec.decode(field)).map { ($0.0.id, "its end") }
        default: nil
        }
    }

    private func report(
        _ segment: Segment?, _ from: Int, _ to: Int, _ event: (UInt64, Int, String?) -> StorageEvent
    ) {
        var kept: String?
        if !isReadOnly, let segment,
            let octets = try? core.fileSystem.readAligned(segment, from: from, to: min(to, from + 1 << 20))
        {
            octets.withOctets { kept = core.quarantine("\(Segment.name(segment.number))-\(from)", $0) }
        }
        core.report(event(segment?.number ?? 0, from, kept))
    }
}

/// What a frame says, as far as a start needs it: read whole before any of it is done.
private struct FrameContent {
    var envelopes: [EnvelopeOutline] = []
    var states: [StateOutline] = []
    var endings: [(Ending, RecipientCount?)] = []
    var departed: Set<QueueID> = []
    var spool: SpoolReference?
    var receipts: [ReceiptRecord] = []
    var forgotten: [Receipt.Digest] = []

    init(_ payload: UnsafeRawBufferPointer) throws(FormatError) {
        var cursor = InputCursor(payload)
        while let field = try cursor.field() {
            switch field.tag {
            case RecordTag.envelope: envelopes.append(try EnvelopeCodec.outline(field.value))
            case RecordTag.spool: spool = try SpoolCodec.decode(field)
            case RecordTag.state: states.append(try StateCodec.outline(field.value))
            case RecordTag.ending: endings.append(try EndingCodec.decode(field))
            case RecordTag.departed: departed.insert(try field.id())
            case RecordTag.outcome:
                let (id, recipients) = try OutcomeCodec.decode(field)
                if let place = endings.lastIndex(where: { $0.0.id == id }) { endings[place].0.recipients = recipients }
            case RecordTag.receipt: receipts.append(try ReceiptRecord(field.value))
            case RecordTag.forgotten: forgotten.append(try field.digest())
            default: break
            }
        }
    }
}
