// What the commands of helpers have in common: their socket, and slimta.conf, which each reads itself.

import Glibc
import SlimtaNet
import SlimtaSystem

extension Helper {
    /// The socket that systemd, or the slimtad that has started it, has passed; without one it ends.
    ///
    /// - Parameters:
    ///   - inherited: whether a slimtad has started it.
    ///   - prepare: what comes before all else.
    func socketOrExit(inherited: Bool, prepare: () throws(SystemError) -> Void) -> ListeningSocket {
        orExit { () throws(Failure) in
            do throws(SystemError) {
                try prepare()
                return try takeSocket(inherited: inherited)
            } catch {
                throw Failure(error)
            }
        }
    }

    private func takeSocket(inherited: Bool) throws(SystemError) -> ListeningSocket {
        umask(0o077)
        StandardStreams.fill()
        let sockets =
            inherited ? [HelperProcess.socket] : try ServiceManager.takeInheritedSockets().map(\.descriptor)
        guard sockets.count == 1, let socket = sockets.first else {
            throw SystemError(.invalid, "\(command) is started by \(unit), and not by hand")
        }
        let listener = ListeningSocket(inherited: socket)
        guard listener.isListening else { throw SystemError(.invalid, "descriptor \(socket) is no socket") }
        return listener
    }
}

/// slimta.conf as it is now: it is read again when it has changed. With mistakes it says what it did before.
struct WatchedConfiguration {
    let path: String
    private var stamp: FileStamp?
    /// nil: it has had mistakes ever since.
    private(set) var file: ConfigurationFile?
    /// The number of the daemon's user.
    private(set) var service: UInt32?
    /// What the operator is to do about it; nil: it has no mistakes.
    private(set) var problem: String?

    init(_ path: String) {
        self.path = path
        look()
    }

    /// Whether a user, by number, may ask a helper. Who may not may by what the file says now: who it is that asks is said
    /// there alone, and a file with mistakes says it of nobody.
    mutating func mayAsk(_ user: UInt32) -> Bool {
        if user == 0 || user == geteuid() { return true }
        if user != service { look() }
        return user == service
    }

    mutating func look() {
        let now = FileStamp(of: path)
        guard now != stamp || now == nil else { return }
        stamp = now
        do throws(Failure) {
            let file = try ConfigurationFile.parse(path)
            (self.file, service, problem) = (file, file.serviceUser, nil)
        } catch {
            problem = "the file has mistakes: see slimtad check"
        }
    }
}
