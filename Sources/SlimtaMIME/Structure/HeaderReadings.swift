// The header of a part that has lines which are no fields, as clients read it that do not end it there. Collected by
// MIMEWalker for whoever must see what any client sees.

internal import NIOCore
internal import SlimtaMail

/// What is made of such a header. Some clients (Python's email package) end it at the first line that is no field: what is behind
/// that is content for them. Others pass over the line (Thunderbird), over what is folded behind it too or not, or take it for
/// a continuation of the line before.
struct HeaderReadings {
    /// Without such lines, and without what is folded behind them.
    private var without: ByteBuffer
    /// Without such lines alone.
    private var unfolded: ByteBuffer
    /// With such lines folded behind what is before them.
    private var joined: ByteBuffer
    private var isBehindJunk = false

    /// What stands before the first such line is `header`.
    init(behind header: ByteBuffer) { (without, unfolded, joined) = (header, header, header) }

    /// A field's line, the first or a folded one.
    mutating func append(_ line: UnsafeRawBufferPointer) {
        let isFolded = line.first == 0x20 || line.first == 0x09
        if !isFolded { isBehindJunk = false }
        if !isBehindJunk { without.writeBytes(line) }
        if !isFolded || unfolded.readableBytes > 0 { unfolded.writeBytes(line) }
        if !isFolded || joined.readableBytes > 0 { joined.writeBytes(line) }
    }

    /// A line that is no field's.
    mutating func append(junk line: UnsafeRawBufferPointer) {
        isBehindJunk = true
        if joined.readableBytes > 0 {
            joined.writeInteger(UInt8(0x20))
            joined.writeBytes(line)
            return
        }
        // A field that begins with blanks, where there is none that it could be folded behind.
        let text = UnsafeRawBufferPointer(rebasing: line.drop { $0 == 0x20 || $0 == 0x09 })
        if HeaderBlock.isField(text, 0..<text.count) { joined.writeBytes(text) }
    }

    /// Headers that have fields only.
    var all: [ByteBuffer] {
        var all = [without]
        for reading in [unfolded, joined] where !all.contains(reading) { all.append(reading) }
        return all
    }
}
