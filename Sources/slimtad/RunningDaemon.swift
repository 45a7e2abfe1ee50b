// The daemon as commands see it: over its control socket, or, where none runs, as the files that it left.

import Glibc
import SlimtaControl
import SlimtaStorage
import SlimtaSystem

/// A running daemon that can be asked.
struct RunningDaemon {
    private let client: ControlClient

    /// Connects; nil if no daemon runs.
    static func connect(_ file: ConfigurationFile) throws(Failure) -> RunningDaemon? {
        let path = file.controlSocket
        do throws(ControlError) {
            return RunningDaemon(client: try ControlClient(path))
        } catch {
            switch error {
            case .noDaemon: return nil
            case .notPermitted:
                throw Failure(
                    .notPermitted,
                    "\(path) may be used by root, the service's user and members of the group "
                        + "\(ControlSocket.adminGroup); try sudo")
            case .failed(let text): throw Failure(.unavailable, text)
            }
        }
    }

    /// Asks; what the daemon refuses is thrown.
    func ask(
        _ method: ControlRequest.Method, _ path: [String], _ query: [ControlRequest.Parameter] = []
    ) throws(Failure) -> JSON {
        do throws(ControlError) {
            let (status, json) = try client.ask(method, path, query)
            guard status == 200 else {
                throw ControlError.failed(json["error"].text ?? "the daemon answered \(status)")
            }
            return json
        } catch {
            switch error {
            case .failed(let text): throw Failure(.unavailable, text)
            case .noDaemon, .notPermitted: throw Failure(.unavailable, "the daemon does not answer")
            }
        }
    }
}

extension ConfigurationFile {
    /// Reads the queue's files; says on standard error what they do not show.
    func inspectQueue() throws(Failure) -> StorageInspector {
        let inspector: StorageInspector
        do throws(StorageOpenError) {
            inspector = try StorageInspector(directory: stateDirectory)
        } catch {
            throw Failure(storage: error)
        }
        // Without the file there is no queue yet, and nobody who has it.
        if let checkpoint = inspector.asOfCheckpoint, access("\(stateDirectory)/lock", F_OK) == 0 {
            say("the daemon that runs does not answer; this is as of checkpoint \(checkpoint)")
        }
        return inspector
    }
}
