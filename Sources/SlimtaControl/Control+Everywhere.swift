// Requests that are meant for all nodes of a shared queue (nodes=all): answered here, and by the others' daemons, which the storage
// carries the request to as JSON. What is of one daemon alone, such as what it has counted of logins, is seen and changed so.

import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaQueue

extension Control {
    /// What other nodes' daemons may be asked.
    private static let everywhere: Set<String> = ["logins", "sites"]

    /// Whether all nodes are to answer; nil: the request does not say so.
    ///
    /// - Returns: the request as each of them gets it.
    func forEachNode(_ request: ControlRequest) throws(Refusal) -> ControlRequest? {
        let nodes = request.query.filter { $0.name == "nodes" }
        guard !nodes.isEmpty, let first = request.path.first, Self.everywhere.contains(first) else { return nil }
        guard nodes.allSatisfy({ $0.value == "all" }) else { throw Refusal(400, "nodes: say nodes=all") }
        var request = request
        request.query.removeAll { $0.name == "nodes" }
        return request
    }

    /// Asks the others, then this node: {"nodes": [{"node", "status", "answer"}], "silent": [{"node", "reason"}]}, with this node's
    /// refusal, and its status, if all have refused. A queue that is one machine's alone is answered for as ever.
    func respondEverywhere(to request: ControlRequest) async -> HTTPResponse {
        guard let storage = storage as? any SharedBackend, let me = storage.status().node?.name else {
            return await respondHere(to: request)
        }
        let by = await daemon.userName(request.peer.uid)
        let others: [NodeAnswer]
        var silent: [JSON] = []
        do throws(StorageError) {
            others = try await storage.ask(NodeQuestion(JSON.question(request.ofOthers).line, by: "\(by) on \(me)"))
        } catch {
            others = []
            silent = [.silence("all other nodes", "cannot be asked: \(error.text)")]
        }
        let here = await respondHere(to: request)
        var answers = [JSON.answer(of: me, here)]
        for other in others {
            if let json = other.text.flatMap({ try? JSON(parsing: Array($0.utf8)) }), json["status"].integer != nil {
                answers.append(.object([.init("node", .string(other.node))] + json.members))
            } else {
                let reason = other.text == nil ? other.silence : "its slimtad is about to start or to end"
                silent.append(.silence(other.node, reason))
            }
        }
        var members: [JSON.Member] = [.init("nodes", .array(answers)), .init("silent", .array(silent))]
        let isDone = answers.contains { $0["status"].integer == 200 }
        if !isDone { members.append(.init("error", answers[0]["answer"]["error"])) }
        return HTTPResponse(.object(members), status: isDone ? 200 : here.status)
    }

    /// Answers another node's daemon, for this node alone: else each would ask all others again.
    func answer(_ question: NodeQuestion) async -> String {
        guard let json = try? JSON(parsing: Array(question.text.utf8)),
            let request = ControlRequest(json, by: question.by),
            request.path.first.map(Self.everywhere.contains) == true
        else {
            return JSON.answer(.error(404, "its slimtad is of another release and does not know this command")).line
        }
        return JSON.answer(await respondHere(to: request)).line
    }
}

extension ControlRequest {
    /// As other nodes get it: mail is in the queue that all share, and is seen to by the one that was asked.
    fileprivate var ofOthers: ControlRequest {
        var request = self
        if method == .post, path.first == "logins" { request.query.append(.init("mail", "no")) }
        return request
    }

    /// What another node has written.
    fileprivate init?(_ json: JSON, by asker: String) {
        guard let method = json["method"].text.flatMap(Method.init(rawValue:)) else { return nil }
        let query = json["query"].elements.map {
            HTTPTarget.Parameter($0["name"].text ?? "", $0["value"].text ?? "")
        }
        self.init(
            method: method, path: json["path"].elements.compactMap(\.text), query: query,
            peer: .init(uid: 0, pid: 0))
        self.asker = asker
    }
}

extension JSON {
    fileprivate static func question(_ request: ControlRequest) -> JSON {
        .object([
            .init("method", .string(request.method.rawValue)), .init("path", .array(request.path.map { .string($0) })),
            .init(
                "query",
                .array(
                    request.query.map { .object([.init("name", .string($0.name)), .init("value", .string($0.value))]) })
            ),
        ])
    }

    fileprivate static func answer(of node: String, _ response: HTTPResponse) -> JSON {
        .object([.init("node", .string(node))] + answer(response).members)
    }

    fileprivate static func answer(_ response: HTTPResponse) -> JSON {
        .object([.init("status", .count(response.status)), .init("answer", response.json ?? .null)])
    }

    fileprivate static func silence(_ node: String, _ reason: String) -> JSON {
        .object([.init("node", .string(node)), .init("reason", .string(reason))])
    }
}

extension HTTPResponse {
    /// What it says, where it is JSON and whole.
    fileprivate var json: JSON? {
        guard case .whole(let octets) = content else { return nil }
        return try? JSON(parsing: Array(octets.readableBytesView))
    }
}
