// What users of this machine see of the queue, and may have done to it: through Control, as operators do, but within limits
// that are not theirs to set. The sendmail edge asks.

import NIOCore
import SlimtaConfiguration
import SlimtaControl
import SlimtaEdge
import SlimtaNet

/// The queue for mailq and `sendmail -q`.
struct LocalQueueView: LocalQueue {
    let control: Control
    let state: DaemonState

    func list(of login: String?, _ query: [HTTPTarget.Parameter], by process: HTTPPeer.Process) async -> HTTPResponse {
        let paging = query.filter { ["limit", "after", "until"].contains($0.name) }
        guard let filter = filter(login) else { return Self.page([], .null) }
        let response = await control.respond(
            to: ControlRequest(method: .get, path: ["queue"], query: paging + filter, peer: process))
        // Whose an unreadable message is nobody knows.
        guard login != nil, response.status == 200, case .whole(let octets) = response.content,
            let page = try? JSON(parsing: Array(octets.readableBytesView))
        else { return response }
        return Self.page(page["messages"].elements, page["next"])
    }

    func flush(of login: String?, _ query: [HTTPTarget.Parameter], by process: HTTPPeer.Process) async -> HTTPResponse {
        let paging = query.filter { ["after", "until"].contains($0.name) }
        guard let filter = filter(login) else {
            return HTTPResponse(.object([.init("done", .count(0)), .init("next", .null)]))
        }
        return await control.respond(
            to: ControlRequest(
                method: .post, path: ["queue", QueueAction.flush.rawValue],
                query: filter.isEmpty ? [.init("all", "yes")] : paging + filter, peer: process))
    }

    /// What a user sent on this machine: a login elsewhere that has the same name is another's. Empty: everything; nil:
    /// nothing.
    private func filter(_ login: String?) -> [HTTPTarget.Parameter]? {
        guard let login else { return [] }
        let edges = state.now.localEdges
        return edges.isEmpty ? nil : [.init("login", login)] + edges.map { .init("edge", $0) }
    }

    private static func page(_ messages: [JSON], _ next: JSON) -> HTTPResponse {
        HTTPResponse(
            .object([.init("messages", .array(messages)), .init("unreadable", .array([])), .init("next", next)]))
    }
}

extension Configuration.Edge {
    /// Whether its logins are users of this machine.
    var hasLocalUsers: Bool {
        switch type {
        case .smtp, .http: false
        case .sendmail: true
        case .directory(let directory): directory.ownerLogin
        }
    }
}
