// Lists of rules: what `slimtad map` notes in a file, and that text and GDBM say the same.

import Foundation
import SlimtaMail
import SlimtaRules
import SlimtaStorage
import Testing

@testable import slimtad

@Suite struct ListsTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "lists-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder + "/list")
    }

    @Test func notes() {
        var note = ListNote()
        #expect(ListNote(note.octets) == note)
        note.entries = 12
        note.lengths = [0, 32, 128]
        #expect(ListNote(note.octets) == note)
        note.firstText = (17, "a b@example.org")
        #expect(ListNote(note.octets) == note)
        for wrong in ["", "12", "x\n\n", "1 x\n\n", "\n\n", "1\n17\n", "1\nx y\n"] {
            #expect(ListNote(Array(wrong.utf8)) == nil, "\(wrong)")
        }
    }

    /// A list of texts is none of networks, and says which line is to blame.
    @Test func kinds() throws {
        try withFolder { path in
            let builder = try MapFileBuilder(path)
            var note = ListNote()
            note.firstText = (3, "a@example.org")
            _ = try builder.add(ListFile.key("a@example.org", .texts))
            try builder.seal(note: note.octets)
            let list = try ListFile(path, .texts)
            #expect(list.contains("a@example.org") == true && list.contains("b@example.org") == false)
            do {
                _ = try ListFile(path, .networks)
                Issue.record("a list of networks")
            } catch {
                #expect("\(error)".contains("\"a@example.org\" (line 3 of its text) is neither"))
            }
        }
    }

    /// Only lengths that occur are looked up, and of one that was written over nothing is known any more.
    @Test func networks() throws {
        try withFolder { path in
            let builder = try MapFileBuilder(path)
            var note = ListNote()
            for entry in ["192.0.2.0/24", "2001:db8::/32"] {
                let key = try TextSet.key(of: entry, .networks)
                _ = try builder.add(ListFile.key(key, .networks))
                note.lengths.insert(try #require(ListFile.length(ofNetwork: key)))
            }
            try builder.seal(note: note.octets)
            let list = try ListFile(path, .networks)
            let key = try TextSet.key(of: "192.0.2.0/24", .networks)
            #expect(list.contains(key) == true)
            #expect(list.contains(try TextSet.key(of: "192.0.2.0/25", .networks)) == false)
            #expect(list.prefixLengths == [32, 24])
            try "x".write(toFile: path, atomically: false, encoding: .utf8)
            #expect(list.contains(key) == nil)
        }
    }

    /// A condition whose list cannot be read is not known: its rule does not act, turned round or not.
    @Test func unreadable() throws {
        try withFolder { path in
            let builder = try MapFileBuilder(path)
            _ = try builder.add(ListFile.key("a@example.org", .texts))
            try builder.seal(note: ListNote().octets)
            let reference = ListReference(path, .texts)
            let list = try ListFile(path, .texts)
            var facts = Facts(client: .unix, edge: "x", now: LocalTime(.mon, minute: 0))
            facts.sender = .mailbox(try #require(Mailbox(parsing: "b@example.org")))
            func outcome(_ isTurned: Bool) -> RuleSet.Trace.Outcome? {
                let condition = Condition(.sender(.init([], file: path)), turnedRound: isTurned)
                return RuleSet([Rule("r", at: .mail, [condition], .log)], lists: [reference: list])
                    .explain(.mail, facts).first?.outcome
            }
            #expect(outcome(false) == .fails(condition: "sender") && outcome(true) == .acts)
            try "x".write(toFile: path, atomically: false, encoding: .utf8)
            #expect(outcome(false) == .unknown(condition: "sender"))
            #expect(outcome(true) == .unknown(condition: "not.sender"))
        }
    }

    @Test func mistakesHaveLines() throws {
        try withFolder { path in
            try "a@example.org\n\nb*\n/c/\n".write(toFile: path, atomically: false, encoding: .utf8)
            do throws(Lists.Problem) {
                _ = try Lists.read(ListReference(path, .texts))
                Issue.record("it was read")
            } catch {
                #expect(error.lines.map { $0.prefix(path.utf8.count + 9) } == ["\(path):3: found", "\(path):4: found"])
            }
            try "a@example.org\n@x.org\n".write(toFile: path, atomically: false, encoding: .utf8)
            #expect(try Lists.read(ListReference(path, .texts)).count == 2)
        }
    }
}
