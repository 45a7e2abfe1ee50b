// Phase bindListeners: a socket for each `listen` of each edge, made or taken from systemd, before privileges are dropped.
// At a reload those that stay are kept, and new ones are made. Under systemd a restart refuses no connection: systemd keeps
// what was made here open until the next process takes it over.

import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaSystem

/// The sockets of all edges, by what the configuration calls them.
struct Listeners {
    /// Sockets of socket units, by name.
    private var inherited: [String: [ListeningSocket]] = [:]
    /// Sockets that the last process of this service made, by the name that ``keptName(_:)`` gave them.
    private var kept: [String: [ListeningSocket]] = [:]
    private(set) var sockets: [ListenAddress: [ListeningSocket]] = [:]

    init() throws(Failure) {
        do throws(SystemError) {
            for socket in try ServiceManager.takeInheritedSockets() {
                let listening = ListeningSocket(inherited: socket.descriptor)
                if socket.name.hasPrefix(Self.keptPrefix) {
                    kept[socket.name, default: []].append(listening)
                } else {
                    inherited[socket.name, default: []].append(listening)
                }
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
        for (address, sockets) in made { Self.keep(sockets, address) }
        return Set(made.keys)
    }

    /// Closes what the last process listened on and this one does not: to be called after the first ``bind(_:)``.
    mutating func releaseUnused() {
        for (name, sockets) in kept {
            for socket in sockets { socket.close() }
            ServiceManager.release(name: name)
        }
        kept = [:]
    }

    /// The configuration no longer names these; whoever accepts on them closes them.
    mutating func forget(_ addresses: Set<ListenAddress>) {
        for address in addresses {
            sockets[address] = nil
            if let name = Self.keptName(address) { ServiceManager.release(name: name) }
        }
    }

    // MARK: Across a restart

    private static let keptPrefix = "kept="

    /// What an address is called while systemd keeps its sockets; nil for those that are systemd's own.
    private static func keptName(_ address: ListenAddress) -> String? {
        if case .systemd = address { return nil }
        // Neither a colon nor anything but ASCII can be in such a name: percent-encoded, as in a URL.
        let name = address.description.utf8.reduce(into: keptPrefix) { name, octet in
            if (0x21...0x7E).contains(octet), octet != UInt8(ascii: ":"), octet != UInt8(ascii: "%") {
                name.unicodeScalars.append(Unicode.Scalar(octet))
            } else {
                name += "%" + (octet < 16 ? "0" : "") + String(octet, radix: 16)
            }
        }
        return ServiceManager.isName(name) ? name : nil
    }

    private static func keep(_ sockets: [ListeningSocket], _ address: ListenAddress) {
        if let name = keptName(address) { ServiceManager.keep(sockets.map(\.descriptor), name: name) }
    }

    /// The sockets that the last process had for an address, if they are still good.
    private mutating func takeKept(_ address: ListenAddress) -> [ListeningSocket]? {
        guard let name = Self.keptName(address), let sockets = kept.removeValue(forKey: name) else { return nil }
        // A socket file may have been deleted meanwhile: nobody would find us.
        if sockets.allSatisfy(\.isListening), Self.isFound(address) { return sockets }
        for socket in sockets { socket.close() }
        ServiceManager.release(name: name)
        return nil
    }

    private static func isFound(_ address: ListenAddress) -> Bool {
        guard case .unix(let path) = address else { return true }
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
    }

    private mutating func open(_ address: ListenAddress, _ edge: Configuration.Edge) throws(Failure)
        -> [ListeningSocket]
    {
        if case .systemd(let name) = address {
            guard let sockets = inherited[name] else {
                throw Failure(
                    .configuration,
                    "edge \(edge.name): systemd passed no socket named \"\(name)\" (FileDescriptorName= of its unit)")
            }
            return sockets
        }
        if let sockets = takeKept(address) { return sockets }
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
