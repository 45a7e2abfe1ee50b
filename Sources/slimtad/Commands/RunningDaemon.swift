// The daemon as commands see it: over its control socket, or, where none runs, as the files that it left.

import Glibc
import SlimtaConfiguration
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

/// A running daemon that can be asked.
struct RunningDaemon {
    private let client: ControlClient

    /// A daemon at the other end of this connection.
    init(client: ControlClient) { self.client = client }

    /// Connects; nil if no daemon runs. A file with mistakes is then an error: more of it is needed.
    static func connect(_ file: ConfigurationFile) throws(Failure) -> RunningDaemon? {
        if let daemon = try connect(socket: file.controlSocket) { return daemon }
        if let failure = file.failure { throw failure }
        return nil
    }

    /// Connects to the control socket at `path`; nil if no daemon runs.
    static func connect(socket path: String) throws(Failure) -> RunningDaemon? {
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

    /// Connects; that no daemon runs is an error, in which `what` needs one.
    static func need(_ file: ConfigurationFile, for what: String) throws(Failure) -> RunningDaemon {
        if let daemon = try connect(file) { return daemon }
        throw Failure(
            .unavailable,
            "\(what) needs the running daemon, and nobody listens on \(file.controlSocket); start it, or name its "
                + "configuration with --config")
    }

    /// Asks; what the daemon refuses is thrown.
    func ask(
        _ method: ControlRequest.Method, _ path: [String], _ query: [HTTPTarget.Parameter] = []
    ) throws(Failure) -> JSON {
        let (status, json) = try answer(method, path, query)
        guard status == 200 else { throw Self.failure(status, json["error"].text) }
        return json
    }

    /// Asks, and returns the answer whatever it is.
    func answer(
        _ method: ControlRequest.Method, _ path: [String], _ query: [HTTPTarget.Parameter] = []
    ) throws(Failure) -> (status: Int, JSON) {
        do throws(ControlError) { return try client.ask(method, path, query) } catch { throw Self.failure(error) }
    }

    /// Asks page after page, until there is no more or `body` returns false. What arrives meanwhile is not meant.
    func pages(
        _ method: ControlRequest.Method, _ path: [String], _ query: [HTTPTarget.Parameter], _ body: (JSON) -> Bool
    ) throws(Failure) {
        let now = UInt64(Timestamp.now().milliseconds)
        let query = query + [.init("until", "\(QueueID(high: now << 16 | 0xFFFF, low: .max))")]
        var after: [HTTPTarget.Parameter] = []
        while true {
            let page = try ask(method, path, query + after)
            guard body(page), let next = page["next"].text else { return }
            after = [.init("after", next)]
        }
    }

    /// Writes an answer to standard output as it comes; one that is a refusal is returned as by ``answer(_:_:_:)``.
    func copy(
        _ path: [String], _ query: [HTTPTarget.Parameter]
    ) throws(Failure) -> (status: Int, JSON) {
        var refusal: [UInt8] = []
        do throws(ControlError) {
            let status = try client.ask(.get, path, query) { status, octets in
                if status == 200 { writeAll(octets) } else { refusal += octets }
            }
            return (status, (try? JSON(parsing: refusal)) ?? .null)
        } catch {
            throw Self.failure(error)
        }
    }

    /// As after an upgrade that has not restarted it.
    private static let otherVersion = Failure(
        .unavailable,
        "the running slimtad does not know this command: it is of an older version; systemctl restart slimtad")

    /// What it means that the daemon answered with `status`.
    static func failure(_ status: Int, _ text: String?) -> Failure {
        // Every command asks for what a daemon of its own version has.
        if let text, Control.unknown.contains(where: text.hasPrefix) { return otherVersion }
        let exit: ExitStatus =
            switch status {
            case 400, 405: .usage
            case 403: .notPermitted
            default: .unavailable
            }
        return Failure(exit, text ?? "the daemon answered \(status)")
    }

    private static func failure(_ error: ControlError) -> Failure {
        switch error {
        case .failed(let text): Failure(.unavailable, text)
        case .noDaemon, .notPermitted: Failure(.unavailable, "the daemon does not answer")
        }
    }
}

/// Writes to standard output; ends the program when nobody reads any more.
func writeAll(_ octets: ArraySlice<UInt8>) {
    var rest = octets
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { exit(ExitStatus.inputOutput.rawValue) }
        rest = rest.dropFirst(count)
    }
}

extension ConfigurationFile {
    /// Reads the queue's files; says on standard error what they do not show.
    func inspectQueue() throws(Failure) -> StorageInspector {
        try demandLocalQueue()
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

    /// What only looks at files has nothing to look at where the queue is in a database.
    func demandLocalQueue() throws(Failure) {
        if values.queue.placement == .local { return }
        throw Failure(
            .unavailable, "no slimtad runs here, and the queue is in PostgreSQL: ask on a machine where one runs")
    }
}
