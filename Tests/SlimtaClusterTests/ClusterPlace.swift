// A queue in a real PostgreSQL as the suites of Tests/StorageKit want a place to be, with a line to the server for each node
// that can be cut.

import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import TestKit

@testable import SlimtaCluster

/// A database of its own, and nodes that reach it through links.
final class ClusterPlace: SharedPlace {
    let server: PostgresServer
    let name: String
    private let nodes = Mutex<[String: (link: TestKit.PostgresLink, storage: ClusterStorage)]>([:])
    private let told = Mutex<[ClusterEvent]>([])
    private let change: @Sendable (inout ClusterOptions) -> Void

    /// A new database. `change` is applied to what each node is told.
    init(buckets: Int = 16, change: @escaping @Sendable (inout ClusterOptions) -> Void = { _ in }) throws {
        server = try PostgresServer.shared()
        name = try server.createDatabase()
        self.change = change
        let options = PostgresOptions(connection: server.connection(to: name))
        _ = try ClusterDatabase(options).initialise(buckets: buckets)
    }

    /// What all nodes have told.
    var events: [ClusterEvent] { told.withLock { $0 } }

    func options(_ node: String, _ link: TestKit.PostgresLink) -> ClusterOptions {
        var options = ClusterOptions(
            database: PostgresOptions(connection: server.connection(to: name, port: link.port)), node: node,
            machine: "this")
        // A beat in a fifth of it: short, and long enough for a machine that is busy.
        options.lease = .seconds(5)
        options.needsStandby = false
        options.balances = false
        change(&options)
        return options
    }

    func open() async throws -> any QueueBackend { try await open(node: "only") }

    func open(node: String) async throws -> any QueueBackend { try open(node) { _ in } }

    func open(edge node: String) async throws -> any QueueBackend { try open(node) { $0.roles = .edge } }

    private func open(_ node: String, _ change: (inout ClusterOptions) -> Void) throws -> ClusterStorage {
        let link = try TestKit.PostgresLink(to: server.port)
        var options = options(node, link)
        change(&options)
        let storage = ClusterStorage(options) { event in self.told.withLock { $0.append(event) } }
        nodes.withLock { $0[node] = (link, storage) }
        return storage
    }

    func crash(_ storage: any QueueBackend) async { (storage as? ClusterStorage)?.abandon() }

    // MARK: What happens to nodes

    func link(_ node: String) -> TestKit.PostgresLink? { nodes.withLock { $0[node]?.link } }

    func move(_ buckets: QueueBuckets, to node: String) async {
        _ = try? server.sql(
            "update slimtad.bucket set wanted = '\(node)' where number in (\(buckets.list))", in: name)
    }

    func fence(_ node: String, heir: String) async {
        _ = try? server.sql(
            """
            begin;
            update slimtad.node set incarnation = incarnation + 1, is_gone = true where name = '\(node)';
            update slimtad.fence set incarnation = incarnation + 1 where node = '\(node)';
            update slimtad.bucket set owner = '\(heir)', wanted = null where owner = '\(node)';
            commit
            """, in: name)
    }

    func setAway(_ node: String, _ reason: String?) async {
        guard let entry = nodes.withLock({ $0[node] }) else { return }
        entry.link.set(reason == nil ? .pass : .refuse)
        for _ in 0..<2000 where (entry.storage.status().failure == nil) != (reason == nil) {
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    func doubtNext(_ node: String, cameThrough: Bool) async {
        // What runs the prepared statement `accepted`: a group with new mail, and nothing else.
        let mark = [0] + Array("accepted".utf8) + [0]
        link(node)?.set(cameThrough ? .loseAnswer(toClientDataContaining: mark) : .loseQuestion(containing: mark))
    }
}

extension QueueBuckets {
    var list: String { numbers.sorted().map(String.init).joined(separator: ",") }
}
