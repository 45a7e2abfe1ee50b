// The socket RUNTIME/control: made in the phase bindListeners, while there may still be root's rights, and deleted at the
// end.

import Glibc
import SlimtaControl
import SlimtaNet
import SlimtaSystem

/// The bound control socket and who may use it.
struct ControlSocket: Sendable {
    /// The group whose members may control the daemon, if the system has it.
    static let adminGroup = "slimtad-admin"

    let path: String
    let socket: ListeningSocket
    let access: ControlServer.Access
    /// Why it is not for all that it should be for.
    let complaint: String?
    /// What is at `path`, to know it again.
    private let inode: UInt64

    /// Makes the runtime directory if it is missing, and the socket in it. The socket of a daemon that died is replaced,
    /// never that of one that lives.
    static func bind(_ file: ConfigurationFile, identity: Identity?) throws(Failure) -> ControlSocket {
        try makeDirectory(file.runtimeDirectory, identity)
        let path = file.controlSocket
        let socket: ListeningSocket
        do throws(ListeningSocket.BindError) {
            socket = try ListeningSocket.unix(path: path)
        } catch {
            throw Failure(.cannotCreate, "\(error)")
        }
        let user = identity?.uid ?? geteuid()
        let admins = Accounts.group(named: adminGroup)
        var complaint: String?
        // Without root's rights the group can only be one of our own; the file is our own already.
        if let admins {
            do throws(ListeningSocket.BindError) {
                try socket.setOwner(uid: user, gid: admins, path: path)
            } catch {
                complaint =
                    "\(path) cannot be given to the group \(adminGroup), whose members are refused therefore: "
                    + "\(String(cString: strerror(error.errorNumber))); the service's user must be a member, and chown be "
                    + "allowed"
            }
        }
        if admins == nil || complaint != nil, let identity {
            do throws(ListeningSocket.BindError) {
                try socket.setOwner(uid: identity.uid, gid: identity.gid, path: path)
            } catch {
                throw Failure(
                    .cannotCreate,
                    "\(path): cannot be given to \(identity.name): \(String(cString: strerror(error.errorNumber)))")
            }
        }
        var info = stat()
        guard lstat(path, &info) == 0 else {
            throw Failure(.cannotCreate, "\(path): \(String(cString: strerror(errno)))")
        }
        return ControlSocket(
            path: path, socket: socket, access: .init(users: [user], group: admins), complaint: complaint,
            inode: UInt64(info.st_ino))
    }

    /// Makes the runtime directory, if it is missing: open to all, who find the sockets in it that they may use.
    static func makeDirectory(_ directory: String, _ identity: Identity?) throws(Failure) {
        guard mkdir(directory, 0o755) == 0 else {
            if errno == EEXIST { return }
            throw Failure(.cannotCreate, "cannot make \(directory): \(String(cString: strerror(errno)))")
        }
        // The umask has taken away what the socket's users need.
        guard chmod(directory, 0o755) == 0, identity.map({ chown(directory, $0.uid, $0.gid) == 0 }) ?? true else {
            throw Failure(
                .cannotCreate, "cannot set owner and mode of \(directory): \(String(cString: strerror(errno)))")
        }
    }

    /// Deletes the file, if it is still ours.
    func unlink() {
        var info = stat()
        if lstat(path, &info) == 0, UInt64(info.st_ino) == inode { _ = Glibc.unlink(path) }
    }
}

extension ConfigurationFile {
    /// Where the daemon listens for commands.
    var controlSocket: String { "\(runtimeDirectory)/control" }

    /// Where that is if the file says nothing of it.
    static var usualControlSocket: String { "\(usualRuntimeDirectory)/control" }
}
