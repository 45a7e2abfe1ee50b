// The refresh tokens that token endpoints give in place of the configured ones: a file for each of these in the state directory.
// The relays' TokenSources write them.

import SlimtaCrypto
import SlimtaMail
import SlimtaNet
import SlimtaRelay
import SlimtaSystem
import Synchronization

/// The files of one process: however many worlds there are, of one file at a time one has the turn.
final class RefreshTokens: Sendable {
    private let turns = Mutex<[String: Turns]>([:])

    /// nil: this identity has no refresh token.
    func store(of settings: TokenSettings, in directory: String) -> (any RefreshTokenStore)? {
        guard case .refreshToken(let configured) = settings.grant else { return nil }
        // Another configured one is another chain: whoever still uses the one before must not write over what came of this.
        let identity = [
            "\(settings.endpoint)", settings.clientID, settings.username, configured,
        ].joined(separator: "\n")
        let digest = HashFunction.sha256.digest(identity.utf8).prefix(8)
        let name = digest.map { String(hexadecimal: $0, digits: 2) }.joined()
        let path = "\(directory)/refresh-token-\(name)"
        let turns = turns.withLock { all in
            let turns = all[path] ?? Turns(1)
            all[path] = turns
            return turns
        }
        return RefreshTokenFile(path: path, turns: turns)
    }
}

/// One of them.
private struct RefreshTokenFile: RefreshTokenStore {
    let path: String
    let turns: Turns

    func read() throws(TokenSource.Unavailable) -> StoredRefreshToken? {
        let octets: [UInt8]
        do throws(SystemError) {
            octets = try SecureFile.read(path, maximum: 65_536, mustNotBeReadableByOthers: true)
        } catch {
            if error.code == .notFound { return nil }
            throw TokenSource.Unavailable(why: "\(error)")
        }
        guard let token = StoredRefreshToken(octets) else {
            throw TokenSource.Unavailable(why: "\(path) is damaged; without that file the configured one is used")
        }
        return token
    }

    func write(_ token: StoredRefreshToken) -> String? {
        do throws(SystemError) {
            try SecureFile.replace(path, with: token.octets)
            return nil
        } catch {
            return "\(error)"
        }
    }
}
