// Logins whose password was just verified, or found to be wrong. FileCredentials looks here first, since a password hash is
// slow on purpose, an application may log in for each message, and a telephone goes on with a password that was changed.

internal import SlimtaCrypto
internal import SlimtaSASL
import Synchronization

/// Remembers for some minutes which password a login was verified with: as a keyed digest, never the password.
///
/// The digest is of the hash too that the password was verified with: a user who has another one in the next reading of the
/// users file is not verified, and what was wrong may be right. Of right passwords there is one for each user at most, of
/// wrong ones a fixed number.
final class VerifiedLogins: Sendable {
    private struct Verified {
        let digest: KeyedDigest.Value
        let until: ContinuousClock.Instant
    }

    private let digest = KeyedDigest()
    private let lifetime: Duration
    private let verified = Mutex<[String: Verified]>([:])
    /// Each at the place that its digest has; another one there takes it.
    private let refuted = Mutex([KeyedDigest.Value?](repeating: nil, count: 4096))

    /// - Parameter lifetime: how long a verification holds; not prolonged by use.
    init(lifetime: Duration) { self.lifetime = lifetime }

    /// What stands for a login, the hash that it has now (nil: there is no such user) and the password that it shows.
    func digest(_ login: String, _ hash: PasswordHash?, _ password: SecretOctets) -> KeyedDigest.Value {
        digest(password, behind: login, hash?.text ?? "")
    }

    /// Whether the login was verified with what `digest` stands for.
    func isVerified(_ login: String, _ digest: KeyedDigest.Value, now: ContinuousClock.Instant = .now) -> Bool {
        verified.withLock { verified in
            guard let known = verified[login] else { return false }
            guard known.until > now else {
                verified[login] = nil
                return false
            }
            return known.digest == digest
        }
    }

    /// Whether what `digest` stands for is known to be wrong.
    func isRefuted(_ digest: KeyedDigest.Value) -> Bool { refuted.withLock { $0[Self.place(digest)] == digest } }

    /// It is wrong.
    func refuted(_ digest: KeyedDigest.Value) { refuted.withLock { $0[Self.place(digest)] = digest } }

    private static func place(_ digest: KeyedDigest.Value) -> Int { Int(digest.prefix % 4096) }

    /// The login was verified.
    func verified(_ login: String, _ digest: KeyedDigest.Value, now: ContinuousClock.Instant = .now) {
        verified.withLock { $0[login] = Verified(digest: digest, until: now + lifetime) }
    }

    /// There is another reading of the users file: forgets who is no user any more.
    func keep(_ isUser: (String) -> Bool) { verified.withLock { $0 = $0.filter { isUser($0.key) } } }
}
