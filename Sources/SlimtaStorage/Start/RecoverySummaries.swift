// What the scheduler is told of each envelope, while recovery does not yet know whether it is the last word. Large queues
// pass through here, so it is small, grows without being copied, and is given back piece by piece.

import SlimtaMail
import SlimtaQueue

/// What is known of the envelopes in the index's slots, besides what the index knows.
struct RecoverySummaries: ~Copyable {
    /// 36 octets.
    private struct Summary {
        var received: Int64 = 0
        var due: Int64 = 0
        /// `.min`: not known.
        var tried = Int64.min
        var attempts: UInt32 = 0
        var domains: UInt32 = 0
        /// Index of the first pending recipient, or `noRecipient`; the highest bits: held, warned.
        var position: UInt32 = 0
    }

    private static let chunkSize = 4096
    private static let heldBit: UInt32 = 1 << 31
    private static let warnedBit: UInt32 = 1 << 30
    private static let noRecipient = warnedBit - 1

    private var chunks: [UnsafeMutablePointer<Summary>?] = []
    private var domainLists: [[DomainRun]] = []
    private var domainNumbers: [[DomainRun]: UInt32] = [:]

    deinit { for case let chunk? in chunks { chunk.deallocate() } }

    private mutating func pointer(_ slot: UInt32) -> UnsafeMutablePointer<Summary> {
        let number = Int(slot) / Self.chunkSize
        while number >= chunks.count { chunks.append(nil) }
        if chunks[number] == nil {
            let chunk = UnsafeMutablePointer<Summary>.allocate(capacity: Self.chunkSize)
            chunk.initialize(repeating: Summary(), count: Self.chunkSize)
            chunks[number] = chunk
        }
        return chunks[number]! + Int(slot) % Self.chunkSize
    }

    /// An envelope is in this slot now.
    mutating func set(_ slot: UInt32, received: Timestamp, _ state: StateOutline, _ domains: [DomainRun]) {
        let summary = pointer(slot)
        summary.pointee.received = received.milliseconds
        summary.pointee.domains = number(domains)
        update(summary, state)
    }

    /// The envelope in this slot has a newer state.
    mutating func update(_ slot: UInt32, _ state: StateOutline) { update(pointer(slot), state) }

    private func update(_ summary: UnsafeMutablePointer<Summary>, _ state: StateOutline) {
        summary.pointee.due = state.due.milliseconds
        summary.pointee.attempts = state.attempts
        summary.pointee.tried = state.tried?.milliseconds ?? .min
        summary.pointee.position =
            min(state.firstPending ?? Self.noRecipient, Self.noRecipient) | (state.isHeld ? Self.heldBit : 0)
            | (state.isWarned ? Self.warnedBit : 0)
    }

    private mutating func number(_ domains: [DomainRun]) -> UInt32 {
        if let known = domainNumbers[domains] { return known }
        let number = UInt32(domainLists.count)
        domainLists.append(domains)
        domainNumbers[domains] = number
        return number
    }

    /// Calls `visit` for each slot with an envelope; `id` tells which that is. What was visited is forgotten.
    mutating func takeAll(_ slots: UInt32, id: (UInt32) -> QueueID?, _ visit: (QueuedSummary) -> Void) {
        domainNumbers = [:]
        for slot in 0..<slots {
            if let id = id(slot) {
                let summary = pointer(slot).pointee
                visit(
                    QueuedSummary(
                        id: id, received: Timestamp(milliseconds: summary.received),
                        due: Timestamp(milliseconds: summary.due), attempts: summary.attempts,
                        tried: summary.tried == .min ? nil : Timestamp(milliseconds: summary.tried),
                        isHeld: summary.position & Self.heldBit != 0,
                        isWarned: summary.position & Self.warnedBit != 0, destination: destination(summary)))
            }
            let number = Int(slot) / Self.chunkSize
            if Int(slot) % Self.chunkSize == Self.chunkSize - 1, number < chunks.count, let chunk = chunks[number] {
                chunk.deallocate()
                chunks[number] = nil
            }
        }
    }

    private func destination(_ summary: Summary) -> String {
        var index = summary.position & Self.noRecipient
        for run in domainLists[Int(summary.domains)] {
            if index < run.count { return run.domain }
            index -= run.count
        }
        return ""
    }
}
