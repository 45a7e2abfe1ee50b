// One request to an HTTP edge, as whoever answers it has it at hand; and what it takes to be asked for something. HTTPEdge
// makes an exchange of each request, and finds the resource by the path.

internal import Logging
internal import NIOCore
package import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
internal import SlimtaSASL
internal import SlimtaSMTP

/// Something that an HTTP edge can be asked for.
package protocol HTTPResource: Sendable {
    /// Whether it answers requests for this path, which is in its parts as ``HTTPTarget`` has them.
    func answers(_ path: [String]) -> Bool

    /// Answers a request, as ``HTTPService/respond(to:body:)`` says.
    func respond(to exchange: HTTPExchange, body: HTTPBody) async throws -> HTTPResponse
}

/// A request, and what the edge knows beside.
package struct HTTPExchange: Sendable {
    /// What was asked, and by whom.
    package let request: HTTPRequest
    /// Those that hold for this request.
    package let settings: HTTPEdgeSettings
    /// Where messages go, and who knows what became of them.
    package let submissions: any Submissions & SubmissionStates
    /// The keys of those that are being made.
    let keys: SubmissionKeys
    private let inProgress: SubmissionsInProgress
    private let log: SessionLog

    init(
        _ request: HTTPRequest, settings: HTTPEdgeSettings, submissions: any Submissions & SubmissionStates,
        keys: SubmissionKeys, inProgress: SubmissionsInProgress, log: SessionLog
    ) {
        self.request = request
        self.settings = settings
        self.submissions = submissions
        self.keys = keys
        self.inProgress = inProgress
        self.log = log
    }

    private var connection: ConnectionFacts { request.peer.connection }

    /// The session of the one message that the request has. It is abandoned if the client goes away before the queue has the message.
    ///
    /// - Parameter clientName: what the client calls itself; nil: by its address.
    package func session(clientName: String? = nil) -> SubmissionSession {
        let session = SubmissionSession(
            settings.submission, connection: connection, clientName: clientName ?? connection.addressLiteral,
            protocolWord: connection.tls == nil ? "HTTP" : "HTTPS", certificate: request.certificate,
            submissions: submissions, log: log, on: request.eventLoop)
        request.whenAbandoned { session.abandon() }
        inProgress.add(session)
        return session
    }

    /// Finds out who asks, as the edge's authenticator does, and whether whoever does not say it may go on. To be called
    /// before anything else is told of what is asked for.
    package func login(_ session: SubmissionSession) async -> SubmissionLogin {
        // No browser gets to a UNIX socket.
        guard connection.peer.address != nil else { return await identify(session) }
        let host = request.values("host").first
        let isForeign = WebPage.isForeign(
            method: request.method, sites: request.values("sec-fetch-site"), origins: request.values("origin"),
            host: host)
        if isForeign { return forbid(.foreignPage, session) }
        let login = await identify(session)
        // Who logs in is no page, and over TLS the certificate has to be for the name.
        guard login == .nobody, connection.tls == nil, let host,
            !WebPage.isOurs(host: host, names: [settings.submission.hostname] + settings.serverNames)
        else { return login }
        return forbid(.foreignHost, session)
    }

    private func forbid(_ reply: Reply, _ session: SubmissionSession) -> SubmissionLogin {
        session.abandon()
        SessionLines(log, edge: settings.name, connection).log(
            .info, "refused", ["reply": "\(reply)", "command": "CONNECT"], login: nil, on: request.eventLoop)
        return .forbidden(reply)
    }

    private func identify(_ session: SubmissionSession) async -> SubmissionLogin {
        switch settings.authenticator {
        case .none: return await session.unidentified()
        case .credentials:
            let fields = request.values("authorization")
            guard let field = fields.first else { return await session.unidentified() }
            guard fields.count == 1, let said = HTTPAuthorization.response(field) else {
                return .refused(.credentialsInvalid)
            }
            return await session.authenticate(said.mechanism, said.response)
        case .process(let judge):
            guard let process = request.peer.process else { return await session.unidentified() }
            let login = await judge(process)
            guard case .user(let user) = login else { return login }
            return await session.identified(as: user)
        }
    }

    /// The answer to a request that is no submission: a text that says why, and a line in the log.
    ///
    /// - Parameter reply: what SMTP would say to it, in place of the text.
    package func turnDown(
        _ status: Int, _ text: String, _ fields: [(name: String, value: String)] = [], reply: Reply? = nil
    ) -> HTTPResponse {
        SessionLines(log, edge: settings.name, connection).log(
            .info, "HTTP request refused", ["status": "\(status)", "reason": "\(text)"], login: nil,
            on: request.eventLoop)
        return HTTPReply.response(status, reply, text, fields)
    }

    /// The answer to a message that is refused, or was not taken.
    package func refused(_ reply: Reply, isForbidden: Bool = false) -> HTTPResponse {
        var hasChallenge = false
        if case .credentials = settings.authenticator { hasChallenge = true }
        let status = HTTPReply.status(reply, isForbidden: isForbidden, hasChallenge: hasChallenge)
        let challenge = HTTPAuthorization.challenge(to: request.values("authorization"))
        return HTTPReply.response(status, reply, reply.description, challenge: challenge)
    }
}

extension ConnectionFacts {
    /// What a client is called that does not say it: its address as a literal (RFC 5321 section 4.1.3), or this machine.
    fileprivate var addressLiteral: String {
        guard let address = peer.address else { return "localhost" }
        return address.isIPv4 ? "[\(address)]" : "[IPv6:\(address)]"
    }
}
