// Mail data as it comes in by BDAT (RFC 3030): chunks whose octets are the message's own, with no end to look for and no dots to
// undo. Used by SMTPServerMachine.

internal import NIOCore
internal import SlimtaMail

/// Reads one message's chunks, whatever way the octets were cut: of two faults, the first is the one that is told.
struct ChunkReader {
    private let limit: Int
    /// How many octets the chunks have that were begun.
    private(set) var size = 0
    private var isBehindCR = false
    private var isAtLineStart = true
    /// What is wrong with the message, once something is.
    private(set) var fault: DataReader.Fault?
    /// Whether an octet above 127 was in it.
    private(set) var hasEightBit = false

    /// - Parameter limit: the most octets that a message may have.
    init(limit: Int) { self.limit = limit }

    /// A chunk of `count` octets begins. One that makes the message too large is a fault.
    mutating func begin(_ count: Int) {
        guard count <= limit - size else { return fault = fault ?? .tooLarge }
        size += count
    }

    /// Takes the next octets of a chunk.
    mutating func read(_ octets: ByteBuffer) {
        guard fault == nil else { return }
        octets.withUnsafeReadableBytes { octets in
            if !check(octets) { fault = .bareLineEnd }
            if !hasEightBit { hasEightBit = octets.hasEightBit }
        }
    }

    /// The last chunk is whole.
    ///
    /// - Returns: what is missing of a last line that has no end.
    mutating func finish() -> ByteBuffer {
        if isBehindCR { fault = fault ?? .bareLineEnd }
        if fault != nil || isAtLineStart { return ByteBuffer() }
        isAtLineStart = true
        return ByteBuffer(string: "\r\n")
    }

    /// Whether each CR is followed by LF, each LF behind a CR, and there is no NUL.
    private mutating func check(_ octets: UnsafeRawBufferPointer) -> Bool {
        guard !octets.isEmpty else { return true }
        var position = 0
        if isBehindCR {
            guard octets[0] == UInt8(ascii: "\n") else { return false }
            (isBehindCR, isAtLineStart) = (false, true)
            position = 1
        }
        var ends = TextEnds(octets)
        while position < octets.count {
            let end = ends.next(from: position)
            isAtLineStart = false
            guard end < octets.count else { return true }
            guard octets[end] == UInt8(ascii: "\r") else { return false }
            guard end + 1 < octets.count else {
                isBehindCR = true
                return true
            }
            guard octets[end + 1] == UInt8(ascii: "\n") else { return false }
            isAtLineStart = true
            position = end + 2
        }
        return true
    }
}
