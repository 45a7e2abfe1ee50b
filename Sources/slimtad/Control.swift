// What the control socket's requests mean. The server of SlimtaControl calls it; it looks at the daemon's parts, never
// waits for an event loop, and has storage's threads do what needs the disk.

import Logging
import SlimtaControl
import SlimtaMail
import SlimtaQueue
import SlimtaStorage

/// Answers requests:
///
///     GET  /queue/count      {"count": N}
final class Control: ControlService {
    private let storage: JournaledStorage
    private let logger: Logger

    init(storage: JournaledStorage, logger: Logger) {
        self.storage = storage
        self.logger = logger
    }

    func respond(to request: ControlRequest) async -> ControlResponse {
        switch (request.method, request.path) {
        case (.get, ["queue", "count"]):
            return ControlResponse(.object([.init("count", .count(storage.status().queued))]))
        default: return .error(404, "there is nothing at /\(request.path.joined(separator: "/"))")
        }
    }
}
