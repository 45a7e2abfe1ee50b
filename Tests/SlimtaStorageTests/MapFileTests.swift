// Large lists in GDBM files: what is in them is found, and what is not as it was made is refused.

import CGDBM
import Foundation
import Testing

@testable import SlimtaStorage

@Suite struct MapFileTests {
    let directory = ScratchDirectory()
    var path: String { "\(directory.path)/list.gdbm" }

    init() throws {
        try FileManager.default.createDirectory(atPath: directory.path, withIntermediateDirectories: true)
    }

    private func make(_ entries: [String], note: String = "note") throws {
        try? FileManager.default.removeItem(atPath: path)
        let builder = try MapFileBuilder(path)
        for entry in entries { #expect(try builder.add(Array(entry.utf8))) }
        try builder.seal(note: Array(note.utf8))
    }

    private func message(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "nothing was thrown"
        } catch {
            return "\(error)"
        }
    }

    @Test(arguments: [0, 1, 1000, 50_000]) func findsWhatIsInIt(_ count: Int) throws {
        try make((0..<count).map { "user\($0)@example.org" })
        let map = try MapFile(path)
        #expect(map.count == count && map.note == Array("note".utf8))
        for number in stride(from: 0, to: count, by: max(1, count / 500)) {
            #expect(try map.contains(Array("user\(number)@example.org".utf8)))
        }
        for other in ["", "user@example.org", "user\(count)@example.org", "USER0@example.org", "slimtad map"] {
            #expect(try !map.contains(Array(other.utf8)))
        }
    }

    @Test func anEntryTwice() throws {
        let builder = try MapFileBuilder(path)
        #expect(try builder.add([1, 2]) == true)
        #expect(try builder.add([1, 2]) == false)
        #expect(builder.count == 1)
        for entry in [[], [0, 1], [UInt8](repeating: 7, count: MapFileBuilder.longestEntry + 1)] {
            #expect(throws: MapFileError.self) { try builder.add(entry) }
        }
        #expect(message { _ = try MapFileBuilder(path) }.hasPrefix("cannot create \(path): "))
    }

    /// One that was not finished is none.
    @Test func unsealed() throws {
        do {
            let builder = try MapFileBuilder(path)
            _ = try builder.add([1])
        }
        #expect(message { _ = try MapFile(path) }.contains("was not made by slimtad map"))
    }

    @Test func foreign() throws {
        #expect(message { _ = try MapFile(path) }.hasPrefix("cannot read \(path): "))
        #expect(message { _ = try MapFile(directory.path) } == "\(directory.path) is not a regular file")
        try Data("a@example.org\n".utf8).write(to: URL(filePath: path))
        #expect(message { _ = try MapFile(path) }.hasSuffix("make it again, with slimtad map"))
        // Of another program that has GDBM, such as postmap of Postfix.
        var result = slimta_gdbm_result()
        let other = "\(directory.path)/other.gdbm"
        let descriptor = open(other, O_RDWR | O_CREAT, 0o600)
        let handle = try #require(slimta_gdbm_create(descriptor, other, 4096, &result))
        _ = slimta_gdbm_insert(handle, "a", 1, "b", 1)
        _ = slimta_gdbm_close(handle)
        #expect(
            message { _ = try MapFile(other) }
                == "\(other) was not made by slimtad map, or is damaged: make it again, with slimtad map")
    }

    /// Any octet that is another one, and any end that is too early or too late.
    @Test func damaged() throws {
        try make((0..<3000).map { "user\($0)@example.org" })
        let whole = try Data(contentsOf: URL(filePath: path))
        #expect(MapFile.isGDBM(whole.prefix(4)))
        var places = Array(stride(from: 0, to: whole.count, by: whole.count / 97))
        // Within the label too.
        let label = try #require(whole.range(of: Data(MapLabel.magic)))
        places += Array(label.lowerBound..<label.upperBound + 25)
        for place in places {
            var broken = whole
            broken[place] ^= 0x10
            try broken.write(to: URL(filePath: path))
            let said = message { _ = try MapFile(path) }
            #expect(said.hasPrefix(path) && said.contains("slimtad map"), "\(place): \(said)")
        }
        for size in [0, 3, 100, 4096, whole.count - 4096, whole.count - 1] {
            try whole.prefix(size).write(to: URL(filePath: path))
            let said = message { _ = try MapFile(path) }
            #expect(said.hasPrefix(path) && said.contains("slimtad map"), "\(size): \(said)")
        }
        try (whole + Data(count: 4096)).write(to: URL(filePath: path))
        #expect(message { _ = try MapFile(path) }.contains("slimtad map"))
        try whole.write(to: URL(filePath: path))
        #expect(try MapFile(path).count == 3000)
    }

    /// Replaced by renaming: who has it open keeps the old. Written over in place: told, until somebody opens it anew.
    @Test func replacedWhileOpen() throws {
        try make(["a@example.org"])
        let old = try MapFile(path)
        try make(["b@example.org"])
        let new = try MapFile(path)
        let (a, b) = (Array("a@example.org".utf8), Array("b@example.org".utf8))
        #expect(try old.contains(a) && !old.contains(b))
        #expect(try new.contains(b) && !new.contains(a))
        let handle = try FileHandle(forWritingTo: URL(filePath: path))
        try handle.truncate(atOffset: 100)
        try handle.close()
        #expect(message { _ = try new.contains(b) }.contains("was written over while it was in use"))
        #expect(try old.contains(a))
        try make(["b@example.org"])
        #expect(try MapFile(path).contains(b))
    }

    /// From many threads at once.
    @Test func sharedByThreads() async throws {
        try make((0..<2000).map { "user\($0)@example.org" })
        let map = try MapFile(path)
        let found = try await withThrowingTaskGroup(of: Int.self) { group in
            for part in 0..<8 {
                group.addTask {
                    try (0..<1000).count { try map.contains(Array("user\(part * 500 + $0)@example.org".utf8)) }
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(found == 1000 + 1000 + 1000 + 500)
    }

    @Test func magicWords() {
        for octets: [UInt8] in [
            [0xCF, 0x9A, 0x57, 0x13], [0x13, 0x57, 0x9A, 0xCD], [0xD1, 0x9A, 0x57, 0x13, 1], [0x13, 0x57, 0x9A, 0xCE],
        ] { #expect(MapFile.isGDBM(octets)) }
        for text in ["", "abc", "a@example.org\n", "\u{3DA}W\u{12}"] { #expect(!MapFile.isGDBM(Array(text.utf8))) }
    }
}
