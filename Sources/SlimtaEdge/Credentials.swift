// Is this password right? Asked by sessions; answered off the event loops, since a password hash is slow on purpose.

internal import NIOPosix
package import SlimtaSMTP
import Synchronization

/// Checks passwords.
package protocol CredentialBackend: Sendable {
    /// Calls `completion` once, on any thread.
    func check(
        _ credentials: Credentials,
        completion: @escaping @Sendable (SMTPServerMachine.PasswordResult) -> Void)
}

/// The threads that hash passwords: few, since each hash takes a core and megabytes for tens of milliseconds; and a
/// bounded line before them, so that guessing cannot take more than that.
package final class PasswordThreads: Sendable {
    private let pool: NIOThreadPool
    private let waiting = Atomic<Int>(0)
    private let limit: Int

    /// - Parameter limit: how many checks may wait; one more is answered `unavailable`.
    package init(threads: Int, limit: Int = 500) {
        pool = NIOThreadPool(numberOfThreads: threads)
        self.limit = limit
        pool.start()
    }

    /// Runs `work` on a thread; false if too much is waiting.
    func run(_ work: @escaping @Sendable () -> Void) -> Bool {
        guard waiting.add(1, ordering: .relaxed).newValue <= limit else {
            waiting.subtract(1, ordering: .relaxed)
            return false
        }
        pool.submit { _ in
            self.waiting.subtract(1, ordering: .relaxed)
            work()
        }
        return true
    }

    package func shutdown() async { try? await pool.shutdownGracefully() }
}

/// The back end for a users file. A reload makes a new one, which knows nothing of the old one's verified logins.
package final class FileCredentials: CredentialBackend {
    private let users: [String: UsersFile.User]
    private let threads: PasswordThreads
    /// What an unknown login is checked against: it takes as long as for the others.
    private let decoy: PasswordHash
    private let verified: VerifiedLogins

    /// - Parameter lifetime: how long a right password is remembered, as a keyed digest, so that it is not hashed again.
    package init(_ file: UsersFile, threads: PasswordThreads, lifetime: Duration = .seconds(300)) {
        users = file.users
        self.threads = threads
        verified = VerifiedLogins(lifetime: lifetime)
        // Most files have hashes of one method and cost; where they are mixed, the first by name stands for all.
        let sample = users.min { $0.key < $1.key }?.value.hash ?? PasswordHash(hashing: Array("decoy".utf8))
        decoy = sample.unmatchable()
    }

    package func check(
        _ credentials: Credentials,
        completion: @escaping @Sendable (SMTPServerMachine.PasswordResult) -> Void
    ) {
        let user = users[credentials.login]
        switch verified.look(credentials, completion: completion) {
        case .waits: return
        case .verified: completion(user.map { .right($0.authenticated(credentials.login)) } ?? .wrong)
        case .unknown(let ticket):
            let end: @Sendable (SMTPServerMachine.PasswordResult) -> Void = { [verified] result in
                completion(result)
                verified.ended(ticket, result)
            }
            let isQueued = threads.run { [decoy] in
                let isRight = (user?.hash ?? decoy).matches(credentials.password)
                end(isRight ? user.map { .right($0.authenticated(credentials.login)) } ?? .wrong : .wrong)
            }
            if !isQueued { end(.unavailable) }
        }
    }
}

extension UsersFile.User {
    fileprivate func authenticated(_ login: String) -> AuthenticatedUser {
        AuthenticatedUser(login: login, senders: senders)
    }
}
