// Whether a host takes our login: a matter of the operator, and of all mail that goes there. Kept by the relays that have
// one.

import Logging
import SlimtaMail
import Synchronization

/// Tells once that a host refuses our login, and once that it is over.
final class LoginWatch: Sendable {
    private let relay: String
    private let logger: Logger
    private let refusal = Mutex<Reply?>(nil)

    init(relay: String, logger: Logger) { (self.relay, self.logger) = (relay, logger) }

    /// What the operator has to put right: the host refused our login, and has taken no mail since. nil: nothing.
    var complaint: String? {
        refusal.withLock { $0 }.map { "\(relay) refuses our login, no mail leaves by it: \($0)" }
    }

    /// An attempt has ended: what it was refused with, or that mail was taken. What is neither says nothing.
    func note(refused: Reply?, isTaken: Bool) {
        guard refused != nil || isTaken else { return }
        let isNews = refusal.withLock { refusal in
            defer { refusal = refused }
            return (refusal == nil) != (refused == nil)
        }
        guard isNews else { return }
        if let refused {
            logger.warning(
                "relay refuses our login, its mail waits", metadata: ["relay": "\(relay)", "reply": "\(refused)"])
        } else {
            logger.notice("relay takes our login again", metadata: ["relay": "\(relay)"])
        }
    }
}
