// The socket RUNTIME/control: made in the phase bindListeners, while there may still be root's rights, and deleted at the
// end.

import Glibc
import SlimtaControl
import SlimtaEdge
import SlimtaSystem

/// The bound control socket and who may use it.
struct ControlSocket: Sendable {
    /// The group whose members may control the daemon, if the system has it.
    static let adminGroup = "slimtad-admin"

    let path: String
    let socket: ListeningSocket
    let access: ControlServer.Access
    /// What is at `path`, to know it again.
    private let inode: UInt64

    /// Makes the runtime directory if it is missing, and the socket in it. The socket of a daemon that died is replaced,
    /// never that of one that lives.
    static func bind(_ file: ConfigurationFile, identity: Identity?) throws(Failure) -> ControlSocket {
        let directory = file.runtimeDirectory
        if mkdir(directory, 0o755) == 0 {
            chmod(directory, 0o755)
            if let identity { chown(directory, identity.uid, identity.gid) }
        }
        let path = file.controlSocket
        let socket: ListeningSocket
        do throws(ListeningSocket.BindError) {
            socket = try ListeningSocket.unix(path: path)
        } catch {
            throw Failure(.cannotCreate, "\(error)")
        }
        let admins = Accounts.group(named: adminGroup)
        let user = identity?.uid ?? geteuid()
        // Without root's rights the group can only be one of our own; the file is our own already.
        lchown(path, user, admins ?? identity?.gid ?? getegid())
        var info = stat()
        lstat(path, &info)
        return ControlSocket(
            path: path, socket: socket, access: .init(users: [user], group: admins), inode: UInt64(info.st_ino))
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
}
