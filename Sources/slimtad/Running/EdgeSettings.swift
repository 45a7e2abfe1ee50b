// The kinds of edges, as the daemon tells them apart: the one place besides Wiring that names them all. A World makes the
// settings of an edge, RunningEdges gives them to it.

import SlimtaEdge
import SlimtaQueue

/// What an edge is like, by its kind.
enum EdgeSettings: Sendable {
    case smtp(SMTPEdgeSettings)
    case http(HTTPEdgeSettings)
    case directory(DirectoryEdgeSettings)

    /// An edge that accepts nothing yet.
    func makeEdge(_ submissions: any Submissions & SubmissionStates, on ground: Ground) -> any Edge {
        switch self {
        case .smtp(let settings):
            SMTPEdge(
                settings: settings, limiter: ground.limiter, submissions: submissions, group: ground.group,
                logger: ground.logger)
        case .http(let settings):
            HTTPEdge(
                settings: settings, limiter: ground.limiter, submissions: submissions, group: ground.group,
                logger: ground.logger)
        case .directory(let settings):
            DirectoryEdge(
                settings: settings, submissions: submissions, group: ground.group, threads: ground.fileThreads,
                logger: ground.logger)
        }
    }

    /// Takes effect for sessions that begin from now on. `edge` is of the same kind.
    func set(on edge: any Edge) {
        switch self {
        case .smtp(let settings): (edge as? SMTPEdge)?.setSettings(settings)
        case .http(let settings): (edge as? HTTPEdge)?.setSettings(settings)
        case .directory(let settings): (edge as? DirectoryEdge)?.setSettings(settings)
        }
    }
}
