// Where records are encoded: memory aligned for direct I/O that grows, and the little-endian, tagged way in which
// everything of the storage is written down.

import CLinux
import Glibc
import NIOCore

/// A growing buffer of encoded records.
///
/// Integers are little-endian. A field is: tag (1 octet), length (4), value. Fields nest; a reader passes over tags that
/// it does not know.
///
/// `@unchecked Sendable`: it has one owner at a time, handed on under a lock.
final class OutputBuffer: @unchecked Sendable {
    /// The unit of the disk: what is aligned is aligned to this.
    static let page = 4096

    // That nobody else has them is known, and checking it anew for each number costs more than writing it.
    @exclusivity(unchecked) private(set) var base: UnsafeMutableRawPointer
    @exclusivity(unchecked) private(set) var capacity: Int
    @exclusivity(unchecked) private(set) var count = 0

    init(capacity: Int = 64 << 10) {
        self.capacity = roundedUp(max(capacity, 1), to: Self.page)
        base = .allocate(byteCount: self.capacity, alignment: Self.page)
    }

    deinit { base.deallocate() }

    /// What was written, valid while the buffer lives: for code that was handed the buffer, so that somebody holds it.
    var octets: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// A copy of what was written.
    var array: [UInt8] { Array(octets) }

    func removeAll() { count = 0 }

    /// Forgets what was written behind `count`.
    func truncate(to count: Int) {
        precondition(count <= self.count)
        self.count = count
    }

    @inline(__always)
    func reserve(_ additional: Int) {
        if additional > capacity - count { grow(additional) }
    }

    @inline(never)
    private func grow(_ additional: Int) {
        let wanted = roundedUp(max(count + additional, capacity * 2), to: Self.page)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: Self.page)
        larger.copyMemory(from: base, byteCount: count)
        base.deallocate()
        base = larger
        capacity = wanted
    }

    /// Room for `size` octets that the caller writes, all of them, before anything else is appended.
    @inline(__always)
    func extend(_ size: Int) -> UnsafeMutableRawPointer {
        reserve(size)
        defer { count += size }
        return base + count
    }

    @inline(__always)
    func append<Number: FixedWidthInteger>(_ number: Number) {
        extend(MemoryLayout<Number>.size).store(number)
    }

    func append(_ octets: UnsafeRawBufferPointer) {
        guard let start = octets.baseAddress, octets.count > 0 else { return }
        extend(octets.count).copyMemory(from: start, byteCount: octets.count)
    }

    func append(_ text: String) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    func append(_ text: Substring) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    func append(_ buffer: ByteBuffer) { buffer.withUnsafeReadableBytes { append($0) } }

    /// Zeros up to a multiple of `alignment`.
    func pad(to alignment: Int) {
        let padding = roundedUp(count, to: alignment) - count
        memset(extend(padding), 0, padding)
    }

    /// Overwrites a number that was written at `offset`.
    func patch<Number: FixedWidthInteger>(_ number: Number, at offset: Int) {
        precondition(offset + MemoryLayout<Number>.size <= count)
        (base + offset).store(number)
    }

    /// Begins a field; `end` is told what this returns.
    @inline(__always)
    func begin(_ tag: UInt8) -> Int {
        append(tag)
        append(UInt32(0))
        return count
    }

    /// Ends a field: its length is now known.
    @inline(__always)
    func end(_ start: Int) { patch(UInt32(count - start), at: start - 4) }

    /// A field with a number.
    @inline(__always)
    func field<Number: FixedWidthInteger>(_ tag: UInt8, _ number: Number) {
        field(tag, size: MemoryLayout<Number>.size).store(number)
    }

    /// A field with text; an empty text is no field.
    func field(_ tag: UInt8, _ text: String) {
        if text.isEmpty { return }
        var text = text
        text.withUTF8 { field(tag, UnsafeRawBufferPointer($0)) }
    }

    /// A field with the recipients that were accepted so far.
    func field(_ tag: UInt8, _ accepted: AcceptedCount) {
        let value = field(tag, size: 16)
        value.store(accepted.submitted)
        value.store(accepted.notices, at: 8)
    }

    /// A field with octets.
    func field(_ tag: UInt8, _ octets: UnsafeRawBufferPointer) {
        let value = field(tag, size: octets.count)
        if let start = octets.baseAddress { value.copyMemory(from: start, byteCount: octets.count) }
    }

    /// A field whose value, of `size` octets, the caller writes: see ``extend(_:)``.
    @inline(__always)
    func field(_ tag: UInt8, size: Int) -> UnsafeMutableRawPointer {
        let start = extend(5 + size)
        start.store(tag)
        start.store(UInt32(size), at: 1)
        return start + 5
    }
}

extension UnsafeMutableRawPointer {
    /// Writes a little-endian number.
    @inline(__always)
    func store<Number: FixedWidthInteger>(_ number: Number, at offset: Int = 0) {
        storeBytes(of: number.littleEndian, toByteOffset: offset, as: Number.self)
    }
}

/// `number`, or the next multiple of `unit` above it.
@inline(__always)
func roundedUp(_ number: Int, to unit: Int) -> Int { (number + unit - 1) / unit * unit }

/// The CRC32C of `octets` behind what `crc` is of.
@inline(__always)
func crc32c(_ crc: UInt32, _ octets: UnsafeRawBufferPointer) -> UInt32 {
    slimta_crc32c(crc, octets.baseAddress, octets.count)
}

/// The CRC32C that begins with a salt: what is checked with it cannot come from another file, or from a message.
func crc32c(salt: UInt64) -> UInt32 {
    withUnsafeBytes(of: salt.littleEndian) { crc32c(0, $0) }
}
