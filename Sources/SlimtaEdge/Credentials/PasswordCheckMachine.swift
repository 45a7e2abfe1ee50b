// Which password is hashed next: a value without I/O; its driver is PasswordChecks. How many may ask at all, and when, is
// GuessMachine's.

/// The line before the threads that hash passwords.
///
///     asked ──▶ begun ──known──────────────▶ ended
///       └──▶ joined └──lined──next──▶ hashing ──▶ ended
///                        └──▶ outOfLine
///
/// It is **fair**: checks stand in lanes, one for each address (IPv6: /64) and one more for the logins that are familiar
/// there, and each lane has one check in turn. Familiar ones come first, those of addresses that have failed last. It is
/// **bounded**: where it is full, the last of the longest lane goes, of those who come last.
struct PasswordCheckMachine: Sendable {
    typealias Source = ConnectionLimiter.Source

    /// One login with one password from one address: who asks for the same meanwhile gets the same answer.
    struct Check: Hashable, Sendable {
        /// nil: a UNIX socket.
        let source: Source?
        var standing = Standing.stranger
        /// A keyed hash of the login.
        let login: Int
        /// A keyed digest of login and password.
        let password: UInt64

        fileprivate var lane: Lane { Lane(source: source, standing: standing) }
    }

    /// Who asks, in the order in which they have their turns.
    enum Standing: Int, Sendable {
        /// The login has succeeded from there of late.
        case familiar
        case stranger
        /// Others have failed there of late.
        case guesser
    }

    /// What becomes of a check that was asked for.
    enum Verdict: Equatable, Sendable {
        /// It may begin: look whether the answer is known, then call `ended` or `lined`.
        case begun
        /// It is in hand already.
        case joined
    }

    fileprivate struct Lane: Hashable {
        let source: Source?
        let standing: Standing
    }

    private enum Phase: Equatable {
        case begun
        case lined
        case hashing
    }

    /// How many checks wait for each thread at most: a hash of libxcrypt's default cost takes some 60 ms, and who has not had
    /// his turn within `FileCredentials.timeout` is answered without it. More would be hashed for nobody.
    static let waitingForThread = 1024

    /// Checks at once.
    private let threads: Int
    private var checks: [Check: Phase] = [:]
    private var lines: [Lane: [Check]] = [:]
    /// Lanes with a line, in their turn; by standing.
    private var turns: [[Lane]] = [[], [], []]
    private var turn = 0
    private var hashing = 0
    /// How many checks are in line at most.
    let mostWaiting: Int
    /// How many are.
    private(set) var waiting = 0

    /// - Parameter waiting: ``mostWaiting``; nil: as many as the threads have time for.
    init(threads: Int, waiting: Int? = nil) {
        self.threads = threads
        mostWaiting = waiting ?? threads * Self.waitingForThread
    }

    /// How many checks are in hand.
    var count: Int { checks.count }

    /// A session asks for a check.
    mutating func asked(_ check: Check) -> Verdict {
        guard checks[check] == nil else { return .joined }
        checks[check] = .begun
        return .begun
    }

    /// The answer to a check that was begun is not known: it has to be hashed, and is in line for that. Returns who is not any
    /// more, as there is no room: nobody will be told the answer.
    @discardableResult
    mutating func lined(_ check: Check) -> Check? {
        guard checks[check] == .begun else { return nil }
        checks[check] = .lined
        lines[check.lane, default: []].append(check)
        if lines[check.lane]?.count == 1 { enter(check.lane) }
        waiting += 1
        guard waiting > mostWaiting, let lost = lastOfLongestLine() else { return nil }
        left(lost)
        return lost
    }

    /// Nobody waits for the answer any more. Returns whether it was still in line, and is gone.
    @discardableResult
    mutating func left(_ check: Check) -> Bool {
        guard checks[check] == .lined, let place = lines[check.lane]?.lastIndex(of: check) else { return false }
        checks[check] = nil
        waiting -= 1
        lines[check.lane]?.remove(at: place)
        if lines[check.lane]?.isEmpty == true {
            lines[check.lane] = nil
            turns[check.standing.rawValue].removeAll { $0 == check.lane }
        }
        return true
    }

    /// A guesser's where there is one, so that no flood of theirs is in the way of others; of those of the address that has
    /// most.
    private func lastOfLongestLine() -> Check? {
        for lanes in turns.reversed() {
            let longest = lanes.max { lines[$0]?.count ?? 0 < lines[$1]?.count ?? 0 }
            if let last = longest.flatMap({ lines[$0]?.last }) { return last }
        }
        return nil
    }

    private mutating func enter(_ lane: Lane) {
        turns[lane.standing.rawValue].append(lane)
    }

    /// The next check to be hashed; nil if there is none, or no thread for it.
    mutating func next() -> Check? {
        guard hashing < threads else { return nil }
        // Of four turns one is a stranger's all the same, and of sixteen one a guesser's.
        let order = turn % 16 == 15 ? [2, 1, 0] : turn % 4 == 3 ? [1, 2, 0] : [0, 1, 2]
        guard let standing = order.first(where: { !turns[$0].isEmpty }) else { return nil }
        turn &+= 1
        let lane = turns[standing].removeFirst()
        guard var line = lines.removeValue(forKey: lane), !line.isEmpty else { return nil }
        let check = line.removeFirst()
        if !line.isEmpty {
            lines[lane] = line
            enter(lane)
        }
        checks[check] = .hashing
        waiting -= 1
        hashing += 1
        return check
    }

    /// The answer to a check is there.
    mutating func ended(_ check: Check) {
        if checks.removeValue(forKey: check) == .hashing { hashing -= 1 }
    }
}
