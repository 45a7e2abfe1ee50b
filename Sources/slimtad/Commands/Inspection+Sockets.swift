// Sockets, as `slimtad check` looks at them: those that edges listen on, and those of others that slimtad speaks to. Inspection
// calls it.

import Glibc
import SlimtaConfiguration
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaRules
import SlimtaSystem

/// A UNIX socket that is to be made, and the key that says so.
struct UnboundSocket {
    let path: String
    let key: String
    /// Whether every user of the machine is to get at it.
    let isForAll: Bool

    /// The folder that it is to be in.
    var folder: String {
        let end = path.lastIndex(of: "/") ?? path.startIndex
        return end == path.startIndex ? "/" : String(path[..<end])
    }
}

extension Inspection {
    // MARK: With the rights of who calls

    /// What somebody else has. What the running slimtad has is no matter: it goes over to the next one.
    ///
    /// - Returns: UNIX sockets, for ``lookAtFolders(of:)``.
    mutating func lookAtListeners() -> [UnboundSocket] {
        let daemon = try? RunningDaemon.connect(file)
        let status = try? daemon?.ask(.get, ["status"])
        let own = status?["pid"].integer
        let ownPlaces = Set((status?["edges"].elements ?? []).flatMap { $0["listen"].elements }.map(\.text))
        var sockets: [UnboundSocket] = []
        for (index, edge) in file.values.edges.enumerated() {
            let key = "edge[\(index)].listen"
            for address in edge.listen {
                do throws(ListeningSocket.BindError) {
                    switch address {
                    case .tcp(let host):
                        for socket in try ListeningSocket.tcp(host: host.host, port: host.port) { socket.close() }
                    case .unix(let path):
                        sockets.append(UnboundSocket(path: path, key: key, isForAll: edge.hasLocalUsers))
                        if !ownPlaces.contains(address.description) { try ListeningSocket.look(at: path) }
                    case .systemd: break
                    }
                } catch {
                    var holders: [PortHolder] = []
                    if case .tcp(let host) = address { holders = PortHolder.all(on: host.host, port: host.port) }
                    if holders.contains(where: { Int64($0.pid) == own }) { continue }
                    report(error, holders, hasDaemon: daemon != nil, key)
                }
            }
        }
        return sockets
    }

    private mutating func report(
        _ failure: ListeningSocket.BindError, _ holders: [PortHolder], hasDaemon: Bool, _ key: String
    ) {
        switch failure.errorNumber {
        // Without root's rights, which the service has for this.
        case EACCES: return
        case EADDRINUSE where !holders.isEmpty:
            let names = holders.map { "\($0.name.visible) (process \($0.pid))" }.joined(separator: ", ")
            let hint = holders.contains { $0.pid == 1 } ? "; a socket unit's is had by listen = [\"systemd:NAME\"]" : ""
            error(key, "\(failure.address) is taken by \(names)\(hint)")
        // Whose it is only root sees: it may be our own.
        case EADDRINUSE where hasDaemon && !failure.address.hasPrefix("unix:"): return
        default: error(key, "\(failure)")
        }
    }

    // MARK: As the service's user

    /// Whether sockets can be made in their folders, and users get at those that are for them. Where slimtad is started as root
    /// and not by systemd, it is root who makes them.
    mutating func lookAtFolders(of sockets: [UnboundSocket]) {
        // Made by systemd, tmpfiles.d or a start as root, and the service's own.
        for socket in sockets where socket.folder != file.runtimeDirectory {
            let (folder, key) = (socket.folder, socket.key)
            var status = stat()
            if stat(folder, &status) != 0, errno == ENOENT {
                error(key, "\(folder) is not there: make it, for \(user) to write to")
            } else if status.st_mode != 0, status.st_mode & S_IFMT != S_IFDIR {
                error(key, "\(folder) is no folder")
            } else if !isRoot || unit != nil, access(folder, W_OK | X_OK) != 0 {
                error(key, "\(user) cannot make a socket in \(folder): \(reason(errno))")
            }
            warnOfSandbox(folder, key)
        }
        for socket in sockets where socket.isForAll {
            var status = stat()
            guard stat(socket.folder, &status) == 0, status.st_mode & S_IXOTH == 0 else { continue }
            warn(
                socket.key,
                "users cannot enter \(socket.folder), where sendmail has to find the socket: chmod o+x \(socket.folder)"
            )
        }
    }

    /// Those of the services that are asked about clients and messages.
    mutating func lookAtServices() {
        for (index, service) in file.values.policyServices.enumerated() {
            guard case .unix(let path) = service.to else { continue }
            lookForSocket(path, "policy_service[\(index)].to", Self.meanwhile(service.onFailure))
        }
        for (index, milter) in file.values.milters.enumerated() {
            guard case .unix(let path) = milter.to else { continue }
            let meanwhile =
                switch milter.onFailure {
                case .accept: "until it is, mail passes that it has not seen"
                case .tempfail: "until it is, mail is refused with 451"
                case .reject: "until it is, mail is refused with 550"
                case .quarantine: "until it is, mail is held"
                }
            lookForSocket(path, "milter[\(index)].to", meanwhile)
        }
        guard file.values.queue.policies.contains(.spamassassin), let spamd = file.values.spamAssassin,
            case .unix(let path) = spamd.to
        else { return }
        lookForSocket(path, "spamassassin.to", Self.meanwhile(spamd.onFailure))
    }

    /// What becomes of mail while nobody listens on a relay's socket.
    static let mailWaits = "its mail waits until it is"

    /// What becomes of clients while nobody says who they are.
    static let loginsWait = "who logs in is to try again later"

    private static func meanwhile(_ onFailure: PolicyOnFailure) -> String {
        onFailure == .accept
            ? "until it is, mail passes that nobody was asked about" : "until it is, mail is refused with 451"
    }

    /// Whether somebody may be listening there, to whom the service may speak; if not, that is told. `meanwhile` says what
    /// holds until then.
    @discardableResult
    mutating func lookForSocket(_ path: String, _ key: String, _ meanwhile: String) -> Bool {
        var status = stat()
        if stat(path, &status) != 0 {
            let what = errno == ENOENT ? "\(path) is not there" : "\(user) cannot reach \(path): \(reason(errno))"
            warn(key, "\(what): \(meanwhile)")
            return false
        }
        if status.st_mode & S_IFMT != S_IFSOCK {
            error(key, "\(path) is no socket")
            return false
        }
        if access(path, W_OK) != 0 {
            error(key, "\(user) may not speak to \(path): \(reason(errno))")
            return false
        }
        return true
    }
}
