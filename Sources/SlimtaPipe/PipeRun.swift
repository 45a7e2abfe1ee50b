// One command from its start to its answer: when it is told to end, when it is killed, how long its output is waited for. A
// value; PipeConnection carries octets, signals and times.

/// The rules for a command that runs.
///
///     running ──exit──▶ draining ──end of its output, or 1 s──▶ answered
///        │ time is up, or nobody waits any more
///        ▼
///     stopping (SIGTERM) ──5 s──▶ killed (SIGKILL) ──exit──▶ answered
///
/// - Signals go to its process group. Of one that took too long nothing is left; of one that ended by itself what it has
///   left behind is its own business, but nobody waits for that to close the output.
/// - Output is read to its end, however much there is, or the command would hang.
struct PipeRun: Sendable {
    /// What is to be done.
    enum Action: Hashable, Sendable {
        /// SIGTERM to its group.
        case terminate
        /// SIGKILL to its group.
        case kill
        /// It is over: the answer goes out, nothing more of it is read. Its group is to be killed before this where a kill
        /// is asked for; only then may its process id be given back.
        case finish(PipeAnswer)
    }

    /// How a process has ended.
    enum Exit: Hashable, Sendable {
        case status(Int32)
        case signal(Int32)
    }

    private enum Phase: Hashable, Sendable {
        case running(until: Int64)
        /// As what the answer tells it; it is killed at `killAt`.
        case stopping(killAt: Int64)
        case killed
        case over
    }

    /// Milliseconds between SIGTERM and SIGKILL.
    static let patience: Int64 = 5000
    /// Milliseconds that output is waited for behind the exit.
    static let drainTime: Int64 = 1000

    private var phase: Phase
    private var output: [UInt8] = []
    private var isOutputOver = false
    private var exit: (how: Exit, time: Int64)?

    /// It has started now and may run for `timeout`; times are milliseconds of any clock that only goes forward.
    init(timeout: Int64, _ now: Int64) { phase = .running(until: now + timeout) }

    /// When ``timePassed(_:)`` is due; nil: never.
    var nextDue: Int64? {
        switch phase {
        case .running(let until): exit.map { $0.time + Self.drainTime } ?? until
        case .stopping(let killAt): killAt
        case .killed, .over: nil
        }
    }

    /// It has written something.
    mutating func wrote(_ octets: some Sequence<UInt8>) {
        let room = PipeAnswer.outputLimit - output.count
        if room > 0 { output.append(contentsOf: octets.prefix(room)) }
    }

    /// Nobody can write any more.
    mutating func outputEnded() -> [Action] {
        isOutputOver = true
        return finishIfOver()
    }

    /// The process has ended.
    mutating func exited(_ how: Exit, _ now: Int64) -> [Action] {
        exit = (how, now)
        switch phase {
        case .running: return finishIfOver()
        case .stopping, .killed:
            // What has not ended by SIGTERM as it did ends now.
            phase = .over
            return [.kill, .finish(PipeAnswer(.timedOut, output: output))]
        case .over: return []
        }
    }

    /// Nobody waits for the answer any more: the daemon has stopped, or given up.
    mutating func abandoned(_ now: Int64) -> [Action] {
        guard case .running = phase else { return [] }
        return stop(now)
    }

    /// Time is over for something.
    mutating func timePassed(_ now: Int64) -> [Action] {
        guard let due = nextDue, due <= now else { return [] }
        switch phase {
        case .running:
            isOutputOver = exit != nil
            return exit == nil ? stop(now) : finishIfOver()
        case .stopping:
            phase = .killed
            return [.kill]
        case .killed, .over: return []
        }
    }

    private mutating func stop(_ now: Int64) -> [Action] {
        if exit != nil {
            isOutputOver = true
            return finishIfOver()
        }
        phase = .stopping(killAt: now + Self.patience)
        return [.terminate]
    }

    private mutating func finishIfOver() -> [Action] {
        guard case .running = phase, let exit, isOutputOver else { return [] }
        phase = .over
        switch exit.how {
        case .status(let status): return [.finish(PipeAnswer(.exited(status), output: output))]
        case .signal(let signal): return [.finish(PipeAnswer(.signalled(signal), output: output))]
        }
    }
}
