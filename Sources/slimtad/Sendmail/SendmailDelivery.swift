// A message on its way from sendmail: to the daemon, or into the folder that the daemon looks into when it runs again.

import Glibc
import NIOCore
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaSystem

/// Where a message of sendmail goes.
struct SendmailDelivery {
    let places: SendmailPlaces

    /// Hands the message on; returns when it is durable or refused.
    ///
    /// - Parameter needsAll: whether one recipient that is refused refuses the message.
    func deliver(
        _ envelope: SendmailEnvelope, _ content: SendmailContent, needsAll: Bool
    ) throws(Failure) -> SendmailResult {
        if let socket = places.socket, let client = try Self.connect(socket) {
            var result = try send(envelope, content, needsAll: needsAll, by: client)
            leave(envelope, content, for: &result)
            return result
        }
        guard let folder = places.folder else { throw noWay }
        try leave(envelope, content, in: folder)
        return SendmailResult(notice: "slimtad does not run; the message waits in \(folder) until it does")
    }

    /// Leaves the message for those who do not get it now, where others have got it: who called cannot send it to them alone.
    private func leave(_ envelope: SendmailEnvelope, _ content: SendmailContent, for result: inout SendmailResult) {
        let names = Set(result.postponed.map(\.recipient))
        let postponed = envelope.recipients.filter { names.contains($0.text) }
        guard let folder = places.folder, !postponed.isEmpty, postponed.count == names.count else { return }
        let rest = SendmailEnvelope(sender: envelope.sender, recipients: postponed)
        // Where that cannot be done, they are told as those who get nothing.
        guard (try? leave(rest, content, in: folder)) != nil else { return }
        let said = result.postponed.map { "<\($0.recipient)>: \($0.reply)" }.joined(separator: "; ")
        result.notice = "the message waits in \(folder) for \(said)"
        result.refused.removeAll { names.contains($0.recipient) }
    }

    private func leave(_ envelope: SendmailEnvelope, _ content: SendmailContent, in folder: String) throws(Failure) {
        let file = try PickupFile(in: folder, envelope)
        try content.forEach { piece throws(Failure) in try file.append(piece) }
        try file.finish()
    }

    private func send(
        _ envelope: SendmailEnvelope, _ content: SendmailContent, needsAll: Bool, by client: ControlClient
    ) throws(Failure) -> SendmailResult {
        func answered<Result>(_ body: () throws(ControlError) -> Result) throws(Failure) -> Result {
            do throws(ControlError) { return try body() } catch { throw Failure(sendmail: error) }
        }
        try answered { () throws(ControlError) in
            try client.begin(["sendmail"], fields(envelope, needsAll: needsAll), length: content.size)
        }
        try content.forEach { piece throws(Failure) in
            try answered { () throws(ControlError) in try client.append(piece.readableBytesView) }
        }
        let (status, answer) = try answered { () throws(ControlError) in try client.finish() }
        return SendmailResult(status, answer)
    }

    /// nil: no daemon runs.
    static func connect(_ socket: String) throws(Failure) -> ControlClient? {
        do throws(ControlError) { return try ControlClient(socket) } catch {
            switch error {
            case .noDaemon: return nil
            case .notPermitted:
                throw Failure(.notPermitted, "\(socket) may not be used by this user; its mode should be 0666")
            case .failed: throw Failure(sendmail: error)
            }
        }
    }

    private var noWay: Failure {
        guard let socket = places.socket else {
            return Failure(.configuration, "\(places.file) has no [[edge]] of type \"sendmail\" or \"directory\"")
        }
        let folder =
            access(places.file, R_OK) == 0
            ? "\(places.file) has no [[edge]] of type \"directory\" to leave mail in until it does"
            : "\(places.file), which could name a folder to leave mail in, may not be read by this user"
        return Failure(.temporary, "slimtad does not run (nobody listens on \(socket)), and \(folder)")
    }

    /// As the sendmail edge reads them. Recipients are put together: a header of a thousand fields would be refused.
    private func fields(
        _ envelope: SendmailEnvelope, needsAll: Bool
    ) -> [(name: String, value: String)] {
        func encoded(_ mailbox: Mailbox) -> String { Base64.encode(Array(mailbox.text.utf8)) }
        var fields = [
            (name: "Content-Type", value: "message/rfc822"),
            ("X-Envelope-Sender", envelope.sender.map(encoded) ?? ""),
        ]
        if needsAll { fields.append(("X-Envelope-Needs-All", "yes")) }
        var line = ""
        for recipient in envelope.recipients {
            line += (line.isEmpty ? "" : ",") + encoded(recipient)
            guard line.utf8.count > 8192 else { continue }
            fields.append(("X-Envelope-Recipient", line))
            line = ""
        }
        if !line.isEmpty { fields.append(("X-Envelope-Recipient", line)) }
        return fields
    }
}

extension Failure {
    /// Whether the daemon has the message nobody knows: it may be tried again.
    fileprivate init(sendmail error: ControlError) {
        switch error {
        case .failed(let text): self.init(.temporary, text)
        case .noDaemon, .notPermitted: self.init(.temporary, "slimtad does not answer")
        }
    }
}

extension SendmailResult {
    /// What the sendmail edge answered.
    init(_ status: Int, _ answer: JSON) {
        reply =
            answer["reply"].text.flatMap(Reply.init(line:))
            ?? Reply(status < 500 ? 550 : 451, nil, answer["error"].text ?? "the daemon answered \(status)")
        id = answer["id"].text
        isForbidden = status == 403
        refused = answer["refused"].elements.compactMap { item in
            guard let recipient = item["address"].text, let reply = item["reply"].text.flatMap(Reply.init(line:)) else {
                return nil
            }
            return Refused(recipient: recipient, reply: reply)
        }
    }
}

extension Reply {
    /// A reply as its description is.
    init?(line: String) {
        guard let code = UInt16(line.prefix(3)), (200...599).contains(code) else { return nil }
        let rest = line.dropFirst(4)
        guard let status = EnhancedStatus(prefixOf: rest) else {
            self.init(code, nil, String(rest))
            return
        }
        self.init(code, status, String(rest.dropFirst(status.description.count + 1)))
    }
}
