// The control socket: HTTP/1.1 over a UNIX socket, for those who may control the daemon. The composition root gives it
// the socket and a service, and runs it; what the requests mean is the service's.

package import Logging
package import NIOCore
package import SlimtaNet

/// Serves the control socket.
package final class ControlServer: HTTPService {
    /// Who may ask: root, these users, and whoever has this group.
    package struct Access: Hashable, Sendable {
        /// By number, beside root.
        package var users: Set<UInt32>
        /// By number; nil: there is none.
        package var group: UInt32?

        /// Given in by the composition root, which asks the system for the numbers.
        package init(users: Set<UInt32>, group: UInt32?) {
            self.users = users
            self.group = group
        }
    }

    private let service: any ControlService
    private let access: Access
    private let limits: HTTPLimits
    private let group: any EventLoopGroup
    private let logger: Logger

    /// The control socket must not be a way to harm the daemon: `limits` are what its clients may take.
    package init(
        service: any ControlService, access: Access, limits: HTTPLimits = HTTPLimits(), group: any EventLoopGroup,
        logger: Logger
    ) {
        self.service = service
        self.access = access
        self.limits = limits
        self.group = group
        self.logger = logger
    }

    /// Serves `socket`, a UNIX socket, until the task is cancelled; then closes it.
    package func run(on socket: ListeningSocket) async {
        do {
            try await HTTPServer(service: self, access: access, limits: limits, group: group).run(on: socket)
        } catch is CancellationError {
            // The end.
        } catch {
            logger.error("the control socket failed", metadata: ["error": "\(error)"])
        }
    }

    /// Reads what a request means, and has the service answer it.
    package func respond(to request: HTTPRequest, body: HTTPBody) async throws -> HTTPResponse {
        // A request is acted upon when it is there as a whole, though all that counts is in its target.
        try await body.discard()
        guard let peer = request.peer.process else { preconditionFailure("a UNIX socket's peer is a process") }
        guard let method = ControlRequest.Method(rawValue: request.method) else {
            return .error(405, "the method is GET to look and POST to change something")
        }
        guard let target = HTTPTarget(request.target) else {
            return .error(400, "the request's target cannot be read")
        }
        return await service.respond(
            to: ControlRequest(method: method, path: target.path, query: target.query, peer: peer))
    }

    /// Writes it into the log.
    package func noticed(_ event: HTTPServerEvent) {
        switch event {
        case .tooMany(let limit):
            logger.warning("too many connections to the control socket", metadata: ["limit": "\(limit)"])
        case .refused(let peer): logger.warning("control refused", metadata: metadata(peer))
        case .malformed(let peer, _, let text):
            logger.debug("control connection ended", metadata: metadata(peer).merging(["error": "\(text)"]) { $1 })
        case .broken(let peer, let error):
            logger.debug(
                "control connection ended", metadata: metadata(peer).merging(["error": "\(error)"]) { $1 })
        }
    }

    private func metadata(_ peer: HTTPPeer?) -> Logger.Metadata {
        peer?.process.map { ["uid": "\($0.uid)", "pid": "\($0.pid)"] } ?? [:]
    }
}

extension ControlServer.Access: HTTPAccess {
    /// Refuses with 403 whom it does not allow.
    package func admit(_ peer: HTTPPeer) -> HTTPAdmission {
        guard let process = peer.process, allows(uid: process.uid, groups: process.groups) else {
            return .refused(
                .error(403, "only root, the service's user and members of the group slimtad-admin may do this"))
        }
        return .admitted
    }

    /// Whether a process may that has these groups.
    func allows(uid: UInt32, groups: [UInt32]) -> Bool {
        uid == 0 || users.contains(uid) || group.map(groups.contains) ?? false
    }
}
