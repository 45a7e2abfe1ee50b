// A large list of rules in a GDBM file: what `slimtad map` writes into it, and how rules look things up. What an entry is, and
// by which key it is found, SlimtaRules says; the file itself is SlimtaStorage's.

import Logging
import SlimtaMail
import SlimtaRules
import SlimtaStorage
import Synchronization

/// What `slimtad map` notes in a file beside the entries: two lines.
struct ListNote: Equatable {
    /// How many entries there are: a network has two keys.
    var entries = 0
    /// The lengths of prefixes that occur: an address is looked up once for each.
    var lengths: Set<Int> = []
    /// The first line of the text that is neither an address nor a network, and what is there; nil: there is none.
    var firstText: (line: Int, entry: String)?

    /// No entries.
    init() {}

    /// As a file has it; nil: another version has written it.
    init?(_ octets: [UInt8]) {
        let lines = String(decoding: octets, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count >= 2 else { return nil }
        let numbers = lines[0].split(separator: " ").compactMap { Int($0) }
        guard let count = numbers.first, numbers.count == lines[0].split(separator: " ").count else { return nil }
        entries = count
        lengths = Set(numbers.dropFirst())
        if lines[1].isEmpty { return }
        let words = lines[1].split(separator: " ", maxSplits: 1)
        guard words.count == 2, let line = Int(words[0]) else { return nil }
        firstText = (line, String(words[1]))
    }

    var octets: [UInt8] {
        let numbers = [entries] + lengths.sorted()
        let text = firstText.map { "\($0.line) \($0.entry)" } ?? ""
        return Array("\(numbers.map(\.description).joined(separator: " "))\n\(text)\n".utf8)
    }

    static func == (a: ListNote, b: ListNote) -> Bool { a.octets == b.octets }
}

/// A list in a GDBM file.
final class ListFile: TextList {
    /// The key of an entry in the file: networks and texts do not mix, a line can be both.
    static func key(_ key: String, _ kind: TextListKind) -> [UInt8] {
        let mark =
            switch kind {
            case .networks: "n"
            case .texts: "t"
            }
        return Array((mark + key).utf8)
    }

    /// The length of the prefix, which is behind the slash of a network's key.
    static func length(ofNetwork key: String) -> Int? {
        key.utf8.lastIndex(of: UInt8(ascii: "/")).flatMap { Int(key[key.utf8.index(after: $0)...]) }
    }

    private let map: MapFile
    private let kind: TextListKind
    /// Those that occur.
    let prefixLengths: [Int]
    private let isTold = Atomic(false)

    /// How many entries it has.
    let count: Int

    /// Opens the file for entries of a kind. What is wrong with it is said with what to do.
    init(_ path: String, _ kind: TextListKind) throws(MapFileError) {
        map = try MapFile(path)
        self.kind = kind
        guard let note = ListNote(map.note) else {
            throw MapFileError("\(path) is of another version of slimtad: make it again, with slimtad map")
        }
        if kind == .networks, let text = note.firstText {
            throw MapFileError(
                "\(path) is no list of addresses and networks: \"\(text.entry)\" (line \(text.line) of its text) is neither"
            )
        }
        prefixLengths = note.lengths.sorted(by: >)
        count = note.entries
    }

    /// Whether the file has the entry; nil: it cannot be read any more, which is logged once.
    func contains(_ entry: String) -> Bool? {
        do throws(MapFileError) {
            return try map.contains(Self.key(entry, kind))
        } catch {
            if !isTold.exchange(true, ordering: .relaxed) {
                let logger = Logger(label: "slimtad")
                logger.error("list of a rule cannot be read", metadata: ["error": "\(error)"])
            }
            return nil
        }
    }
}
