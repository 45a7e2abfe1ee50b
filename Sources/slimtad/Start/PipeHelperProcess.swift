// Where the helper is that runs commands for pipes, and its start where nobody else starts it. `slimtad run` does that before it
// gives up root's rights, for it never has them again.

import Logging
import SlimtaConfiguration
import SlimtaNet
import SlimtaSystem

extension ConfigurationFile {
    /// The socket of slimtad-pipe.socket.
    static let pipeUnitSocket = "/run/slimtad-pipe"

    /// Where the helper of pipes listens. Under systemd it is a unit of its own, for slimtad.service never has root's rights.
    var pipeHelperSocket: String { ServiceManager.isPresent ? Self.pipeUnitSocket : "\(runtimeDirectory)/pipe" }
}

/// The helper that a daemon has started for itself.
struct PipeHelperProcess: Sendable {
    private let process: HelperProcess

    /// nil: no pipe is configured, or systemd has a unit for it. What goes wrong is told, and mail for other relays goes on.
    static func start(_ file: ConfigurationFile, identity: Identity?, logger: Logger) -> PipeHelperProcess? {
        guard !file.values.pipes.isEmpty, !ServiceManager.isPresent else { return nil }
        let path = file.pipeHelperSocket
        do {
            let socket = try ListeningSocket.unix(path: path)
            defer { socket.close() }
            if let identity { try socket.setOwner(uid: identity.uid, gid: identity.gid, path: path) }
            return PipeHelperProcess(
                process: try HelperProcess(
                    ["pipe-helper", "--config", file.path, "--inherited"], socket: socket.descriptor))
        } catch {
            logger.error("no helper for the commands of pipes", metadata: ["error": "\(error)"])
            return nil
        }
    }
}
