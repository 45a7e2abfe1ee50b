// Which questions to name servers are asked now, which wait, and which find no room: a value without a clock. LookupLine
// drives it.

/// A line before something of which there is only so much. Strangers choose how many questions they cause, and how long
/// the servers of their names take: neither may keep the others from being asked.
///
/// ```
/// asked ──▶ go ──▶ ended ──▶ the next one goes, each source in turn
///       ├─▶ wait ─▶ cancelled
///       └─▶ full
/// ```
struct LookupLineMachine: Sendable {
    /// Who is served in turn: the network of a client; nil: all that have none.
    typealias Source = ConnectionLimiter.Source?

    /// Counts of questions.
    struct Limits: Hashable, Sendable {
        var running: Int
        var runningOfSource: Int
        var waiting: Int
        var waitingOfSource: Int
    }

    /// One that waits.
    struct Ticket: Hashable, Sendable {
        let number: UInt64
        let source: Source
    }

    enum Verdict: Equatable, Sendable {
        /// It runs: ``ended(_:)`` is owed.
        case go
        /// It runs when ``ended(_:)`` says so.
        case wait
        case full
    }

    private struct Queue {
        var running = 0
        /// First come, first served.
        var waiting: [Ticket] = []
    }

    private let limits: Limits
    private var queues: [Source: Queue] = [:]
    /// The sources of which one could go if there were room, in turn; each is in it once.
    private var turns: [Source] = []
    private(set) var running = 0
    private(set) var waiting = 0

    init(_ limits: Limits) { self.limits = limits }

    /// How many sources are remembered: those that have something running or waiting.
    var sourceCount: Int { queues.count }

    /// There is a question; the ticket's number is its own.
    mutating func asked(_ ticket: Ticket) -> Verdict {
        let source = ticket.source
        var queue = queues[source] ?? Queue()
        if running < limits.running, queue.running < limits.runningOfSource {
            running += 1
            queue.running += 1
            queues[source] = queue
            return .go
        }
        guard waiting < limits.waiting, queue.waiting.count < limits.waitingOfSource else { return .full }
        waiting += 1
        queue.waiting.append(ticket)
        queues[source] = queue
        if queue.waiting.count == 1, queue.running < limits.runningOfSource { turns.append(source) }
        return .wait
    }

    /// A question of `source` that ran has its answer, or nobody wants it any more. Gives the one that runs now instead.
    mutating func ended(_ source: Source) -> Ticket? {
        guard var queue = queues[source] else { return nil }
        let wasFull = queue.running == limits.runningOfSource
        running -= 1
        queue.running -= 1
        if wasFull, !queue.waiting.isEmpty { turns.append(source) }
        queues[source] = queue.running == 0 && queue.waiting.isEmpty ? nil : queue
        return takeTurn()
    }

    /// Whoever waits with `ticket` waits no longer. False if it does not wait: it runs, and is owed ``ended(_:)``.
    mutating func cancelled(_ ticket: Ticket) -> Bool {
        guard var queue = queues[ticket.source], let index = queue.waiting.firstIndex(of: ticket) else { return false }
        queue.waiting.remove(at: index)
        waiting -= 1
        if queue.waiting.isEmpty { turns.removeAll { $0 == ticket.source } }
        queues[ticket.source] = queue.running == 0 && queue.waiting.isEmpty ? nil : queue
        return true
    }

    private mutating func takeTurn() -> Ticket? {
        guard running < limits.running, !turns.isEmpty else { return nil }
        let source = turns.removeFirst()
        guard var queue = queues[source], !queue.waiting.isEmpty else { return nil }
        let ticket = queue.waiting.removeFirst()
        waiting -= 1
        running += 1
        queue.running += 1
        if !queue.waiting.isEmpty, queue.running < limits.runningOfSource { turns.append(source) }
        queues[source] = queue
        return ticket
    }
}
