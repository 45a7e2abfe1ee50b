// Signals become values. A test process has threads that block nothing, so signals are sent to single threads here.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite struct SignalsTests {
    @Test func areReadNotHandled() async {
        await #expect(processExitsWith: .success) {
            try Signals.block()
            let reader = try SignalReader()
            for signal in Signal.allCases {
                pthread_kill(pthread_self(), signal.number)
                #expect(reader.next() == signal)
            }
        }
    }

    @Test func streamTellsThem() async {
        await #expect(processExitsWith: .success) {
            try Signals.block()
            let before = threads()
            var iterator = try Signals.stream().makeAsyncIterator()
            let reader = try #require(threads().subtracting(before).first)
            for signal in [Signal.reload, .user1, .interrupt, .terminate] {
                #expect(sendToThread(getpid(), reader, signal.number) == 0)
                #expect(await iterator.next() == signal)
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
            let file = open("/tmp", temporaryFileForWriting, 0o600)
            #expect(write(file, "xx", 2) == 1)
            #expect(write(file, "x", 1) == -1)
            #expect(errno == EFBIG)
        }
    }
}

private let temporaryFileForWriting: Int32 = O_WRONLY | O_DIRECTORY | 0o20_000_000

/// tgkill(2), which Swift's Glibc does not show.
private let sendToThread = unsafeBitCast(
    dlsym(nil, "tgkill"), to: (@convention(c) (pid_t, pid_t, Int32) -> Int32).self)

private func threads() -> Set<pid_t> {
    var threads: Set<pid_t> = []
    guard let directory = opendir("/proc/self/task") else { return [] }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if let number = pid_t(name) { threads.insert(number) }
    }
    return threads
}
