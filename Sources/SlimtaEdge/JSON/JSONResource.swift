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
    private let version: String
    private let room: JSONRoom

    /// - Parameters:
    ///   - version: ours, as the description has it.
    ///   - messageSize: octets of the largest message. Requests that are being read and composed may have twice as many
    ///     together, those of one submitter half of that; who comes then is told to come again.
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
        let login = try await login(exchange, session)
        try checkType(exchange.request)
        let limit = exchange.settings.submission.rules.messageSize
        guard exchange.request.length ?? 0 <= limit else { throw Problem.tooLarge(limit) }
        let share = JSONRoom.Share(of: room, for: exchange.submitter(login))
        defer { share.giveBack() }
        try share.look(exchange.request.length ?? 0)
        let opening = await KeyedRequest.open(exchange, as: login)
        if case .refused(let refusal) = opening { throw Problem(refusal) }
        let (octets, fingerprint) = try await read(body, limit, share)
        let submission = MessageSubmission(
            settings: exchange.settings.submission, submissions: exchange.submissions)
        switch opening {
        case .unkeyed:
            let owner = exchange.submitter(login).owner(hasKey: false)
            return try await submission.take(octets, in: session) { id, answer, due in
                var receipt = Receipt(
                    key: Self.digest(of: id), owner: owner, fingerprint: fingerprint, id: id, answer: answer.octets,
                    expires: (due ?? .now()) + SubmissionKeys.lifetime)
                receipt.reach = .itself
                return receipt
            }.answer.first
        case .first(let keyed):
            let result = try await submission.take(octets, in: session) { id, answer, due in
                keyed.receipt(id, fingerprint: fingerprint, answer: answer, due: due)
            }
            guard result.reply == .repeated else { return result.answer.first }
            return try replay(await keyed.answer(fingerprint: fingerprint))
        case .again(let keyed, let receipt): return try replay(keyed.answer(receipt, fingerprint: fingerprint))
        case .refused(let refusal): throw Problem(refusal)
        }
    }

    private func replay(_ answer: KeyedRequest.Answer) throws(Problem) -> HTTPResponse {
        switch answer {
        case .replay(let kept): return kept.response
        case .refused(let refusal): throw Problem(refusal)
        }
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

    /// The whole body, as JSON can only be read then, and its fingerprint.
    private func read(
        _ body: HTTPBody, _ limit: Int, _ share: JSONRoom.Share
    ) async throws -> (ByteBuffer, Receipt.Digest) {
        var octets = ByteBuffer()
        var digest = SubmissionDigest()
        digest.add(["application/json"])
        while var piece = try await body.next() {
            guard octets.readableBytes + piece.readableBytes <= limit else { throw Problem.tooLarge(limit) }
            try share.grow(to: octets.readableBytes + piece.readableBytes)
            digest.addContent(piece.readableBytesView)
            octets.writeBuffer(&piece)
        }
        return (octets, digest.finish())
    }

    // MARK: GET /v1/messages/ID

    private func state(_ id: String, _ exchange: HTTPExchange) async throws -> HTTPResponse {
        let session = exchange.session()
        defer { session.abandon() }
        let owners = exchange.submitter(try await login(exchange, session)).owners
        let unknown = Problem(.notFound, "There is no such message, it is forgotten, or another login has sent it.")
        guard let id = QueueID(id) else { throw unknown }
        let state: SubmissionState?
        do throws(StorageError) {
            state = try await exchange.submissions.submission(id, of: owners)
        } catch {
            throw Problem(Reply(storing: error))
        }
        guard let json = state?.json else { throw unknown }
        return HTTPResponse(json)
    }

    // MARK: who asks

    /// Who asks, and may.
    private func login(_ exchange: HTTPExchange, _ session: SubmissionSession) async throws(Problem) -> SubmissionLogin
    {
        let login = await exchange.login(session)
        switch login {
        case .user, .nobody: return login
        case .refused(let reply):
            guard case .credentials = exchange.settings.authenticator else { throw Problem(reply, isForbidden: true) }
            throw Problem(reply)
        case .forbidden(let reply): throw Problem(reply, isForbidden: true)
        }
    }
}

/// How much of requests is in memory: each has all of it there at once. What has come counts, not what is announced, and
/// nobody has more than half: who sends slowly keeps nobody else out.
private final class JSONRoom: Sendable {
    /// Octets of each request that need no room.
    private static let free = 16 << 10

    private struct State {
        var left: Int
        var held: [Submitter: Int] = [:]
    }

    private let most: Int
    private let state: Mutex<State>

    init(octets: Int) {
        most = octets / 2
        state = Mutex(State(left: octets))
    }

    /// What one request has of it.
    final class Share {
        private let room: JSONRoom
        private let submitter: Submitter
        private var count = 0

        init(of room: JSONRoom, for submitter: Submitter) {
            self.room = room
            self.submitter = submitter
        }

        /// Throws if so many octets would find no room now.
        func look(_ octets: Int) throws(Problem) {
            try room.state.withLock { (state) throws(Problem) in _ = try taking(octets, state) }
        }

        /// So many octets are there. Throws if there is no room for them.
        func grow(to octets: Int) throws(Problem) {
            count = try room.state.withLock { (state) throws(Problem) in
                let more = try taking(octets, state)
                state.left -= more
                state.held[submitter, default: 0] += more
                return count + more
            }
        }

        /// The request is done.
        func giveBack() {
            room.state.withLock { state in
                state.left += count
                let held = state.held[submitter, default: 0] - count
                state.held[submitter] = held > 0 ? held : nil
            }
            count = 0
        }

        private func taking(_ octets: Int, _ state: State) throws(Problem) -> Int {
            let more = max(0, octets - JSONRoom.free - count)
            guard more <= state.left, state.held[submitter, default: 0] + more <= room.most else {
                throw Problem(.unavailable, "Too many large requests are in progress.")
            }
            return more
        }
    }
}

extension Problem {
    /// What an Idempotency-Key has against it.
    fileprivate init(_ refusal: KeyedRequest.Refusal) {
        let kind: Kind =
            switch refusal.status {
            case 400: .invalidRequest
            case 409: .inProgress
            case 422: .keyReused
            default: .unavailable
            }
        self.init(kind, refusal.text.prefix(1).uppercased() + refusal.text.dropFirst() + ".")
    }

    fileprivate static func tooLarge(_ limit: Int) -> Problem {
        Problem(.tooLarge, "The request has more than \(limit) octets.")
    }
}
