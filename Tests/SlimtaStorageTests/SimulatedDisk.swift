// A disk for tests that forgets what was not synced when its power is cut, fails when told to, and can be looked at after
// every single operation. Files that GDBM writes live in memory files of the system while it has them open.

import Glibc
import Synchronization

@testable import SlimtaStorage

/// What is left of what was not synced.
enum Cut: Sendable, CaseIterable {
    /// Nothing.
    case drop
    /// Everything.
    case keep
    /// Any of its pages of 4 KiB, any of the names.
    case pages
    /// Any of its sectors of 512 octets, any of the names.
    case sectors
}

final class SimulatedDisk: FileSystem {
    struct Node: Sendable {
        var content: [UInt8] = []
        /// What survives for sure.
        var durable: [UInt8] = []
        /// The memory file that GDBM writes.
        var raw: Int32?
    }

    struct Directory: Sendable {
        var names: [String: Int] = [:]
        var durable: [String: Int] = [:]
        var isDurable = false
    }

    /// All that is on the disk, and what may be.
    struct Image: Sendable {
        var nodes: [Int: Node] = [:]
        var directories: [String: Directory] = ["/q": Directory(isDurable: true)]
    }

    private struct State {
        var image = Image()
        var files: [Int32: Int] = [:]
        var nextNode = 1
        var nextFile: Int32 = 100_000
        var operations = 0
        var isOff = false
        var freeOctets: UInt64 = 1 << 40
        var freeInodes: UInt64 = .max
        /// Octets that all files together may have; nil: any.
        var limit: Int?

        var used: Int { image.nodes.values.reduce(0) { $0 + $1.content.count } }
        var log: [String] = []
    }

    private let state: Mutex<State>
    /// errno for an operation on a path; nil: it works.
    let fault = Mutex<(@Sendable (_ call: String, _ path: String) -> Int32?)?>(nil)
    /// Syncs of these paths do nothing and say that all is well.
    let lies = Mutex<(@Sendable (_ path: String) -> Bool)?>(nil)
    /// Called after every operation, with what is on the disk then.
    let observer = Mutex<(@Sendable (_ call: String, Image) -> Void)?>(nil)

    init(_ image: Image = Image()) {
        var state = State()
        state.image = image
        state.nextNode = (image.nodes.keys.max() ?? 0) + 1
        self.state = Mutex(state)
    }

    deinit {
        state.withLock { state in
            for node in state.image.nodes.values { if let raw = node.raw { Glibc.close(raw) } }
        }
    }

    /// A file without a name, for GDBM.
    private static func memoryFile() -> Int32 {
        var name = Array("/dev/shm/slimta-XXXXXX".utf8CString)
        let descriptor = mkstemp(&name)
        unlink(name)
        return descriptor
    }

    var image: Image { state.withLock { $0.image } }
    var operations: Int { state.withLock { $0.operations } }
    func setFreeOctets(_ octets: UInt64) { state.withLock { $0.freeOctets = octets } }
    func setLimit(_ octets: Int?) { state.withLock { $0.limit = octets } }
    func setFreeInodes(_ inodes: UInt64) { state.withLock { $0.freeInodes = inodes } }
    func powerOff() { state.withLock { $0.isOff = true } }

    /// Changes the octets of a file behind the storage's back.
    func damage(_ path: String, _ change: (inout [UInt8]) -> Void) {
        state.withLock { state in
            let node = Self.find(path, &state)!
            change(&state.image.nodes[node]!.content)
            state.image.nodes[node]!.durable = state.image.nodes[node]!.content
        }
    }

    /// Takes a directory away behind the storage's back, with all that is in it.
    func takeAway(_ path: String) { state.withLock { $0.image.directories[path] = nil } }

    func content(_ path: String) -> [UInt8]? {
        state.withLock { state in Self.find(path, &state).map { state.image.nodes[$0]!.content } }
    }

    /// The disk as it may be after a power cut.
    static func afterCut<Generator: RandomNumberGenerator>(
        _ image: Image, _ cut: Cut, using random: inout Generator
    ) -> SimulatedDisk {
        var result = Image(nodes: [:], directories: [:])
        func survives() -> Bool {
            switch cut {
            case .drop: false
            case .keep: true
            case .pages, .sectors: Bool.random(using: &random)
            }
        }
        for (path, directory) in image.directories.sorted(by: { $0.key < $1.key }) {
            guard directory.isDurable || survives() else { continue }
            var kept = Directory(isDurable: true)
            for name in Set(directory.names.keys).union(directory.durable.keys).sorted() {
                let (now, then) = (directory.names[name], directory.durable[name])
                if let node = now == then || survives() ? now : then { kept.names[name] = node }
            }
            kept.durable = kept.names
            result.directories[path] = kept
        }
        for node in Set(result.directories.values.flatMap(\.names.values)).sorted() {
            let content = mix(image.nodes[node]!, cut, survives)
            result.nodes[node] = Node(content: content, durable: content)
        }
        return SimulatedDisk(result)
    }

