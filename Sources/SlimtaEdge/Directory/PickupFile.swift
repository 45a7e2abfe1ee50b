// Files of a pickup folder as values: their names, what the system says of them, and the names that they have while they are
// submitted. For DirectoryMachine, which decides, and PickupFolder, which does.

internal import SlimtaMail

/// The name of a file: any octets but "/" and NUL, no text that has to be valid.
struct PickupName: Hashable, Comparable, Sendable, CustomStringConvertible {
    let octets: [UInt8]

    init(_ octets: some Sequence<UInt8>) { self.octets = Array(octets) }

    /// Whether a file with this name may be a message: not where writers keep what is not ready yet, or what somebody has put
    /// beside it.
    var mayBeMessage: Bool {
        guard let first = octets.first, first != UInt8(ascii: ".") else { return false }
        let folded = octets.map { $0.asciiLowercased() }
        return !Self.unfinished.contains { folded.suffix($0.utf8CodeUnitCount).elementsEqual($0.octets) }
    }

    /// The folders that slimtad has in a pickup folder: what is being submitted, and what was refused.
    static let ownFolders = [PickupName("taken".utf8), PickupName("failed".utf8)]

    private static let unfinished: [StaticString] = [".tmp", ".part", ".lock", ".bad", ".reason"]

    /// As the system's calls want it.
    var terminated: [CChar] { octets.map { CChar(bitPattern: $0) } + [0] }

    /// For logs: harmless, whatever is in it.
    var description: String { String(decoding: octets, as: UTF8.self).visible }

    /// By their octets.
    static func < (a: PickupName, b: PickupName) -> Bool { a.octets.lexicographicallyPrecedes(b.octets) }
}

extension StaticString {
    fileprivate var octets: UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(start: utf8Start, count: utf8CodeUnitCount)
    }
}

/// What the system says of a file. Times are nanoseconds since the epoch.
struct FileFacts: Hashable, Sendable {
    var size: Int64
    /// Of the content: a copy may keep that of its original.
    var modified: Int64
    /// Of content, owner, names: nobody can set it.
    var changed: Int64
    /// How many names it has.
    var links: Int
    /// Its owner.
    var owner: UInt32

    /// Whether nobody has written to it between `earlier` and now.
    func hasContent(of earlier: FileFacts) -> Bool { size == earlier.size && modified == earlier.modified }
}

/// A file in the folder.
struct PickupFile: Hashable, Sendable {
    var name: PickupName
    var facts: FileFacts
}

extension Array {
    /// The first of each owner, then the second of each, and so on; within those in the order that there is. So nobody has to
    /// wait for all that somebody else has.
    func inTurns(_ owner: (Element) -> UInt32) -> [Element] {
        var counts: [UInt32: Int] = [:]
        let ranks = map { element in
            counts[owner(element), default: 0] += 1
            return counts[owner(element), default: 0]
        }
        return indices.sorted { (ranks[$0], $0) < (ranks[$1], $1) }.map { self[$0] }
    }
}

/// The file of one message while it is submitted, in the folder `taken`: its name there begins with the id that the message
/// has, so that whoever finds it after a crash asks whether that one is stored.
struct TakenFile: Hashable, Sendable {
    let id: QueueID
    /// Its name in the folder; the first ``longestName`` octets of one that is longer.
    let name: PickupName
    /// Whose it is; 0 where nobody has looked.
    var owner: UInt32 = 0

    /// So much of a name fits behind an id: a name has at most 255 octets.
    private static let longestName = 255 - 33

    init(id: QueueID, name: PickupName) {
        self.id = id
        self.name = PickupName(name.octets.prefix(Self.longestName))
    }

    /// What a name in `taken` says; nil: no name that we gave.
    init?(_ path: PickupName) {
        guard path.octets.count > 33, path.octets[32] == UInt8(ascii: "~"),
            let id = QueueID(String(decoding: path.octets[..<32], as: UTF8.self))
        else { return nil }
        self.init(id: id, name: PickupName(path.octets[33...]))
    }

    /// Its name in `taken`.
    var path: PickupName { PickupName(Array(id.description.utf8) + [UInt8(ascii: "~")] + name.octets) }
}
