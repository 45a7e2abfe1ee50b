// What becomes of the edges when one configuration follows another, as a value: which end, which begin, which get new
// settings, and which sockets that needs. A start is a reload from nothing. Listeners and RunningEdges carry it out.

import SlimtaConfiguration

/// The way from one `[[edge]]` list to another.
struct EdgePlan: Equatable {
    /// An edge of the new configuration.
    struct Step: Equatable {
        var edge: Configuration.Edge
        /// Addresses on which it accepts no more.
        var leaves: [ListenAddress]
        /// Addresses on which it begins to accept.
        var enters: [ListenAddress]
    }

    /// A socket that is not there yet, and whose it is to be.
    struct Binding: Equatable {
        var address: ListenAddress
        var edge: String
        /// Whether every user of the machine may connect, if it is a UNIX socket.
        var isForAll = false
    }

    /// Names of edges that end: their names are gone, or are those of edges of another kind, or with another folder.
    var ends: [String]
    /// In the order of the new configuration.
    var steps: [Step]
    var binds: [Binding]
    /// Paths of UNIX sockets that stay and get an edge for other users, and whether every user may connect from then on.
    var modes: [String: Bool]
    /// Addresses that no edge has any more.
    var releases: [ListenAddress]

    init(from old: [Configuration.Edge], to new: [Configuration.Edge]) {
        func same(_ edge: Configuration.Edge, in edges: [Configuration.Edge]) -> Configuration.Edge? {
            edges.first { $0.name == edge.name && $0.type.canBecome(edge.type) }
        }
        ends = old.filter { same($0, in: new) == nil }.map(\.name)
        steps = new.map { edge in
            let before = same(edge, in: old)?.listen ?? []
            return Step(
                edge: edge, leaves: before.filter { !edge.listen.contains($0) },
                enters: edge.listen.filter { !before.contains($0) })
        }
        let (before, after) = (Set(old.flatMap(\.listen)), Set(new.flatMap(\.listen)))
        binds = new.flatMap { edge in
            edge.listen.filter { !before.contains($0) }.map {
                Binding(address: $0, edge: edge.name, isForAll: edge.hasLocalUsers)
            }
        }
        let forAll = Set(old.filter(\.hasLocalUsers).flatMap(\.listen))
        modes = [:]
        for edge in new {
            for case .unix(let path) in edge.listen
            where before.contains(.unix(path: path)) && forAll.contains(.unix(path: path)) != edge.hasLocalUsers {
                modes[path] = edge.hasLocalUsers
            }
        }
        releases = old.flatMap(\.listen).filter { !after.contains($0) }
    }
}

extension Configuration.Edge.Kind {
    /// Whether an edge of this kind that runs can have the settings of another one: a folder is left for good.
    fileprivate func canBecome(_ other: Self) -> Bool {
        if case .directory(let own) = self, case .directory(let new) = other { return own.path == new.path }
        return name == other.name
    }
}
