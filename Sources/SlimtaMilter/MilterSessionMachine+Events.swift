// What MilterSessionMachine writes: events with the macros before them, in the order of SMTP, and a message piece by piece
// (reference/content.md sections 2.1, 2.3 and 2.6).

internal import NIOCore
internal import SlimtaMail

/// A message on its way to the milter.
struct MilterContent: Sendable {
    /// What is sent next.
    enum Part: Equatable {
        case fields, endOfFields, body, end
    }

    let fields: [MilterField]
    /// How many of them were sent.
    var sentFields = 0
    var part = Part.fields
    /// Octets of the body that are not sent yet.
    private(set) var held = ByteBuffer()
    var isBodyWhole = false
    /// The milter wants no more of the body.
    var skipsBody = false
    var edits = MilterEdits()

    init(_ fields: [MilterField]) { self.fields = fields }

    mutating func add(_ octets: ByteBuffer) {
        if held.readableBytes == 0 {
            held = octets
        } else {
            held.discardReadBytes()
            held.writeImmutableBuffer(octets)
        }
    }

    /// The next packet of the body: as long as a packet can be, the last one shorter. Nil: the next octets are to come first,
    /// or there are no more.
    mutating func chunk() -> ByteBuffer? {
        let count = min(held.readableBytes, MilterPacket.mostData)
        guard count == MilterPacket.mostData || (isBodyWhole && count > 0) else { return nil }
        return held.readSlice(length: count)
    }
}

extension MilterSessionMachine {
    /// Answers what was asked at once, if that is clear, or tells the milter.
    mutating func begin(_ event: MilterEvent, _ macros: MilterMacros) {
        if event.stage == .mail {
            // A message whose end nobody has told us is over when the next one begins.
            if state == .idle { endMessage() }
            messageVerdict = nil
            messageMacros = [:]
        }
        if let verdict = sessionVerdict ?? (event.stage.isOfMessage ? messageVerdict : nil) {
            settle(verdict)
        } else if failure != nil {
            settleFailure()
        } else if state != .idle {
            // Asked behind the end of the session.
            failure = MilterFailure(cause: .closed, step: nil)
            settleFailure()
        } else if reader.hasUnread {
            // A reply to something else (rspamd#1764).
            fail(.fault(.unasked))
        } else {
            tell(event, macros)
        }
    }

    private mutating func tell(_ event: MilterEvent, _ macros: MilterMacros) {
        switch event {
        case .connect(let client):
            sessionMacros.merge(macros)
            send(.connect, sessionMacros) { $0.writeMilterClient(client) }
        case .hello(let name):
            sessionMacros.merge(macros)
            // Once more after STARTTLS: nothing of before counts.
            if hasHello { pending.writeMilterPacket("A") }
            (hasHello, rest) = (true, .told)
            send(.hello, sessionMacros) { $0.writeMilterTexts("H", [name]) }
        case .mail(let path, let parameters):
            openMessage(macros)
            send(.mail, ofMessage) { $0.writeMilterTexts("M", [path] + parameters) }
        case .recipient(let path, let parameters):
            openMessage([:])
            var known = ofMessage
            known.merge(macros)
            send(.recipient, known) { $0.writeMilterTexts("R", [path] + parameters) }
        case .data:
            openMessage(macros)
            send(.data, ofMessage) { $0.writeMilterPacket("T") }
        case .message(let fields):
            openMessage(macros)
            beginContent(fields)
        }
    }

    /// Macros of the session and of the message.
    private var ofMessage: MilterMacros {
        var known = sessionMacros
        known.merge(messageMacros)
        return known
    }

    private mutating func openMessage(_ macros: MilterMacros) {
        messageMacros.merge(macros)
        guard !isMessageOpen else { return }
        (isMessageOpen, isMessageTold) = (true, false)
        messageStart = pending.writerIndex
        restBefore = rest
        if rest == .ended { pending.writeMilterPacket("A") }
        rest = .told
    }

    /// How a message ends.
    enum MessageEnd {
        /// By us: RSET, or the client is gone.
        case aborted
        /// The milter has said that it goes on.
        case proceeds
        /// The milter has said something else of it.
        case settled
    }

