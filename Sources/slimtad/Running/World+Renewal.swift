// What is renewed without a reload: users and certificates, which others write whenever they like. The daemon looks at the
// files, at users every second, at certificates as often as `[tls] check` says. A bad file keeps what is in use.

import Logging
import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaSystem

extension World {
    /// Takes a users file that was changed; one that cannot be used keeps the users in use. Returns whether there is
    /// something to be told.
    mutating func renewUsers(_ logger: Logger) -> Bool {
        guard secrets.users != nil, secrets.isUsersFileChanged(values.auth.users) else { return false }
        do throws(Failure) {
            try secrets.loadUsers(file, mayBeMissing: false)
            useUsers()
            logger.notice(
                "users file was read again",
                metadata: ["file": "\(values.auth.users)", "users": "\(secrets.users?.users.count ?? 0)"])
        } catch {
            secrets.keepUsers(reason: error.message)
        }
        for complaint in secrets.complaints where complaint.isOfUsers { logger.log(complaint) }
        return true
    }

    /// Takes renewed certificates; a bad one keeps the old one. Returns whether edges need new settings: sessions go on
    /// with what they began with.
    mutating func renewCertificates(_ logger: Logger) -> Bool {
        guard let tls = values.tls, let old = secrets.certificates else { return false }
        do throws(Failure) {
            let (new, refusals) = try Certificates.load(tls, keeping: old)
            for refusal in refusals { logger.log(.certificate(refusal)) }
            secrets.complaints = secrets.complaints.filter { !$0.isOfCertificate } + refusals.map { .certificate($0) }
            guard new.context !== old.context else { return false }
            secrets.certificates = new
            return true
        } catch {
            logger.error("certificates cannot be read, the old ones stay", metadata: ["error": "\(error.message)"])
            return false
        }
    }

    /// Warns of certificates that end soon.
    func warnOfExpiry(_ logger: Logger) {
        let now = Timestamp.now()
        for expiry in secrets.certificates?.expiries ?? [] where expiry.isNear(now) {
            let metadata: Logger.Metadata = [
                "file": "\(expiry.path)", "days": "\((expiry.time - now).milliseconds / 86_400_000)",
            ]
            if expiry.isOfRevocations {
                logger.error(
                    "revocation list has ended, certificates of clients are refused",
                    metadata: ["file": "\(expiry.path)"])
            } else if expiry.time > now {
                logger.warning("certificate expires soon", metadata: metadata)
            } else {
                logger.error("certificate has expired", metadata: metadata)
            }
        }
    }
}
