// The milters of one session, in their order: asked as its commands come, and shown the message behind the policies that come
// before them. SessionGate has one where the edge has milters; what they are told of a session is in MilterQuestion.swift.

package import NIOCore
internal import SlimtaMail
internal import SlimtaMilter
internal import SlimtaQueue

/// The milters of an edge.
package struct Milters: Sendable {
    let services: [MilterService]
    let hostname: String
    let version: String
    /// How long all of them may take for a message; nil: as long as each may.
    let limit: TimeAmount?
    private let keeping: (any Sendable)?

    /// nil: there are none.
    ///
    /// - Parameters:
    ///   - services: in the order in which they are asked.
    ///   - hostname: our name, the macro `j`.
    ///   - version: what we are and which, the macro `v`.
    ///   - limit: how long all of them may take for a message; nil: as long as each may.
    ///   - keeping: what has to live as long as a session may ask them.
    package init?(
        _ services: [MilterService], hostname: String, version: String, limit: TimeAmount? = nil,
        keeping: (any Sendable)? = nil
    ) {
        guard !services.isEmpty else { return nil }
        self.services = services
        self.hostname = hostname
        self.version = version
        self.limit = limit
        self.keeping = keeping
    }
}

/// Those of one session, on its event loop; it has one question at a time.
///
/// A milter that fails is out for its message: the next one gets a new connection, and so does another EHLO, which is told first
/// what it has missed of the session. What one wants discarded no other one sees.
final class SessionMilters {
    /// Who says no, and how.
    struct Refusal {
        let reply: Reply
        let milter: String
    }

    typealias Told = (event: MilterEvent, macros: MilterMacros)

    private struct Part {
        let service: MilterService
        var conversation: MilterConversation?
    }

    private let milters: Milters
    private let session: String
    private let eventLoop: any EventLoop
    private var parts: [Part]
    /// Of the session, for who connects later: what was said at connect, and in the last EHLO.
    private var connect: Told?
    private var hello: Told?
    /// The transaction that is to be forgotten, and who wants that.
    private var discarded: (transaction: UInt64, milter: String)?
    /// Messages that may still be shown.
    private var owed = 0
    private var isEnded = false
    /// Who is shown a message now.
    private var shown: MilterConversation?
    /// The time of all for the message is over.
    private var isLate = false

    /// - Parameter session: its name in logs.
    init(_ milters: Milters, session: String, on eventLoop: any EventLoop) {
        self.milters = milters
        self.session = session
        self.eventLoop = eventLoop
        parts = milters.services.map { Part(service: $0) }
    }

    // MARK: As commands come

    /// Tells all of them, one after the other, until one says no. `completion` is called within the call, or later, unless the session
    /// ends first.
    func ask(_ events: [Told], ofTransaction transaction: UInt64, completion: @escaping (Refusal?) -> Void) {
        guard let stage = events.first?.event.stage else { return completion(nil) }
        if let discarded, discarded.transaction == transaction, stage.isOfMessage { return completion(nil) }
        switch stage {
        case .connect:
            connect = events.first
            // All of them begin to connect at once.
            for index in parts.indices { renew(index) }
        case .hello: hello = events.first
        case .mail, .recipient, .data, .message: break
        }
        ask(events, at: 0, transaction, completion)
    }

    /// Tells those who want to know of a recipient that is refused.
    func refused(_ told: Told, completion: @escaping () -> Void) { refused(told, at: 0, completion) }

    private func refused(_ told: Told, at index: Int, _ completion: @escaping () -> Void) {
        guard
            let index = parts.indices.dropFirst(index).first(where: {
                parts[$0].conversation?.wantsRejectedRecipients == true
            })
        else { return completion() }
        // What it says of it changes nothing.
        parts[index].conversation?.ask(told.event, told.macros) { [self] _ in
            refused(told, at: index + 1, completion)
        }
    }

    private func ask(
        _ events: [Told], at index: Int, _ transaction: UInt64, _ completion: @escaping (Refusal?) -> Void
    ) {
        guard index < parts.count else { return completion(nil) }
        var own = events
        switch events.first?.event.stage {
        case .mail where renew(index): own = [connect, hello].compactMap(\.self) + events
        // Or a client that is refused for its sake here would be for the rest of its session.
        case .hello where renew(index): own = [connect].compactMap(\.self) + events
        default: break
        }
        tell(own[...], to: index) { [self] verdict in
            let name = parts[index].service.name
            switch verdict {
            case .proceed, .accepted, .finished: ask(events, at: index + 1, transaction, completion)
            case .refused(let reply), .closing(let reply): completion(Refusal(reply: reply, milter: name))
            case .discarded:
                discarded = (transaction, name)
                completion(nil)
            }
        }
    }

    /// Tells one of them, until it says anything but that it goes on.
    private func tell(_ events: ArraySlice<Told>, to index: Int, _ completion: @escaping (MilterVerdict) -> Void) {
        guard let told = events.first, let conversation = parts[index].conversation else { return completion(.proceed) }
        conversation.ask(told.event, told.macros) { [self] verdict in
            // Who waited for a session may have ended the connection meanwhile, or lost it.
            if conversation.isKept, !conversation.isUsable, told.event.stage == .connect {
                let service = parts[index].service
                parts[index].conversation = MilterConversation(service, session, on: eventLoop)
                return tell(events, to: index, completion)
            }
            switch verdict {
            case .proceed, .accepted, .finished: tell(events.dropFirst(), to: index, completion)
            case .refused, .discarded, .closing: completion(verdict)
            }
        }
    }

