// Phase bindListeners: a socket for each `listen` of each edge, made or taken from systemd, before privileges are dropped.
// At a reload those that stay are kept, and new ones are made.

import SlimtaConfiguration
import SlimtaEdge
import SlimtaSystem

/// The sockets of all edges, by what the configuration calls them.
struct Listeners {
    /// Sockets that systemd passed, by name.
    private var inherited: [String: [ListeningSocket]] = [:]
    private(set) var sockets: [ListenAddress: [ListeningSocket]] = [:]

    init() throws(Failure) {
        do throws(SystemError) {
            for socket in try ServiceManager.takeInheritedSockets() {
                inherited[socket.name, default: []].append(ListeningSocket(inherited: socket.descriptor))
            }
        } catch {
            throw Failure(error)
        }
    }

    /// Makes what is not there yet; returns what is new. If one cannot be made, none is.
    mutating func bind(_ edges: [Configuration.Edge]) throws(Failure) -> Set<ListenAddress> {
        var made: [ListenAddress: [ListeningSocket]] = [:]
        do throws(Failure) {
            for edge in edges {
                for address in edge.listen where sockets[address] == nil { made[address] = try open(address, edge) }
            }
        } catch {
            for socket in made.values.joined() { socket.close() }
            throw error
        }
        sockets.merge(made) { old, _ in old }
        return Set(made.keys)
    }

    /// The configuration no longer names these; whoever accepts on them closes them.
    mutating func forget(_ addresses: Set<ListenAddress>) {
        for address in addresses { sockets[address] = nil }
    }

    private func open(_ address: ListenAddress, _ edge: Configuration.Edge) throws(Failure) -> [ListeningSocket] {
        if case .systemd(let name) = address {
            guard let sockets = inherited[name] else {
                throw Failure(
                    .configuration,
                    "edge \(edge.name): systemd passed no socket named \"\(name)\" (FileDescriptorName= of its unit)")
            }
            return sockets
        }
        do throws(ListeningSocket.BindError) {
            switch address {
            case .tcp(let host): return try ListeningSocket.tcp(host: host.host, port: host.port)
            case .unix(let path): return [try ListeningSocket.unix(path: path)]
            case .systemd: return []
            }
        } catch {
            throw Failure(.cannotCreate, "edge \(edge.name): \(error)")
        }
    }
}
