// How an envelope, its state and its end are written down: in the journal and, octet for octet the same, in GDBM.

import NIOCore
import SlimtaMail
import SlimtaQueue

/// The tags of the fields in a journal frame's payload.
///
/// A record of an envelope is copied into GDBM as it is, so fields that a newer version added survive an older one.
enum RecordTag {
    static let envelope: UInt8 = 1
    /// The message's octets, or of a spooled one the first of them. Once, for all envelopes of the frame.
    static let body: UInt8 = 2
    /// Where the rest of a large message is.
    static let spool: UInt8 = 3
    static let state: UInt8 = 4
    static let removal: UInt8 = 5
    /// Numbers of frames that do not count: two of eight octets, first and last.
    static let range: UInt8 = 6
    /// Recipients accepted before this frame, since the queue was made: submitted, notices (8 octets each). First of all.
    static let accepted: UInt8 = 7
}

/// An envelope:
///
///     1 id  2 sender  3 recipient, once for each, in order  4 received  5 due  6 body type  7 SMTPUTF8
///     8 client's address  9 its name  10 protocol word  11 TLS version  12 cipher  13 login  14 edge
///     15 prepended fields
///     240 id of the body, if it is not the envelope's  241 where the rest of the message is (both only in GDBM)
///
/// A mailbox is the length of the local part (4 octets), local part, domain; no sender field is the null reverse-path.
/// Times are milliseconds since 1970. `due` is when the first attempt was to be made.
enum EnvelopeCodec {
    static func encode(_ envelope: Envelope, due: Timestamp, tag: UInt8, into output: OutputBuffer) {
        let start = output.begin(tag)
        id(envelope.id, 1, output)
        if let sender = envelope.sender { mailbox(sender, 2, output) }
        for recipient in envelope.recipients { mailbox(recipient, 3, output) }
        output.field(4, envelope.received.milliseconds)
        output.field(5, due.milliseconds)
        output.field(6, envelope.body.rawValue)
        output.field(7, UInt8(envelope.smtpUTF8 ? 1 : 0))
        let client = envelope.client
        output.field(8, client.address)
        output.field(9, client.name)
        output.field(10, client.protocolWord)
        if let tls = client.tls {
            // Empty texts are no fields elsewhere; here the field's presence tells that there was TLS.
            let version = output.begin(11)
            output.append(tls.version)
            output.end(version)
            output.field(12, tls.cipher)
        }
        if let login = client.login {
            let field = output.begin(13)
            output.append(login)
            output.end(field)
        }
        output.field(14, client.edge)
        if envelope.prependedFields.readableBytes > 0 {
            let field = output.begin(15)
            output.append(envelope.prependedFields)
            output.end(field)
        }
        output.end(start)
    }

    static func decode(_ octets: UnsafeRawBufferPointer) throws(FormatError) -> (Envelope, due: Timestamp) {
        var cursor = InputCursor(octets)
        var id: QueueID?
        var sender: Mailbox?
        var recipients: [Mailbox] = []
        var received: Timestamp?
        var due: Timestamp?
        var body = BodyType.sevenBit
        var smtpUTF8 = false
        var client = ClientInfo(address: "", name: "", protocolWord: "")
        var tls: (version: String?, cipher: String) = (nil, "")
        var prepended = ByteBuffer()
        while let field = try cursor.field() {
            switch field.tag {
            case 1: id = try Self.id(field)
            case 2: sender = try mailbox(field)
            case 3: recipients.append(try mailbox(field))
            case 4: received = Timestamp(milliseconds: try field.number())
            case 5: due = Timestamp(milliseconds: try field.number())
            case 6:
                guard let known = BodyType(rawValue: try field.number()) else { throw FormatError("body type") }
                body = known
            case 7: smtpUTF8 = try field.number(UInt8.self) != 0
            case 8: client.address = field.text
            case 9: client.name = field.text
            case 10: client.protocolWord = field.text
            case 11: tls.version = field.text
            case 12: tls.cipher = field.text
            case 13: client.login = field.text
            case 14: client.edge = field.text
            case 15: prepended = ByteBuffer(bytes: field.value)
            default: break  // from a newer version
            }
        }
        guard let id, let received, let due else { throw FormatError("envelope") }
        if let version = tls.version { client.tls = TLSDescription(version: version, cipher: tls.cipher) }
        let envelope = Envelope(
            id: id, sender: sender, recipients: recipients, received: received, body: body, smtpUTF8: smtpUTF8,
            client: client, prependedFields: prepended)
        return (envelope, due)
    }

