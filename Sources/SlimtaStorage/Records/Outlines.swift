// What recovery and checkpoints need of envelopes and states, and what a record of an envelope says more in GDBM.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// In GDBM a record of an envelope has two fields more:
///
///     240 id of the body, if it is not the envelope's  241 where the rest of the message is
extension EnvelopeCodec {
    /// Adds to a record that goes to GDBM what a frame of the journal says beside it.
    static func appendBody(_ body: IndexBody?, into output: OutputBuffer) {
        guard let body else { return }
        output.field(240, body.id)
        if let spool = body.spool { SpoolCodec.encode(spool, tag: 241, into: output) }
    }

    /// What recovery needs of an envelope, without making strings of the rest.
    static func outline(_ octets: UnsafeRawBufferPointer) throws(FormatError) -> EnvelopeOutline {
        var cursor = InputCursor(octets)
        var id: QueueID?
        var received: Timestamp?
        var due: Timestamp?
        var domains: [DomainRun] = []
        var body: QueueID?
        var spool: SpoolReference?
        var isNotice = true
        while let field = try cursor.field() {
            switch field.tag {
            case 1: id = try field.id()
            case 2: isNotice = false
            case 3:
                var cursor = field.cursor
                let local: UInt32 = try cursor.number()
                _ = try cursor.octets(Int(local))
                let domain = String(decoding: cursor.rest, as: UTF8.self).foldedAsDomain()
                if domains.last?.domain == domain {
                    domains[domains.count - 1].count += 1
                } else {
                    domains.append(DomainRun(count: 1, domain: domain))
                }
            case 4: received = Timestamp(milliseconds: try field.number())
            case 5: due = Timestamp(milliseconds: try field.number())
            case 240: body = try field.id()
            case 241: spool = try SpoolCodec.decode(field)
            default: break
            }
        }
        guard let id, let received, let due else { throw FormatError("envelope") }
        return EnvelopeOutline(
            id: id, received: received, due: due, domains: domains, isNotice: isNotice, body: body, spool: spool)
    }
}

/// What recovery needs of an envelope.
struct EnvelopeOutline {
    var id: QueueID
    var received: Timestamp
    var due: Timestamp
    var domains: [DomainRun]
    /// Without a sender: sent by slimtad itself.
    var isNotice: Bool
    /// Only in GDBM: see `appendBody`.
    var body: QueueID?
    var spool: SpoolReference?

    var recipients: RecipientCount { RecipientCount(domains, isNotice: isNotice) }
    /// Its state as long as nothing else says anything.
    var initial: StateOutline { StateOutline(id: id, due: due, firstPending: domains.isEmpty ? nil : 0) }
}

extension StateCodec {
    /// What recovery needs of a state, without making strings.
    static func outline(_ octets: UnsafeRawBufferPointer) throws(FormatError) -> StateOutline {
        var cursor = InputCursor(octets)
        var id: QueueID?
        var due: Timestamp?
        var outline = StateOutline(id: QueueID(high: 0, low: 0), due: Timestamp(milliseconds: 0))
        var index: UInt32 = 0
        while let field = try cursor.field() {
            switch field.tag {
            case 1: id = try field.id()
            case 2: outline.attempts = try field.number()
            case 3: due = Timestamp(milliseconds: try field.number())
            case 4:
                let flags = try field.number(UInt8.self)
                outline.isHeld = flags & 1 != 0
                outline.isWarned = flags & 2 != 0
            case 5:
                guard let fate = field.value.first else { throw FormatError("fate") }
                switch RecipientState.Fate(rawValue: fate) {
                case .pending: outline.firstPending = outline.firstPending ?? index
                case .delivered: outline.fates.delivered += 1
                case .bounced: outline.fates.bounced += 1
                case .expired: outline.fates.expired += 1
                case .removed: outline.fates.removed += 1
                case nil: throw FormatError("fate")
                }
                index += 1
            case 6:
                var attempt = field.cursor
                outline.tried = Timestamp(milliseconds: try attempt.number())
            default: break
            }
        }
        guard let id, let due else { throw FormatError("state") }
        outline.id = id
        outline.due = due
        return outline
    }
}

/// What recovery needs of a state.
struct StateOutline {
    var id: QueueID
    var due: Timestamp
    var attempts: UInt32 = 0
    /// When the last attempt ended; nil if there was none.
    var tried: Timestamp?
    var isHeld = false
    var isWarned = false
    /// The index of the first recipient that is still to be delivered; nil if there is none.
    var firstPending: UInt32?
    /// How the others ended.
    var fates = Fates()
}

/// Neighbouring recipients with the same folded domain.
struct DomainRun: Hashable {
    var count: UInt32
    var domain: String
}

extension RecipientCount {
    /// What an envelope with recipients in `domains` has.
    init(_ domains: [DomainRun], isNotice: Bool) {
        self.init(domains.reduce(0) { $0 + Int($1.count) }, isNotice ? .notice : .submitted)
    }
}
