// The resources of an HTTP edge that speak JSON: messages are posted to /v1/messages, what became of one is asked there, and
// /openapi.json describes both. HTTPEdge finds it by the path.

internal import NIOCore
internal import SlimtaMail
package import SlimtaNet
internal import SlimtaQueue
internal import SlimtaSMTP
import Synchronization

/// `/v1/messages` and `/openapi.json`. Whatever it does not do it answers with a problem of RFC 9457.
package struct JSONResource: HTTPResource {
    /// How long the state of a message is known from when it was to be sent.
    private static let lifetime = SubmissionKeys.lifetime

    private let version: String
    private let room: JSONRoom

    /// - Parameters:
    ///   - version: ours, as the description has it.
    ///   - messageSize: octets of the largest message. Requests that are being read and composed may have twice as many
    ///     together; who comes then is told to come again.
    package init(version: String, messageSize: Int) {
        self.version = version
        room = JSONRoom(octets: 2 * messageSize)
    }

    /// Everything below /v1, so that a wrong path there is answered in the same way.
    package func answers(_ path: [String]) -> Bool { path.first == "v1" || path == ["openapi.json"] }

    /// See ``HTTPResource``.
    package func respond(to exchange: HTTPExchange, body: HTTPBody) async throws -> HTTPResponse {
        let path = HTTPTarget(exchange.request.target)?.path ?? []
        do {
            switch (path.count, path.first) {
            case (1, "openapi.json"):
                try allow(["GET", "HEAD"], exchange)
                return description(exchange.settings.submission)
            case (2, _) where path[1] == "messages":
                try allow(["POST"], exchange)
                return try await post(exchange, body)
            case (3, _) where path[1] == "messages":
                try allow(["GET", "HEAD"], exchange)
                return try await state(path[2], exchange)
            default: throw Problem(.notFound, "Messages are posted to /v1/messages.")
            }
        } catch let problem as Problem {
            // For the log; who asked gets JSON.
            _ = exchange.turnDown(problem.kind.status, problem.detail)
            return problem.response
        }
    }

    private func allow(_ methods: [String], _ exchange: HTTPExchange) throws(Problem) {
        guard !methods.contains(exchange.request.method) else { return }
        var problem = Problem(.methodNotAllowed, "Allowed are \(methods.joined(separator: ", ")).")
        problem.fields = [("Allow", methods.joined(separator: ", "))]
        throw problem
    }

    private func description(_ settings: SubmissionSettings) -> HTTPResponse {
        let text = OpenAPI.document(
            version: version, recipients: settings.rules.recipients, size: settings.rules.messageSize)
        return HTTPResponse(200, [("Content-Type", "application/json")], .whole(ByteBuffer(string: text)))
    }

    // MARK: POST /v1/messages

    private func post(_ exchange: HTTPExchange, _ body: HTTPBody) async throws -> HTTPResponse {
        let session = exchange.session()
        // A message that was stored is stored.
        defer { session.abandon() }
        let submitter = try await submitter(exchange, session)
        try checkType(exchange.request)
        let key: IdempotencyKey?
        do throws(IdempotencyKey.Mistake) {
            key = try IdempotencyKey(fields: exchange.request.values("idempotency-key"))
        } catch {
            throw Problem(.invalidRequest, "\(error.text).")
        }
        let limit = exchange.settings.submission.rules.messageSize
        guard exchange.request.length ?? 0 <= limit else { throw Problem.tooLarge(limit) }
        let space = try room.take(exchange.request.length ?? limit)
        defer { room.giveBack(space) }
        guard let key else {
            return try await submit(try await read(body, limit), exchange, session, submitter, key: nil).answer.first
        }
        return try await submit(key, exchange, session, submitter, body, limit)
    }

    /// A submission that may have been made before.
    private func submit(
        _ key: IdempotencyKey, _ exchange: HTTPExchange, _ session: SubmissionSession, _ submitter: Submitter,
        _ body: HTTPBody, _ limit: Int
    ) async throws -> HTTPResponse {
        let digest = submitter.digest(key, method: "POST", path: "/v1/messages")
        let opening: SubmissionKeys.Opening
        do throws(StorageError) { opening = try await exchange.keys.open(digest) } catch {
            throw Problem(Reply(storing: error))
        }
        switch opening {
        case .inProgress: throw Problem.inProgress
        case .repeated(let receipt):
            let fingerprint = Self.fingerprint(of: try await read(body, limit))
            return try replay(exchange.keys.answer(to: receipt, fingerprint))
        case .first(let reservation):
            defer { withExtendedLifetime(reservation) {} }
            let octets = try await read(body, limit)
            let result = try await submit(octets, exchange, session, submitter, key: digest)
            guard result.reply == .repeated else { return result.answer.first }
            return try replay(await exchange.keys.answer(to: digest, Self.fingerprint(of: octets)))
        }
    }

    private func submit(
        _ octets: ByteBuffer, _ exchange: HTTPExchange, _ session: SubmissionSession, _ submitter: Submitter,
        key: Receipt.Digest?
    ) async throws(Problem) -> (answer: KeptAnswer, reply: Reply) {
        let submission = MessageSubmission(
            settings: exchange.settings.submission, submissions: exchange.submissions)
        let fingerprint = Self.fingerprint(of: octets)
        return try await submission.take(octets, in: session) { id, answer, sendAt in
            Receipt(
                key: key ?? Self.digest(of: id), owner: submitter.owner(hasKey: key != nil), fingerprint: fingerprint,
                id: id, answer: answer.octets, expires: (sendAt ?? .now()) + Self.lifetime)
        }
    }

    private func replay(_ repetition: SubmissionKeys.Repetition) throws(Problem) -> HTTPResponse {
        switch repetition {
        case .inProgress: throw Problem.inProgress
        case .other:
            throw Problem(
                .keyReused, "Another message was submitted with this Idempotency-Key: a new one needs a new key.")
        case .replay(let receipt):
            guard let answer = KeptAnswer(receipt.answer) else {
                throw Problem(.unavailable, "What was answered to the first submission with this key cannot be read.")
            }
            return answer.response
        }
    }

    private static func fingerprint(of octets: ByteBuffer) -> Receipt.Digest {
        var digest = SubmissionDigest()
        digest.add(["application/json"])
        digest.addContent(octets.readableBytesView)
        return digest.finish()
    }

    /// The key of a submission that has none: no other one has it.
    private static func digest(of id: QueueID) -> Receipt.Digest {
        var digest = SubmissionDigest()
        digest.add(["message", "\(id)"])
        return digest.finish()
    }

    private func checkType(_ request: HTTPRequest) throws(Problem) {
        let types = request.values("content-type").map { type in
            type.prefix { $0 != ";" }.filter { $0 != " " && $0 != "\t" }.lowercased()
        }
        guard types == ["application/json"] else {
            throw Problem(.unsupportedType, "Content-Type is application/json.")
        }
        guard request.values("content-encoding").allSatisfy({ $0.lowercased() == "identity" }) else {
            var problem = Problem(.unsupportedType, "The request is not to be compressed.")
            problem.fields = [("Accept-Encoding", "identity")]
            throw problem
        }
    }

    /// The whole body: JSON can only be read then.
    private func read(_ body: HTTPBody, _ limit: Int) async throws -> ByteBuffer {
        var octets = ByteBuffer()
        while var piece = try await body.next() {
            guard octets.readableBytes + piece.readableBytes <= limit else { throw Problem.tooLarge(limit) }
            octets.writeBuffer(&piece)
        }
        return octets
    }

    // MARK: GET /v1/messages/ID

    private func state(_ id: String, _ exchange: HTTPExchange) async throws -> HTTPResponse {
        let session = exchange.session()
        defer { session.abandon() }
        let submitter = try await submitter(exchange, session)
        let unknown = Problem(.notFound, "There is no such message, it is forgotten, or another login has sent it.")
        guard let id = QueueID(id) else { throw unknown }
        let state: SubmissionState?
        do throws(StorageError) {
            state = try await exchange.submissions.submission(id, of: submitter.owners)
        } catch {
            throw Problem(Reply(storing: error))
        }
        guard let json = state?.json else { throw unknown }
        return HTTPResponse(json)
    }

    // MARK: who asks

    /// Who asks, and may.
    private func submitter(_ exchange: HTTPExchange, _ session: SubmissionSession) async throws(Problem) -> Submitter {
        switch await exchange.login(session) {
        case .user(let user): return .login(user.login)
        case .nobody:
            let address = exchange.request.peer.connection.peer.address
            return .client(edge: exchange.settings.name, network: address?.customerNetwork.description ?? "local")
        case .refused(let reply):
            guard case .credentials = exchange.settings.authenticator else { throw Problem(reply, isForbidden: true) }
            throw Problem(reply)
        case .forbidden(let reply): throw Problem(reply, isForbidden: true)
        }
    }
}

/// How much of requests is in memory: each has all of it there at once.
private final class JSONRoom: Sendable {
    private let left: Mutex<Int>

    init(octets: Int) { left = Mutex(octets) }

    /// Takes so many octets, or none.
    func take(_ count: Int) throws(Problem) -> Int {
        let isThere = left.withLock { left in
            guard left >= count else { return false }
            left -= count
            return true
        }
        guard isThere else { throw Problem(.unavailable, "Too many large requests are in progress.") }
        return count
    }

    func giveBack(_ count: Int) { left.withLock { $0 += count } }
}

extension Problem {
    fileprivate static let inProgress = Problem(.inProgress, "The same submission is being made at this moment.")

    fileprivate static func tooLarge(_ limit: Int) -> Problem {
        Problem(.tooLarge, "The request has more than \(limit) octets.")
    }
}
