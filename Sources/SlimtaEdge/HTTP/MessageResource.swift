// The manual's protocol: POST a message, its envelope in fields. The answer is the reply that SMTP would have given, as a
// status and in X-Smtp-Reply. HTTPEdge asks for each request to the edge's path.

internal import NIOCore
internal import SlimtaMail
package import SlimtaNet
internal import SlimtaQueue
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
        let login = await exchange.login(session)
        switch login {
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
            switch await KeyedRequest.open(exchange, as: login) {
            case .unkeyed: return try await submit(envelope, nil, session, exchange, body)
            case .first(let keyed): return try await submit(envelope, keyed, session, exchange, body)
            case .again(let keyed, let receipt):
                session.abandon()
                return try await submitted(keyed, receipt, exchange, body)
            case .refused(let refusal):
                session.abandon()
                return exchange.response(.refused(refusal))
            }
        } catch {
            session.abandon()
            throw error
        }
    }

    /// The answer to a message that was submitted before with its key: of this one nothing is kept.
    private func submitted(
        _ keyed: KeyedRequest, _ receipt: Receipt, _ exchange: HTTPExchange, _ body: HTTPBody
    ) async throws -> HTTPResponse {
        var fingerprint = exchange.fingerprint()
        var size = 0
        while let content = try await body.next() {
            size += content.readableBytes
            // One so large was never taken.
            if let refusal = exchange.settings.submission.rules.refusal(ofSize: size) {
                return exchange.refused(refusal)
            }
            fingerprint.addContent(content.readableBytesView)
        }
        return exchange.response(keyed.answer(receipt, fingerprint: fingerprint.finish()))
    }

    /// What is refused in the middle of the content is not read to its end.
    private func submit(
        _ envelope: SubmissionRequest, _ keyed: KeyedRequest?, _ session: SubmissionSession, _ exchange: HTTPExchange,
        _ body: HTTPBody
    ) async throws -> HTTPResponse {
        var envelope = envelope
        let id = exchange.submissions.newID(at: .now())
        envelope.id = id
        switch await session.begin(envelope) {
        case .open: break
        case .refused(let reply): return exchange.refused(reply)
        case .forbidden(let reply): return exchange.refused(reply, isForbidden: true)
        case .noRecipients(let replies): return exchange.refused(replies.first ?? .noValidRecipients)
        }
        var isEmpty = true
        var fingerprint = exchange.fingerprint()
        while let content = try await body.next() {
            isEmpty = isEmpty && content.readableBytes == 0
            if keyed != nil { fingerprint.addContent(content.readableBytesView) }
            guard let refusal = await session.append(content) else { continue }
            return exchange.refused(refusal)
        }
        guard !isEmpty else {
            session.abandon()
            return exchange.turnDown(MessageFields.empty)
        }
        let answer = KeptAnswer(
            status: 200, fields: [(HTTPReply.fieldName, HTTPReply.field(.messageAccepted)), ("X-Queue-Id", "\(id)")])
        guard let keyed else {
            let reply = await session.end().reply
            return reply.isPositive ? answer.first : exchange.refused(reply)
        }
        let digest = fingerprint.finish()
        let reply = await session.end(receipt: keyed.receipt(id, fingerprint: digest, answer: answer)).reply
        if reply == .repeated { return exchange.response(await keyed.answer(fingerprint: digest)) }
        return reply.isPositive ? answer.first : exchange.refused(reply)
    }
}

extension Reply {
    /// As the manual has it: the id has a field of its own.
    fileprivate static let messageAccepted = Reply(250, .init(2, 6, 0), "Message accepted for delivery")
}

extension HTTPExchange {
    fileprivate func response(_ answer: KeyedRequest.Answer) -> HTTPResponse {
        switch answer {
        case .replay(let kept): kept.response
        case .refused(let refusal): turnDown(refusal.status, refusal.text, refusal.fields)
        }
    }

    fileprivate func turnDown(_ mistake: MessageFields.Mistake) -> HTTPResponse {
        turnDown(mistake.status, mistake.text, mistake.field.map { [$0] } ?? [], reply: mistake.reply)
    }
}
