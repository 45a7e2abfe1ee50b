// One connection of the helper of pipes: its request, then its command. HelperLoop polls for it; PipeRun has the rules.

internal import CLinux
internal import Glibc
internal import SlimtaHelper

/// A request that comes, then a command that runs, if that is permitted.
final class PipeConnection: HelperConnection {
    private let judge: (PipeRequest.Pipe) -> PipeVerdict
    private let socket: Int32
    private var request: [UInt8] = []
    /// The message, to be standard input.
    private var file: Int32 = -1
    /// When the request has to be whole.
    private let deadline: Int64
    private var process: (pid: Int32, watch: Int32, output: Int32, run: PipeRun)?
    /// The connection has ended, or means nothing any more.
    private var isSilent = false
    /// Nothing is left of it.
    private(set) var isOver = false

    /// Milliseconds that a request may take: it is there when the connection is.
    private static let requestTime: Int64 = 10_000

    /// - Parameters:
    ///   - socket: is closed with this.
    ///   - judge: what becomes of a request.
    init(_ socket: Int32, _ now: Int64, judge: @escaping (PipeRequest.Pipe) -> PipeVerdict) {
        self.judge = judge
        self.socket = socket
        deadline = now + Self.requestTime
    }

    deinit {
        close(socket)
        if file >= 0 { close(file) }
    }

    // MARK: Polling

    /// The connection, the end of the process, its output.
    var polled: [pollfd] {
        func entry(_ descriptor: Int32) -> pollfd { pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0) }
        // A negative descriptor is not looked at.
        var entries = [entry(isSilent ? -1 : socket)]
        if let process { entries += [entry(process.output), entry(process.watch)] }
        return entries
    }

    /// When time is over for what it does.
    var nextDue: Int64? { process.map { $0.run.nextDue } ?? deadline }

    /// Looks at what ``polled`` has come to.
    func serve(_ entries: [pollfd], _ now: Int64) {
        if process == nil {
            if entries[0].revents != 0 { receive(now) }
            if process == nil, now >= deadline { isOver = true }
            return
        }
        // Output before the exit: what was written is there by then.
        if entries[1].revents != 0 { readOutput() }
        if entries[2].revents != 0 { noteExit(now) }
        if entries[0].revents != 0, !isOver { abandon(now) }
        happened { $0.timePassed(now) }
    }

    /// Nobody waits for it any more: ends its process.
    func abandon(_ now: Int64) {
        isSilent = true
        if process == nil { isOver = true } else { happened { $0.abandoned(now) } }
    }

    // MARK: The request

    /// Whether the other side has gone. Who waits for nothing more may ask again, and the command would run twice; one that
    /// goes when the command runs ends it, see ``abandon(_:)``.
    private var isAbandoned: Bool {
        var entry = pollfd(fd: socket, events: 0, revents: 0)
        return poll(&entry, 1, 0) > 0 && entry.revents & Int16(POLLHUP | POLLERR) != 0
    }

    private func receive(_ now: Int64) {
        var octets = [UInt8](repeating: 0, count: 16 * 1024)
        let got = linux_receive_file(socket, &octets, octets.count, &file)
        if got == -Int(EAGAIN) { return }
        guard got > 0 else { return isOver = true }
        request += octets.prefix(got)
        switch PipeRequest.read(request) {
        case .more: return
        case .malformed: return isOver = true
        case .request(let request):
            guard file >= 0, !isAbandoned else { return isOver = true }
            switch judge(request.pipe) {
            case .refuse(let reason): answer(PipeAnswer(.notStarted(reason)))
            case .run(let account, let changing): start(request, account, changing, now)
            }
        }
    }

    private func start(_ request: PipeRequest, _ account: PipeAccount, _ changing: Bool, _ now: Int64) {
        var (output, writer): (Int32, Int32) = (-1, -1)
        let error = linux_output_pipe(&output, &writer)
        guard error == 0 else { return answer(.failed("cannot make a pipe for its output", error)) }
        let started = PipeStart(request, account, changing).run(input: file, output: writer)
        close(writer)
        close(file)
        file = -1
        switch started {
        case .failure(let failure):
            close(output)
            answer(failure.answer)
        case .success(let pid):
            let watch = linux_watch_process(pid)
            guard watch >= 0 else {
                kill(-pid, SIGKILL)
                var status: Int32 = 0
                _ = linux_reap(pid, &status)
                close(output)
                return answer(.failed("cannot watch its process", -watch))
            }
            process = (pid, watch, output, PipeRun(timeout: request.pipe.timeout, now))
        }
    }

    private func answer(_ answer: PipeAnswer) {
        let octets = answer.octets
        // It is far below what the socket holds. Who has gone needs none.
        send(socket, octets, octets.count, CInt(MSG_NOSIGNAL) | CInt(MSG_DONTWAIT))
        isOver = true
    }

    // MARK: The command

    private func readOutput() {
        guard let output = process?.output, output >= 0 else { return }
        var octets = [UInt8](repeating: 0, count: 64 * 1024)
        // A flood must not keep the others waiting.
        for _ in 0..<16 {
            let got = read(output, &octets, octets.count)
            if got > 0 {
                process?.run.wrote(octets.prefix(got))
            } else if got < 0, errno == EAGAIN || errno == EINTR {
                return
            } else {
                close(output)
                process?.output = -1
                return happened { $0.outputEnded() }
            }
        }
    }

    /// It is a zombie until it is over, so that its number stays its own.
    private func noteExit(_ now: Int64) {
        guard let process, process.watch >= 0 else { return }
        var information = siginfo_t()
        guard waitid(P_PID, id_t(process.pid), &information, WEXITED | WNOWAIT | WNOHANG) == 0 else { return }
        close(process.watch)
        self.process?.watch = -1
        let status = information._sifields._sigchld.si_status
        let exit: PipeRun.Exit = information.si_code == CLD_EXITED ? .status(status) : .signal(status)
        readOutput()
        happened { $0.exited(exit, now) }
    }

    private func happened(_ event: (inout PipeRun) -> [PipeRun.Action]) {
        guard process != nil else { return }
        for action in event(&process!.run) {
            guard let process else { return }
            switch action {
            case .terminate: kill(-process.pid, SIGTERM)
            case .kill: kill(-process.pid, SIGKILL)
            case .finish(let end):
                var status: Int32 = 0
                _ = linux_reap(process.pid, &status)
                if process.watch >= 0 { close(process.watch) }
                if process.output >= 0 { close(process.output) }
                self.process = nil
                answer(end)
            }
        }
    }
}

extension PipeAnswer {
    /// What the system has refused.
    static func failed(_ what: String, _ number: Int32) -> PipeAnswer {
        PipeAnswer(.notStarted("\(what): \(String(cString: strerror(number)))"))
    }
}