    /// Makes another connection where the last one is of no use. Returns whether it has.
    @discardableResult
    private func renew(_ index: Int) -> Bool {
        let (service, conversation) = (parts[index].service, parts[index].conversation)
        if let conversation {
            if conversation.isUsable || !service.settings.session.onFailure.triesAgain { return false }
            conversation.quit()
        }
        parts[index].conversation = service.conversation(on: eventLoop, session: session)
        return true
    }

    /// The session is over. Connections end, but for a message that is still to be shown.
    func end() {
        isEnded = true
        guard owed == 0 else { return }
        for part in parts { part.conversation?.leave() }
        parts = []
    }

    // MARK: The message

    /// Shows them the message of a transaction, later.
    func filter(ofTransaction number: UInt64) -> MessageFilterReference {
        owed += 1
        return MessageFilterReference(SessionFilter(self, number, on: eventLoop))
    }

    fileprivate func isShown() {
        owed -= 1
        if isEnded, owed == 0 { end() }
    }

    fileprivate func show(
        _ message: FilteredMessage, ofTransaction number: UInt64, _ completion: @escaping (FilterVerdict) -> Void
    ) {
        if let discarded, discarded.transaction == number { return completion(.discarded(by: discarded.milter)) }
        let mail = MilterMail(head: message.message.head, sender: message.sender, recipients: message.recipients)
        isLate = false
        let timer = milters.limit.map { limit in
            eventLoop.assumeIsolated().scheduleTask(in: limit) {
                self.isLate = true
                self.shown?.ended(.timedOut)
            }
        }
        show(Showing(message: message, mail: mail), to: 0) { [self] verdict in
            timer?.cancel()
            shown = nil
            completion(verdict)
        }
    }

    /// A message on its way from one to the next.
    fileprivate struct Showing {
        let message: FilteredMessage
        var mail: MilterMail
        var isChanged = false
    }

    private func show(_ showing: Showing, to index: Int, _ completion: @escaping (FilterVerdict) -> Void) {
        guard index < parts.count, let conversation = parts[index].conversation else {
            return completion(showing.isChanged ? .changed(showing.filtered) : .unchanged)
        }
        let (mail, message, name) = (showing.mail, showing.message.message, parts[index].service.name)
        let body = MilterConversation.Body(
            held: mail.shownBody(of: message), reader: mail.body == nil ? message.rest?.makeReader() : nil)
        shown = conversation
        defer { if isLate { conversation.ended(.timedOut) } }
        conversation.ask(.message(mail.fields), ["i": "\(showing.message.id)"], body: body) { [self] verdict in
            switch verdict {
            case .refused(let reply), .closing(let reply): completion(.refused(reply, by: name))
            case .discarded: completion(.discarded(by: name))
            case .proceed, .accepted: show(showing, to: index + 1, completion)
            case .finished(let edits):
                var showing = showing
                showing.mail.apply(edits)
                parts[index].service.tell(unused: edits.unusedParameters, session, on: eventLoop)
                showing.isChanged = showing.isChanged || !edits.isEmpty
                // Nobody is left whom it could go to.
                if showing.mail.recipients.isEmpty { return completion(.discarded(by: name)) }
                show(showing, to: index + 1, completion)
            }
        }
    }
}

extension SessionMilters.Showing {
    /// What has become of it.
    fileprivate var filtered: FilteredMessage {
        var filtered = message
        filtered.message = mail.applied(to: message.message)
        filtered.fieldsAboveReceived = mail.fieldsAboveReceived
        filtered.sender = mail.sender
        filtered.recipients = mail.recipients.map(\.mailbox)
        for recipient in mail.recipients {
            if let original = recipient.original { filtered.originals[recipient.mailbox] = original }
            if let conditions = recipient.notifications { filtered.notifications[recipient.mailbox] = conditions }
        }
        filtered.heldReason = mail.heldBecause.map { $0.isEmpty ? "milter" : $0 }
        return filtered
    }
}

/// The milters of a session, as the policies of its message have them.
private final class SessionFilter: MessageFilter {
    private let milters: NIOLoopBound<SessionMilters>
    private let transaction: UInt64
    private let eventLoop: any EventLoop

    init(_ milters: SessionMilters, _ transaction: UInt64, on eventLoop: any EventLoop) {
        self.milters = NIOLoopBound(milters, eventLoop: eventLoop)
        self.transaction = transaction
        self.eventLoop = eventLoop
    }

    /// Also if nobody has asked it: a policy has refused the message.
    deinit { eventLoop.execute { [milters] in milters.value.isShown() } }

    func filter(_ message: FilteredMessage) async -> FilterVerdict {
        await withCheckedContinuation { continuation in
            eventLoop.execute { [self] in
                milters.value.show(message, ofTransaction: transaction) { continuation.resume(returning: $0) }
            }
        }
    }
}
