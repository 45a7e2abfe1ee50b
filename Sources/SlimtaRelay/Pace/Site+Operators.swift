// A site as operators see and change it, and as it is kept. Called by Sites.

import NIOCore
import SlimtaMail
import Synchronization

extension Site {
    /// The configuration, as it is now; limits that an operator has set by command are before it.
    ///
    /// - Parameter connections: as many sessions may the relay have that asks. Several relays with one site have each its own
    ///   limit; the site has the largest of them.
    func configure(_ settings: Machine.Settings, _ connections: Int) {
        change { state, now in
            var settings = settings
            state.mostWanted = max(state.mostWanted, connections)
            state.share.limit = min(settings.connections, state.mostWanted, state.own.connections ?? .max)
            (settings.connections, settings.part) = (state.share.sessions, state.share.part)
            settings.rate = state.own.rate ?? settings.rate
            settings.messages = state.own.messages ?? settings.messages
            settings.recipients = state.own.recipients ?? settings.recipients
            state.machine.configure(settings, at: now)
        }
    }

    /// An operator sets limits: those hold from the next attempt on.
    func set(_ limits: (inout SiteLimits) -> Void) { change { state, _ in limits(&state.own) } }

    /// Nothing is known of it any more; sessions that are open go on.
    func forget() {
        change { state, now in
            state.own = SiteLimits()
            state.lastFailure = nil
            state.machine.forget(at: now)
        }
    }

    /// Hosts that did not answer are tried again.
    func forgetFailures() { change { state, _ in state.machine.forgetFailures() } }

    /// What is to be kept.
    var record: SiteRecord {
        state.withLock { SiteRecord(learning: $0.machine.learning, own: $0.own, lastUsed: $0.machine.lastUsed) }
    }

    /// What is old and says nothing any more is forgotten.
    func sweep() {
        state.withLock { state in
            state.machine.sweep(at: clock.now)
            state.troubles.removeEnded(at: .now())
        }
    }

    /// The same, unless it was used in that time.
    func record(ifUnusedFor time: Duration) -> SiteRecord? {
        state.withLock { state in
            guard state.machine.places == 0, state.machine.established == 0, state.connecting <= 0,
                state.lineCount == 0, clock.now - state.machine.lastUsed > time
            else { return nil }
            return SiteRecord(learning: state.machine.learning, own: state.own, lastUsed: state.machine.lastUsed)
        }
    }

    /// Whether anything but our own limits holds mail up there.
    var isPaced: Bool {
        state.withLock { state in
            state.machine.rate.perSecond != nil && state.machine.settings.rate == nil
                || state.machine.sessionLimits.ceiling != nil || state.machine.rate.pausedUntil > clock.now
        }
    }

    /// - Parameter configured: what `[[site]]` says of it.
    func report(_ configured: SiteLimits) -> SiteKnowledge {
        state.withLock { state in
            let now = clock.now
            // Operators read the system's clock.
            let offset = Timestamp.now() - now
            var report = SiteKnowledge(
                key,
                SiteRecord(learning: state.machine.learning, own: state.own, lastUsed: state.machine.lastUsed),
                configured)
            let limits = state.machine.sessionLimits
            report.learned.connections = limits.ceiling
            report.sessions = state.machine.established
            report.window = limits.window
            report.waiting = state.lineCount
            let paused = state.machine.rate.pausedUntil
            if paused > now { report.pausedUntil = paused + offset }
            report.failed = state.machine.health.failed.map { host, failures, until in
                .init(
                    address: host.pathname ?? "[\(host.ipAddress ?? "?")]:\(host.port ?? 0)", failures: failures,
                    until: until + offset)
            }.sorted { $0.address < $1.address }
            return report
        }
    }
}

extension SiteKnowledge {
    /// Of one that is not in use.
    init(_ key: SiteKey, _ record: SiteRecord, _ configured: SiteLimits) {
        self.init(
            name: key.description, hosts: key.hosts, isFixed: key.isFixed, set: record.own, configured: configured,
            learned: SiteLimits(
                rate: record.learning.rate, messages: record.learning.messages,
                recipients: record.learning.recipients),
            greylists: record.learning.greylisting != nil, greylistWait: record.learning.greylisting?.shortest,
            sessions: 0, window: nil, waiting: 0, pausedUntil: nil, failed: [], lastUsed: record.lastUsed)
    }
}
