// Where records are encoded: memory aligned for direct I/O that grows, and the little-endian, tagged way in which
// everything of a storage is written down. What is called for each number is inlinable: see InputCursor.

import CLinux
import Glibc
package import NIOCore

/// A growing buffer of encoded records.
///
/// Integers are little-endian. A field is: tag (1 octet), length (4), value. Fields nest; a reader passes over tags that
/// it does not know.
///
/// `@unchecked Sendable`: it has one owner at a time, handed on under a lock.
@usableFromInline package final class OutputBuffer: @unchecked Sendable {
    /// The unit of the disk: what is aligned is aligned to this.
    @inlinable package static var page: Int { 4096 }

    // That nobody else has them is known, and checking it anew for each number costs more than writing it. Other modules do
    // not hear of that, and check what they touch themselves: they are given what reads it, to be inlined.
    @exclusivity(unchecked) @usableFromInline private(set) var start: UnsafeMutableRawPointer
    @exclusivity(unchecked) @usableFromInline private(set) var room: Int
    @exclusivity(unchecked) @usableFromInline private(set) var written = 0

    /// Where the octets are, until more are appended.
    @inlinable package var base: UnsafeMutableRawPointer { start }
    /// How many octets there is room for.
    @inlinable package var capacity: Int { room }
    /// How many octets were written.
    @inlinable package var count: Int { written }

    /// An empty one with room for `capacity` octets.
    package init(capacity: Int = 64 << 10) {
        room = roundedUp(max(capacity, 1), to: Self.page)
        start = .allocate(byteCount: room, alignment: Self.page)
    }

    deinit { start.deallocate() }

    /// What was written, valid while the buffer lives: for code that was handed the buffer, so that somebody holds it.
    @inlinable package var octets: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: written) }

    /// A copy of what was written.
    package var array: [UInt8] { Array(octets) }

    /// Forgets what was written; the room stays.
    @inlinable package func removeAll() { written = 0 }

    /// Forgets what was written behind `count`.
    @inlinable package func truncate(to count: Int) {
        precondition(count <= written)
        written = count
    }

    /// Makes room for as many octets more.
    @inlinable @inline(__always)
    package func reserve(_ additional: Int) {
        if additional > room - written { grow(additional) }
    }

    @inline(never) @usableFromInline
    func grow(_ additional: Int) {
        let wanted = roundedUp(max(written + additional, room * 2), to: Self.page)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: Self.page)
        larger.copyMemory(from: start, byteCount: written)
        start.deallocate()
        start = larger
        room = wanted
    }

    /// Room for `size` octets that the caller writes, all of them, before anything else is appended.
    @inlinable @inline(__always)
    package func extend(_ size: Int) -> UnsafeMutableRawPointer {
        reserve(size)
        defer { written += size }
        return start + written
    }

    /// A number.
    @inlinable @inline(__always)
    package func append<Number: FixedWidthInteger>(_ number: Number) {
        extend(MemoryLayout<Number>.size).store(number)
    }

    /// Octets as they are.
    @inlinable package func append(_ octets: UnsafeRawBufferPointer) {
        guard let first = octets.baseAddress, octets.count > 0 else { return }
        extend(octets.count).copyMemory(from: first, byteCount: octets.count)
    }

    /// Text as UTF-8.
    @inlinable package func append(_ text: String) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    /// Text as UTF-8.
    @inlinable package func append(_ text: Substring) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    /// What is readable of `buffer`.
    package func append(_ buffer: ByteBuffer) { buffer.withUnsafeReadableBytes { append($0) } }

    /// Zeros up to a multiple of `alignment`.
    package func pad(to alignment: Int) {
        let padding = roundedUp(written, to: alignment) - written
        memset(extend(padding), 0, padding)
    }

    /// Overwrites a number that was written at `offset`.
    @inlinable package func patch<Number: FixedWidthInteger>(_ number: Number, at offset: Int) {
        precondition(offset + MemoryLayout<Number>.size <= written)
        (start + offset).store(number)
    }

    /// Begins a field; `end` is told what this returns.
    @inlinable @inline(__always)
    package func begin(_ tag: UInt8) -> Int {
        append(tag)
        append(UInt32(0))
        return written
    }

    /// Ends a field: its length is now known.
    @inlinable @inline(__always)
    package func end(_ start: Int) { patch(UInt32(written - start), at: start - 4) }

    /// A field with a number.
    @inlinable @inline(__always)
    package func field<Number: FixedWidthInteger>(_ tag: UInt8, _ number: Number) {
        field(tag, size: MemoryLayout<Number>.size).store(number)
    }

    /// A field with text; an empty text is no field.
    @inlinable package func field(_ tag: UInt8, _ text: String) {
        if text.isEmpty { return }
        var text = text
        text.withUTF8 { field(tag, UnsafeRawBufferPointer($0)) }
    }

    /// A field with octets.
    @inlinable package func field(_ tag: UInt8, _ octets: UnsafeRawBufferPointer) {
        let value = field(tag, size: octets.count)
        if let first = octets.baseAddress { value.copyMemory(from: first, byteCount: octets.count) }
    }

    /// A field whose value, of `size` octets, the caller writes: see ``extend(_:)``.
    @inlinable @inline(__always)
    package func field(_ tag: UInt8, size: Int) -> UnsafeMutableRawPointer {
        let field = extend(5 + size)
        field.store(tag)
        field.store(UInt32(size), at: 1)
        return field + 5
    }
}

extension UnsafeMutableRawPointer {
    /// Writes a little-endian number.
    @inlinable @inline(__always)
    package func store<Number: FixedWidthInteger>(_ number: Number, at offset: Int = 0) {
        storeBytes(of: number.littleEndian, toByteOffset: offset, as: Number.self)
    }
}

/// `number`, or the next multiple of `unit` above it.
@inlinable @inline(__always)
package func roundedUp(_ number: Int, to unit: Int) -> Int { (number + unit - 1) / unit * unit }

/// The CRC32C of `octets` behind what `crc` is of.
@usableFromInline package func crc32c(_ crc: UInt32, _ octets: UnsafeRawBufferPointer) -> UInt32 {
    slimta_crc32c(crc, octets.baseAddress, octets.count)
}

/// The CRC32C that begins with a salt: what is checked with it cannot come from another file, or from a message.
@inlinable package func crc32c(salt: UInt64) -> UInt32 {
    withUnsafeBytes(of: salt.littleEndian) { crc32c(0, $0) }
}
