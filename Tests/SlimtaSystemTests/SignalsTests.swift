// Signals become values, whichever thread of the process gets them.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite struct SignalsTests {
    @Test func streamTellsThem() async {
        await #expect(processExitsWith: .success) {
            try Signals.block()
            // What comes before anybody listens is not lost.
            kill(getpid(), SIGHUP)
            var iterator = try Signals.stream().makeAsyncIterator()
            #expect(await iterator.next() == .reload)
            for signal in [Signal.quit, .interrupt, .terminate, .terminate, .reload] {
                kill(getpid(), signal.number)
                #expect(await iterator.next() == signal)
            }
        }
    }

    /// More of them than anybody reads: none ends the process, none blocks it.
    @Test func floods() async {
        await #expect(processExitsWith: .success) {
            try Signals.block()
            for _ in 0..<100_000 { kill(getpid(), SIGHUP) }
            var iterator = try Signals.stream().makeAsyncIterator()
            #expect(await iterator.next() == .reload)
        }
    }

    /// What others can send has a meaning or is ignored; what a fault of the program raises, and SIGABRT, ends it.
    @Test func othersDoNotEndTheProcess() async {
        await #expect(processExitsWith: .success) {
            try Signals.block()
            let faults: Set = [SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS]
            let harmless: Set = [SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH]
            // 32 and 33 are glibc's own.
            let sent = Set(1...64).subtracting(faults).subtracting(harmless).subtracting([SIGKILL, SIGSTOP, 32, 33])
            for number in sent { kill(getpid(), number) }
            var iterator = try Signals.stream().makeAsyncIterator()
            var told: Set<Signal> = []
            while told.count < Signal.allCases.count, let signal = await iterator.next() { told.insert(signal) }
            #expect(told == Set(Signal.allCases))
        }
    }

    /// What children inherit: nothing blocked.
    @Test func nothingIsBlocked() async {
        await #expect(processExitsWith: .success) {
            let before = ownStatus("SigBlk")
            try Signals.block()
            #expect(ownStatus("SigBlk") == before)
            for signal in Signal.allCases {
                var action = sigaction()
                sigaction(signal.number, nil, &action)
                #expect(action.sa_flags & SA_RESTART != 0)
            }
        }
    }

    @Test func brokenPipesAreErrors() async {
        await #expect(processExitsWith: .success) {
            signal(SIGPIPE, SIG_DFL)
            try Signals.block()
            var ends: [Int32] = [0, 0]
            #expect(pipe(&ends) == 0)
            close(ends[0])
            #expect(write(ends[1], "x", 1) == -1)
            #expect(errno == EPIPE)

            // SIGXFSZ: a file that may not grow
            var limit = rlimit(rlim_cur: 1, rlim_max: 1)
            #expect(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
            let file = open("/tmp", unnamedFile, 0o600)
            #expect(write(file, "xx", 2) == 1)
            #expect(write(file, "x", 1) == -1)
            #expect(errno == EFBIG)
        }
    }
}

/// O_TMPFILE | O_WRONLY, which Swift's Glibc does not show.
private let unnamedFile: Int32 = O_WRONLY | O_DIRECTORY | 0o20_000_000
