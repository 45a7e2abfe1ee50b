// Builds a GDBM file that is never changed afterwards: stored, synced, closed, synced again, read back and compared,
// renamed. Called by the checkpoint's thread.

import CGDBM
import CLinux
import SlimtaMail
import SlimtaRecords

/// A GDBM file in the making. It has a temporary name until it is proven.
///
/// GDBM works on descriptors that the `FileSystem` gives out, so a disk made for tests sees its files as well.
final class GenerationBuilder {
    private(set) var info: GenerationInfo
    private let directory: String
    private let temporary: String
    private let fileSystem: any FileSystem
    private var handle: GDBM_FILE?
    /// What GDBM is still to be given.
    private var values = GenerationStorer.Values()
    /// Gives it to GDBM; a file with few values needs none.
    private var storer: GenerationStorer?

    /// Values are handed to the storer when they are more octets than this.
    private static let handOver = 1 << 20

    /// Begins the file. Contents come in blocks of 16 KiB: with smaller ones, what is just above a block takes two.
    init(
        _ kind: GenerationInfo.Kind, number: UInt32, in directory: String, _ fileSystem: any FileSystem
    ) throws(FileFailure) {
        info = GenerationInfo(kind: kind, number: number, records: 0, salt: slimta_random())
        self.directory = directory
        self.fileSystem = fileSystem
        temporary = "\(directory)/\(info.name).tmp"
        let descriptor: Int32
        do throws(DiskError) {
            try fileSystem.removeIfPresent(temporary)
            descriptor = try fileSystem.openForGDBM(temporary, create: true)
        } catch {
            throw .system(error)
        }
        var result = slimta_gdbm_result()
        handle = slimta_gdbm_create(descriptor, temporary, kind == .contents ? 16384 : 4096, &result)
        do throws(FileFailure) {
            try FileFailure.check(result, "create", temporary)
        } catch {
            discard()
            throw error
        }
        storeLabel()
    }

    deinit { closeQuietly() }

    /// The file's own number, kind and salt: what is needed to read it if `super` is lost.
    private func storeLabel() {
        let id = QueueID(high: UInt64(info.number), low: 0)
        let label = OutputBuffer(capacity: 4096)
        StoredValue.begin(.label, id, into: label)
        label.append(info.kind.rawValue)
        label.append(info.salt)
        // Readable without the salt that it tells.
        StoredValue.end(salt: 0, in: label)
        values.append(StoredValue.key(.label, id), label)
    }

    /// Stores a value that was sealed with this file's salt. What GDBM says to it may be thrown by a later call, or by
    /// `seal`.
    func store(_ kind: ValueKind, _ id: QueueID, _ value: OutputBuffer) throws(FileFailure) {
        values.append(StoredValue.key(kind, id), value)
        switch kind {
        case .receipt, .forgotten: info.receipts += 1
        case .envelope:
            info.records += 1
            info.envelopes += 1
        case .body, .meta, .tombstone, .label: info.records += 1
        }
        if values.octets >= Self.handOver { try handOver() }
    }

    private func handOver() throws(FileFailure) {
        guard let handle else { throw .retired }
        if let storer {
            values = try storer.store(values)
            return
        }
        let storer: GenerationStorer
        do { storer = try GenerationStorer(handle, temporary, fileSystem) } catch { throw .system(error) }
        self.storer = storer
        values = try storer.store(values)
    }

    /// Makes it durable, proves it, and gives it its name; the directory is still to be synced.
    func seal() throws(FileFailure) {
        guard let handle else { throw .retired }
        if let storer {
            _ = try storer.store(values)
            try storer.finish()
            self.storer = nil
        } else {
            try values.store(in: handle, temporary)
        }
        try FileFailure.check(slimta_gdbm_sync(handle), "sync", temporary)
        self.handle = nil
        try FileFailure.check(slimta_gdbm_close(handle), "close", temporary)
        do throws(DiskError) {
            let file = try fileSystem.open(temporary, .write)
            defer { fileSystem.close(file) }
            try fileSystem.sync(file)
        } catch {
            throw .system(error)
        }
        try verify()
        do { try fileSystem.rename(temporary, to: "\(directory)/\(info.name)") } catch { throw .system(error) }
    }

    /// Deletes what there is of it.
    func discard() {
        closeQuietly()
        try? fileSystem.removeIfPresent(temporary)
    }

    /// Reads all of it back, through GDBM as every later reader does.
    private func verify() throws(FileFailure) {
        let descriptor: Int32
        do { descriptor = try fileSystem.openForGDBM(temporary, create: false) } catch { throw .system(error) }
        var result = slimta_gdbm_result()
        let reader = slimta_gdbm_read(descriptor, temporary, 64, &result)
        try FileFailure.check(result, "open", temporary)
        guard let reader else { throw .retired }
        defer { _ = slimta_gdbm_close(reader) }
        var found: UInt64 = 0
        var keySize: Int32 = 0
        var key = slimta_gdbm_next(reader, nil, 0, &keySize, &result)
        while let current = key {
            defer { free(current) }
            var size: Int32 = 0
            let value = slimta_gdbm_fetch(reader, current, keySize, &size, &result)
            try FileFailure.check(result, "fetch", temporary)
            guard let value else { throw .damaged("\(temporary): a key without a value") }
            defer { free(value) }
            guard let expected = InlineKey(UnsafeRawBufferPointer(start: current, count: Int(keySize))) else {
                throw .damaged("\(temporary): a key that was not stored")
            }
            do {
                let stored = try StoredValue(
                    UnsafeRawBufferPointer(start: value, count: Int(size)),
                    salt: expected.kind == .label ? 0 : info.salt)
                guard stored.id == expected.id, stored.kind == expected.kind.rawValue else {
                    throw FormatError("another record")
                }
            } catch {
                throw .damaged("\(temporary): \(FileFailure(error))")
            }
            found += 1
            key = slimta_gdbm_next(reader, current, keySize, &keySize, &result)
            try FileFailure.check(result, "next key", temporary)
        }
        try FileFailure.check(result, "first key", temporary)
        let expected = info.records + info.receipts + 1
        guard found == expected else { throw .damaged("\(temporary): \(found) records, not \(expected)") }
    }

    private func closeQuietly() {
        storer?.abandon()
        storer = nil
        if let handle { _ = slimta_gdbm_close(handle) }
        handle = nil
    }
}
