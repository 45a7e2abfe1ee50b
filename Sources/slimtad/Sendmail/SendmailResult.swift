// What came of a message that was given to sendmail, and what that means for who called it: an exit status of sysexits.h and
// lines on standard error. Values, made of replies.

import SlimtaMail
import SlimtaSystem

/// Whom a message is from and for.
struct SendmailEnvelope: Equatable {
    /// nil: the null sender.
    var sender: Mailbox?
    /// Each once; none while nobody is known.
    var recipients: [Mailbox]
}

/// What came of a message.
struct SendmailResult: Equatable {
    /// A recipient that was refused, of many or alone.
    struct Refused: Equatable {
        let recipient: String
        let reply: Reply
    }

    /// What was said of the message as a whole; nil: it is in a folder, where nobody says anything.
    var reply: Reply?
    /// Its name in the queue; nil: it is not there.
    var id: String?
    /// Whether the caller may not send, or not as this sender.
    var isForbidden = false
    /// Recipients that do not get it.
    var refused: [Refused] = []
    /// What the caller is to know of a message that was taken; nil: nothing.
    var notice: String?

    /// Those who do not get it now, of a message that others get.
    var postponed: [Refused] { reply?.isPositive == true ? refused.filter(\.reply.isTemporary) : [] }

    /// What the program ends with. Where some recipients get the message it is success: who tried again would send it to
    /// those twice.
    var status: ExitStatus {
        guard let reply, !reply.isPositive else { return .success }
        if isForbidden { return .notPermitted }
        guard refused.isEmpty else {
            return refused.contains { $0.reply.isTemporary } ? .temporary : .noUser
        }
        if reply.isTemporary { return .temporary }
        // RFC 3463 section 3.7: something is wrong with the content.
        return reply.status?.subject == 6 ? .data : .unavailable
    }

    /// Why the caller has not got what it wanted, a line each; none: it has.
    var complaints: [String] {
        var lines = refused.map { "<\($0.recipient)>: \($0.reply)" }
        if let reply, !reply.isPositive, refused.isEmpty { lines.append("the message is refused: \(reply)") }
        return lines
    }
}
