// A sealed GDBM file: written once, never changed, read by many. Also how values are found in one without GDBM: quickly
// at a start, and in a file whose index is damaged.

import CGDBM
import CLinux
import NIOCore
import SlimtaMail
import SlimtaRecords
import SlimtaThreads
import Synchronization

/// Why something could not be read from, or written to, the files of the queue.
enum FileFailure: Error, CustomStringConvertible {
    case system(DiskError)
    case gdbm(call: String, path: String, code: Int32, system: Int32)
    /// The octets are not what was written.
    case damaged(String)
    /// The file is not in use any more: what is looked for is elsewhere now.
    case retired

    /// No room on the device.
    var isFull: Bool {
        switch self {
        case .system(let error): error.isFull
        case .gdbm(_, _, _, let system): system == 28 || system == 122
        case .damaged, .retired: false
        }
    }

    var description: String {
        switch self {
        case .system(let error): error.description
        case .gdbm(let call, let path, let code, let system):
            "\(call) \(path): \(String(cString: slimta_gdbm_text(code)))"
                + (system == 0 ? "" : " (\(systemErrorText(system)))")
        case .damaged(let text): text
        case .retired: "retired"
        }
    }

    init(_ error: any Error) {
        switch error {
        case let error as FileFailure: self = error
        case let error as DiskError: self = .system(error)
        case let error as FormatError: self = .damaged(error.text)
        default: self = .damaged("\(error)")
        }
    }

    static func check(
        _ result: slimta_gdbm_result, _ call: String, _ path: String
    ) throws(FileFailure) {
        if result.error != 0 { throw .gdbm(call: call, path: path, code: result.error, system: result.system) }
    }
}

/// A sealed file, open for reading. GDBM's handle has no lock of its own: all calls are made under ours.
///
/// `@unchecked Sendable`: the handle and the salvage list are only touched with `lock` held.
final class Generation: @unchecked Sendable {
    let info: GenerationInfo
    let path: String
    private let fileSystem: any FileSystem
    private let lock = Mutex(())
    private var handle: GDBM_FILE?
    private var isRetired = false
    /// Where whole values are, once the file has turned out to be damaged.
    private var salvage: [InlineKey: (offset: Int, size: Int)]?
    private var salvageFile: File?
    /// Where values begin that are not whole.
    private var remains: [InlineKey: Int] = [:]
    private var isFoundDamaged = false

    /// GDBM's cache for each open file, in buckets of a block each: a million records would cache tens of megabytes.
    private static let cachedBuckets = 16

    init(_ info: GenerationInfo, in directory: String, _ fileSystem: any FileSystem) {
        self.info = info
        path = "\(directory)/\(info.name)"
        self.fileSystem = fileSystem
    }

    deinit { closeAll() }

    /// Whether a read has found it damaged: the next checkpoint moves what is whole to another file, and this one aside.
    var isDamaged: Bool { lock.withLock { _ in isFoundDamaged || salvage != nil } }

    /// Who read it otherwise has found it damaged.
    func markDamaged() { lock.withLock { _ in isFoundDamaged = true } }

    /// What is left of a value that cannot be read; nil: nothing that can be told from the rest of the file.
    func remains(_ kind: ValueKind, _ id: QueueID) -> [UInt8]? {
        let key = StoredValue.key(kind, id)
        return lock.withLock { _ in
            if let octets = try? indexed(key, { Array($0) }), !octets.isEmpty { return octets }
            guard let offset = remains[key], let file = salvageFile,
                let header = try? fileSystem.read(file, count: StoredValue.size, at: offset),
                header.count == StoredValue.size
            else { return nil }
            let length = header.withUnsafeBytes { Int($0.number(at: 24, as: UInt32.self)) }
            return try? fileSystem.read(
                file, count: StoredValue.size + min(length, Self.remainsLimit), at: offset)
        }
    }

    /// The keys whose values cannot be read, of at most `limit` records and the label: as far as GDBM's index is whole.
    func unreadableKeys(limit: UInt64) -> [InlineKey] {
        keys(limit: limit + 1).filter { key in
            guard key.kind != .label else { return false }
            do throws(FileFailure) {
                try fetch(key.kind, key.id) { _ in }
                return false
            } catch {
                if case .damaged = error { return true }
                return false
            }
        }
    }

    private func keys(limit: UInt64) -> [InlineKey] {
        lock.withLock { _ in
            var keys: [InlineKey] = []
            // What cannot even be opened tells no keys; that its records are lost is told without them.
            guard let handle = try? open() else { return keys }
            var result = slimta_gdbm_result()
            var size: Int32 = 0
            var next = slimta_gdbm_next(handle, nil, 0, &size, &result)
            // A damaged index might lead in circles.
            for _ in 0..<limit {
                guard let current = next else { break }
                if let key = InlineKey(UnsafeRawBufferPointer(start: current, count: Int(size))) { keys.append(key) }
                next = slimta_gdbm_next(handle, current, size, &size, &result)
                free(current)
            }
            if let next { free(next) }
            return keys
        }
    }

    /// A length that cannot be trusted is not followed any further.
    private static let remainsLimit = 1 << 20

    /// Calls `body` with a value that the file was given; throws if it cannot be read.
    func fetch<Result>(
        _ kind: ValueKind, _ id: QueueID, _ body: (StoredValue) throws -> Result
    ) throws(FileFailure) -> Result {
        let key = StoredValue.key(kind, id)
        var found: Result?
        // The value does not leave through `withLock`, which would want it to belong to nobody else.
        try lock.withLock { _ throws(FileFailure) in found = try read(key, body) }
        return found!
    }

