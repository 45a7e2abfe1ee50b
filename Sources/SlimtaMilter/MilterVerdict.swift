// What comes of a question to a milter, and what comes of it if the milter fails (`on_failure`, reference/content.md section
// 2.6). What a verdict means for the client is for the edge to say.

package import SlimtaMail

/// What is to become of what was asked about.
package enum MilterVerdict: Hashable, Sendable {
    /// Go on.
    case proceed
    /// Go on, and the milter wants to see no more: of the message, or of the session if it says so at connect or EHLO. The
    /// verdict at every later stage is the same, until the message; for that it is ``finished(_:)`` without edits.
    case accepted
    /// Say this to the client. At RCPT for this recipient alone, at MAIL, DATA and the message for the message, at connect and
    /// EHLO for everything up to the end of the session.
    case refused(Reply)
    /// Say yes to the client, store nothing, and count it.
    case discarded
    /// Say this to the client and close its connection.
    case closing(Reply)
    /// The message goes on, with these edits.
    case finished(MilterEdits)
}

/// What a milter is worth that fails: what is done with mail that it has not seen.
package enum MilterFailurePolicy: CaseIterable, Hashable, Sendable {
    /// 451: the client is to come back.
    case tempfail
    /// Go on without it, for the rest of the session.
    case accept
    /// 550: none of it goes on.
    case reject
    /// The message is stored and held.
    case quarantine

    /// The verdict at a stage, for a milter that has failed.
    ///
    /// A session is not refused before MAIL, unless the milter has said that it answers connect or EHLO: with a filter that
    /// is down a client can still find out what we are, begin TLS and log in.
    /// - Parameters:
    ///   - answersEarly: whether it answers connect or EHLO.
    ///   - reason: why the message is held, if it is.
    package func verdict(at stage: MilterStage, answersEarly: Bool, reason: String) -> MilterVerdict {
        let refusal: MilterVerdict? =
            switch self {
            case .tempfail: .refused(.milterIsTemporary)
            case .reject: .refused(.milterRejects)
            case .accept, .quarantine: nil
            }
        switch stage {
        case .connect, .hello: return answersEarly ? refusal ?? .proceed : .proceed
        case .mail, .recipient, .data: return refusal ?? .proceed
        case .message:
            var edits = MilterEdits()
            if self == .quarantine { edits.add(.quarantine(reason: reason)) }
            return refusal ?? .finished(edits)
        }
    }

    /// Whether the next message gets a new connection: a failure counts for its own message. With ``accept`` the milter is out
    /// for the rest of the session.
    package var triesAgain: Bool { self != .accept }
}
