// The real disk: Linux calls as they are. Every storage has it but those of tests that break the disk.

import CLinux

/// The file system of the machine.
struct LinuxFileSystem: FileSystem {
    func open(_ path: String, _ mode: OpenMode) throws(DiskError) -> File {
        let flags: Int
        switch mode {
        case .read: flags = 0
        case .write: flags = SLIMTA_OPEN_WRITE
        case .create: flags = SLIMTA_OPEN_WRITE | SLIMTA_OPEN_CREATE
        case .direct: flags = SLIMTA_OPEN_WRITE | SLIMTA_OPEN_DIRECT
        }
        var descriptor = slimta_open(path, Int32(flags))
        if mode == .direct, descriptor == -22 {  // EINVAL: this file system has no O_DIRECT
            descriptor = slimta_open(path, Int32(SLIMTA_OPEN_WRITE))
        }
        return File(descriptor: try checked(descriptor, "open", path), path: path)
    }

    func close(_ file: File) { _ = slimta_close(file.descriptor) }

    func openForGDBM(_ path: String, create: Bool) throws(DiskError) -> Int32 {
        try open(path, create ? .create : .read).descriptor
    }

    func read(_ file: File, into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        return Int(try checked(slimta_pread(file.descriptor, base, buffer.count, Int64(offset)), "read", file.path))
    }

    func write(_ file: File, _ octets: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
        guard let base = octets.baseAddress else { return }
        _ = try checked(slimta_pwrite(file.descriptor, base, octets.count, Int64(offset)), "write", file.path)
    }

    func syncData(_ file: File) throws(DiskError) {
        _ = try checked(slimta_fdatasync(file.descriptor), "sync", file.path)
    }

    func sync(_ file: File) throws(DiskError) {
        _ = try checked(slimta_fsync(file.descriptor), "sync", file.path)
    }

    func syncDirectory(_ path: String) throws(DiskError) {
        let descriptor = try checked(slimta_open(path, Int32(SLIMTA_OPEN_DIRECTORY)), "open", path)
        defer { _ = slimta_close(descriptor) }
        _ = try checked(slimta_fsync(descriptor), "sync", path)
    }

    func writeBehind(_ descriptor: Int32, from offset: Int, count: Int) {
        _ = slimta_write_behind(descriptor, Int64(offset), Int64(count))
    }

    func dropCache(_ file: File) { _ = slimta_drop_cache(file.descriptor) }

    func size(_ file: File) throws(DiskError) -> Int {
        var info = slimta_file_info()
        _ = try checked(slimta_fstat(file.descriptor, &info), "stat", file.path)
        return Int(info.size)
    }

    func truncate(_ file: File, to size: Int) throws(DiskError) {
        _ = try checked(slimta_ftruncate(file.descriptor, Int64(size)), "truncate", file.path)
    }

    func rename(_ from: String, to: String) throws(DiskError) {
        _ = try checked(slimta_rename(from, to), "rename", from)
    }

    func remove(_ path: String) throws(DiskError) { _ = try checked(slimta_unlink(path), "unlink", path) }

    func makeDirectory(_ path: String) throws(DiskError) {
        let result = slimta_mkdir(path)
        if result == -17 {  // EEXIST
            // Fine if it is a directory; a link or a file in its place is not.
            _ = slimta_close(try checked(slimta_open(path, Int32(SLIMTA_OPEN_DIRECTORY)), "open", path))
            return
        }
        _ = try checked(result, "mkdir", path)
    }

    func list(_ path: String) throws(DiskError) -> [String] {
        var names: [String] = []
        let result = withUnsafeMutablePointer(to: &names) { pointer in
            slimta_list(path, pointer) { context, name in
                context!.assumingMemoryBound(to: [String].self).pointee.append(String(cString: name!))
            }
        }
        _ = try checked(result, "list", path)
        return names
    }

    func space(_ path: String) throws(DiskError) -> (octets: UInt64, inodes: UInt64) {
        var space = slimta_space()
        _ = try checked(slimta_space(path, &space), "statvfs", path)
        return (space.free_octets, space.free_inodes)
    }

    private func checked<Result: SignedInteger>(
        _ result: Result, _ call: String, _ path: String
    ) throws(DiskError) -> Result {
        if result < 0 { throw DiskError(call: call, path: path, code: -Int32(truncatingIfNeeded: result)) }
        return result
    }
}
