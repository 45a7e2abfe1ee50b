// Where the helpers are that do for the daemon what it has no right to, and their start where nobody else starts them. `slimtad
// run` does that before it gives up root's rights, for it never has them again.

import Logging
import SlimtaConfiguration
import SlimtaNet
import SlimtaSystem

/// A process of slimtad beside the daemon.
enum Helper: CaseIterable {
    /// Runs the commands of pipes.
    case pipes
    /// Asks PAM.
    case pam

    /// The command of slimtad that it is.
    var command: String {
        switch self {
        case .pipes: "pipe-helper"
        case .pam: "pam-helper"
        }
    }

    /// The socket of its unit.
    var unitSocket: String {
        switch self {
        case .pipes: "/run/slimtad-pipe"
        case .pam: "/run/slimtad-pam"
        }
    }

    /// The unit that has that socket.
    var unit: String {
        switch self {
        case .pipes: "slimtad-pipe.socket"
        case .pam: "slimtad-pam.socket"
        }
    }

    /// Starts it. nil: nobody needs it, or systemd has a unit for it. What goes wrong is told, and all else goes on.
    func start(_ file: ConfigurationFile, identity: Identity?, logger: Logger) -> HelperProcess? {
        guard file.needs(self), !ServiceManager.isPresent else { return nil }
        let path = file.socket(of: self)
        do {
            let socket = try ListeningSocket.unix(path: path)
            defer { socket.close() }
            if let identity { try socket.setOwner(uid: identity.uid, gid: identity.gid, path: path) }
            return try HelperProcess([command, "--config", file.path, "--inherited"], socket: socket.descriptor)
        } catch {
            switch self {
            case .pipes: logger.error("no helper for the commands of pipes", metadata: ["error": "\(error)"])
            case .pam: logger.error("no helper to ask PAM", metadata: ["error": "\(error)"])
            }
            return nil
        }
    }
}

extension ConfigurationFile {
    /// Where a helper listens. Under systemd it is a unit of its own, for slimtad.service never has root's rights.
    func socket(of helper: Helper) -> String {
        guard !ServiceManager.isPresent else { return helper.unitSocket }
        return switch helper {
        case .pipes: "\(runtimeDirectory)/pipe"
        case .pam: "\(runtimeDirectory)/pam"
        }
    }

    fileprivate func needs(_ helper: Helper) -> Bool {
        switch helper {
        case .pipes: !values.pipes.isEmpty
        case .pam: values.hasAuth && values.auth.pam != nil
        }
    }
}
