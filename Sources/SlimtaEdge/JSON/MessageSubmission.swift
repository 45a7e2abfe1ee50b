// One message that came as JSON, on its way to the queue: read, composed, and handed on as any other whole message. The HTTP
// edge calls it for POST /v1/messages, behind the login and before the key of the submission is let go.

package import NIOCore
internal import NIOPosix
package import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
internal import SlimtaSMTP

/// What is needed to take messages as JSON.
package struct MessageSubmission: Sendable {
    private let settings: SubmissionSettings
    private let submissions: any Submissions

    /// For messages that are held to `settings`.
    package init(settings: SubmissionSettings, submissions: any Submissions) {
        self.settings = settings
        self.submissions = submissions
    }

    /// Takes a message.
    ///
    /// In memory at once are the octets, what they say (attachments in their base64), and a piece of the message: some twice
    /// the length of the request.
    ///
    /// - Parameters:
    ///   - session: whose client has said who it is.
    ///   - receipt: what the submission leaves behind, when it is told what is answered: an id, octets and a time.
    package func take(
        _ octets: ByteBuffer, in session: SubmissionSession,
        receipt: @Sendable (QueueID, KeptAnswer, _ sendAt: Timestamp?) -> Receipt
    ) async throws(Problem) -> (answer: KeptAnswer, reply: Reply) {
        let composition = try await compose(octets)
        let (request, message, id) = (composition.request, composition.message, composition.id)
        let verdicts = try await begin(request, message, id, session)
        let answer = KeptAnswer(accepted: id, verdicts, request)
        for piece in message {
            if let refusal = await session.append(piece) { throw Problem(refusal) }
        }
        let reply = await session.end(receipt: receipt(id, answer, request.sendAt)).reply
        guard reply.isPositive || reply == .repeated else { throw Problem(reply) }
        return (answer, reply)
    }

    /// What a request asks for.
    private struct Composition: Sendable {
        let request: MessageRequest
        let message: ComposedMessage
        let id: QueueID
    }

    /// Octets of a request that is read where it came in.
    private static let short = 16 << 10
    /// The thread of all longer ones: megabytes take as long as a thousand other requests, and those are not to wait for them
    /// on an event loop. They wait for each other.
    private static let thread: NIOThreadPool = {
        let thread = NIOThreadPool(numberOfThreads: 1)
        thread.start()
        return thread
    }()

    private func compose(_ octets: ByteBuffer) async throws(Problem) -> Composition {
        guard octets.readableBytes > Self.short else { return try composed(octets) }
        let result: Result<Composition, Problem>
        do {
            result = try await Self.thread.runIfActive {
                Result { () throws(Problem) in try composed(octets) }
            }
        } catch {
            throw Problem(.unavailable, "The request cannot be read now.")
        }
        return try result.get()
    }

    private func composed(_ octets: ByteBuffer) throws(Problem) -> Composition {
        let now = Timestamp.now()
        let request: MessageRequest
        do throws(RequestFaults) {
            request = try MessageRequest(reading: octets, recipientLimit: settings.rules.recipients, now: now)
        } catch {
            throw Problem(error)
        }
        let sent = request.sendAt ?? now
        let id = submissions.newID(at: sent)
        let message = ComposedMessage(
            request.draft,
            .init(
                hostname: settings.hostname, date: sent, zoneOffset: sent.localOffset, id: id,
                boundary: (.random(in: .min ... .max), .random(in: .min ... .max))))
        guard message.size <= settings.rules.messageSize else {
            throw Problem(
                .tooLarge, "The message would have \(message.size) octets; there may be \(settings.rules.messageSize).")
        }
        return Composition(request: request, message: message, id: id)
    }

    /// May this message come, and to whom?
    private func begin(
        _ request: MessageRequest, _ message: ComposedMessage, _ id: QueueID, _ session: SubmissionSession
    ) async throws(Problem) -> [MessageVerdict] {
        var submission = SubmissionRequest(
            sender: request.draft.from.mailbox, recipients: request.recipients, size: message.size, needsAll: false,
            id: id)
        submission.smtpUTF8 = submission.smtpUTF8 || message.needsSMTPUTF8
        submission.sendAt = request.sendAt
        if message.needsSMTPUTF8 { submission.body = .eightBitMIME }
        switch await session.begin(submission) {
        case .open(let replies):
            return zip(request.recipients, replies).map { MessageVerdict(recipient: $0, refusal: $1) }
        case .noRecipients(let replies):
            throw Problem(refusing: zip(request.recipients, replies).map { MessageVerdict(recipient: $0, refusal: $1) })
        case .refused(let reply): throw Problem(reply)
        case .forbidden(let reply): throw Problem(reply, isForbidden: true)
        }
    }
}

extension KeptAnswer {
    /// What is said of a message that was taken: 202.
    fileprivate init(accepted id: QueueID, _ verdicts: [MessageVerdict], _ request: MessageRequest) {
        var members: [JSON.Member] = [
            .init("id", .string("\(id)")), .init("recipients", .array(verdicts.map(\.json))),
        ]
        if let time = request.sendAt { members.append(.init("send_at", .string(time.isoDate))) }
        if !request.metadata.isEmpty { members.append(.init("metadata", .object(request.metadata))) }
        var body: [UInt8] = []
        JSON.object(members).write(to: &body)
        self.init(status: 202, fields: [("Content-Type", "application/json")], body: body + [UInt8(ascii: "\n")])
    }

    /// What the client wanted to be told again: members of the answer.
    fileprivate var remembered: [JSON.Member] {
        guard let said = try? JSON(parsing: body) else { return [] }
        return said.members.filter { ["send_at", "metadata"].contains($0.name) }
    }
}

extension SubmissionState {
    /// The state of a message, as GET answers it; nil: it was no message that came as JSON.
    package var json: JSON? {
        guard let answer = KeptAnswer(receipt.answer), answer.status == 202 else { return nil }
        var members: [JSON.Member] = [.init("id", .string("\(receipt.id)"))]
        members += answer.remembered
        members.append(.init("recipients", .array(recipients.map(\.json))))
        return .object(members)
    }
}

extension SubmissionState.Recipient {
    fileprivate var json: JSON {
        var members: [JSON.Member] = [
            .init("address", .string(address)), .init("state", .string(fate.rawValue)),
        ]
        if fate == .queued {
            if isHeld { members.append(.init("held", .bool(true))) }
            members.append(.init("attempts", .count(attempts)))
            if let nextAttempt { members.append(.init("next_attempt", .string(nextAttempt.isoDate))) }
        }
        if !reply.isEmpty { members.append(.init("reply", .string(reply))) }
        return .object(members)
    }
}
