// What `slimtad check` says of [auth.oauth]: the issuer is asked as the daemon asks it.

import NIOCore
import NIOPosix
import SlimtaConfiguration
import SlimtaDNS
import SlimtaEdge
import SlimtaSystem
import SlimtaTLS

extension Inspection {
    /// What was found about an issuer, or about PAM.
    enum Finding {
        /// In order.
        case fact(String)
        /// slimtad starts with it; logins wait until it is mended.
        case warning(key: String, String)
        /// slimtad does not start with it.
        case error(key: String, String)
    }

    /// Asks where the keys of tokens are. An introspection endpoint is not asked: there is no token to show it.
    static func findings(about oauth: OAuthSettings, _ file: ConfigurationFile) -> [Finding] {
        switch oauth.source {
        case .file: return []
        case .introspection(let url, let id, _):
            if let finding = trust(oauth) { return [finding] }
            return [.fact("tokens: shown to \(url) as \(id)")]
        case .keys(let url):
            if let finding = trust(oauth) { return [finding] }
            switch keys(at: url, oauth, file) {
            case .success(let keys): return [.fact("tokens: \(keys.count) keys from \(url)")]
            case .failure(let failure):
                let text = "\(url): \(failure); until it is mended nobody can log in with a token"
                return [.warning(key: "auth.oauth.jwks_url", text)]
            }
        }
    }

    private static func trust(_ oauth: OAuthSettings) -> Finding? {
        guard let file = oauth.trustFile else { return nil }
        do throws(TLSError) { _ = try TLSClientContext(verifies: true, trustFile: file) } catch {
            return .error(key: "auth.oauth.trust_file", "\(error)")
        }
        return nil
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
