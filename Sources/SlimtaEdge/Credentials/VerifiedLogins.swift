// Logins whose password was just verified. FileCredentials looks here first, since a password hash is slow on purpose and
// an application may log in for each message.

internal import SlimtaCrypto
internal import SlimtaSASL
import Synchronization

/// Remembers for some minutes which password a login was verified with: as a keyed digest, never the password.
///
/// It belongs to one reading of the users file and is dropped with it. Only right passwords are remembered, one for each
/// user at most.
final class VerifiedLogins: Sendable {
    private struct Verified {
        let digest: KeyedDigest.Value
        let until: ContinuousClock.Instant
    }

    private let digest = KeyedDigest()
    private let lifetime: Duration
    private let verified = Mutex<[String: Verified]>([:])

    /// - Parameter lifetime: how long a verification holds; not prolonged by use.
    init(lifetime: Duration) { self.lifetime = lifetime }

    /// What stands for a login and its password. Two readings of the users file have different ones.
    func digest(_ login: String, _ password: SecretOctets) -> KeyedDigest.Value {
        // A NUL between them: neither has one that counts, as crypt(3) takes none.
        var message = Array(login.utf8) + [0]
        message.reserveCapacity(message.count + password.count)
        password.withOctets { message.append(contentsOf: $0) }
        defer { message.wipe() }
        return digest(message)
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

    /// The login was verified.
    func verified(_ login: String, _ digest: KeyedDigest.Value, now: ContinuousClock.Instant = .now) {
        verified.withLock { $0[login] = Verified(digest: digest, until: now + lifetime) }
    }
}
