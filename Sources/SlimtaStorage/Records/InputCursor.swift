// Reads what OutputBuffer wrote: every length is checked, nothing that a file says can make it trap.

import NIOCore

/// What was read is not what is written by this program.
struct FormatError: Error, Hashable {
    /// What was being read.
    let what: StaticString

    init(_ what: StaticString) { self.what = what }

    static func == (a: FormatError, b: FormatError) -> Bool { a.text == b.text }
    func hash(into hasher: inout Hasher) { hasher.combine(text) }
    var text: String { "\(what)" }
}

/// A tagged value; valid as long as what it was read from.
struct Field {
    let tag: UInt8
    let value: UnsafeRawBufferPointer
}

/// A position in octets that are read from front to back.
struct InputCursor {
    private(set) var rest: UnsafeRawBufferPointer

    init(_ octets: UnsafeRawBufferPointer) { rest = octets }

    var isAtEnd: Bool { rest.isEmpty }

    /// The next number.
    @inline(__always)
    mutating func number<Number: FixedWidthInteger>(_: Number.Type = Number.self) throws(FormatError) -> Number {
        guard rest.count >= MemoryLayout<Number>.size else { throw FormatError("number") }
        let number = Number(littleEndian: rest.loadUnaligned(as: Number.self))
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(MemoryLayout<Number>.size))
        return number
    }

    /// The next `count` octets.
    @inline(__always)
    mutating func octets(_ count: Int) throws(FormatError) -> UnsafeRawBufferPointer {
        guard count >= 0, rest.count >= count else { throw FormatError("octets") }
        let value = UnsafeRawBufferPointer(rebasing: rest.prefix(count))
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
        return value
    }

    /// The next field; nil at the end.
    @inline(__always)
    mutating func field() throws(FormatError) -> Field? {
        if rest.isEmpty { return nil }
        let tag: UInt8 = try number()
        let length: UInt32 = try number()
        return Field(tag: tag, value: try octets(Int(length)))
    }
}

extension Field {
    /// The value as a number, all of it.
    @inline(__always)
    func number<Number: FixedWidthInteger>(_: Number.Type = Number.self) throws(FormatError) -> Number {
        guard value.count == MemoryLayout<Number>.size else { throw FormatError("number field") }
        return Number(littleEndian: value.loadUnaligned(as: Number.self))
    }

    var text: String { String(decoding: value, as: UTF8.self) }
    var cursor: InputCursor { InputCursor(value) }
}
