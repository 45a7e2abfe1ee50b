// What others may know of the running daemon, and have it do: the daemon's task writes it, the control socket reads it.

import SlimtaMail
import SlimtaSystem
import Synchronization

/// What the daemon's task is told to do, one after another.
enum Order: Sendable {
    case signal(Signal)
    /// Reload, then tell how it went.
    case reload(@Sendable (ReloadResult) -> Void)
    /// Stop, as after SIGTERM.
    case drain
    /// Look at what others may have renewed. Each second.
    case look
}

/// How a reload went.
struct ReloadResult: Sendable {
    /// What was refused. The old stays in use: of everything, or, where the rest `isApplied`, of what is named here.
    var errors: [String] = []
    /// What is not as it should be, and is in use nevertheless.
    var warnings: [String] = []
    var isApplied = true
    let time = Timestamp.now()

    /// `errors` without the lines of the file that are shown below them.
    var events: [String] { errors.filter { !$0.hasPrefix(" ") } }
}

/// The daemon as it is now.
final class DaemonState: Sendable {
    /// Where mail comes in.
    struct Edge: Sendable {
        var name: String
        var listen: [String]
        var sessions: @Sendable () -> Int
    }

    struct Values: Sendable {
        var hostname = ""
        var file = ""
        /// What was in the file when it was read, and when that was.
        var content: [UInt8] = []
        var read = Timestamp.now()
        /// The last one; nil: there was none.
        var reload: ReloadResult?
        var edges: [Edge] = []
        /// Whether DNS answers are validated, in a word, and why not.
        var validation = "unknown"
        var validationReason: String?
        var isDraining = false
        /// `[queue] deliver`.
        var delivers = true
        /// What was wrong with certificates and users when they were loaded, and what the machine is too small for.
        var warnings: [String] = []
        /// What the operator has to put right with the relays in use.
        var relayComplaints: @Sendable () -> [String] = { [] }
        /// When the certificates in use end.
        var certificates: [Certificates.Expiry] = []
    }

    static let undelivered = "nothing is delivered: [queue] deliver = false"

    let since = Timestamp.now()
    let orders: AsyncStream<Order>.Continuation
    private let values = Mutex(Values())

    init(orders: AsyncStream<Order>.Continuation) { self.orders = orders }

    var now: Values { values.withLock { $0 } }

    func set(_ change: (inout Values) -> Void) { values.withLock { change(&$0) } }
}
