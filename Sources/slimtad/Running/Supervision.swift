// What the service manager is told while the daemon runs: that it lives, and how it is. The daemon runs it beside its
// other tasks.

import Logging
import NIOCore
import SlimtaControl
import SlimtaMail
import SlimtaQueue
import SlimtaSystem
import Synchronization

/// Feeds the watchdog while every part moves on, and keeps STATUS= true.
///
/// A process that only says "I live" may have a hung event loop, with a third of its sessions in it. So each round asks
/// each part for a sign of its own: event loops run a task, the scheduler looks what is due, and the journal's writer,
/// if it has something to do, has done something. While one of them owes its sign the watchdog is not fed.
final class Supervision: Sendable {
    private struct Signs {
        var journal: UInt64 = 0
        var passes: UInt64 = 0
        /// For how many rounds parts have owed their sign.
        var late: [String: Int] = [:]
        var said = ""
    }

    private let loops: [LoopSign]
    private let queue: Queue
    private let storage: any QueueBackend
    private let state: DaemonState
    private let logger: Logger
    private let signs = Mutex(Signs())

    init(
        group: any EventLoopGroup, queue: Queue, storage: any QueueBackend, state: DaemonState, logger: Logger
    ) {
        loops = group.makeIterator().map(LoopSign.init)
        self.queue = queue
        self.storage = storage
        self.state = state
        self.logger = logger
    }

    /// Runs until it is cancelled; at once over where no service manager listens.
    func run() async {
        guard ServiceManager.isPresent else { return }
        // Four signs in the time that systemd waits for one: a late one does no harm.
        let round = min(ServiceManager.watchdogInterval.map { $0 / 4 } ?? .seconds(5), .seconds(5))
        while !Task.isCancelled {
            if late().isEmpty { ServiceManager.notifyWatchdog() }
            let text = statusText
            let isNews = signs.withLock { signs in
                defer { signs.said = text }
                return signs.said != text
            }
            if isNews { ServiceManager.notifyStatus(text) }
            try? await Task.sleep(for: round)
        }
    }

    /// STATUS=: what is being done, how much is queued and since when, and which certificates end soon.
    var statusText: String {
        let now = Timestamp.now()
        let state = state.now
        let queue = queue.snapshot(top: 0)
        let storage = storage.status()
        let isAccepting = !storage.isFull && storage.failure == nil
        let doing =
            state.isDraining
            ? "Stopping"
            : isAccepting
                ? "Accepting mail"
                : storage.isFull
                    ? "Disk is full, no mail accepted"
                    : storage.node == nil ? "Disk failed" : "The database is away, no mail accepted"
        var parts = [doing, "\(queue.depth) queued"]
        if let oldest = queue.oldest { parts[1] += ", the oldest for \(age((now - oldest).milliseconds / 1000))" }
        if let reload = state.reload, let error = reload.errors.first {
            parts.append("the last reload \(reload.isApplied ? "left out" : "failed"): \(error)")
        }
        parts += storage.away
        if !state.delivers { parts.append(DaemonFacts.undelivered) }
        parts += state.complaints()
        parts += state.certificates.compactMap { $0.warning(now) }
        return parts.joined(separator: "; ")
    }

    /// Asks all parts for the next sign; those that still owe the last one.
    private func late() -> [String] {
        let storage = storage.status()
        let passes = queue.passes
        let silent = loops.filter { !$0.isGiven() }.map(\.name)
        queue.look()
        // A scheduler that drains begins nothing more, and gives no sign.
        let isScheduling = !state.now.isDraining
        let (late, news) = signs.withLock { signs in
            var late = silent
            if storage.isBusy, storage.progress == signs.journal { late.append("journal writer") }
            if isScheduling, passes == signs.passes { late.append("scheduler") }
            (signs.journal, signs.passes) = (storage.progress, passes)
            signs.late = Dictionary(uniqueKeysWithValues: late.map { ($0, signs.late[$0, default: 0] + 1) })
            return (late, late.filter { signs.late[$0] == 2 })
        }
        for part in news {
            logger.error("part of the daemon hangs, the watchdog is not fed", metadata: ["part": "\(part)"])
        }
        return late
    }
}

/// One event loop, and whether it has run the task that it was last given.
private final class LoopSign: Sendable {
    let name: String
    private let loop: any EventLoop
    private let isRun = Atomic(true)

    init(_ loop: any EventLoop) {
        self.loop = loop
        name = "event loop \(loop)"
    }

    /// Whether it has; then it is given the next one.
    func isGiven() -> Bool {
        guard isRun.exchange(false, ordering: .acquiringAndReleasing) else { return false }
        loop.execute { self.isRun.store(true, ordering: .releasing) }
        return true
    }
}