    /// The message is over for the milter: says A, or nothing if it has heard nothing of it, or if that can wait for the next
    /// event.
    mutating func endMessage(_ end: MessageEnd = .aborted) {
        guard isMessageOpen else { return }
        isMessageOpen = false
        if let start = messageStart {
            pending.moveWriterIndex(to: start)
            messageStart = nil
            rest = restBefore
        } else if end == .proceeds {
            rest = .ended
        } else {
            pending.writeMilterPacket("A")
            isReleased = true
            rest = end == .aborted && isMessageTold ? .aborted : .told
        }
    }

    /// Writes an event of a command. Its macros go out even if it does not: they count for later events as well, and
    /// sendmail and Postfix send them.
    private mutating func send(_ step: MilterStep, _ macros: MilterMacros, _ write: (inout ByteBuffer) -> Void) {
        guard let negotiation else { return }
        negotiation.macroLists.write(macros, for: step, into: &pending)
        if negotiation.wants(step) {
            write(&pending)
            isMessageTold = isMessageOpen
        }
        if negotiation.owesReply(to: step) {
            isReleased = true
            state = .waiting(step)
            waits(for: .reply(step))
        } else {
            isReleased = isReleased || negotiation.isLive
            settle(.proceed)
        }
    }

    // MARK: Content

    private mutating func beginContent(_ fields: [MilterField]) {
        guard let negotiation else { return }
        content = MilterContent(fields)
        if negotiation.wants(.field), let long = fields.first(where: { $0.packetSize > MilterPacket.mostData }) {
            switch configuration.onFailure {
            case .tempfail, .reject:
                // It would not get shorter by coming again.
                end(with: .refused(.fieldIsTooLong))
                return
            case .quarantine:
                content.edits.add(
                    .quarantine(reason: "the field \(long.name.cut(toOctets: 80).visible) is too long for a filter"))
            case .accept: break
            }
        }
        isReleased = true
        state = .content
        waits(for: .reply(.field))
    }

    /// Sends what comes next of the message, until a reply is owed (nil), the body is wanted, or enough is unwritten.
    mutating func sendContent() throws(MilterFault) -> Action? {
        guard let negotiation else { return nil }
        // What waits when we begin to write answers something that we have not said.
        if reader.hasUnread { throw .unasked }
        isReleased = true
        while state == .content {
            if unwritten + pending.readableBytes > Self.mostUnwritten { return .write }
            switch content.part {
            case .fields:
                guard negotiation.wants(.field), content.sentFields < content.fields.count else {
                    content.part = .endOfFields
                    continue
                }
                let field = content.fields[content.sentFields]
                content.sentFields += 1
                if field.packetSize > MilterPacket.mostData { note(.fieldCut(field.name)) }
                send(part: .field, negotiation) {
                    $0.writeMilterField(field, keepsBlanks: negotiation.bits.contains(.leadingBlanks))
                }
            case .endOfFields:
                content.part = .body
                if negotiation.wants(.endOfFields) {
                    send(part: .endOfFields, negotiation) { $0.writeMilterPacket("N") }
                }
            case .body:
                guard negotiation.wants(.body), !content.skipsBody else {
                    content.part = .end
                    continue
                }
                if waitsFor.kind != .reply(.body) { waits(for: .reply(.body)) }
                if let chunk = content.chunk() {
                    send(part: .body, negotiation) { out in
                        out.writeMilterPacket("B") { $0.writeImmutableBuffer(chunk) }
                    }
                } else if content.isBodyWhole {
                    content.part = .end
                } else {
                    return .wantsBody
                }
            case .end:
                waits(for: .reply(.end))
                send(part: .end, negotiation) { $0.writeMilterPacket("E") }
            }
        }
        return nil
    }

    private mutating func send(
        part step: MilterStep, _ negotiation: MilterNegotiation, _ write: (inout ByteBuffer) -> Void
    ) {
        negotiation.macroLists.write(ofMessage, for: step, into: &pending)
        write(&pending)
        isMessageTold = true
        if negotiation.owesReply(to: step) { state = .waiting(step) }
    }
}
