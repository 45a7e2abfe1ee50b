// The keys that mail is signed with where no daemon runs: from its files, by who it will be.

import Glibc
import Logging
import SlimtaConfiguration
import SlimtaControl
import SlimtaDKIM
import SlimtaNet
import SlimtaSystem

/// The state directory's keys, with the rights of the service.
struct OfflineKeys {
    private let keeper: DKIMKeeper

    /// Becomes the service's user: keys must not belong to somebody else, and what is in the state directory is not to be
    /// followed with root's rights.
    init(_ file: ConfigurationFile) throws(Failure) {
        let search: SigningKeySearch
        do throws(SystemError) {
            if Privileges.isRoot {
                let daemon = file.values.daemon
                let identity = try Privileges.lookUp(user: daemon.user, group: daemon.group)
                // What root can read and the service cannot is read by systemd, and passed.
                search = file.findSigningKeys()
                if mkdir(file.stateDirectory, 0o700) == 0, chown(file.stateDirectory, identity.uid, identity.gid) != 0 {
                    throw SystemError("cannot give away \(file.stateDirectory)", number: errno)
                }
                try Privileges.drop(to: identity)
            } else {
                search = file.findSigningKeys()
            }
        } catch {
            throw Failure(error)
        }
        for fault in search.faults where !fault.isUnmade { say("\(fault.key): \(fault.text)") }
        keeper = DKIMKeeper(
            in: file.stateDirectory, Logger(label: "slimtad") { _ in SwiftLogNoOpLogHandler() }
        ) { path, why in
            say(
                "\(path): \(why): what was known of keys is not in what follows. The file stays as it is; the daemon will give "
                    + "it another name, and begin anew")
        }
        keeper.configure(file.values, search.keys)
    }

    func report() -> SigningReport { keeper.report() }

    func check(_ domain: String?) throws(Failure) -> SigningReport {
        try wait { [keeper] () async throws(Failure) in await keeper.check(domain) }
    }

    /// A refusal that concerns this key alone is in the result.
    func make(_ wish: SigningKeyWish) throws(Failure) -> Result<JSON, Failure> {
        do throws(SigningKeyRefusal) {
            return .success(.signingKey(try keeper.make(wish)))
        } catch {
            switch error {
            case .notNow(let text): return .failure(Failure(.unavailable, text))
            case .mistake(let text): throw Failure(.usage, text)
            case .failed(let text): throw Failure(.cannotCreate, text)
            }
        }
    }
}
