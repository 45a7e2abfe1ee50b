// One at a time changes a file that is replaced by renaming, whether it is there or not.

import Foundation
import Synchronization
import Testing

@testable import SlimtaSystem

@Suite struct FileLockTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "lock-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder + "/users")
    }

    /// Threads count up the number in the file: none is lost, also while there is no file yet.
    @Test(arguments: [false, true]) func noChangeIsLost(isThere: Bool) throws {
        try withFolder { path in
            if isThere { try SecureFile.replace(path, with: Array("0".utf8)) }
            let failures = Atomic(0)
            DispatchQueue.concurrentPerform(iterations: 40) { _ in
                do {
                    let lock = try FileLock(path)
                    defer { withExtendedLifetime(lock) {} }
                    let old = (try? String(contentsOfFile: path, encoding: .utf8)).flatMap { Int($0) } ?? 0
                    // Not SecureFile.replace: its temporary name is the process's, and these are threads.
                    let new = "\(path).\(old + 1)"
                    try "\(old + 1)".write(toFile: new, atomically: false, encoding: .utf8)
                    guard rename(new, path) == 0 else { throw SystemError("rename", number: errno) }
                } catch {
                    failures.add(1, ordering: .relaxed)
                }
            }
            #expect(failures.load(ordering: .relaxed) == 0)
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "40")
        }
    }

    @Test func whoHasToWaitIsTold() throws {
        try withFolder { path in
            var lock: FileLock? = try FileLock(path)
            let isTold = DispatchSemaphore(value: 0)
            let isDone = DispatchSemaphore(value: 0)
            Thread.detachNewThread {
                _ = try? FileLock(path) { isTold.signal() }
                isDone.signal()
            }
            isTold.wait()
            withExtendedLifetime(lock) {}
            lock = nil
            isDone.wait()
        }
    }

    @Test func stampsTellAChangedFile() throws {
        try withFolder { path in
            #expect(FileStamp(of: path) == nil)
            try SecureFile.replace(path, with: Array("a".utf8))
            let first = try #require(FileStamp(of: path))
            #expect(FileStamp(of: path) == first)
            try SecureFile.replace(path, with: Array("b".utf8))
            let second = try #require(FileStamp(of: path))
            #expect(second != first)
            chmod(path, 0o640)
            #expect(FileStamp(of: path) != second)
        }
    }
}
