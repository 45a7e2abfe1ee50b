// The end of a transaction of SMTPClientMachine: DATA, the content, and the reply to it; with LMTP (RFC 2033 section 4.2) a
// reply for each recipient.

internal import NIOCore
package import SlimtaMail

extension SMTPClientMachine {
    /// The reply to DATA.
    mutating func replied(toDataWith reply: Reply, into out: inout ByteBuffer) -> Action? {
        if reply.code == 354 {
            progress.answered += 1
            deadlineBegins()
            guard progress.accepted.isEmpty else {
                state = .content
                progress.stage = .content
                // A server that changes its mind in the same breath.
                if parser.hasUnread {
                    guard let next = try? parser.next() else { return unsolicited() }
                    return replied(toContentWith: next, isWhole: false)
                }
                return .sendContent(allowsEightBit: extensions.eightBitMIME)
            }
            if parser.hasUnread { return unsolicited() }
            // RFC 2920 section 3.1: the server takes data for nobody. The only way out is to send none; what it
            // says to that is of no account.
            out.writeStaticString(".\r\n")
            // RFC 2033 section 4.2: without recipients there is no reply to wait for, whatever the server thinks.
            if configuration.dialect == .lmtp { return finish(isReusable: false) }
            state = .emptyContent
            return nil
        }
        if reply.isPositive || reply.code / 100 == 3 { return protocolError("\(reply.code) in reply to DATA") }
        if progress.isMailRefused { return finish(isReusable: true) }
        // Everyone who was not refused yet.
        progress.settle(Outcome(Outcome.result(of: reply), shown(reply), isRemote: true), .reply)
        if parser.hasUnread { return finish(isReusable: false) }
        sendReset(into: &out)
        return nil
    }

    /// A reply to the message, or what the server says while it is still being sent.
    mutating func replied(toContentWith reply: Reply, isWhole: Bool) -> Action {
        if reply.code / 100 == 3 || (reply.isPositive && !isWhole) {
            return protocolError("\(reply.code) in reply to the message")
        }
        let outcome = Outcome(Outcome.result(of: reply), shown(reply), isRemote: true)
        switch configuration.dialect {
        case .smtp: progress.settle(outcome, .reply)
        case .lmtp:
            let index = progress.settleNext(outcome)
            if isWhole, reply.code != 421 {
                if progress.heard == progress.accepted.count { break }
                deadlineBegins()
                return .settled(index, outcome)
            }
            // It closes, or will not hear the end. What it thinks of those behind was not said.
            progress.settle(Outcome(.temporary, outcome.reply, isRemote: true), .reply)
        }
        return finish(isReusable: isWhole && reply.code != 421)
    }

    /// What there is of an odd reply to the whole message, if it begins with a yes: the message was taken, and to send it
    /// again would be a second copy. Nil if that is not what happened, or if with LMTP others are still to be answered.
    mutating func heardYes() -> Action? {
        guard state == .finalReply, let reply = parser.halfYes else { return nil }
        let outcome = Outcome(.delivered, shown(reply), isRemote: true)
        switch configuration.dialect {
        case .smtp: progress.settle(outcome, .reply)
        case .lmtp:
            _ = progress.settleNext(outcome)
            if progress.heard < progress.accepted.count { return nil }
        }
        return finish(isReusable: false)
    }

    /// The driver has sent all of the content and its end.
    package mutating func contentSent() {
        precondition(state == .content, "content that was not asked for")
        state = .finalReply
        progress.stage = .finalReply
        deadlineBegins()
    }

    /// The content cannot be sent to its end: `outcome` is what the accepted recipients get. The connection must be
    /// closed, so that the server sees no end of the message.
    package mutating func contentFailed(_ outcome: Outcome, _ kind: OutcomeCause.Kind) -> Action {
        precondition(state == .content, "content that was not asked for")
        progress.settle(outcome, kind)
        return finish(isReusable: false)
    }

    /// A reply as it is kept: it has no more than 1,000 octets of text, on one line.
    func shown(_ reply: Reply) -> Reply {
        let limit = 1000
        guard reply.lines.count > 1 || reply.lines[0].utf8.count > limit else { return reply }
        var text = reply.text
        if text.utf8.count > limit {
            var end = text.utf8.index(text.startIndex, offsetBy: limit)
            end = text.unicodeScalars.index(before: text.unicodeScalars.index(after: end))
            text = String(text.unicodeScalars[..<end]) + "..."
        }
        return Reply(reply.code, reply.status, text)
    }
}
