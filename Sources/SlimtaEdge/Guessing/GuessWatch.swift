// Who guesses, as exchanges and edges ask it: the driver of GuessMachine. The daemon makes one for as long as it runs, so that
// what is remembered outlives reloads; GuessRecord is how it outlives the daemon.

package import Logging
internal import SlimtaCrypto
package import SlimtaMail
internal import SlimtaSASL
import Synchronization

/// Counts failed logins, makes tries wait, and says whom to turn away. One for all edges and back ends.
package final class GuessWatch: Sendable {
    /// A try that is under way, from `admit` to `ended`.
    struct Attempt: Sendable {
        var guess: GuessMachine.Guess
        let ticket: GuessMachine.Ticket

        var standing: PasswordCheckMachine.Standing {
            ticket.isFamiliar ? .familiar : ticket.hasFailed ? .guesser : .stranger
        }
    }

    enum Admission: Sendable {
        /// At once, or when it has waited.
        case admitted(Attempt)
        case refused
        case turnedAway
    }

    /// Something that is held against somebody, for the operator.
    package struct Finding: Equatable, Sendable {
        /// Who is it?
        package enum Kind: String, Sendable {
            case address, network, login
        }

        package let kind: Kind
        /// An address as `192.0.2.1` or `2001:db8::/64`, a network, or a login.
        package let name: String
        /// How many are not forgotten yet; of what is turned away: how many led to it.
        package let failures: Int
        /// How many different logins, about; of a login: nil.
        package let logins: Int?
        /// How long its next try waits, in seconds; 0: not at all.
        package let delay: Int
        /// Until when it is turned away; nil: it is not.
        package let until: Timestamp?
        /// How often it has been by now, a day without not between.
        package let times: Int
    }

    private let machine: Mutex<GuessMachine>
    private let digest = KeyedDigest()
    private let logger: Logger

    /// Nothing is held against anybody.
    package convenience init(_ logger: Logger) { self.init(GuessMachine.Limits(), logger) }

    init(_ limits: GuessMachine.Limits, _ logger: Logger) {
        machine = Mutex(GuessMachine(limits))
        self.logger = logger
    }

    // MARK: Tries

    /// Returns when the try may begin; at once if it need not wait. To be followed by one `ended`.
    func admit(_ guess: GuessMachine.Guess) async -> Admission {
        switch machine.withLock({ $0.asked(guess, .now) }) {
        case .refused: return .refused
        case .turnedAway: return .turnedAway
        case .admitted(let ticket):
            // Who is gone meanwhile is woken at once.
            if ticket.start > .now { try? await Task.sleep(until: ticket.start, clock: .continuous) }
            return .admitted(Attempt(guess: guess, ticket: ticket))
        }
    }

    /// What came of a try. Returns how many failures of its address there are by now, if it was one that counts.
    @discardableResult
    func ended(_ attempt: Attempt, _ result: GuessMachine.Result) -> Int? {
        let now = ContinuousClock.now
        let failure = machine.withLock { $0.ended(attempt.ticket, attempt.guess, result, now) }
        if let (place, ban) = failure?.banned {
            logger.notice(
                "guesses passwords, is turned away",
                metadata: [
                    "network": "\(place.shown)", "until": "\((Timestamp.now() + (ban.until - now)).isoDate)",
                    "failures": "\(ban.failures)", "logins": "\(ban.logins)", "times": "\(ban.times)",
                    "client": "\(attempt.guess.address.map { "\($0)" } ?? "local")",
                ])
        }
        return failure?.count
    }

    /// What stands for a login with what proves it, here and nowhere else.
    func digest(of secret: SecretOctets, _ login: String?) -> UInt64 {
        // 0 stands for none.
        digest(secret, behind: login ?? "").prefix | 1
    }

    /// Whether a client is to be turned away before anything is said.
    func isTurnedAway(_ address: IPAddress) -> Bool { machine.withLock { $0.isTurnedAway(address, .now) } }

    // MARK: Operators

    /// What is held against whom: who is turned away, and whose next try would wait; at most `limit` of each kind, the worst
    /// first.
    package func findings(limit: Int = 1000) -> [Finding] {
        let now = ContinuousClock.now
        return machine.withLock { $0.findings(now, .now(), limit: limit) }
    }

    /// Forgets what is held against an address, a network or a login. Returns whether anything was.
    package func release(_ what: String) -> Bool { machine.withLock { $0.release(what) } }

    // MARK: Memory

    /// What is to outlive the daemon, if it has changed since the last call: the text of a file.
    package func takeRecord() -> String? {
        let now = ContinuousClock.now
        return machine.withLock { machine in
            guard machine.hasNews else { return nil }
            machine.hasNews = false
            return machine.record(now, .now())
        }
    }

    /// What ``takeRecord()`` said could not be kept: it is news still.
    package func recordIsLost() { machine.withLock { $0.hasNews = true } }

    /// Takes up what ``takeRecord()`` said, as far as it can be understood. Returns whether that is all of it.
    package func restore(_ record: String) -> Bool {
        let now = ContinuousClock.now
        return machine.withLock { $0.restore(record, now, .now()) }
    }
}

extension NetworkRange {
    /// A single IPv4 address without its length.
    var shown: String { base.isIPv4 && prefixLength == 32 ? "\(base)" : description }
}
