// Logins whose password was just verified. FileCredentials asks here first, since a password hash is slow on purpose and
// an application may log in for each message.

internal import SlimtaSMTP
internal import SlimtaTLS
import Synchronization

/// Remembers for some minutes which password a login was verified with: as a keyed digest, never the password.
///
/// It belongs to one reading of the users file and is dropped with it. Only right passwords are remembered: a wrong one
/// costs a hash each time. Sessions that bring the same login and password at once wait for one hash together.
final class VerifiedLogins: Sendable {
    typealias Completion = @Sendable (SMTPServerMachine.PasswordResult) -> Void

    /// What is to be done with a login.
    enum Answer {
        /// It was verified with this password.
        case verified
        /// It is being verified; the completion will be called.
        case waits
        /// The caller has to verify it, and to call `verified` with this.
        case unknown(Ticket)
    }

    /// A verification that was begun.
    struct Ticket: Sendable {
        fileprivate let login: String
        fileprivate let digest: KeyedDigest.Value
    }

    private struct Verified {
        let digest: KeyedDigest.Value
        let until: ContinuousClock.Instant
    }

    private struct Running {
        let digest: KeyedDigest.Value
        var waiting: [Completion]
    }

    private struct State {
        var verified: [String: Verified] = [:]
        /// By login; several at once if their passwords differ.
        var running: [String: [Running]] = [:]
    }

    private let digest = KeyedDigest()
    private let lifetime: Duration
    private let state = Mutex(State())

    /// - Parameter lifetime: how long a verification holds; not prolonged by use.
    init(lifetime: Duration) { self.lifetime = lifetime }

    /// Looks a login up. `completion` is kept if the answer is `waits`.
    func look(_ credentials: Credentials, now: ContinuousClock.Instant = .now, completion: @escaping Completion)
        -> Answer
    {
        // A NUL between them: neither has one that counts, as crypt(3) takes none.
        let digest = digest(Array(credentials.login.utf8) + [0] + credentials.password)
        return state.withLock { state in
            if let known = state.verified[credentials.login] {
                if known.until <= now {
                    state.verified[credentials.login] = nil
                } else if known.digest == digest {
                    return .verified
                }
            }
            var running = state.running[credentials.login] ?? []
            if let index = running.firstIndex(where: { $0.digest == digest }) {
                running[index].waiting.append(completion)
                state.running[credentials.login] = running
                return .waits
            }
            state.running[credentials.login] = running + [Running(digest: digest, waiting: [])]
            return .unknown(Ticket(login: credentials.login, digest: digest))
        }
    }

    /// A verification ended. Calls those that waited for it.
    func ended(
        _ ticket: Ticket, _ result: SMTPServerMachine.PasswordResult, now: ContinuousClock.Instant = .now
    ) {
        let waiting = state.withLock { state -> [Completion] in
            if case .right = result {
                state.verified[ticket.login] = Verified(digest: ticket.digest, until: now + lifetime)
            }
            var running = state.running[ticket.login] ?? []
            guard let index = running.firstIndex(where: { $0.digest == ticket.digest }) else { return [] }
            let waiting = running.remove(at: index).waiting
            state.running[ticket.login] = running.isEmpty ? nil : running
            return waiting
        }
        for completion in waiting { completion(result) }
    }
}
