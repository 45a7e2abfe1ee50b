// The manual's protocol: POST a message, its envelope in fields. The answer is the reply that SMTP would have given, as a
// status and in X-Smtp-Reply. HTTPEdge asks for each request to the edge's path.

internal import NIOCore
internal import SlimtaMail
package import SlimtaNet
internal import SlimtaSMTP

/// Takes messages that are posted.
package struct MessageResource: HTTPResource {
    private let path: [String]

    /// - Parameter path: as a request line has it: "/submit".
    package init(path: String) { self.path = HTTPTarget(path)?.path ?? [] }

    /// Its own path alone.
    package func answers(_ path: [String]) -> Bool { self.path == path }

    /// What can be refused before the content is, before the client is told to send it (RFC 9110 section 10.1.1).
    package func respond(to exchange: HTTPExchange, body: HTTPBody) async throws -> HTTPResponse {
        let request = exchange.request
        guard request.method == "POST" else {
            return exchange.turnDown(405, "messages are posted", [("Allow", "POST")])
        }
        let clientName: String?
        do throws(MessageFields.Mistake) {
            clientName = try MessageFields.clientName(request)
        } catch {
            return exchange.turnDown(error)
        }
        let session = exchange.session(clientName: clientName)
        switch await exchange.login(session) {
        case .user, .nobody: break
        case .refused(let reply): return exchange.refused(reply)
        case .forbidden(let reply): return exchange.refused(reply, isForbidden: true)
        }
        let envelope: SubmissionRequest
        do throws(MessageFields.Mistake) {
            envelope = try MessageFields.envelope(request)
        } catch {
            session.abandon()
            return exchange.turnDown(error)
        }
        do {
            return try await submit(envelope, session, exchange, body)
        } catch {
            session.abandon()
            throw error
        }
    }

    /// What is refused in the middle of the content is not read to its end.
    private func submit(
        _ envelope: SubmissionRequest, _ session: SubmissionSession, _ exchange: HTTPExchange, _ body: HTTPBody
    ) async throws -> HTTPResponse {
        switch await session.begin(envelope) {
        case .open: break
        case .refused(let reply): return exchange.refused(reply)
        case .forbidden(let reply): return exchange.refused(reply, isForbidden: true)
        case .noRecipients(let replies): return exchange.refused(replies.first ?? .noValidRecipients)
        }
        var isEmpty = true
        while let content = try await body.next() {
            isEmpty = isEmpty && content.readableBytes == 0
            guard let refusal = await session.append(content) else { continue }
            return exchange.refused(refusal)
        }
        guard !isEmpty else {
            session.abandon()
            return exchange.turnDown(MessageFields.empty)
        }
        let (reply, id) = await session.end()
        guard reply.isPositive else { return exchange.refused(reply) }
        return HTTPResponse(
            200, [(HTTPReply.fieldName, HTTPReply.field(.messageAccepted)), ("X-Queue-Id", "\(id)")])
    }
}

extension Reply {
    /// As the manual has it: the id has a field of its own.
    fileprivate static let messageAccepted = Reply(250, .init(2, 6, 0), "Message accepted for delivery")
}

extension HTTPExchange {
    fileprivate func turnDown(_ mistake: MessageFields.Mistake) -> HTTPResponse {
        turnDown(mistake.status, mistake.text, mistake.field.map { [$0] } ?? [], reply: mistake.reply)
    }
}
