// The programs that tests run. Not by Foundation's Process: while a thousand tests have as many files open, its search for the
// highest of them reads past the end of a buffer now and then, and that ends all tests.

package import Foundation
import Glibc
import Synchronization

/// A program that was started; it is waited for with ``waitUntilExit()``.
package final class ChildProcess: Sendable {
    /// What one of its three streams is.
    package enum Stream {
        /// /dev/null.
        case null
        /// Ours.
        case inherited
        /// Its end of the pipe; we keep the other one.
        case pipe(Pipe)
        case file(FileHandle)
    }

    package struct Failure: Error {
        package let program: String
        package let number: Int32
    }

    package let processIdentifier: Int32
    /// As waitpid tells it; nil: it has not been waited for.
    private let status = Mutex<Int32?>(nil)

    /// Starts `program`, a path, with no files but these and no signals blocked. Without an environment it is ours.
    package init(
        _ program: String, _ arguments: [String], environment: [String: String]? = nil, in folder: String? = nil,
        input: Stream = .null, output: Stream = .null, errors: Stream = .null
    ) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (number, stream) in [(Int32(0), input), (1, output), (2, errors)] {
            switch stream {
            case .null: posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0)
            case .inherited: posix_spawn_file_actions_adddup2(&actions, number, number)
            case .pipe(let pipe):
                let end = number == 0 ? pipe.fileHandleForReading : pipe.fileHandleForWriting
                posix_spawn_file_actions_adddup2(&actions, end.fileDescriptor, number)
            case .file(let file): posix_spawn_file_actions_adddup2(&actions, file.fileDescriptor, number)
            }
        }
        _ = Self.closeFrom(&actions, 3)
        if let folder { _ = Self.changeDirectory(&actions, folder) }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var (none, all) = (sigset_t(), sigset_t())
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))

        let environment = (environment ?? ProcessInfo.processInfo.environment).map { "\($0)=\($1)" }
        var words = ([program] + arguments).map { strdup($0) } + [nil]
        var variables = environment.map { strdup($0) } + [nil]
        defer { for text in words + variables { free(text) } }
        var pid: pid_t = 0
        let number = posix_spawn(&pid, program, &actions, &attributes, &words, &variables)
        // Its ends are its own now: the other one is told when it closes them.
        var theirs: Set<ObjectIdentifier> = []
        for (isInput, stream) in [(true, input), (false, output), (false, errors)] {
            guard case .pipe(let pipe) = stream, theirs.insert(ObjectIdentifier(pipe)).inserted else { continue }
            try? (isInput ? pipe.fileHandleForReading : pipe.fileHandleForWriting).close()
        }
        guard number == 0 else { throw Failure(program: program, number: number) }
        processIdentifier = pid
    }

    // What glibc has and Swift's Glibc does not show, as its headers have it only for C of GNU.
    private typealias Actions = UnsafeMutablePointer<posix_spawn_file_actions_t>
    private static let closeFrom = function(
        "closefrom", as: (@convention(c) (Actions, Int32) -> Int32).self)
    private static let changeDirectory = function(
        "chdir", as: (@convention(c) (Actions, UnsafePointer<CChar>) -> Int32).self)

    private static func function<Function>(_ name: String, as type: Function.Type) -> Function {
        guard let symbol = dlsym(nil, "posix_spawn_file_actions_add\(name)_np") else {
            preconditionFailure("glibc has it since 2.34")
        }
        return unsafeBitCast(symbol, to: type)
    }

    /// Whether it has not ended.
    package var isRunning: Bool { status.withLock { reap(&$0) == nil } }

    /// Returns when it has ended: its exit status, 128 and the signal's number if a signal ended it.
    @discardableResult
    package func waitUntilExit() -> Int32 {
        while true {
            if let status = status.withLock({ reap(&$0) }) { return status }
            var information = siginfo_t()
            _ = waitid(P_PID, id_t(processIdentifier), &information, WEXITED | WNOWAIT)
        }
    }

    private func reap(_ status: inout Int32?) -> Int32? {
        var found: Int32 = 0
        if status == nil, waitpid(processIdentifier, &found, WNOHANG) == processIdentifier { status = found }
        return status.map { $0 & 0x7F == 0 ? $0 >> 8 & 0xFF : 128 + $0 & 0x7F }
    }
}
