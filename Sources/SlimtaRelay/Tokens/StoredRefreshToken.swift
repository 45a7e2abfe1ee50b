// What is kept of a refresh token between the daemon's runs, as text. TokenSource makes it; the composition root has the file.

import SlimtaCrypto
import SlimtaMail
import SlimtaNet

/// The refresh token that counts now, and which configured one it comes from.
package struct StoredRefreshToken: Hashable, Sendable {
    /// Not for logs.
    let token: String
    /// A digest of the configured token: another one there is the operator's, and newer than this.
    let origin: String
    /// When an endpoint took it, or gave it.
    let used: Timestamp

    init(token: String, origin: String, used: Timestamp) {
        self.token = token
        self.origin = origin
        self.used = used
    }

    /// What ``octets`` has written; nil: nothing else.
    package init?(_ octets: some Collection<UInt8>) {
        guard let json = try? JSON(parsing: octets), let token = json["token"].text, !token.isEmpty,
            let origin = json["origin"].text, let used = json["used"].integer
        else { return nil }
        self.init(token: token, origin: origin, used: Timestamp(milliseconds: used))
    }

    /// As a file has it.
    package var octets: [UInt8] {
        let json = JSON.object([
            .init("token", .string(token)), .init("origin", .string(origin)),
            .init("used", .number(used.milliseconds)),
        ])
        return Array((json.line + "\n").utf8)
    }

    static func origin(_ configured: String) -> String {
        HashFunction.sha256.digest(configured.utf8).map { String(hexadecimal: $0, digits: 2) }.joined()
    }
}
