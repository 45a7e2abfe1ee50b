// The pickup folder on disk, with `taken` and `failed` in it. All of this blocks: DirectoryDriver calls it on a thread.

internal import Glibc
internal import SlimtaMail

/// A pickup folder that is open. What is done in it goes by descriptors: whatever becomes of its path, it is this folder.
final class PickupFolder: Sendable {
    /// What cannot be done, with the system's word for it.
    struct Problem: Error, Equatable, CustomStringConvertible {
        let description: String
        let number: CInt

        init(_ what: String, _ number: CInt = 0) {
            self.number = number
            description = number == 0 ? what : "\(what): \(String(cString: strerror(number)))"
        }
    }

    /// What is in it.
    struct Content: Sendable {
        /// The oldest, of each owner as many as of any other that has so many.
        var files: [PickupFile] = []
        /// The same, in turns.
        var taken: [TakenFile] = []
        /// Whether there are no more files than that.
        var isAll = true
        /// How many files lie in `failed`, reasons apart.
        var failedCount = 0
        /// Whether the path still leads here.
        var isThere = true
    }

    private let path: String
    private let descriptor: CInt
    private let taken: CInt
    private let failed: CInt

    /// Opens the folder, and makes `taken` and `failed` in it. Nobody else has it until this object goes: another edge, or
    /// one that is still finishing what it took, would submit everything twice.
    init(_ path: String) throws(Problem) {
        self.path = path
        let folder = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw Problem("cannot open \(path)", errno) }
        var opened = [folder]
        do throws(Problem) {
            for name in PickupName.ownFolders { opened.append(try Self.open(name, in: folder, path)) }
            guard flock(opened[1], LOCK_EX | LOCK_NB) == 0 else {
                let number = errno
                throw number == EWOULDBLOCK
                    ? Problem("\(path) is in use by another edge") : Problem("cannot lock \(path)/taken", number)
            }
        } catch {
            for descriptor in opened { close(descriptor) }
            throw error
        }
        (descriptor, taken, failed) = (opened[0], opened[1], opened[2])
    }

    deinit { for descriptor in [taken, failed, descriptor] { close(descriptor) } }

    /// A folder of ours, to which nobody else may write.
    private static func open(_ name: PickupName, in folder: CInt, _ path: String) throws(Problem) -> CInt {
        if mkdirat(folder, name.terminated, 0o700) == 0 {
            fsync(folder)
        } else if errno != EEXIST {
            throw Problem("cannot make \(path)/\(name)", errno)
        }
        let descriptor = openat(folder, name.terminated, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else { throw Problem("cannot open \(path)/\(name)", errno) }
        var (own, parent) = (stat(), stat())
        guard fstat(descriptor, &own) == 0, fstat(folder, &parent) == 0, own.st_uid == geteuid(),
            own.st_mode & 0o022 == 0, own.st_dev == parent.st_dev
        else {
            close(descriptor)
            throw Problem(
                "\(path)/\(name) is to be slimtad's own, on one file system with \(path), and for nobody else to write to"
            )
        }
        return descriptor
    }

    // MARK: Looking

    /// Reads it. What is not ready is not told, lest it stand before what is: empty files, and if `leavesLinked` those with a
    /// second name, which is to go.
    func content(limit: Int, leavesLinked: Bool) throws(Problem) -> Content {
        var content = Content()
        try forEachName(in: descriptor) { name in
            guard name.mayBeMessage, let facts = facts(of: name), facts.size > 0, !(leavesLinked && facts.links > 1)
            else { return }
            content.files.append(PickupFile(name: name, facts: facts))
            if content.files.count >= 2 * limit { content.keepOldest(limit) }
        }
        content.keepOldest(limit)
        try forEachName(in: taken) { name in
            guard var file = TakenFile(name) else { return }
            file.owner = facts(of: name, in: taken)?.owner ?? 0
            content.taken.append(file)
            if content.taken.count >= 2 * limit { content.keepFirstTaken(limit) }
        }
        content.keepFirstTaken(limit)
        // What a crash left here may be here in memory alone.
        if !content.taken.isEmpty { try sync() }
        try forEachName(in: failed) { name in
            if !name.octets.suffix(Self.reasonSuffix.count).elementsEqual(Self.reasonSuffix) {
                content.failedCount += 1
            }
        }
        content.isThere = isThere
        return content
    }

    /// Whether the path still leads here, and nothing of it has been removed.
    private var isThere: Bool {
        var (own, other) = (stat(), stat())
        for inside in [taken, failed] where fstat(inside, &own) != 0 || own.st_nlink == 0 { return false }
        return fstat(descriptor, &own) == 0 && stat(path, &other) == 0 && own.st_ino == other.st_ino
            && own.st_dev == other.st_dev
    }

    /// nil: it is no file, or not there.
    func facts(of name: PickupName) -> FileFacts? { facts(of: name, in: descriptor) }

    private func facts(of name: PickupName, in folder: CInt) -> FileFacts? {
        var status = stat()
        guard fstatat(folder, name.terminated, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return nil }
        return FileFacts(status)
    }

    /// One at a time: there may be millions.
    private func forEachName(in folder: CInt, _ body: (PickupName) -> Void) throws(Problem) {
        // A descriptor of its own: where it has been read to is part of one.
        let copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0, let stream = fdopendir(copy) else {
            let number = errno
            if copy >= 0 { close(copy) }
            throw Problem("cannot read \(path)", number)
        }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            // Where the file system does not say what it is, it is looked at.
            guard [UInt8(DT_REG), UInt8(DT_UNKNOWN)].contains(entry.pointee.d_type) else { continue }
            body(withUnsafeBytes(of: entry.pointee.d_name) { PickupName($0.prefix { $0 != 0 }) })
        }
    }

    // MARK: Taking

    /// Renames files into `taken` under the ids that their messages are to have, durably.
    ///
    /// - Returns: for each what came of it, and why it could not be taken.
    func take(_ files: [(file: PickupFile, id: QueueID)]) -> [(taking: DirectoryMachine.Taking, problem: Problem?)] {
        let takings = files.map { file, id -> (taking: DirectoryMachine.Taking, problem: Problem?) in
            guard let facts = facts(of: file.name) else { return (.not, nil) }
            guard facts == file.facts else { return (.changed(facts), nil) }
            var new = TakenFile(id: id, name: file.name)
            new.owner = facts.owner
            guard renameat(descriptor, file.name.terminated, taken, new.path.terminated) == 0 else {
                return (.not, errno == ENOENT ? nil : Problem("cannot take \(path)/\(file.name)", errno))
            }
            return (.taken(new), nil)
        }
        do throws(Problem) {
            try sync()
            return takings
        } catch {
            // They are in `taken`: the next reading finds them there, and syncs before it tells.
            return takings.map { (.not, $0.problem ?? error) }
        }
    }

    /// Opens a file in `taken`; nil: it is not there.
    func open(_ file: TakenFile) throws(PickupRefusal) -> PickupReader? {
        // O_NONBLOCK: somebody may have put a FIFO in its place before it was renamed.
        let opened = openat(taken, file.path.terminated, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard opened >= 0 else {
            if errno == ENOENT { return nil }
            throw PickupRefusal("The file cannot be read: \(String(cString: strerror(errno))); slimtad must be able to")
        }
        let reader = PickupReader(opened)
        guard reader.facts != nil else { throw PickupRefusal("The file is not a regular one") }
        return reader
    }

    /// Takes away the names of files whose messages are stored, durably.
    func remove(_ files: [TakenFile]) throws(Problem) {
        for file in files where unlinkat(taken, file.path.terminated, 0) != 0 && errno != ENOENT {
            throw Problem("cannot remove \(path)/taken/\(file.path)", errno)
        }
        guard fsync(taken) == 0 else { throw Problem("cannot sync \(path)/taken", errno) }
    }

    /// Moves a file to `failed`, and puts `reason` beside it; durable when this returns. Where there is a file of that name it
    /// is called as in `taken`.
    ///
    /// - Returns: its name there.
    func setAside(_ file: TakenFile, reason: String) throws(Problem) -> PickupName {
        let own = PickupName(file.path.octets.prefix(255 - Self.reasonSuffix.count))
        let isFree = [file.name, Self.reasonName(file.name)].allSatisfy {
            faccessat(failed, $0.terminated, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT
        }
        let name = isFree ? file.name : own
        let temporary = PickupName(".\(file.id)".utf8)
        try write(reason, to: temporary)
        guard renameat(taken, file.path.terminated, failed, name.terminated) == 0 || errno == ENOENT,
            renameat(failed, temporary.terminated, failed, Self.reasonName(name).terminated) == 0
        else { throw Problem("cannot move \(file.path) to \(path)/failed", errno) }
        guard fsync(failed) == 0, fsync(taken) == 0 else { throw Problem("cannot sync \(path)/failed", errno) }
        return name
    }

    private static let reasonSuffix = Array(".reason".utf8)

    private static func reasonName(_ name: PickupName) -> PickupName { PickupName(name.octets + reasonSuffix) }

    private func write(_ text: String, to name: PickupName) throws(Problem) {
        let file = openat(failed, name.terminated, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Problem("cannot make \(path)/failed/\(name)", errno) }
        defer { close(file) }
        let octets = Array(text.utf8)
        // A few lines are written whole, or there is no room.
        guard Glibc.write(file, octets, octets.count) == octets.count, fsync(file) == 0 else {
            throw Problem("cannot write \(path)/failed/\(name)", errno)
        }
    }

    private func sync() throws(Problem) {
        // Where files are now before where they were: after a crash one may be in both, and never in none.
        guard fsync(taken) == 0, fsync(descriptor) == 0 else { throw Problem("cannot sync \(path)", errno) }
    }
}

extension PickupFolder.Content {
    /// Whoever has very many files, which may be of any age and never be whole, keeps out nobody else's.
    fileprivate mutating func keepOldest(_ count: Int) {
        guard files.count > count else { return }
        func isOlder(_ a: PickupFile, _ b: PickupFile) -> Bool {
            (a.facts.modified, a.name) < (b.facts.modified, b.name)
        }
        files = files.sorted(by: isOlder).inTurns(\.facts.owner).prefix(count).sorted(by: isOlder)
        isAll = false
    }

    fileprivate mutating func keepFirstTaken(_ count: Int) {
        taken.sort { $0.id < $1.id }
        taken = Array(taken.inTurns(\.owner).prefix(count))
    }
}

extension FileFacts {
    /// nil: it is no regular file.
    init?(_ status: stat) {
        guard status.st_mode & S_IFMT == S_IFREG else { return nil }
        func nanoseconds(_ time: timespec) -> Int64 { Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec) }
        self.init(
            size: Int64(status.st_size), modified: nanoseconds(status.st_mtim), changed: nanoseconds(status.st_ctim),
            links: Int(status.st_nlink), owner: status.st_uid)
    }
}
