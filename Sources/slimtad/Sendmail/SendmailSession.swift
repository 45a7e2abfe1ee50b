// `sendmail -bs`: SMTP on standard input and output, as some mail programs and scripts speak it. The session is ours, its
// messages go the way of all others.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaSMTP
import SlimtaSystem

/// A session with whoever started the program.
struct SendmailSession {
    private let delivery: SendmailDelivery
    private var machine: SMTPServerMachine
    private var output = ByteBuffer()
    /// The message that is coming.
    private var content = SendmailContent()
    /// Why it cannot be taken.
    private var failure: Failure?

    init(_ places: SendmailPlaces, _ caller: SendmailCaller) {
        delivery = SendmailDelivery(places: places)
        machine = SMTPServerMachine(
            SMTPServerConfiguration(hostname: caller.hostname, tls: .none, authentication: .none), isTrusted: true)
    }

    /// Speaks until the client has had enough.
    mutating func run() throws(Failure) -> ExitStatus {
        machine.connected(into: &output)
        while true {
            if let status = try perform() { return status }
            try write()
            if let octets = try read() { machine.received(octets) } else { machine.inputClosed() }
        }
    }

    /// Does what the machine says, until it waits; a status: it is over.
    private mutating func perform() throws(Failure) -> ExitStatus? {
        while true {
            switch machine.next(into: &output) {
            case .wait: return nil
            case .pause: try write()
            case .content(let content): append(content)
            case .discardContent: abandon()
            case .ask(.end(let submission)): machine.answered(.reply(end(submission)), into: &output)
            case .ask: machine.answered(.goOn, into: &output)
            case .startTLS: preconditionFailure("TLS where none is offered")
            case .close(let reason):
                abandon()
                try write()
                return reason == .quit || reason == .clientClosed ? .success : .data
            }
        }
    }

    private mutating func append(_ piece: ByteBuffer) {
        guard failure == nil else { return }
        do throws(Failure) { try content.append(piece) } catch { failure = error }
    }

    /// All recipients, or none: the reply to the message is one.
    private mutating func end(_ submission: SMTPServerMachine.Submission) -> Reply {
        defer { abandon() }
        if let failure { return Self.reply(failure) }
        let envelope = SendmailEnvelope(sender: submission.sender, recipients: submission.recipients)
        do throws(Failure) {
            let result = try delivery.deliver(envelope, content, needsAll: true)
            return result.refused.first?.reply ?? result.reply
                ?? Reply(250, .init(2, 0, 0), (result.notice ?? "Message accepted").visible)
        } catch {
            return Self.reply(error)
        }
    }

    private static func reply(_ failure: Failure) -> Reply {
        let text = failure.message.visible
        switch failure.status {
        case .temporary, .inputOutput, .cannotCreate: return Reply(451, .init(4, 3, 0), text)
        default: return Reply(554, .init(5, 3, 0), text)
        }
    }

    private mutating func abandon() { (content, failure) = (SendmailContent(), nil) }

    // MARK: Octets

    private mutating func write() throws(Failure) {
        writeAll(Array(output.readableBytesView)[...])
        output.clear()
    }

    /// nil at the end.
    private func read() throws(Failure) -> ByteBuffer? {
        var octets = [UInt8](repeating: 0, count: 16 << 10)
        var count = 0
        repeat { count = Glibc.read(STDIN_FILENO, &octets, octets.count) } while count < 0 && errno == EINTR
        guard count >= 0 else {
            throw Failure(.noInput, "standard input cannot be read: \(String(cString: strerror(errno)))")
        }
        return count > 0 ? ByteBuffer(bytes: octets[..<count]) : nil
    }
}