    private static func mix(_ node: Node, _ cut: Cut, _ survives: () -> Bool) -> [UInt8] {
        if node.content == node.durable { return node.content }
        switch cut {
        case .drop: return node.durable
        case .keep: return node.content
        case .pages, .sectors:
            let unit = cut == .pages ? 4096 : 512
            let size = survives() ? node.content.count : node.durable.count
            var result = node.durable
            if size > result.count { result += [UInt8](repeating: 0, count: size - result.count) }
            if size < result.count { result.removeLast(result.count - size) }
            for start in stride(from: 0, to: min(size, node.content.count), by: unit) {
                let end = min(start + unit, size, node.content.count)
                if survives() { result.replaceSubrange(start..<end, with: node.content[start..<end]) }
            }
            return result
        }
    }

    // MARK: operations

    private func perform<Result>(
        _ call: String, _ path: String, _ body: (inout State) throws(DiskError) -> Result
    ) throws(DiskError) -> Result {
        let fault = self.fault.withLock { $0 }
        let observer = self.observer.withLock { $0 }
        // It may wait for something: then only this call does.
        if let code = fault?(call, path) { throw DiskError(call: call, path: path, code: code) }
        var result: Result?
        try state.withLock { state throws(DiskError) in
            if state.isOff { throw DiskError(call: call, path: path, code: EIO) }
            Self.takeOver(&state)
            result = try body(&state)
            state.operations += 1
            observer?("\(call) \(path)", state.image)
        }
        return result!
    }

    /// What GDBM has written meanwhile.
    private static func takeOver(_ state: inout State) {
        for (number, node) in state.image.nodes {
            guard let raw = node.raw else { continue }
            var size = stat()
            fstat(raw, &size)
            var content = [UInt8](repeating: 0, count: Int(size.st_size))
            let count = pread(raw, &content, content.count, 0)
            precondition(count == content.count)
            if content != node.content { state.image.nodes[number]!.content = content }
        }
    }

    private static func split(_ path: String) -> (directory: String, name: String) {
        let slash = path.lastIndex(of: "/")!
        return (String(path[..<slash]), String(path[path.index(after: slash)...]))
    }

    private static func find(_ path: String, _ state: inout State) -> Int? {
        let (directory, name) = split(path)
        return state.image.directories[directory]?.names[name]
    }

    private static func existing(_ call: String, _ path: String, _ state: inout State) throws(DiskError) -> Int {
        guard let node = find(path, &state) else { throw DiskError(call: call, path: path, code: ENOENT) }
        return node
    }

    private static func create(_ path: String, _ state: inout State) throws(DiskError) -> Int {
        let (directory, name) = split(path)
        guard state.image.directories[directory] != nil else {
            throw DiskError(call: "open", path: path, code: ENOENT)
        }
        guard state.image.directories[directory]!.names[name] == nil else {
            throw DiskError(call: "open", path: path, code: EEXIST)
        }
        let node = state.nextNode
        state.nextNode += 1
        state.image.nodes[node] = Node()
        state.image.directories[directory]!.names[name] = node
        return node
    }

    func open(_ path: String, _ mode: OpenMode) throws(DiskError) -> File {
        try perform("open", path) { state throws(DiskError) in
            let node = mode == .create ? try Self.create(path, &state) : try Self.existing("open", path, &state)
            state.nextFile += 1
            state.files[state.nextFile] = node
            return File(descriptor: state.nextFile, path: path)
        }
    }

    func close(_ file: File) { state.withLock { _ = $0.files.removeValue(forKey: file.descriptor) } }

    func openForGDBM(_ path: String, create: Bool) throws(DiskError) -> Int32 {
        try perform("open", path) { state throws(DiskError) in
            let raw = Self.memoryFile()
            precondition(raw >= 0)
            if create {
                let node = try Self.create(path, &state)
                state.image.nodes[node]!.raw = dup(raw)
            } else {
                let content = state.image.nodes[try Self.existing("open", path, &state)]!.content
                let count = pwrite(raw, content, content.count, 0)
                precondition(count == content.count)
            }
            return raw
        }
    }

