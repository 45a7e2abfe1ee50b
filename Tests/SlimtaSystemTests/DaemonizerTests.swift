// The double fork: what the daemon is, and what the process that was started says and returns.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite struct DaemonizerTests {
    @Test func readyDaemon() async throws {
        let directory = try TemporaryDirectory()
        let path = directory["state"]
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            let started = getpid()
            umask(0)
            let pipe = try Daemonizer.fork()
            var lines = ["ppid is \(getppid() == started ? "still the first" : "another")"]
            lines.append("session \(getsid(0) == getpid() ? "led" : getsid(0) == getsid(started) ? "kept" : "own")")
            lines.append("terminal \(open("/dev/tty", O_RDWR | O_NOCTTY) < 0 ? "none" : "there")")
            lines.append("umask \(String(umask(0o077), radix: 8))")
            var buffer = [CChar](repeating: 0, count: 4096)
            lines.append("cwd \(getcwd(&buffer, buffer.count).map { String(cString: $0) } ?? "?")")
            for descriptor in 0...2 as ClosedRange<Int32> {
                let count = readlink("/proc/self/fd/\(descriptor)", &buffer, buffer.count - 1)
                lines.append(
                    String(decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self))
                lines.append("close-on-exec \(fcntl(descriptor, F_GETFD) & FD_CLOEXEC)")
            }
            try write(lines.joined(separator: "\n"), to: path)
            pipe.ready()
            pipe.failed(status: .system, message: "too late")
            _exit(5)  // nobody asks any more
        }
        #expect(
            content(path) == """
                ppid is another
                session own
                terminal none
                umask 77
                cwd /
                /dev/null
                close-on-exec 0
                /dev/null
                close-on-exec 0
                /dev/null
                close-on-exec 0
                """)
    }

    @Test func failedDaemon() async throws {
        let result = await #expect(processExitsWith: .exitCode(73), observing: [\.standardErrorContent]) {
            let pipe = try Daemonizer.fork()
            pipe.failed(status: .cannotCreate, message: "cannot listen on [::]:587: address already in use")
            pipe.ready()
            _exit(0)
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.hasSuffix("cannot listen on [::]:587: address already in use\n"))
    }

    @Test func daemonThatDies() async throws {
        let result = await #expect(processExitsWith: .exitCode(69), observing: [\.standardErrorContent]) {
            _ = try Daemonizer.fork()
            kill(getpid(), SIGKILL)
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.hasSuffix("slimtad: the daemon ended before it was ready; its log may say why\n"))
    }

    @Test func standardDescriptorsMayBeClosed() async throws {
        await #expect(processExitsWith: .exitCode(75)) {
            for descriptor in 0...2 as ClosedRange<Int32> { close(descriptor) }
            let pipe = try Daemonizer.fork()
            // Had the pipe been moved into their place, this would not arrive.
            for descriptor in 0...2 as ClosedRange<Int32> where fcntl(descriptor, F_GETFD) != 0 { _exit(1) }
            pipe.failed(status: .temporary, message: "x")
            _exit(0)
        }
    }

    /// The test process has threads: a fork would not copy them.
    @Test func threadsAreRefused() {
        let error = #expect(throws: SystemError.self) { _ = try Daemonizer.daemonize() }
        #expect(error?.message.hasPrefix("cannot become a daemon: there are already") == true)
    }
}
