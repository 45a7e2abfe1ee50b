// The edges that run, by name: made, changed and ended as an EdgePlan says. The daemon has one.

import Logging
import NIOCore
import SlimtaConfiguration
import SlimtaEdge
import SlimtaNet
import SlimtaQueue

/// Where mail comes in now.
struct RunningEdges {
    private var edges: [String: any Edge] = [:]
    /// Those that a reload has ended, which may have sessions left: a stop waits for them too.
    private var ended: [any Edge] = []
    private let submissions: any Submissions & SubmissionStates
    private let queue: any LocalQueue
    private let ground: Ground

    /// - Parameters:
    ///   - submissions: what edges hand messages to.
    ///   - queue: what users of this machine may ask of the queue.
    init(_ submissions: any Submissions & SubmissionStates, _ queue: any LocalQueue, on ground: Ground) {
        self.submissions = submissions
        self.queue = queue
        self.ground = ground
    }

    subscript(name: String) -> (any Edge)? { edges[name] }

    private var all: [any Edge] { Array(edges.values) + ended }

    /// Carries out `plan`, with what `world` says of edges. Sessions go on under what they began with.
    mutating func apply(_ plan: EdgePlan, _ world: World, _ listeners: Listeners) async {
        ended.removeAll { $0.sessionCount == 0 }
        for name in plan.ends {
            guard let edge = edges.removeValue(forKey: name) else { continue }
            await edge.drain()
            ended.append(edge)
        }
        // Nobody is served by an edge for others: an address that moves is left before it is entered.
        for step in plan.steps {
            let edge = await take(world.settings(of: step.edge, queue), step.edge.name)
            for address in step.leaves { await edge.stopAccepting(on: address.description) }
        }
        for step in plan.steps {
            for address in step.enters { await accept(step.edge.name, address, plan, listeners) }
        }
    }

    /// Gives all edges what `world` says of them now.
    func renew(_ world: World) {
        for edge in world.values.edges {
            if let running = edges[edge.name] { world.settings(of: edge, queue).set(on: running) }
        }
    }

    private mutating func take(_ settings: EdgeSettings, _ name: String) async -> any Edge {
        if let running = edges[name] {
            settings.set(on: running)
            return running
        }
        let edge = settings.makeEdge(submissions, on: ground)
        edges[name] = edge
        await edge.start()
        return edge
    }

    private func accept(
        _ name: String, _ address: ListenAddress, _ plan: EdgePlan, _ listeners: Listeners
    ) async {
        guard let edge = edges[name] else { return }
        for socket in listeners.sockets[address] ?? [] {
            do {
                if case .unix(let path) = address, let isForAll = plan.modes[path] {
                    try ListeningSocket.setMode(isForAll: isForAll, path: path)
                }
                try await edge.accept(on: socket.duplicate(), address: address.description)
                ground.logger.info("listening", metadata: ["edge": "\(name)", "address": "\(address)"])
            } catch {
                ground.logger.error(
                    "cannot listen", metadata: ["edge": "\(name)", "address": "\(address)", "error": "\(error)"])
            }
        }
    }

    // MARK: Stop

    /// No new connections; sessions end when they have done what they are at.
    func drain() async { for edge in all { await edge.drain() } }

    var complaints: [String] { edges.sorted { $0.key < $1.key }.flatMap { $0.value.complaints } }

    var sessionCount: Int { all.reduce(0) { $0 + $1.sessionCount } }

    /// Ends all sessions now.
    func closeSessions() async {
        await withDiscardingTaskGroup { tasks in for edge in all { tasks.addTask { await edge.closeSessions() } } }
    }
}
