// What mailq and `sendmail -q` ask of a sendmail edge: what a user has sent, and that it be tried now.

package import SlimtaNet
internal import SlimtaSMTP

/// What users of this machine may see of the queue, and have done to it.
package protocol LocalQueue: Sendable {
    /// A page of what `login` has sent as a user of this machine, of all there is if nil, as the control socket has it.
    func list(of login: String?, _ query: [HTTPTarget.Parameter], by process: HTTPPeer.Process) async -> HTTPResponse

    /// Has that tried now; a page of it.
    func flush(of login: String?, _ query: [HTTPTarget.Parameter], by process: HTTPPeer.Process) async -> HTTPResponse
}

/// Shows the queue:
///
///     GET  /queue          a page of the user's own messages, of all for root; parameters: limit, after, until
///     POST /queue/flush    has those tried now
package struct LocalQueueResource: HTTPResource {
    private let queue: any LocalQueue

    /// Asks `queue`.
    package init(_ queue: any LocalQueue) { self.queue = queue }

    /// /queue and /queue/flush.
    package func answers(_ path: [String]) -> Bool { path == ["queue"] || path == ["queue", "flush"] }

    /// See ``HTTPResource/respond(to:body:)``.
    package func respond(to exchange: HTTPExchange, body: HTTPBody) async throws -> HTTPResponse {
        let request = exchange.request
        try await body.discard()
        let session = exchange.session()
        defer { session.abandon() }
        guard let process = request.peer.process, case .user(let user) = await exchange.login(session) else {
            return .error(403, "only users of this machine may ask")
        }
        let target = HTTPTarget(request.target)
        let query = target?.query ?? []
        // The superuser sees what all have sent.
        let login = process.uid == 0 ? nil : user.login
        switch (request.method, target?.path.count) {
        case ("GET", 1): return await queue.list(of: login, query, by: process)
        case ("POST", 2): return await queue.flush(of: login, query, by: process)
        default: return .error(405, "GET is for looking, POST for changing something")
        }
    }
}
