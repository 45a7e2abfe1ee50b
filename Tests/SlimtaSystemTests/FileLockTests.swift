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
                    try SecureFile.replace(path, with: Array("\(old + 1)".utf8))
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

    @Test(arguments: [false, true]) func whoDoesNotWaitIsRefused(isThere: Bool) throws {
        try withFolder { path in
            if isThere { try SecureFile.replace(path, with: [1]) }
            var lock = try FileLock.ifFree(path)
            #expect(lock != nil)
            #expect(try FileLock.ifFree(path) == nil)
            withExtendedLifetime(lock) {}
            lock = nil
            #expect(try FileLock.ifFree(path) != nil)
        }
    }

    /// Somebody without a lock, such as an editor, writes while the new content is on its way.
    @Test func whatWasChangedMeanwhileStays() throws {
        try withFolder { path in
            try SecureFile.replace(path, with: Array("old".utf8))
            let stamp = FileStamp(of: path)
            #expect(throws: SystemError.self) {
                try SecureFile.replace(
                    path, with: Array("new".utf8),
                    if: {
                        try? "editor's".write(toFile: path, atomically: false, encoding: .utf8)
                        return FileStamp(of: path) == stamp
                    })
            }
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "editor's")
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: String(path.dropLast("/users".count))) == ["users"])
            let now = FileStamp(of: path)
            try SecureFile.replace(path, with: Array("new".utf8), if: { FileStamp(of: path) == now })
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "new")
        }
    }

    /// A file that is renamed to where it belongs has the rights of the old one, or those of a model.
    @Test func rightsOfARenamedFile() throws {
        try withFolder { path in
            let (model, new) = (path + ".txt", path + ".new")
            func make(_ path: String, _ text: String, _ mode: mode_t) throws {
                try text.write(toFile: path, atomically: false, encoding: .utf8)
                #expect(chmod(path, mode) == 0)
            }
            func mode(_ path: String) -> mode_t {
                var status = stat()
                return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
            }
            try make(model, "model", 0o640)
            try make(new, "first", 0o600)
            try SecureFile.replace(path, byRenaming: new, model: model)
            #expect(mode(path) == 0o640)
            #expect(chmod(path, 0o604) == 0)
            try make(new, "second", 0o600)
            try SecureFile.replace(path, byRenaming: new, model: model)
            #expect(mode(path) == 0o604)
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "second")
            #expect(throws: SystemError.self) { try SecureFile.replace(path, byRenaming: new, model: model) }
            try make(new, "third", 0o600)
            #expect(throws: SystemError.self) {
                try SecureFile.replace(path + ".other", byRenaming: new, model: path + ".none")
            }
            #expect(mode(new) == 0)
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
