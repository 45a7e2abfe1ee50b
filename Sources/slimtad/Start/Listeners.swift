// Phase bindListeners: a socket for each `listen` of each edge, made or taken from systemd, before privileges are dropped.
// At a reload those that stay are kept, and new ones are made beside those that go. Under systemd a restart refuses no
// connection: systemd keeps what was made here open until the next process takes it over.

import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaNet
import SlimtaSystem

/// The sockets of all edges, by what the configuration calls them. Edges get duplicates: an address that moves from one
/// edge to another is never closed.
struct Listeners {
    /// Sockets of socket units, by name.
    private var inherited: [String: [ListeningSocket]] = [:]
    /// Sockets that the last process of this service made, by the name that ``keptName(_:)`` gave them.
    private var kept: [String: [ListeningSocket]] = [:]
    private(set) var sockets: [ListenAddress: [ListeningSocket]] = [:]
    /// Whose they are to be: of whom the process becomes; nil if it stays who it is.
    private let owner: Identity?

    /// How many sockets are open.
    var count: Int { sockets.values.reduce(0) { $0 + $1.count } }

    init(owner: Identity?) throws(Failure) {
        self.owner = owner
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

    /// Makes what `plan` has not got yet. If one cannot be made, none is. What it releases goes on listening until
    /// ``release(_:)``: their addresses may overlap.
    mutating func bind(_ plan: EdgePlan) throws(Failure) {
        takeKept(plan)
        let leaving = plan.releases.compactMap { sockets[$0] }.flatMap { $0 }
        let made = try ListeningSocket.overlapping(leaving) { () throws(Failure) in
            try make(plan.binds, isOverlapping: !leaving.isEmpty)
        }
        sockets.merge(made) { old, _ in old }
        for (address, sockets) in made { Self.keep(sockets, address) }
    }

    private func make(
        _ bindings: [EdgePlan.Binding], isOverlapping: Bool
    ) throws(Failure) -> [ListenAddress: [ListeningSocket]] {
        var made: [ListenAddress: [ListeningSocket]] = [:]
        do throws(Failure) {
            for binding in bindings where sockets[binding.address] == nil {
                made[binding.address] = try open(binding, isOverlapping)
            }
        } catch {
            for (address, sockets) in made { Self.close(sockets, address) }
            throw error
        }
        return made
    }

    /// Closes what `plan` releases. An edge that still accepts there has a duplicate, and closes the port with it.
    mutating func release(_ plan: EdgePlan) {
        ServiceManager.release(names: plan.releases.compactMap(Self.keptName))
        for address in plan.releases {
            if let sockets = sockets.removeValue(forKey: address) { Self.close(sockets, address) }
        }
    }

    /// Closes all, at the end. What systemd keeps for the next process goes on listening, and socket files stay.
    mutating func close() {
        // Those of systemd are in both.
        for socket in Set((Array(sockets.values) + Array(inherited.values)).joined()) { socket.close() }
        (sockets, inherited) = ([:], [:])
    }

    /// Names of systemd's sockets on which nobody accepts: who connects there waits in vain.
    var unused: [String] {
        inherited.keys.filter { sockets[.systemd(name: $0)] == nil }.sorted()
    }

    private static func close(_ sockets: [ListeningSocket], _ address: ListenAddress) {
        switch address {
        // systemd's own: they are passed once, and a later reload may name them again.
        case .systemd: return
        case .unix(let path): _ = unlink(path)
        case .tcp: break
        }
        for socket in sockets { socket.close() }
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
                name += "%" + String(hexadecimal: octet, digits: 2)
            }
        }
        return ServiceManager.isName(name) ? name : nil
    }

    private static func keep(_ sockets: [ListeningSocket], _ address: ListenAddress) {
        if let name = keptName(address) { ServiceManager.keep(sockets.map(\.descriptor), name: name) }
    }

    /// Takes the last process's sockets for what `plan` needs, if they are still good, and has the others closed, here and
    /// by systemd, before anything is bound: what is bound now may overlap with them.
    private mutating func takeKept(_ plan: EdgePlan) {
        for binding in plan.binds {
            let address = binding.address
            guard let name = Self.keptName(address), let sockets = kept[name], sockets.allSatisfy(\.isListening),
                Self.isFound(binding)
            else { continue }
            kept[name] = nil
            self.sockets[address] = sockets
        }
        for socket in kept.values.joined() { socket.close() }
        ServiceManager.release(names: Array(kept.keys))
        kept = [:]
    }

    /// Whether those who are to find a socket do. Its file may have been deleted meanwhile; and the last process may have had
    /// it for others.
    private static func isFound(_ binding: EdgePlan.Binding) -> Bool {
        guard case .unix(let path) = binding.address else { return true }
        return (try? ListeningSocket.setMode(isForAll: binding.isForAll, path: path)) != nil
    }

    // MARK: One address

    private func open(_ binding: EdgePlan.Binding, _ isOverlapping: Bool) throws(Failure) -> [ListeningSocket] {
        let address = binding.address
        if case .systemd(let name) = address {
            guard let sockets = inherited[name] else { throw Self.notPassed(name, edge: binding.edge) }
            return sockets
        }
        do throws(ListeningSocket.BindError) {
            switch address {
            case .tcp(let host):
                let sockets = try ListeningSocket.tcp(host: host.host, port: host.port, isOverlapping: isOverlapping)
                // Where it is refused, a reload to an overlapping address cannot bind, and says so.
                if let owner { for socket in sockets { try? socket.setOwner(uid: owner.uid, gid: owner.gid) } }
                return sockets
            case .unix(let path):
                let socket = try ListeningSocket.unix(path: path, isForAll: binding.isForAll)
                if let owner { try socket.setOwner(uid: owner.uid, gid: owner.gid, path: path) }
                return [socket]
            case .systemd: return []
            }
        } catch {
            throw Failure(.cannotCreate, "edge \(binding.edge): \(error)\(holder(of: address, error))")
        }
    }

    private static func notPassed(_ name: String, edge: String) -> Failure {
        Failure(
            .configuration,
            "edge \(edge): systemd passed no socket named \"\(name)\" (FileDescriptorName= of its unit); it does so "
                + "at a start: systemctl stop slimtad, systemctl start slimtad.socket, systemctl start slimtad")
    }

    /// Who has a port, where it is ourselves.
    private func holder(of address: ListenAddress, _ error: ListeningSocket.BindError) -> String {
        guard error.errorNumber == EADDRINUSE, case .tcp(let host) = address,
            let name = inherited.first(where: { $0.value.contains { $0.port == host.port } })?.key
        else { return "" }
        return ": systemd, for us; write listen = [\"systemd:\(name)\"], or stop and disable its socket unit"
    }
}