    private func read<Result>(
        _ key: InlineKey, _ body: (StoredValue) throws -> Result
    ) throws(FileFailure) -> Result {
        if isRetired { throw .retired }
        if salvage == nil {
            do throws(FileFailure) {
                if let found = try readIndexed(key, body) { return found }
            } catch {
                if case .system(let problem) = error, !problem.isMissing { throw error }
            }
            // GDBM cannot read it, does not find it, or finds something else. The value itself may be whole.
            try scanForSalvage()
        }
        guard let place = salvage?[key], let file = salvageFile else {
            throw .damaged("\(path): a record is unreadable")
        }
        do {
            let octets = try fileSystem.read(file, count: place.size, at: place.offset)
            return try octets.withUnsafeBytes { try body(try StoredValue($0, salt: info.salt)) }
        } catch {
            throw FileFailure(error)
        }
    }

    /// Nobody is to read it any more.
    func retire() {
        lock.withLock { _ in
            isRetired = true
            closeAll()
        }
    }

    private func readIndexed<Result>(
        _ key: InlineKey, _ body: (StoredValue) throws -> Result
    ) throws(FileFailure) -> Result? {
        try indexed(key) { octets in
            let stored = try StoredValue(octets, salt: info.salt)
            guard stored.id == key.id, stored.kind == key.kind.rawValue else { throw FormatError("another record") }
            return try body(stored)
        }
    }

    /// Calls `body` with what GDBM has under `key`; nil: nothing.
    private func indexed<Result>(
        _ key: InlineKey, _ body: (UnsafeRawBufferPointer) throws -> Result
    ) throws(FileFailure) -> Result? {
        let handle = try open()
        var size: Int32 = 0
        var result = slimta_gdbm_result()
        let value = key.withOctets { slimta_gdbm_fetch(handle, $0.baseAddress, Int32($0.count), &size, &result) }
        try FileFailure.check(result, "fetch", path)
        guard let value else { return nil }
        defer { free(value) }
        do {
            return try body(UnsafeRawBufferPointer(start: value, count: Int(size)))
        } catch {
            throw FileFailure(error)
        }
    }

    private func open() throws(FileFailure) -> GDBM_FILE {
        if let handle { return handle }
        let descriptor: Int32
        do { descriptor = try fileSystem.openForGDBM(path, create: false) } catch { throw .system(error) }
        var result = slimta_gdbm_result()
        let opened = slimta_gdbm_read(descriptor, path, Self.cachedBuckets, &result)
        try FileFailure.check(result, "open", path)
        handle = opened
        return opened!
    }

    private func scanForSalvage() throws(FileFailure) {
        var found: [InlineKey: (offset: Int, size: Int)] = [:]
        do {
            let file = try fileSystem.open(path, .read)
            salvageFile = file
            try ValueScan.run(
                fileSystem, file, salt: info.salt,
                value: { value, offset in
                    guard let kind = ValueKind(rawValue: value.kind) else { return }
                    found[InlineKey(kind: kind, id: value.id)] = (offset, StoredValue.size + value.payload.count)
                }, unreadable: { claim, offset in remains[InlineKey(kind: claim.kind, id: claim.id)] = offset })
        } catch {
            throw FileFailure(error)
        }
        salvage = found
    }

    private func closeAll() {
        if let handle { _ = slimta_gdbm_close(handle) }
        handle = nil
        if let salvageFile { fileSystem.close(salvageFile) }
        salvageFile = nil
    }
}

/// Finds the values of a GDBM file by reading it from front to back: without the index that may be damaged, and at the
/// speed of the disk.
enum ValueScan {
    private static let windowSize = 1 << 20

    /// Calls `value` for each whole value, `unreadable` for what begins like one and is none.
    static func run(
        _ fileSystem: any FileSystem, _ file: File, salt: UInt64, value: (StoredValue, Int) throws -> Void,
        unreadable: ((kind: ValueKind, id: QueueID), Int) -> Void
    ) throws {
        let size = try fileSystem.size(file)
        let memory = AlignedMemory(windowSize)
        defer { withExtendedLifetime(memory) {} }
        var start = 0
        var filled = 0
        var position = 0

        /// The octets from `position` on, at least `count` if the file has them.
        func window(_ count: Int) throws -> UnsafeRawBufferPointer {
            if position + count > start + filled, start + filled < size || position < start {
                let wanted = min(max(windowSize, count), size - position)
                memory.reserve(wanted)
                filled = try fileSystem.read(
                    file, into: UnsafeMutableRawBufferPointer(start: memory.base, count: wanted), at: position)
                start = position
            }
            return UnsafeRawBufferPointer(start: memory.base + (position - start), count: start + filled - position)
        }

        let magic = StoredValue.magic.littleEndian
        while position + StoredValue.size <= size {
            var octets = try window(StoredValue.size)
            if octets.count < StoredValue.size { return }
            let found = withUnsafeBytes(of: magic) { slimta_find(octets.baseAddress, octets.count, $0.baseAddress) }
            if found < 0 {
                position += octets.count - 3
                continue
            }
            position += Int(found)
            octets = try window(StoredValue.size)
            guard octets.count >= StoredValue.size else { return }
            let length = Int(octets.number(at: 24, as: UInt32.self))
            if StoredValue.size + length <= size - position {
                octets = try window(StoredValue.size + length)
                if let whole = try? StoredValue(octets, salt: salt) {
                    try value(whole, position)
                    position += StoredValue.size + length
                    continue
                }
            }
            if let claim = StoredValue.claim(octets) { unreadable(claim, position) }
            position += 4
        }
    }
}
