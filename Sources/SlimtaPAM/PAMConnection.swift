// One connection of the helper of PAM: its question, the process that asks, its answer. HelperLoop polls for it; PAMPace says
// when an answer leaves.

internal import CLinux
internal import CPAM
package import Glibc
internal import SlimtaHelper

/// A question that comes, then a process that asks PAM, killed when it takes too long.
///
///     reading ──question──▶ asking ──answer, end or time──▶ holding ──it may leave──▶ answered
///
/// What hangs in the kernel is not gone when it is killed: until it is, it is one of ``PAMWorkers/limit``, and nobody
/// waits for it.
package final class PAMConnection: HelperConnection {
    private enum Phase {
        case reading(until: Int64)
        case asking(since: Int64, until: Int64)
        case holding(PAMAnswer, until: Int64)
        case answered
    }

    private let workers: PAMWorkers
    private let socket: Int32
    private var phase: Phase
    private var octets: [UInt8] = []
    /// The process, a descriptor that is readable when it has ended, and the pipe of its answer (-1: it is closed).
    private var process: (pid: Int32, watch: Int32, answer: Int32)?

    /// Milliseconds that a question may take: it is there when the connection is.
    private static let questionTime: Int64 = 10_000

    /// - Parameter socket: is closed with this.
    package init(_ socket: Int32, _ now: Int64, _ workers: PAMWorkers) {
        (self.socket, self.workers) = (socket, workers)
        phase = .reading(until: now + Self.questionTime)
        // Never again, so that there is no copy of a password that nobody overwrites.
        octets.reserveCapacity(2 * PAMQuestion.limit)
    }

    deinit {
        octets.wipe()
        close(socket)
    }

    // MARK: Polling

    /// The connection, the process's answer, its end.
    package var polled: [pollfd] {
        func entry(_ descriptor: Int32, _ events: Int32 = POLLIN) -> pollfd {
            pollfd(fd: descriptor, events: Int16(events), revents: 0)
        }
        // Whoever asks may have said that it says no more: only its going away is of interest.
        let client =
            switch phase {
            case .reading: entry(socket)
            case .asking, .holding: entry(socket, 0)
            case .answered: entry(-1)
            }
        return [client, entry(process?.answer ?? -1), entry(process?.watch ?? -1)]
    }

    /// When time is over for what it does.
    package var nextDue: Int64? {
        switch phase {
        case .reading(let until), .asking(_, let until), .holding(_, let until): until
        case .answered: nil
        }
    }

    /// It is answered, and its process is gone.
    package var isOver: Bool { if case .answered = phase { process == nil } else { false } }

    /// Looks at what ``polled`` has come to.
    package func serve(_ entries: [pollfd], _ now: Int64) {
        // What it has said before its end.
        if entries[1].revents != 0 { readAnswer(now) }
        if entries[2].revents != 0 { noteEnd(now) }
        switch phase {
        case .reading(let until):
            if entries[0].revents != 0 { receive(now) } else if now >= until { phase = .answered }
        case .asking(_, let until):
            if entries[0].revents != 0 { return abandon(now) }
            guard now >= until else { return }
            kill()
            answered(.late("PAM has not answered in time, and was ended"), now)
        case .holding(let answer, let until):
            if entries[0].revents != 0 { phase = .answered } else if now >= until { send(answer) }
        case .answered: break
        }
    }

    /// Nobody waits for it any more: ends its process.
    package func abandon(_ now: Int64) {
        kill()
        phase = .answered
    }

    // MARK: The question

    private func receive(_ now: Int64) {
        var some = [UInt8](repeating: 0, count: PAMQuestion.limit)
        defer { some.wipe() }
        let got = read(socket, &some, some.count)
        if got < 0, errno == EAGAIN || errno == EINTR { return }
        guard got > 0 else { return phase = .answered }
        octets += some.prefix(got)
        switch PAMQuestion.read(octets) {
        case .more where octets.count < PAMQuestion.limit: return
        case .more, .malformed: phase = .answered
        case .question(var question):
            defer { question.password.wipe() }
            octets.wipe()
            start(question, now)
        }
    }

    private func start(_ question: PAMQuestion, _ now: Int64) {
        guard workers.running < PAMWorkers.limit else {
            return send(.unavailable("\(PAMWorkers.limit) questions to PAM wait for their answers"))
        }
        let service: PAMService
        switch workers.service() {
        case .success(let found): service = found
        case .failure(let failure): return send(.unavailable(failure.reason))
        }
        if let problem = PAMWorkers.problem { return send(.unavailable("there is no PAM here: \(problem)")) }
        var (pid, answer): (Int32, Int32) = (0, -1)
        let error = question.ask(service, &pid, &answer)
        guard error == 0 else {
            return send(.unavailable("no process to ask PAM: \(String(cString: strerror(error)))"))
        }
        let watch = linux_watch_process(pid)
        process = (pid, watch, answer)
        workers.running += 1
        phase = .asking(since: now, until: now + service.timeout)
        guard watch < 0 else { return }
        // Nobody would hear of its end.
        kill()
        var status: Int32 = 0
        _ = linux_reap(pid, &status)
        forgetProcess()
        send(.unavailable("no process to ask PAM: \(String(cString: strerror(-watch)))"))
    }

    // MARK: The process

    private func readAnswer(_ now: Int64) {
        guard let descriptor = process?.answer else { return }
        var answer = cpam_answer()
        let size = MemoryLayout<cpam_answer>.size
        let got = withUnsafeMutableBytes(of: &answer) { read(descriptor, $0.baseAddress, size) }
        if got < 0, errno == EAGAIN || errno == EINTR { return }
        close(descriptor)
        process?.answer = -1
        // Without an answer its end says why.
        guard got == size else { return }
        kill()
        answered(.said(PAMResult(answer)), now)
    }

    private func noteEnd(_ now: Int64) {
        guard let process else { return }
        var status: Int32 = 0
        guard waitpid(process.pid, &status, WNOHANG) == process.pid else { return }
        forgetProcess()
        let signal = status & 0x7F
        answered(
            .unavailable(
                signal == 0
                    ? "the process that asked PAM has ended with status \(status >> 8 & 0xFF)"
                    : "the process that asked PAM was ended by signal \(signal)"), now)
    }

    private func forgetProcess() {
        guard let process else { return }
        if process.watch >= 0 { close(process.watch) }
        if process.answer >= 0 { close(process.answer) }
        self.process = nil
        workers.running -= 1
    }

    /// It, and what its modules have started. It is a zombie until its end was noted, so that its number stays its own.
    private func kill() {
        guard let process else { return }
        Glibc.kill(-process.pid, SIGKILL)
        Glibc.kill(process.pid, SIGKILL)
    }

    // MARK: The answer

    /// Does nothing behind an answer.
    private func answered(_ answer: PAMAnswer, _ now: Int64) {
        guard case .asking(let since, _) = phase else { return }
        guard case .said(let result) = answer else { return send(answer) }
        phase = .holding(
            answer, until: workers.pace.due(from: since, now, isRight: result.phase == .account))
    }

    private func send(_ answer: PAMAnswer) {
        let octets = answer.octets
        // It is far below what the socket holds. Who has gone needs none.
        Glibc.send(socket, octets, octets.count, CInt(MSG_NOSIGNAL) | CInt(MSG_DONTWAIT))
        // Its end is the answer's end; the process may still be there.
        shutdown(socket, CInt(SHUT_RDWR))
        phase = .answered
    }
}

extension PAMQuestion {
    /// Has a process ask it; 0, or an errno value.
    fileprivate func ask(_ service: PAMService, _ pid: inout Int32, _ answer: inout Int32) -> Int32 {
        let texts = [service.folder, service.name, login, host].map { $0.map { strdup($0) } ?? nil }
        defer { for text in texts { free(text) } }
        var password = password + [0]
        defer { password.wipe() }
        return password.withUnsafeBytes { password in
            var question = cpam_question(
                folder: texts[0], service: texts[1], login: texts[2],
                password: password.assumingMemoryBound(to: CChar.self).baseAddress, host: texts[3])
            return cpam_ask(&question, &pid, &answer)
        }
    }
}

extension [UInt8] {
    /// Overwrites and forgets.
    mutating func wipe() {
        withUnsafeMutableBytes { octets in
            if let start = octets.baseAddress { explicit_bzero(start, octets.count) }
        }
        removeAll(keepingCapacity: true)
    }
}