    /// Adds to a record that goes to GDBM what a frame of the journal says beside it.
    static func appendBody(_ body: IndexBody?, into output: OutputBuffer) {
        guard let body else { return }
        id(body.id, 240, output)
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
            case 1: id = try Self.id(field)
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
            case 240: body = try Self.id(field)
            case 241: spool = try SpoolCodec.decode(field)
            default: break
            }
        }
        guard let id, let received, let due else { throw FormatError("envelope") }
        return EnvelopeOutline(
            id: id, received: received, due: due, domains: domains, isNotice: isNotice, body: body, spool: spool)
    }

    static func id(_ id: QueueID, _ tag: UInt8, _ output: OutputBuffer) {
        let value = output.field(tag, size: 16)
        value.store(id.high)
        value.store(id.low, at: 8)
    }

    static func id(_ field: Field) throws(FormatError) -> QueueID {
        guard field.value.count == 16 else { throw FormatError("id") }
        var cursor = field.cursor
        return QueueID(high: try cursor.number(), low: try cursor.number())
    }

    private static func mailbox(_ mailbox: Mailbox, _ tag: UInt8, _ output: OutputBuffer) {
        let local = mailbox.domainOffset - 1
        var text = mailbox.text
        text.withUTF8 { octets in
            precondition(local < octets.count)
            let value = output.field(tag, size: 4 + octets.count - 1)
            value.store(UInt32(local))
            (value + 4).copyMemory(from: octets.baseAddress!, byteCount: local)
            (value + 4 + local).copyMemory(
                from: octets.baseAddress! + local + 1, byteCount: octets.count - local - 1)
        }
    }

    private static func mailbox(_ field: Field) throws(FormatError) -> Mailbox {
        var cursor = field.cursor
        let length: UInt32 = try cursor.number()
        let local = try cursor.octets(Int(length))
        return Mailbox(
            localPart: String(decoding: local, as: UTF8.self), domain: String(decoding: cursor.rest, as: UTF8.self))
    }
}

/// Neighbouring recipients with the same folded domain.
struct DomainRun: Hashable {
    var count: UInt32
    var domain: String
}

/// What recovery needs of an envelope.
struct EnvelopeOutline {
    var id: QueueID
    var received: Timestamp
    var due: Timestamp
    var domains: [DomainRun]
    /// Without a sender: sent by slimtad itself.
    var isNotice: Bool
    /// Only in GDBM: see ``EnvelopeCodec``.
    var body: QueueID?
    var spool: SpoolReference?

    var recipients: RecipientCount { RecipientCount(domains, isNotice: isNotice) }
    /// Its state as long as nothing else says anything.
    var initial: StateOutline { StateOutline(id: id, due: due, firstPending: domains.isEmpty ? nil : 0) }
}

/// The state of an envelope:
///
///     1 id  2 attempts  3 due  4 flags (1 held, 2 warned)  5 recipient, once for each, in order
///     6 what an attempt came to, oldest first (``AttemptCodec``)
///
/// A recipient is its fate (1 octet), the length of the reply (4), reply, relay.
enum StateCodec {
    static func encode(_ state: EnvelopeState, tag: UInt8, into output: OutputBuffer) {
        let start = output.begin(tag)
        EnvelopeCodec.id(state.id, 1, output)
        output.field(2, state.attempts)
        output.field(3, state.due.milliseconds)
        output.field(4, UInt8((state.isHeld ? 1 : 0) | (state.isWarned ? 2 : 0)))
        for recipient in state.recipients {
            let field = output.begin(5)
            output.append(recipient.fate.rawValue)
            output.append(UInt32(recipient.reply.utf8.count))
            output.append(recipient.reply)
            output.append(recipient.relay)
            output.end(field)
        }
        AttemptCodec.encode(state.history, tag: 6, into: output)
        output.end(start)
    }

