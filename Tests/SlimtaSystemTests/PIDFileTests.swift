// The pid file: one holder, and nobody's file but ours.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite struct PIDFileTests {
    @Test func holdsTheProcessID() throws {
        let directory = try TemporaryDirectory()
        let path = directory["pid"]
        try write("123456789\n", to: path)  // of a daemon that was killed
        let file = try PIDFile(path)
        #expect(content(path) == "\(getpid())\n")
        var status = stat()
        stat(path, &status)
        #expect(status.st_mode & 0o777 == 0o644)

        let error = #expect(throws: SystemError.self) { try PIDFile(path) }
        #expect(error?.code == .locked)
        #expect(error?.exitStatus == .temporary)
        #expect(content(path) == "\(getpid())\n")

        file.remove()
        #expect(content(path) == nil)
        let next = try PIDFile(path)
        file.remove()  // does nothing any more
        #expect(content(path) != nil)
        next.remove()
    }

    @Test func isFreeAfterTheEndOfItsHolder() async throws {
        let directory = try TemporaryDirectory()
        let path = directory["pid"]
        await #expect(processExitsWith: .exitCode(7)) { [path = path as String] in
            let file = try PIDFile(path)
            withExtendedLifetime(file) { _exit(7) }
        }
        #expect(content(path) != nil)
        try PIDFile(path).remove()
    }

    @Test func isLockedAgainstOtherProcesses() async throws {
        let directory = try TemporaryDirectory()
        let path = directory["pid"]
        let file = try PIDFile(path)
        await #expect(processExitsWith: .exitCode(75)) { [path = path as String] in
            do throws(SystemError) {
                _ = try PIDFile(path)
            } catch {
                _exit(error.exitStatus.rawValue)
            }
        }
        file.remove()
    }

    @Test func linksAndOthersAreRefused() throws {
        let directory = try TemporaryDirectory()
        let victim = directory["victim"]
        try write("precious", to: victim)
        #expect(symlink(victim, directory["symlink"]) == 0)
        #expect(link(victim, directory["hardlink"]) == 0)
        #expect(mkfifo(directory["fifo"], 0o600) == 0)
        for name in ["symlink", "hardlink", "fifo"] {
            let error = #expect(throws: SystemError.self) { try PIDFile(directory[name]) }
            #expect(error?.code == .invalid, "\(name)")
        }
        #expect(content(victim) == "precious")
    }

    @Test func noDirectory() throws {
        let error = #expect(throws: SystemError.self) { try PIDFile("/nonexistent/pid") }
        #expect(error?.exitStatus == .cannotCreate)
        #expect(error?.description == "cannot create pid file /nonexistent/pid: No such file or directory")
    }
}
