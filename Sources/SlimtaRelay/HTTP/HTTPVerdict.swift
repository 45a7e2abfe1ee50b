// What an answer over HTTP means for the recipients of a request, as a function of values. Called by HTTPRelay.

import SlimtaMail
import SlimtaNet

/// The outcome of a request, which is the same for all of its recipients, and what is to be made of it.
struct HTTPVerdict: Hashable {
    var outcome: Outcome
    /// The server does not take us for who we say we are: that is a matter of the operator, and no message bounces for it.
    var isOfLogin = false
    /// One recipient may be the reason, and others not: of those asked about together each is to be asked about alone.
    var mayBeOfOneRecipient = false

    /// RFC 4954 section 6, as FixedHostRelay has it.
    private static let loginRefusals: Set<UInt16> = [530, 534, 535, 538]
    /// What the message or the request will be answered at every time.
    private static let permanent: Set<Int> = [400, 404, 405, 410, 413, 415, 422, 501]

    /// X-Smtp-Reply says it where it is there, and does not contradict the status; else the status does. What is neither
    /// for the server nor about the message is temporary: nothing is lost, and the operator has time.
    init(_ answer: HTTPAnswer, now: Timestamp) {
        let replies = answer.values(SMTPReplyField.name)
        let reply = replies.count == 1 ? SMTPReplyField.reply(replies[0]) : nil
        let status = answer.status
        let isPositive = (200...299).contains(status)
        if isPositive, answer.isEarly {
            // It cannot have the message.
            self.init(.temporary, Reply(451, EnhancedStatus(4, 5, 0), "HTTP \(status) before the message was sent"))
        } else if [401, 407].contains(status) || status == 403 && reply == nil
            || reply.map({ Self.loginRefusals.contains($0.code) }) ?? false
        {
            self.init(
                .temporary, reply.flatMap { $0.isPositive ? nil : $0 } ?? Self.reply(454, 4, 7, 0, answer),
                isRemote: reply != nil)
            isOfLogin = true
        } else if (300...399).contains(status) {
            self.init(.temporary, Self.reply(451, 4, 3, 5, answer, ", which is not followed"))
        } else if let reply, isPositive || !reply.isPositive {
            self.init(Outcome.result(of: reply), reply, isRemote: true)
            mayBeOfOneRecipient = !reply.isPositive && Self.mayBeOfOneRecipient(reply)
        } else if isPositive {
            self.init(.delivered, Self.reply(250, 2, 0, 0, answer))
        } else if Self.permanent.contains(status) {
            let reply = status == 413 ? Self.reply(552, 5, 3, 4, answer) : Self.reply(550, 5, 0, 0, answer)
            self.init(.permanent, reply)
            mayBeOfOneRecipient = status == 400 || status == 422
        } else {
            self.init(.temporary, Self.reply(451, 4, 3, 0, answer))
        }
        outcome.isRemote = true
        outcome.tls = answer.tls
        if outcome.result == .temporary { outcome.retryAfter = answer.retryAfter(now: now) }
    }

    /// There is nobody to ask.
    init(noServer outcome: Outcome) { self.outcome = outcome }

    /// There is no answer: always temporary.
    init(_ error: HTTPClientError) {
        func failed(_ status: EnhancedStatus, _ text: String, isHost: Bool = false) -> Outcome {
            Outcome(.temporary, Reply(451, status, text), isHostFailure: isHost)
        }
        outcome =
            switch error {
            case .invalidRequest(let what): failed(.init(4, 3, 5), "no request can be made: \(what)")
            case .cannotConnect(let reasons):
                failed(.init(4, 4, 1), "cannot connect: \(reasons.joined(separator: ", ").visible)", isHost: true)
            case .tls(let error): failed(.init(4, 7, 5), "TLS failed: \(error)", isHost: true)
            case .timedOut(.connecting): failed(.init(4, 4, 1), "cannot connect: timed out", isHost: true)
            case .timedOut(.sending): failed(.init(4, 4, 2), "timed out while the message was sent")
            case .timedOut(.answering): failed(.init(4, 4, 2), "timed out while the answer was waited for")
            case .tooLarge: failed(.init(4, 5, 0), "the answer is too large")
            case .malformed(let why): failed(.init(4, 5, 0), "the answer is not HTTP: \(why.visible)")
            case .endedEarly: failed(.init(4, 4, 2), "the connection was lost")
            case .noBody: failed(.init(4, 3, 0), "the stored message cannot be read")
            case .cancelled: SMTPJob.cancelled
            }
    }

    private init(_ result: Outcome.Result, _ reply: Reply, isRemote: Bool = true) {
        outcome = Outcome(result, reply, isRemote: isRemote)
    }

    private static func reply(
        _ code: UInt16, _ statusClass: UInt8, _ subject: UInt16, _ detail: UInt16, _ answer: HTTPAnswer,
        _ more: String = ""
    ) -> Reply {
        let reason = answer.reason.isEmpty ? "" : " " + answer.reason.visible.cut(toOctets: 128)
        return Reply(code, EnhancedStatus(statusClass, subject, detail), "HTTP \(answer.status)\(reason)\(more)")
    }

    /// By code (RFC 5321 section 4.2.3) and by what the enhanced code is about: addresses and mailboxes (RFC 3463 sections
    /// 3.2 and 3.3), or that there are too many (section 3.6).
    private static func mayBeOfOneRecipient(_ reply: Reply) -> Bool {
        if [450, 501, 550, 551, 553].contains(reply.code) { return true }
        guard let status = reply.status else { return false }
        return [1, 2].contains(status.subject) || status.subject == 5 && status.detail == 3
    }
}
