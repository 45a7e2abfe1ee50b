// One HTTP/1.1 request to a server whose addresses are known, and its answer: for whoever fetches a policy or a token,
// delivers a report, or relays over HTTP. What an answer means, redirects and media types too, is the caller's business.
//
// Every request has a connection of its own, which ends with it: there is no pool. HTTPCall makes it; octets are
// watched in the channel (HTTPClientHandler).

package import NIOCore

/// An HTTP client.
package struct HTTPClient: Sendable {
    private let group: any EventLoopGroup
    private let limits: HTTPClientLimits

    /// A client whose connections live on the loops of `group`. `limits` are for each request.
    package init(limits: HTTPClientLimits, group: any EventLoopGroup) {
        self.limits = limits
        self.group = group
    }

    /// Asks once. The connection is closed when this returns, or is about to be; so it is if the task is cancelled.
    package func answer(
        to question: HTTPQuestion, from origin: HTTPOrigin
    ) async throws(HTTPClientError) -> HTTPAnswer {
        let head = try question.head(to: origin)
        return try await HTTPCall(head, question.body, origin, limits, on: group.next()).outcome().get()
    }
}
