// The log of an edge's sessions: what is told of a client at info and above is told within bounds. One for each edge;
// SMTPEdge and its sessions write to it.

package import Logging
internal import NIOCore
internal import SlimtaMail
import Synchronization

/// Writes lines about clients.
package final class SessionLog: Sendable {
    private let logger: Logger
    private let repeated = Mutex(RepeatedEvents())

    /// What is written goes to `logger`.
    package init(_ logger: Logger) { self.logger = logger }

    /// Whether lines of `level` are written at all.
    func takes(_ level: Logger.Level) -> Bool { logger.logLevel <= level }

    /// Writes a line, or counts it if `source` has caused too many of its kind: then a line says how many, when the
    /// minute is over. To be called on `eventLoop`.
    func log(
        _ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata,
        source: ConnectionLimiter.Source?, login: String? = nil, on eventLoop: any EventLoop
    ) {
        guard takes(level) else { return }
        if level >= .info {
            let key = RepeatedEvents.Key(source: source, login: login, event: message.description)
            switch repeated.withLock({ $0.happened(key, at: eventLoop.now) }) {
            case .tell: break
            case .leaveOut: return
            case .leaveOutAndSumUp(let key, let end):
                let fields = metadata.filter { ["client", "proxy", "edge"].contains($0.key) }
                _ = eventLoop.scheduleTask(deadline: end) { self.sumUp(key, level, fields) }
                return
            }
        }
        logger.log(level: level, message, metadata: metadata)
    }

    private func sumUp(_ key: RepeatedEvents.Key, _ level: Logger.Level, _ fields: Logger.Metadata) {
        let count = repeated.withLock { $0.sumUp(key) }
        guard count > 0 else { return }
        var metadata = fields
        // Of those that were counted together, one stands for all.
        if key.source == nil, key.login == nil { metadata["client"] = "several" }
        metadata["login"] = key.login.map { "\($0)" }
        metadata["event"] = "\(key.event)"
        metadata["count"] = "\(count)"
        logger.log(level: level, "lines left out", metadata: metadata)
    }
}

extension ProxyFacts {
    /// What a line about a session's beginning has of them, besides the proxy's address.
    var fields: Logger.Metadata {
        var fields: Logger.Metadata = [:]
        fields["unique_id"] = uniqueID.map { "\($0)" }
        fields["authority"] = authority.map { "\($0)" }
        fields["proxy_tls"] = tls.map { "\($0.session)" }
        fields["proxy_certificate"] = tls?.commonName.map { "\($0)" }
        return fields
    }
}
