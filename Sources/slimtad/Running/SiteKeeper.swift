// What is known of sites, in the state directory: read at start, and written when it has changed. The daemon has one, for as long
// as it runs.

import Logging
import NIOPosix
import SlimtaConfiguration
import SlimtaControl
import SlimtaMail
import SlimtaRelay
import SlimtaSystem

/// Keeps what hosts have taught over a restart.
final class SiteKeeper: Sendable {
    let sites: Sites
    private let file: StateFile
    private let logger: Logger
    /// It is written as often. What is lost in a crash is learned again.
    private static let interval = Duration.seconds(30)

    /// Reads what was known before. What cannot be read begins anew: mail goes on.
    init(in directory: String, _ logger: Logger) {
        let sites = Sites(logger: logger)
        let file = StateFile("sites", in: directory, maximum: 64 << 20)
        (self.sites, self.file, self.logger) = (sites, file, logger)
        file.read { octets in
            String(validating: octets, as: UTF8.self).map { sites.restore($0) } ?? false
        } lost: { why, kept in
            logger.error(
                "what is known of sites begins anew",
                metadata: ["file": "\(file.path)", "error": "\(why)", "kept": "\(kept)"])
            sites.recordIsLost()
        }
    }

    /// What the configuration says of sites.
    func configure(_ values: Configuration) { sites.configure(values.siteSettings) }

    /// Writes what is new, as long as its task is not cancelled.
    func run() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.interval)
            try? await NIOThreadPool.singleton.runIfActive { self.write() }
        }
    }

    /// Slow.
    func write() {
        file.write {
            sites.takeRecord().map { Array($0.utf8) }
        } failed: { error, isNews in
            sites.recordIsLost()
            if isNews { logger.warning("what is known of sites is not kept", metadata: ["error": "\(error)"]) }
        }
    }
}

extension SiteKeeper {
    /// What is known of all sites.
    func reports() -> [SlimtaControl.SiteReport] {
        func limits(_ limits: SiteLimits) -> SlimtaControl.SiteReport.Limits {
            .init(
                connections: limits.connections, rate: limits.rate, messages: limits.messages,
                recipients: limits.recipients)
        }
        return sites.reports().map { site in
            SlimtaControl.SiteReport(
                name: site.name, hosts: site.hosts, isFixed: site.isFixed, set: limits(site.set),
                configured: limits(site.configured), learned: limits(site.learned), greylists: site.greylists,
                greylistWait: site.greylistWait, sessions: site.sessions, window: site.window, waiting: site.waiting,
                pausedUntil: site.pausedUntil,
                failed: site.failed.map { .init(address: $0.address, failures: $0.failures, until: $0.until) },
                lastUsed: site.lastUsed)
        }
    }

    /// How many of them have limits that hold mail up.
    var pacedCount: Int { sites.pacedCount }

    /// Forgets what is known of sites. Returns how many they are.
    func forget(_ name: String) -> Int { sites.forget(name) }

    /// Sets what an operator says of sites.
    func set(_ name: String, _ change: SiteChange) -> Int {
        sites.set(name) { limits in
            if let value = change.connections { limits.connections = value }
            if let value = change.rate { limits.rate = value }
            if let value = change.messages { limits.messages = value }
            if let value = change.recipients { limits.recipients = value }
        }
    }
}

extension Configuration {
    /// A host that does not answer is tried again as soon as the first retry, and no later than the last.
    fileprivate var siteSettings: Sites.Settings {
        let longest = min(.seconds(600), queue.retry.max() ?? .seconds(600))
        let rules = sites.map { site in
            SiteRule(
                SiteLimits(
                    connections: site.connections, rate: site.rate,
                    messages: site.messagesPerSession.map { min($0, SiteSettings.most) },
                    recipients: site.recipientsPerTransaction.map { min($0, SiteSettings.most) })
            ) { host in site.hosts.contains { $0.matches(host) } }
        }
        return Sites.Settings(
            rules: rules, waits: min(.seconds(60), queue.retry.first ?? .seconds(60), longest)...longest)
    }
}
