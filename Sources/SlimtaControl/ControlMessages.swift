// What is asked over the control socket: between the server, which knows HTTP, and the service, which knows the daemon.

package import SlimtaNet

/// A request. What it says is all in the method, the path and the query; a body has no meaning.
package struct ControlRequest: Sendable {
    /// To look, or to change something.
    package enum Method: String, Sendable {
        case get = "GET"
        case post = "POST"
    }

    /// Whether something is to be changed.
    package var method: Method
    /// The parts of the path, decoded: `/queue/019a` is "queue", "019a".
    package var path: [String]
    /// Parameters, each of which must be known where it is used.
    package var query: [HTTPTarget.Parameter]
    /// Who asks.
    package var peer: HTTPPeer.Process
    /// Who asks on another node of a shared queue, such as "root on mx1"; nil: `peer` does.
    package var asker: String?

    /// A request as the server read it.
    package init(method: Method, path: [String], query: [HTTPTarget.Parameter], peer: HTTPPeer.Process) {
        self.method = method
        self.path = path
        self.query = query
        self.peer = peer
    }
}

/// Answers requests: Control, and in tests of the server others.
package protocol ControlService: Sendable {
    /// Answers one request of a peer who may ask. Must not block.
    func respond(to request: ControlRequest) async -> HTTPResponse
}
