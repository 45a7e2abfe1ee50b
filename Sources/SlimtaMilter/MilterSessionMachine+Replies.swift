// What MilterSessionMachine makes of replies: which may be said when, and what follows (reference/content.md section 2.4).

internal import NIOCore
internal import SlimtaMail

extension MilterReply {
    /// Whether it may be said in reply to an event. A milter says of itself whether it says `skip`.
    func isAllowed(to step: MilterStep, skips: Bool) -> Bool {
        switch self {
        case .proceed, .accept, .reject, .temporary, .text, .progress: true
        case .discard: step != .connect && step != .hello
        case .skip: skips && (step == .body || step == .field)
        case .shutDown: step == .connect || step == .hello
        case .edit, .body, .macroList: step == .end
        }
    }
}

extension MilterSessionMachine {
    /// Takes the reply to an event.
    mutating func replied(_ packet: MilterPacket, to step: MilterStep) throws(MilterFault) {
        let bits = negotiation?.bits ?? []
        let reply = try MilterReply(packet, keepsBlanks: bits.contains(.leadingBlanks))
        guard reply.isAllowed(to: step, skips: bits.contains(.skip)) else { throw .outOfTurn(packet.command, step) }
        switch reply {
        case .proceed: proceed(from: step)
        case .accept:
            if step == .end { finish(.settled) } else { end(with: .accepted) }
        case .reject: end(with: .refused(.milterRejects))
        case .temporary: end(with: .refused(.milterIsTemporary))
        case .text(let reply):
            if reply == nil { note(.replyUnfit) }
            let reply = reply ?? .milterIsTemporary
            // RFC 5321 section 3.8: who says 421 closes the connection.
            end(with: reply.code == 421 ? .closing(reply) : .refused(reply))
        case .discard: end(with: .discarded)
        case .skip:
            if step == .body { content.skipsBody = true } else { content.part = .endOfFields }
            state = .content
        case .progress: waitsOn()
        case .shutDown: end(with: .closing(.milterShutsDown))
        case .edit(let edit): try content.edits.take(edit)
        case .body(let piece): try content.edits.take(body: piece, most: configuration.mostBody)
        case .macroList: break
        }
    }

    /// Nothing is wrong with it.
    private mutating func proceed(from step: MilterStep) {
        switch step {
        case .connect, .hello, .mail, .recipient, .data:
            state = .idle
            settle(.proceed)
        case .field, .endOfFields, .body: state = .content
        case .end: finish(.proceeds)
        }
    }

    /// The message goes on, with the edits so far.
    private mutating func finish(_ messageEnd: MessageEnd) {
        let edits = content.edits.completed()
        content = MilterContent([])
        end(with: .finished(edits), messageEnd)
    }

    /// What was asked about has a verdict that ends it; edits before it are dropped, unless they are in it. The verdict
    /// counts for what is asked later of the same session or message, but for that of one recipient.
    mutating func end(with verdict: MilterVerdict, _ messageEnd: MessageEnd = .settled) {
        guard let stage = asked else { return }
        state = .idle
        settle(verdict)
        switch (stage, verdict) {
        case (.connect, _), (.hello, _): sessionVerdict = verdict
        case (_, .closing): sessionVerdict = verdict
        case (.recipient, .refused): return
        case (.mail, _), (.recipient, _), (.data, _), (.message, _): messageVerdict = verdict
        }
        if stage == .message { content = MilterContent([]) }
        endMessage(messageEnd)
    }
}
