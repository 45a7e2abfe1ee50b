// What `slimtad check` says of [auth.oauth]: the issuer is asked as the daemon asks it.

import NIOCore
import NIOPosix
import SlimtaConfiguration
import SlimtaDNS
import SlimtaEdge
import SlimtaSystem
import SlimtaTLS

extension Inspection {
    /// Asks where the keys of tokens are. An introspection endpoint is not asked: there is no token to show it.
    mutating func look(at oauth: OAuthSettings) {
        switch oauth.source {
        case .file:
            guard let named = file.values.auth.issuerKeysFile, let octets = read(named) else { return }
            do throws(JSONWebKeys.Fault) {
                note("tokens: \(try JSONWebKeys(octets).count) keys in \(named.reference)")
            } catch {
                self.error(named.key, "\(named.reference): \(error)")
            }
        case .introspection(let url, let id, _):
            if isTrustFileSound(oauth) { note("tokens: shown to \(url) as \(id)") }
        case .keys(let url):
            guard isTrustFileSound(oauth) else { return }
            switch Self.keys(at: url, oauth, file) {
            case .success(let keys): note("tokens: \(keys.count) keys from \(url)")
            case .failure(let failure):
                warn("auth.oauth.jwks_url", "\(url): \(failure); until it is mended nobody can log in with a token")
            }
        }
    }

    /// Whether there is none, or one that can be used; if not, that is told.
    private mutating func isTrustFileSound(_ oauth: OAuthSettings) -> Bool {
        guard let trustFile = oauth.trustFile else { return true }
        do throws(TLSError) { _ = try TLSClientContext(verifies: true, trustFile: trustFile) } catch {
            self.error("auth.oauth.trust_file", "\(error)")
            return false
        }
        return true
    }

    private static func keys(
        at url: WebAddress, _ oauth: OAuthSettings, _ file: ConfigurationFile
    ) -> Result<JSONWebKeys, any Error> {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? group.syncShutdownGracefully() }
        return Result {
            let resolver = try file.values.makeResolver(sockets: 8)
            let client = try oauth.client(url, resolver: resolver, group: group)
            let promise = group.next().makePromise(of: JSONWebKeys.self)
            promise.completeWithTask {
                await resolver.waitUntilStarted()
                let keys = await client.keys()
                await client.shutDown()
                await resolver.close()
                return try keys.get().set
            }
            return try promise.futureResult.wait()
        }
    }
}