    func read(_ file: File, into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int {
        // Reading changes nothing, so nobody is told.
        if let code = fault.withLock({ $0 })?("read", file.path) {
            throw DiskError(call: "read", path: file.path, code: code)
        }
        return state.withLock { state in
            let content = state.image.nodes[state.files[file.descriptor]!]!.content
            let count = max(0, min(buffer.count, content.count - offset))
            if count > 0 {
                content.withUnsafeBytes { octets in
                    buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: octets[offset..<(offset + count)]))
                }
            }
            return count
        }
    }

    func write(_ file: File, _ octets: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
        try perform("write", file.path) { state throws(DiskError) in
            let node = state.files[file.descriptor]!
            let missing = offset + octets.count - state.image.nodes[node]!.content.count
            if missing > 0, let limit = state.limit, state.used + missing > limit {
                throw DiskError(call: "write", path: file.path, code: ENOSPC)
            }
            if missing > 0 { state.image.nodes[node]!.content += [UInt8](repeating: 0, count: missing) }
            state.image.nodes[node]!.content.withUnsafeMutableBytes { content in
                UnsafeMutableRawBufferPointer(rebasing: content[offset..<(offset + octets.count)])
                    .copyMemory(from: octets)
            }
        }
    }

    func syncData(_ file: File) throws(DiskError) { try sync(file) }

    func sync(_ file: File) throws(DiskError) {
        let isLie = lies.withLock { $0 }?(file.path) ?? false
        try perform("sync", file.path) { state throws(DiskError) in
            let node = state.files[file.descriptor]!
            if !isLie { state.image.nodes[node]!.durable = state.image.nodes[node]!.content }
            if let raw = state.image.nodes[node]!.raw {
                Glibc.close(raw)
                state.image.nodes[node]!.raw = nil
            }
        }
    }

    func syncDirectory(_ path: String) throws(DiskError) {
        let isLie = lies.withLock { $0 }?(path) ?? false
        try perform("sync", path) { state throws(DiskError) in
            if isLie { return }
            guard let directory = state.image.directories[path] else {
                throw DiskError(call: "sync", path: path, code: ENOENT)
            }
            state.image.directories[path]!.durable = directory.names
            for child in state.image.directories.keys where Self.split(child).directory == path {
                state.image.directories[child]!.isDurable = true
            }
            Self.collectGarbage(&state)
        }
    }

    func writeBehind(_ descriptor: Int32, from offset: Int, count: Int) {}
    func dropCache(_ file: File) {}

    func size(_ file: File) throws(DiskError) -> Int {
        state.withLock { $0.image.nodes[$0.files[file.descriptor]!]!.content.count }
    }

    func truncate(_ file: File, to size: Int) throws(DiskError) {
        try perform("truncate", file.path) { state throws(DiskError) in
            let node = state.files[file.descriptor]!
            let count = state.image.nodes[node]!.content.count
            if size < count { state.image.nodes[node]!.content.removeLast(count - size) }
        }
    }

    func rename(_ from: String, to: String) throws(DiskError) {
        try perform("rename", from) { state throws(DiskError) in
            let node = try Self.existing("rename", from, &state)
            let (source, target) = (Self.split(from), Self.split(to))
            guard state.image.directories[target.directory] != nil else {
                throw DiskError(call: "rename", path: to, code: ENOENT)
            }
            state.image.directories[source.directory]!.names[source.name] = nil
            state.image.directories[target.directory]!.names[target.name] = node
        }
    }

    func remove(_ path: String) throws(DiskError) {
        try perform("unlink", path) { state throws(DiskError) in
            _ = try Self.existing("unlink", path, &state)
            let (directory, name) = Self.split(path)
            state.image.directories[directory]!.names[name] = nil
        }
    }

    func makeDirectory(_ path: String) throws(DiskError) {
        try perform("mkdir", path) { state throws(DiskError) in
            if state.image.directories[path] == nil { state.image.directories[path] = Directory() }
        }
    }

    func list(_ path: String) throws(DiskError) -> [String] {
        try state.withLock { state throws(DiskError) in
            guard let directory = state.image.directories[path] else {
                throw DiskError(call: "list", path: path, code: ENOENT)
            }
            let children = state.image.directories.keys.filter { Self.split($0).directory == path }
            return directory.names.keys + children.map { Self.split($0).name }
        }
    }

    func space(_ path: String) throws(DiskError) -> (octets: UInt64, inodes: UInt64) {
        state.withLock { state in
            (state.limit.map { UInt64(max(0, $0 - state.used)) } ?? state.freeOctets, state.freeInodes)
        }
    }

    /// Forgets what no name leads to.
    private static func collectGarbage(_ state: inout State) {
        var used = Set(state.files.values)
        for directory in state.image.directories.values {
            used.formUnion(directory.names.values)
            used.formUnion(directory.durable.values)
        }
        for (number, node) in state.image.nodes where !used.contains(number) {
            if let raw = node.raw { Glibc.close(raw) }
            state.image.nodes[number] = nil
        }
    }
}
