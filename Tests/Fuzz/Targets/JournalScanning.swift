// The journal after anything has happened to its files: two segments in memory, written as the storage writes them, then
// damaged as an input says.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import Synchronization

@testable import SlimtaStorage

extension FuzzTarget {
    /// Every frame that is whole is found, once, in order; and nothing else.
    static let journal = FuzzTarget(name: "journal", maximumLength: 400) { octets in
        var choices = Choices(octets)
        var files = WrittenJournal(&choices)
        files.damage(&choices)
        try files.check()
    }
}

/// Segments as they were written, and as they are found.
private struct WrittenJournal {
    private struct Frame {
        let number: UInt64
        let segment: Int
        let range: Range<Int>
        let payload: [UInt8]
        let type: FrameType
    }

    private static let size = 16 << 10
    private var files: [[UInt8]] = []
    private var originals: [[UInt8]] = []
    private var frames: [Frame] = []
    private let salts: [UInt64] = [0x1234_5678_9ABC, 0xFEDC_BA98_7654]
    private var isRaw = false

    init(_ choices: inout Choices) {
        var number: UInt64 = 1
        for segment in 0..<2 {
            let output = OutputBuffer(capacity: Self.size)
            let header = SegmentHeader(number: UInt64(segment + 1), salt: salts[segment], previous: UInt64(segment))
            let first = header.encode()
            withExtendedLifetime(first) { output.append(first.octets) }
            for _ in 0..<choices.number(below: 4) {
                // A commit: frames behind each other, then up to the next page.
                for _ in 0...choices.number(below: 3) where output.count < Self.size - 3000 {
                    write(&number, segment, &choices, output)
                }
                output.pad(to: OutputBuffer.page)
            }
            output.pad(to: Self.size)
            files.append(Array(output.array.prefix(Self.size)))
        }
        originals = files
    }

    private mutating func write(
        _ number: inout UInt64, _ segment: Int, _ choices: inout Choices, _ output: OutputBuffer
    ) {
        let type = choices.one(of: [FrameType.accept, .state, .remove, .marker])
        var payload: [UInt8] = []
        if choices.flag() {
            let field = OutputBuffer(capacity: 64)
            field.field(RecordTag.accepted, AcceptedCount(submitted: number, notices: 0))
            payload = field.array
        }
        payload += choices.octets()
        if type == .marker { payload = [] }
        let durable = number - 1
        let start = FrameHeader.begin(
            type, number: number, durable: durable, at: Timestamp(milliseconds: 5), into: output)
        payload.withUnsafeBytes { output.append($0) }
        FrameHeader.end(start, salt: salts[segment], in: output)
        frames.append(
            Frame(number: number, segment: segment, range: start..<output.count, payload: payload, type: type))
        // A marker has the number of the frame that comes next.
        if type != .marker { number += 1 }
    }

    mutating func damage(_ choices: inout Choices) {
        for _ in 0..<choices.number(below: 5) {
            let file = choices.number(below: 2)
            let place = SegmentHeader.space + Int(choices.integer(UInt16.self)) % (Self.size - SegmentHeader.space)
            switch choices.number(below: 5) {
            case 0: files[file][place] ^= 1 << (choices.octet() & 7)
            case 1:
                let end = min(Self.size, place + Int(choices.integer(UInt16.self)))
                for index in place..<end { files[file][index] = 0 }
            case 2:
                for (index, octet) in choices.octets().enumerated() where place + index < Self.size {
                    files[file][place + index] = octet
                }
            case 3:
                // What another place of another file had: whole frames with the wrong salt, or the right one.
                let other = choices.number(below: 2)
                let from = SegmentHeader.space + choices.number(below: 24) * 512
                let count = min(choices.number(below: 9) * 512, Self.size - max(place / 8 * 8, from))
                if count > 0 {
                    isRaw = isRaw || other == file
                    let target = place / 8 * 8
                    files[file].replaceSubrange(target..<target + count, with: originals[other][from..<from + count])
                }
            default: break
            }
        }
    }