    static func decode(_ octets: UnsafeRawBufferPointer) throws(FormatError) -> EnvelopeState {
        var cursor = InputCursor(octets)
        var id: QueueID?
        var due: Timestamp?
        var state = EnvelopeState(id: QueueID(high: 0, low: 0), due: Timestamp(milliseconds: 0), recipients: [])
        while let field = try cursor.field() {
            switch field.tag {
            case 1: id = try EnvelopeCodec.id(field)
            case 2: state.attempts = try field.number()
            case 3: due = Timestamp(milliseconds: try field.number())
            case 4:
                let flags: UInt8 = try field.number()
                state.isHeld = flags & 1 != 0
                state.isWarned = flags & 2 != 0
            case 5:
                var recipient = field.cursor
                guard let fate = RecipientState.Fate(rawValue: try recipient.number()) else {
                    throw FormatError("fate")
                }
                let length: UInt32 = try recipient.number()
                let reply = try recipient.octets(Int(length))
                state.recipients.append(
                    RecipientState(
                        fate: fate, reply: String(decoding: reply, as: UTF8.self),
                        relay: String(decoding: recipient.rest, as: UTF8.self)))
            case 6: state.history.append(try AttemptCodec.decode(field, after: state.history.last))
            default: break  // from a newer version
            }
        }
        guard let id, let due else { throw FormatError("state") }
        state.id = id
        state.due = due
        return state
    }

    /// What recovery needs of a state, without making strings.
    static func outline(_ octets: UnsafeRawBufferPointer) throws(FormatError) -> StateOutline {
        var cursor = InputCursor(octets)
        var id: QueueID?
        var due: Timestamp?
        var outline = StateOutline(id: QueueID(high: 0, low: 0), due: Timestamp(milliseconds: 0))
        var index: UInt32 = 0
        while let field = try cursor.field() {
            switch field.tag {
            case 1: id = try EnvelopeCodec.id(field)
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
                case .failed: outline.fates.bounced += 1
                case .expired: outline.fates.expired += 1
                case .withdrawn: outline.fates.withdrawn += 1
                case nil: throw FormatError("fate")
                }
                index += 1
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
    var isHeld = false
    var isWarned = false
    /// The index of the first recipient that is still to be delivered; nil if there is none.
    var firstPending: UInt32?
    /// How the others ended.
    var fates = Fates()
}

/// Where the rest of a large message is: id (16), length (8), CRC32C (4).
enum SpoolCodec {
    static func encode(_ reference: SpoolReference, tag: UInt8, into output: OutputBuffer) {
        let start = output.begin(tag)
        output.append(reference.id.high)
        output.append(reference.id.low)
        output.append(reference.length)
        output.append(reference.crc32c)
        output.end(start)
    }

    static func decode(_ field: Field) throws(FormatError) -> SpoolReference {
        var cursor = field.cursor
        let id = QueueID(high: try cursor.number(), low: try cursor.number())
        let length: Int64 = try cursor.number()
        guard length >= 0 else { throw FormatError("spool length") }
        return SpoolReference(id: id, length: length, crc32c: try cursor.number())
    }
}

/// The end of an envelope: id (16), delivered, bounced, expired, withdrawn (4 each), its recipients (4; as the index knows
/// them, 0: it was not queued), the name of who withdrew.
enum RemovalCodec {
    static func encode(_ removal: Removal, _ recipients: RecipientCount?, into output: OutputBuffer) {
        let start = output.begin(RecordTag.removal)
        output.append(removal.id.high)
        output.append(removal.id.low)
        output.append(removal.delivered)
        output.append(removal.bounced)
        output.append(removal.expired)
        output.append(removal.withdrawn)
        output.append(recipients?.raw ?? 0)
        if let by = removal.by { output.append(by) }
        output.end(start)
    }

    /// `recipients` is nil of what was not queued when this was written, and in what version 1 wrote.
    static func decode(_ field: Field) throws(FormatError) -> (Removal, recipients: RecipientCount?) {
        var cursor = field.cursor
        let id = QueueID(high: try cursor.number(), low: try cursor.number())
        var removal = Removal(
            id: id, delivered: try cursor.number(), bounced: try cursor.number(), expired: try cursor.number(),
            withdrawn: try cursor.number())
        let raw: UInt32 = cursor.isAtEnd ? 0 : try cursor.number()
        if !cursor.isAtEnd { removal.by = String(decoding: cursor.rest, as: UTF8.self) }
        return (removal, raw == 0 ? nil : RecipientCount(raw: raw))
    }
}
