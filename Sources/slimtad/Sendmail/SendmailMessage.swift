// One message from standard input, as sendmail takes it: read to its end, its header made whole, handed on; and what is said of
// it to who called.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaSystem

/// A call of sendmail that brings a message.
struct SendmailMessage {
    private let options: SendmailOptions
    private let caller: SendmailCaller
    private let delivery: SendmailDelivery
    private let content = SendmailContent()

    init(_ options: SendmailOptions, _ places: SendmailPlaces, _ caller: SendmailCaller) {
        self.options = options
        self.caller = caller
        delivery = SendmailDelivery(places: places)
    }

    /// Sends it; what goes wrong is said, and mailed to the caller where that is asked for.
    func send() -> ExitStatus {
        let (status, complaints): (ExitStatus, [String])
        do throws(Failure) {
            let result = try delivered()
            (status, complaints) = (result.status, result.complaints)
            if let notice = result.notice { say(notice) }
            if options.isVerbose { Self.show(result) }
        } catch {
            (status, complaints) = (error.status, [error.message])
        }
        for complaint in complaints { say(complaint) }
        if options.mailsErrors, !complaints.isEmpty, content.size > 0 { mail(complaints) }
        return status
    }

    private static func show(_ result: SendmailResult) {
        if let reply = result.reply { print(reply.description.visible) }
        if let id = result.id { print("id \(id)") }
    }

    private func delivered() throws(Failure) -> SendmailResult {
        guard options.readsRecipients || !options.addresses.isEmpty else {
            throw Failure(.usage, "nobody to send to: name recipients, or give -t for those of the header")
        }
        var envelope = try envelope()
        try read()
        var head = content.head
        head.moveReaderIndex(forwardBy: head.withUnsafeReadableBytes { HeaderBlock.mailboxLines(in: $0).end })
        let header = HeaderBlock(scanning: head)
        guard header.isComplete || content.isInMemory else {
            throw Failure(.data, "the header has more than \(SendmailContent.memory >> 20) MiB")
        }
        if options.readsRecipients { try addRecipients(of: header, head, to: &envelope) }
        content.head = SendmailHeader(caller: caller, sender: envelope.sender, now: .now()).complete(header, head)
        return try delivery.deliver(envelope, content, needsAll: false)
    }

    private func read() throws(Failure) {
        var input = SendmailInput(STDIN_FILENO, stopsAtDot: !options.ignoresDots)
        defer { input.drain() }
        do throws(Failure) {
            while let piece = try input.next() { try content.append(piece) }
        } catch {
            // Who is told of it by mail has it nowhere else.
            content.isCut = true
            if error.status == .data { try content.append(input.refused) }
            throw error
        }
    }

    // MARK: Whom it is from and for

    /// As the command line has it.
    private func envelope() throws(Failure) -> SendmailEnvelope {
        var envelope = SendmailEnvelope(sender: caller.mailbox, recipients: [])
        if let sender = options.sender {
            let list = try addresses(sender == "<>" ? "" : sender, of: "the sender \"\(sender)\"")
            guard list.count <= 1 else { throw Failure(.usage, "-f \(sender): there can be one sender") }
            envelope.sender = list.first
        }
        for word in options.addresses {
            let list = try addresses(word, of: "the recipient \"\(word)\"")
            guard !list.isEmpty else { throw Failure(.usage, "the recipient \"\(word)\" is nobody") }
            envelope.recipients += list
        }
        envelope.recipients = envelope.recipients.eachOnce
        return envelope
    }

    private func addresses(_ text: String, of what: String) throws(Failure) -> [Mailbox] {
        do throws(AddressList.Fault) {
            return try AddressList(parsing: text, qualifiedWith: caller.hostname).entries.map(\.mailbox)
        } catch {
            throw Failure(.usage, "\(what) cannot be understood: \(error)")
        }
    }

    private func addRecipients(
        of header: HeaderBlock, _ head: ByteBuffer, to envelope: inout SendmailEnvelope
    ) throws(Failure) {
        let found: HeaderEnvelope
        do throws(HeaderEnvelope.Fault) {
            found = try HeaderEnvelope(reading: header, in: head, qualifiedWith: caller.hostname)
        } catch {
            throw Failure(.data, "\(error)")
        }
        envelope.recipients = (envelope.recipients + found.recipients).eachOnce
        if envelope.recipients.isEmpty {
            let fields = found.isResent ? "Resent-To, Resent-Cc or Resent-Bcc" : "To, Cc or Bcc"
            throw Failure(.usage, "nobody to send to: the message has no address in \(fields)")
        }
    }

    // MARK: To the caller

    /// Mails what is wrong to who called, never to a sender that anybody could have named.
    private func mail(_ complaints: [String]) {
        let notice = SendmailNotice(caller: caller, complaints: complaints, quote: content, now: .now())
        do throws(Failure) {
            let text = SendmailContent()
            try text.append(notice.content)
            let envelope = SendmailEnvelope(sender: nil, recipients: [caller.mailbox])
            for complaint in try delivery.deliver(envelope, text, needsAll: true).complaints {
                say("nor can \(caller.mailbox) be told: \(complaint)")
            }
        } catch {
            say("nor can \(caller.mailbox) be told: \(error.message)")
        }
    }
}