    func check() throws {
        let disk = MemoryFiles(files)
        var options = StorageOptions()
        options.segmentSize = Self.size
        let core = StorageCore(disk, directory: "/q", options: options) { _ in }
        let segments = files.indices.map { index in
            Segment(
                header: SegmentHeader(number: UInt64(index + 1), salt: salts[index], previous: UInt64(index)),
                file: File(descriptor: Int32(index), path: "\(index)"), size: Self.size, fileSystem: disk)
        }
        var scan = JournalScan(core, segments, after: 0, upTo: nil, accepted: AcceptedCount())
        var seen: [(type: FrameType, payload: [UInt8])] = []
        try scan.run { type, payload, _ in
            seen.append((type, Array(payload)))
            return AcceptedCount()
        }
        let written = frames.filter { $0.type != .marker }
        // Of each frame what was written, in the order in which it was.
        var next = 0
        for frame in seen where frame.type != .marker {
            let match = written[min(next, written.count)...].firstIndex {
                $0.type == frame.type && $0.payload == frame.payload
            }
            guard let match else { throw Broken(description: "a frame that nobody wrote, or twice: \(frame)") }
            next = match + 1
        }
        let whole = written.filter { files[$0.segment][$0.range] == originals[$0.segment][$0.range] }
        // A frame copied over another place can come first, and stand where it does not belong.
        if !isRaw {
            try hold(
                seen.filter { $0.type != .marker }.count >= whole.count,
                "\(seen.count) frames of \(whole.map(\.number)) that are whole")
        }
        if files == originals {
            try same(scan.gaps.count, 0, "gaps where nothing is damaged")
            try hold(scan.tail == nil, "a torn tail where nothing is damaged")
        }
        for gap in scan.gaps {
            try hold(gap.first <= gap.last && gap.from <= gap.to, "a gap \(gap.first) to \(gap.last)")
        }
        try hold(scan.expected <= (written.last?.number ?? 0) + 1, "frame \(scan.expected) is expected")
    }
}

/// Files that can be read and nothing else, by their descriptor.
private final class MemoryFiles: FileSystem {
    private let files: [[UInt8]]

    init(_ files: [[UInt8]]) { self.files = files }

    private func refusal(_ call: String) -> DiskError { DiskError(call: call, path: "/q", code: 30) }

    func read(_ file: File, into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int {
        let octets = files[Int(file.descriptor)].dropFirst(offset).prefix(buffer.count)
        buffer.copyBytes(from: octets)
        return octets.count
    }

    func size(_ file: File) throws(DiskError) -> Int { files[Int(file.descriptor)].count }
    func close(_ file: File) {}
    func writeBehind(_ descriptor: Int32, from offset: Int, count: Int) {}
    func dropCache(_ file: File) {}
    func open(_ path: String, _ mode: OpenMode) throws(DiskError) -> File { throw refusal("open") }
    func openForGDBM(_ path: String, create: Bool) throws(DiskError) -> Int32 { throw refusal("open") }
    func write(_ file: File, _ octets: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
        throw refusal("write")
    }
    func syncData(_ file: File) throws(DiskError) { throw refusal("fdatasync") }
    func sync(_ file: File) throws(DiskError) { throw refusal("fsync") }
    func syncDirectory(_ path: String) throws(DiskError) { throw refusal("fsync") }
    func truncate(_ file: File, to size: Int) throws(DiskError) { throw refusal("ftruncate") }
    func rename(_ from: String, to: String) throws(DiskError) { throw refusal("rename") }
    func remove(_ path: String) throws(DiskError) { throw refusal("unlink") }
    func makeDirectory(_ path: String) throws(DiskError) { throw refusal("mkdir") }
    func list(_ path: String) throws(DiskError) -> [String] { [] }
    func space(_ path: String) throws(DiskError) -> (octets: UInt64, inodes: UInt64) { (1 << 40, 1 << 20) }
}
