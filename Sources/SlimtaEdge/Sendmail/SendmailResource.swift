// What the sendmail command asks of a sendmail edge for a message: HTTP over a UNIX socket that is open to every user of the
// machine, for the kernel says who each is. Of one recipient that is refused the others do not suffer: the command tells.

internal import NIOCore
package import SlimtaMail
package import SlimtaNet
internal import SlimtaSMTP

/// Takes the messages of the sendmail command:
///
///     POST /sendmail   with Content-Type, X-Envelope-Sender and X-Envelope-Recipient as an HTTP edge has them, and
///                      X-Envelope-Needs-All: yes where one recipient that is refused refuses the message
///
/// The answer is `{"reply": "250 ...", "id": ID or null, "refused": [{"address", "reply"}]}`: 200 if it is stored, for all that
/// are not refused; 403 if the user may not send, or not as this sender.
package struct SendmailResource: HTTPResource {
    /// It has no settings.
    package init() {}

    /// /sendmail alone.
    package func answers(_ path: [String]) -> Bool { path == ["sendmail"] }

    /// See ``HTTPResource/respond(to:body:)``.
    package func respond(to exchange: HTTPExchange, body: HTTPBody) async throws -> HTTPResponse {
        let request = exchange.request
        guard request.method == "POST" else {
            return exchange.turnDown(405, "messages are posted", [("Allow", "POST")])
        }
        let session = exchange.session(clientName: exchange.settings.submission.hostname)
        switch await exchange.login(session) {
        case .user: break
        case .nobody: return Self.answer(.noUser, status: 403)
        case .refused(let reply): return Self.answer(reply)
        case .forbidden(let reply): return Self.answer(reply, status: 403)
        }
        do {
            var envelope = try MessageFields.envelope(request)
            envelope.needsAll = request.values("X-Envelope-Needs-All") == ["yes"]
            return try await submit(envelope, session, body, limit: exchange.settings.submission.rules.messageSize)
        } catch let mistake as MessageFields.Mistake {
            session.abandon()
            return exchange.turnDown(mistake.status, mistake.text, reply: mistake.reply)
        } catch {
            session.abandon()
            throw error
        }
    }

    private func submit(
        _ envelope: SubmissionRequest, _ session: SubmissionSession, _ body: HTTPBody, limit: Int
    ) async throws -> HTTPResponse {
        let verdicts: [Reply?]
        switch await session.begin(envelope) {
        case .open(let found): verdicts = found
        case .noRecipients(let replies):
            return Self.answer(replies.first ?? .noUser, refused: Self.refused(envelope, replies))
        case .refused(let reply): return Self.answer(reply)
        case .forbidden(let reply): return Self.answer(reply, status: 403)
        }
        // The command has done it, but anybody may speak here.
        var reader = ContentReader(limit: limit)
        var isAtEnd = false
        while !isAtEnd {
            var content = ByteBuffer()
            if let octets = try await body.next() {
                reader.read(octets, into: &content)
            } else {
                reader.finish(into: &content)
                isAtEnd = true
            }
            if let refusal = reader.refusal {
                session.abandon()
                return Self.answer(refusal)
            }
            guard content.readableBytes > 0, let refusal = await session.append(content) else { continue }
            return Self.answer(refusal)
        }
        let (reply, id) = await session.end()
        return Self.answer(reply, id: reply.isPositive ? id : nil, refused: Self.refused(envelope, verdicts))
    }

    private static func refused(_ envelope: SubmissionRequest, _ verdicts: [Reply?]) -> [JSON] {
        zip(envelope.recipients, verdicts).compactMap { recipient, verdict in
            verdict.map { .object([.init("address", .string(recipient.text)), .init("reply", .string("\($0)"))]) }
        }
    }

    private static func answer(
        _ reply: Reply, status: Int? = nil, id: QueueID? = nil, refused: [JSON] = []
    ) -> HTTPResponse {
        HTTPResponse(
            .object([
                .init("reply", .string("\(reply)")), .init("id", .optional(id.map { "\($0)" })),
                .init("refused", .array(refused)),
            ]), status: status ?? HTTPReply.status(reply, hasChallenge: false))
    }
}

extension Reply {
    /// To a process of which the kernel says nothing, or nothing that has a name here.
    package static let noUser = Reply(550, .init(5, 7, 1), "Only users of this machine may send from it")
}
