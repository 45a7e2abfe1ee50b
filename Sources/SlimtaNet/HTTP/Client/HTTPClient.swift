// An HTTP/1.1 client: requests to servers whose addresses are known, and their answers. For whoever fetches a policy or a
// token, delivers a report, or relays over HTTP. What an answer means, redirects and media types too, is the caller's
// business.
//
// What it does is in parts: HTTPExchange has the rules of one request, ConnectionPoolMachine those of the connections, both
// without I/O; HTTPClientPool and HTTPClientHandler do what they say; HTTPCall is where the caller waits.

package import NIOCore

/// An HTTP client. With the default limits every request has a connection of its own, which ends with it.
package final class HTTPClient: Sendable {
    private let group: any EventLoopGroup
    private let limits: HTTPClientLimits
    private let pool: HTTPClientPool

    /// A client whose connections live on the loops of `group`. `limits` are for each request that brings none of its own.
    package init(
        limits: HTTPClientLimits, connections: HTTPConnectionLimits = .init(), group: any EventLoopGroup
    ) {
        self.limits = limits
        self.group = group
        pool = HTTPClientPool(connections, group: group)
    }

    /// How many connections there are.
    package var connectionCount: Int { pool.connections.openCount }

    /// Asks once. Only a request that may be made twice is made again at once, if a connection that was kept turns out to
    /// be dead before it has said anything (RFC 9110 section 9.2.2). If the task is cancelled the connection is closed, but
    /// see ``HTTPClientLimits/cancelledTimeout``.
    package func answer(
        to question: HTTPQuestion, from origin: HTTPOrigin, limits: HTTPClientLimits? = nil
    ) async throws(HTTPClientError) -> HTTPAnswer {
        let call = try HTTPCall(question, to: origin, limits ?? self.limits, isKept: pool.isKeeping, at: .now())
        // Behind that its connection sees to the time.
        let timer = group.any().scheduleTask(deadline: call.requestEnd) { [pool] in pool.end(call, .requestTimedOut) }
        defer { timer.cancel() }
        let outcome = await withTaskCancellationHandler { () -> HTTPCall.Outcome in
            pool.submit(call)
            while true {
                switch await call.next() {
                case .wantsBody(let connection): await call.sendBody(through: connection)
                case .ended(let outcome): return outcome
                }
            }
        } onCancel: {
            pool.end(call, .cancelled)
        }
        return try outcome.get()
    }

    /// Ends: no more requests, connections that are idle are closed. Returns when all are closed, which takes as long as
    /// what is being asked.
    package func shutDown() async { await pool.shutDown() }
}
