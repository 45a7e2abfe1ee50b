// Between the storage and those who obey limits: what a node is told goes to the queue and to the sites, and what these have to
// tell to other nodes goes back. Made by Daemon.

import SlimtaQueue
import SlimtaRelay

/// Who hears what the storage tells.
struct SharedPace: Sendable {
    let queue: Queue
    let sites: Sites
    let storage: any QueueBackend

    /// One call at a time. The report is made behind the advice: what it says is within that, or was begun before.
    @Sendable func receive(_ events: [QueueEvent]) {
        queue.receive(events)
        for case .sites(let limits) in events {
            sites.advised(limits)
            storage.report(queue.siteReports() + sites.siteReports())
        }
    }
}
