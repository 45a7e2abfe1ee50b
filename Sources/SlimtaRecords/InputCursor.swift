// Reads what OutputBuffer wrote: every length is checked, nothing that a file says can make it trap.
//
// What is called for each number is inlinable, so that the storages' loops over records have no calls in them. Of a
// `package` type that takes `@usableFromInline` on the type itself: without it the compiler ignores `@inlinable` in it.

/// What was read is not what is written by this program.
@frozen @usableFromInline package struct FormatError: Error, Hashable {
    /// What was being read.
    @usableFromInline package let what: StaticString

    /// `what` was being read.
    @inlinable package init(_ what: StaticString) { self.what = what }

    /// Whether the same was being read.
    @usableFromInline package static func == (a: FormatError, b: FormatError) -> Bool { a.text == b.text }
    /// By its text.
    @usableFromInline package func hash(into hasher: inout Hasher) { hasher.combine(text) }
    /// What was being read, for messages.
    package var text: String { "\(what)" }
}

/// A tagged value; valid as long as what it was read from.
@frozen @usableFromInline package struct Field {
    /// What it is, in the words of the record that it stands in.
    @usableFromInline package let tag: UInt8
    /// Its octets, without tag and length.
    @usableFromInline package let value: UnsafeRawBufferPointer

    /// A field that stands alone.
    @inlinable package init(tag: UInt8, value: UnsafeRawBufferPointer) {
        self.tag = tag
        self.value = value
    }
}

/// A position in octets that are read from front to back.
@frozen @usableFromInline package struct InputCursor {
    /// What was not read yet.
    @usableFromInline package private(set) var rest: UnsafeRawBufferPointer

    /// At the front of `octets`, which have to outlive it.
    @inlinable package init(_ octets: UnsafeRawBufferPointer) { rest = octets }

    /// Whether all was read.
    @inlinable package var isAtEnd: Bool { rest.isEmpty }

    /// The next number.
    @inlinable @inline(__always)
    package mutating func number<Number: FixedWidthInteger>(_: Number.Type = Number.self) throws(FormatError) -> Number
    {
        guard rest.count >= MemoryLayout<Number>.size else { throw FormatError("number") }
        let number = Number(littleEndian: rest.loadUnaligned(as: Number.self))
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(MemoryLayout<Number>.size))
        return number
    }

    /// The next `count` octets.
    @inlinable @inline(__always)
    package mutating func octets(_ count: Int) throws(FormatError) -> UnsafeRawBufferPointer {
        guard count >= 0, rest.count >= count else { throw FormatError("octets") }
        let value = UnsafeRawBufferPointer(rebasing: rest.prefix(count))
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
        return value
    }

    /// The next field; nil at the end.
    @inlinable @inline(__always)
    package mutating func field() throws(FormatError) -> Field? {
        if rest.isEmpty { return nil }
        let tag: UInt8 = try number()
        let length: UInt32 = try number()
        return Field(tag: tag, value: try octets(Int(length)))
    }
}

extension Field {
    /// The value as a number, all of it.
    @inlinable @inline(__always)
    package func number<Number: FixedWidthInteger>(_: Number.Type = Number.self) throws(FormatError) -> Number {
        guard value.count == MemoryLayout<Number>.size else { throw FormatError("number field") }
        return Number(littleEndian: value.loadUnaligned(as: Number.self))
    }

    /// The value as text; what is not UTF-8 is replaced.
    @inlinable package var text: String { String(decoding: value, as: UTF8.self) }
    /// At the front of the value.
    @inlinable package var cursor: InputCursor { InputCursor(value) }
}

extension UnsafeRawBufferPointer {
    /// The little-endian number at `offset`, which must be inside.
    @inlinable @inline(__always)
    package func number<Number: FixedWidthInteger>(at offset: Int, as: Number.Type = Number.self) -> Number {
        Number(littleEndian: loadUnaligned(fromByteOffset: offset, as: Number.self))
    }
}
