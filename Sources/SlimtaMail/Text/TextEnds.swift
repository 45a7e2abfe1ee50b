// Where lines of a message end, and what must not be in them: for the readers of messages, DataReader (SlimtaSMTP) and
// ContentReader.

/// Finds the CR, LF and NUL among octets. Where each of them is next is kept: else octets that are nothing but CR would
/// be searched through for a LF from every one of them.
@frozen package struct TextEnds {
    @usableFromInline let octets: UnsafeRawBufferPointer
    @usableFromInline var carriageReturn = -1
    @usableFromInline var lineFeed = -1
    @usableFromInline var null = -1

    /// Among `octets`, which have to outlive it.
    @inlinable package init(_ octets: UnsafeRawBufferPointer) { self.octets = octets }

    /// The offset of the next CR, LF or NUL, or the end. Offsets are asked for in rising order.
    @inlinable package mutating func next(from offset: Int) -> Int {
        if carriageReturn < offset { carriageReturn = find(UInt8(ascii: "\r"), from: offset) }
        if lineFeed < offset { lineFeed = find(UInt8(ascii: "\n"), from: offset) }
        if null < offset { null = find(0, from: offset) }
        return min(carriageReturn, lineFeed, null)
    }

    @inlinable func find(_ octet: UInt8, from offset: Int) -> Int {
        octets.firstOffset(of: octet, from: offset) ?? octets.count
    }
}
