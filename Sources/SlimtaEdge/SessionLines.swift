// The lines in the log that tell of one session: of an SMTP session, or of one message that came otherwise. Its driver has
// one, and what is the same whatever is spoken is told here.

import Logging
internal import NIOCore
internal import SlimtaMail
internal import SlimtaRules
internal import SlimtaSASL
internal import SlimtaSMTP

/// Writes the lines of one session, each with its name, the client, the proxy and the edge.
struct SessionLines: Sendable {
    private let number = UInt64.random(in: .min ... .max)
    /// What its lines, and its failures to log in, are counted by.
    let source: ConnectionLimiter.Source?
    private let all: SessionLog
    private let edge: String
    private let peer: ConnectionFacts.Endpoint
    private let proxy: ConnectionFacts.Endpoint?

    init(_ log: SessionLog, edge: String, _ connection: ConnectionFacts) {
        all = log
        self.edge = edge
        peer = connection.peer
        proxy = connection.proxy?.endpoint
        source = ConnectionLimiter.Source(connection.peer)
    }

    /// The session's name in logs.
    var session: String { String(number, radix: 16) }

    /// A line, within the bounds that the log has. To be called on `eventLoop`.
    func log(
        _ level: Logger.Level, _ message: Logger.Message, _ fields: @autoclosure () -> Logger.Metadata = [:],
        login: String?, on eventLoop: any EventLoop
    ) {
        guard all.takes(level) else { return }
        var metadata = fields()
        metadata["session"] = "\(session)"
        metadata["client"] = "\(peer)"
        if let proxy { metadata["proxy"] = "\(proxy)" }
        metadata["edge"] = "\(edge)"
        all.log(level, message, metadata, source: source, login: login, on: eventLoop)
    }

    /// What the gate has said, but for a refusal.
    func log(_ judgement: SessionGate.Judgement, login: String?, on eventLoop: any EventLoop) {
        for note in judgement.notes {
            log(
                .info, "rule applied", ["rule": "\(note.rule)", "action": "\(note.action)"], login: login, on: eventLoop
            )
        }
        if let rule = judgement.fieldsLeftOut {
            log(.warning, "fields left out", ["rule": "\(rule)"], login: login, on: eventLoop)
        }
        for one in judgement.undecided {
            log(
                .warning, "rule could not be decided", ["rule": "\(one.rule)", "condition": "\(one.condition)"],
                login: login, on: eventLoop)
        }
    }

    /// What the client was refused.
    ///
    /// - Parameter by: who has refused it, where it was the gate.
    func log(
        _ refusal: SMTPServerMachine.Refusal, by: [(name: String, value: String)], login: String?,
        on eventLoop: any EventLoop
    ) {
        var fields: Logger.Metadata = ["reply": "\(refusal.reply)", "command": "\(refusal.command)"]
        if let address = refusal.address { fields["address"] = "\(address)" }
        if let sender = refusal.sender { fields["sender"] = "\(sender)" }
        if let login = refusal.login { fields["login"] = "\(login)" }
        if let allowed = refusal.allowed { fields["allowed"] = "\(allowed)" }
        for (name, value) in by { fields[name] = "\(value)" }
        log(.info, "refused", fields, login: login, on: eventLoop)
    }

    /// What came of an attempt to log in. Nothing as long as it goes on; what cannot be read is told as a refusal.
    func log(_ outcome: AuthenticationOutcome, on eventLoop: any EventLoop) {
        var fields: Logger.Metadata = [:]
        if let login = outcome.login { fields["login"] = "\(login)" }
        if let reason = outcome.reason { fields["reason"] = "\(reason)" }
        // fail2ban's filter looks for it: what does not count is nothing to ban for.
        if let failures = outcome.failures { fields["count"] = "\(failures)" }
        switch outcome.result {
        case .challenge: break
        case .malformed:
            guard outcome.reason != nil else { return }
            log(.info, "authentication cancelled", fields, login: nil, on: eventLoop)
        case .right(let user):
            // What the client wrote, and who that is, where these differ.
            if outcome.login == nil { fields["login"] = "\(user.login)" }
            if let login = outcome.login, login != user.login { fields["user"] = "\(user.login)" }
            if let backEnd = user.backEnd { fields["backend"] = "\(backEnd)" }
            if let app = user.app { fields["app"] = "\(app)" }
            // Which of a user's passwords is in use is seen nowhere else.
            log(user.app == nil ? .debug : .info, "authenticated", fields, login: nil, on: eventLoop)
        case .wrong, .refused: log(.info, "authentication failed", fields, login: nil, on: eventLoop)
        case .unavailable, .undecided, .turnedAway:
            log(.info, "authentication could not be checked", fields, login: nil, on: eventLoop)
        }
    }
}
