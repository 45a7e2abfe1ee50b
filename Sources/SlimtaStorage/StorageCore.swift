// What the storage's parts share: the disk, where things are, and how to tell the operator.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import Synchronization

/// The names in the state directory.
struct StatePaths: Sendable {
    let root: String
    init(_ root: String) { self.root = root }

    var lock: String { "\(root)/lock" }
    var superblock: String { "\(root)/super" }
    var journal: String { "\(root)/journal" }
    var queue: String { "\(root)/queue" }
    var spool: String { "\(root)/spool" }
    var receiving: String { "\(root)/spool/tmp" }
    var reserve: String { "\(root)/reserve" }
    var quarantine: String { "\(root)/quarantine" }

    func segment(_ number: UInt64) -> String { "\(journal)/\(Segment.name(number))" }
    /// The directory of a spooled body: named by the last octet of its id, which is random.
    func spoolDirectory(_ id: QueueID) -> String { "\(spool)/\(id.description.suffix(2))" }
    func spooled(_ id: QueueID) -> String { "\(spoolDirectory(id))/\(id)" }
}

/// The files that count.
struct Catalog {
    var segments: [UInt64: Segment] = [:]
    var generations: [UInt32: Generation] = [:]
}

/// Ids that a pass over the index found: kept for the pages that follow.
struct WalkWindow {
    /// The first ids behind this one are in `ids`.
    var start: QueueID
    /// Ascending.
    var ids: [QueueID]
    /// Monotonic milliseconds.
    var made: Int64
}

/// What the storage's parts share. Locks are taken in this order: the journal's, the index's, the catalog's.
final class StorageCore: Sendable {
    let fileSystem: any FileSystem
    let paths: StatePaths
    let options: StorageOptions
    let report: @Sendable (StorageEvent) -> Void
    let index = Mutex(Index())
    let catalog = Mutex(Catalog())
    /// What is left of envelopes that a checkpoint could not read, until the queue asks for it.
    let lostEnvelopes = Mutex<[QueueID: StoredEnvelope]>([:])
    /// Octets of a new message for which there is room, 0 while nothing is accepted; the housekeeper says it.
    let room = Atomic<Int>(0)
    /// What the last page of a walk left: see QueueWalk.
    let walkWindow = Mutex<WalkWindow?>(nil)

    init(
        _ fileSystem: any FileSystem, directory: String, options: StorageOptions,
        report: @escaping @Sendable (StorageEvent) -> Void
    ) {
        precondition(options.segmentSize % OutputBuffer.page == 0 && options.segmentSize >= 4 * OutputBuffer.page)
        precondition(options.segmentSize <= 128 << 20, "Location has 24 bits for units of 8 octets")
        self.fileSystem = fileSystem
        self.paths = StatePaths(directory)
        self.options = options
        self.report = report
    }

    func segment(_ number: UInt64) -> Segment? { catalog.withLock { $0.segments[number] } }
    func generation(_ number: UInt32) -> Generation? { catalog.withLock { $0.generations[number] } }

    /// Keeps what is left of a value that cannot be read; the path, nil if nothing is.
    func quarantine(_ kind: ValueKind, _ id: QueueID, of number: UInt32) -> String? {
        generation(number)?.remains(kind, id).flatMap { octets in
            octets.withUnsafeBytes { quarantine("\(id)-\(kind)", $0) }
        }
    }

    /// Keeps `octets` for the operator; the path, nil if it could not be written.
    func quarantine(_ name: String, _ octets: UnsafeRawBufferPointer) -> String? {
        let path = "\(paths.quarantine)/\(name)-\(Timestamp.now().milliseconds)"
        do {
            let file = try fileSystem.open(path, .create)
            defer { fileSystem.close(file) }
            do { try fileSystem.write(file, octets, at: 0) } catch {
                // A full disk is not filled with empty names.
                try? fileSystem.remove(path)
                throw error
            }
            try fileSystem.sync(file)
            try fileSystem.syncDirectory(paths.quarantine)
            return path
        } catch {
            return nil
        }
    }
}
