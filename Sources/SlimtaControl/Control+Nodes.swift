// The nodes that share a queue, over the control socket: what they are and have, and what operators do to them.

import Logging
import SlimtaMail
import SlimtaNet
import SlimtaQueue

extension Control {
    private func shared() throws(Refusal) -> any SharedBackend {
        if let shared = storage as? any SharedBackend { return shared }
        throw Refusal(
            404, "this queue is one machine's alone: nodes share one that is in PostgreSQL, see [queue] storage")
    }

    func nodes(_ query: [HTTPTarget.Parameter]) async throws(Refusal) -> HTTPResponse {
        try allow(["queued"], query)
        guard query.allSatisfy({ $0.value == "no" }) else { throw Refusal(400, "queued: say queued=no") }
        let storage = try shared()
        do throws(StorageError) {
            return HTTPResponse(.sharing(try await storage.sharing(isCounting: query.isEmpty)))
        } catch {
            throw Refusal(error)
        }
    }

    /// Answers as `nodes` does, without counts.
    func changeNode(_ action: String, _ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        let query = request.query
        try allow(action == "drain" ? ["name", "force"] : ["name"], query)
        let names = query.filter { $0.name == "name" }.map(\.value)
        guard names.count == 1, !names[0].isEmpty else { throw Refusal(400, "which node? name=NODE") }
        let force = query.filter { $0.name == "force" }
        guard force.allSatisfy({ $0.value == "yes" }) else { throw Refusal(400, "force: say force=yes") }
        let change: NodeChange
        switch action {
        case "drain": change = .drain(isForced: !force.isEmpty)
        case "resume": change = .resume
        case "forget": change = .forget
        default: throw Refusal(404, "\(action) is none of drain, resume, forget")
        }
        let storage = try shared()
        await log(request, "node \(action) \(names[0])")
        do throws(NodeRefusal) { try await storage.change(names[0], change) } catch {
            throw Refusal(error, names[0])
        }
        do throws(StorageError) { return HTTPResponse(.sharing(try await storage.sharing(isCounting: false))) } catch {
            // It is done all the same.
            return HTTPResponse(.object([.init("nodes", .array([])), .init("error", .string(error.text))]))
        }
    }

    /// What is wrong with the nodes and their database.
    static func warnings(of sharing: SharedQueue?) -> [String] {
        guard let sharing else { return [] }
        var warnings = sharing.nodes.filter { $0.state == "silent" }.map {
            "node \($0.name) was not heard of for \($0.heard.milliseconds / 1000) s"
        }
        if let age = sharing.oldestTransaction, age >= SharedQueue.oldTransaction {
            warnings.append(
                "a transaction has been open in the database for \(age.milliseconds / 60_000) minutes, and keeps it from "
                    + "cleaning up: find it in pg_stat_activity (xact_start) and end it")
        }
        return warnings
    }
}

extension Refusal {
    fileprivate init(_ refusal: NodeRefusal, _ name: String) {
        switch refusal {
        case .unknown: self.init(404, "there is no node \(name)")
        case .last:
            self.init(
                409,
                "no other node delivers: what \(name) has of the queue would stay there, and all mail be refused; start "
                    + "another one, or say --force")
        case .works: self.init(409, "node \(name) works: stop it first")
        case .storage(let error): self.init(error)
        }
    }
}

extension JSON {
    /// Nodes and their database.
    static func sharing(_ sharing: SharedQueue) -> JSON {
        .object([
            .init("nodes", .array(sharing.nodes.map(node))), .init("buckets", .count(sharing.buckets)),
            .init("free_buckets", .count(sharing.freeBuckets)), .init("log_position", .string(sharing.logPosition)),
            .init(
                "standbys",
                .array(
                    sharing.standbys.map { standby in
                        .object([
                            .init("name", .string(standby.name)), .init("mode", .optional(standby.mode)),
                            .init("behind_octets", standby.behind.map { .count($0) } ?? .null),
                        ])
                    })),
            .init("oldest_transaction_seconds", sharing.oldestTransaction.map { .seconds($0) } ?? .null),
        ])
    }

    private static func node(_ node: SharedQueue.Node) -> JSON {
        let roles = (node.isEdge ? ["edge"] : []) + (node.isRelay ? ["relay"] : [])
        return .object([
            .init("name", .string(node.name)), .init("state", .string(node.state)),
            .init("draining", .bool(node.isDraining)), .init("roles", .array(roles.map { .string($0) })),
            .init("egress", .string(node.egress)), .init("version", .string(node.version)),
            .init("incarnation", .count(node.incarnation)), .init("heard_seconds", .seconds(node.heard)),
            .init("begun_seconds", .seconds(node.begun)), .init("buckets", .count(node.buckets)),
            .init("queued", node.queued.map { .count($0) } ?? .null),
        ])
    }
}
