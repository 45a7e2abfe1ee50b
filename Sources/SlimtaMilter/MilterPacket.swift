// Packets of the milter protocol, as libmilter and Postfix speak it (reference/content.md section 2.1; there is no RFC):
// four octets of length, most significant first, which count the letter that follows, then data. Written by
// MilterSessionMachine, and read by it.

package import NIOCore

/// One packet: a letter, and what it says.
package struct MilterPacket: Hashable, Sendable {
    /// Octets of data that a packet may have: libmilter closes the connection on one more.
    package static let mostData = 65_535

    /// The letter.
    package let command: UInt8
    /// What is behind the letter.
    package let data: ByteBuffer
}

/// Takes a stream of octets apart into packets.
package struct MilterPacketReader: Sendable {
    private var buffer = ByteBuffer()

    /// A reader that has read nothing.
    package init() {}

    /// Whether there are octets that make no packet yet, or one that nobody has asked for.
    package var hasUnread: Bool { buffer.readableBytes > 0 }

    /// Takes what arrived.
    package mutating func append(_ octets: ByteBuffer) {
        if !hasUnread {
            buffer = octets
            return
        }
        buffer.discardReadBytes()
        buffer.writeImmutableBuffer(octets)
    }

    /// The next packet, nil while it is not whole. What cannot become one is an error at once, not when all of it is there.
    package mutating func next() throws(MilterFault) -> MilterPacket? {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) else { return nil }
        guard length > 0 else { throw .emptyPacket }
        guard length <= MilterPacket.mostData + 1 else { throw .packetTooLong(length) }
        guard buffer.readableBytes >= 4 + Int(length) else { return nil }
        buffer.moveReaderIndex(forwardBy: 4)
        guard let command = buffer.readInteger(as: UInt8.self), let data = buffer.readSlice(length: Int(length) - 1)
        else { return nil }
        return MilterPacket(command: command, data: data)
    }
}

extension ByteBuffer {
    /// Writes a packet. Data beyond ``MilterPacket/mostData`` are cut, and then end with NUL: a milter gets less of what is
    /// that long, not nothing.
    mutating func writeMilterPacket(_ command: Unicode.Scalar, _ write: (inout ByteBuffer) -> Void = { _ in }) {
        let start = writerIndex
        writeInteger(0 as UInt32)
        writeInteger(UInt8(ascii: command))
        write(&self)
        let most = start + 5 + MilterPacket.mostData
        if writerIndex > most {
            moveWriterIndex(to: most - 1)
            writeInteger(0 as UInt8)
        }
        setInteger(UInt32(writerIndex - start - 4), at: start)
    }

    /// Writes a text and the NUL that ends it. NUL within it would end it too early, and make two texts of one: a milter that
    /// counts them closes the connection (rspamd#1740).
    mutating func writeMilterText(_ text: some Sequence<UInt8>) {
        for octet in text { writeInteger(octet == 0 ? UInt8(ascii: "?") : octet) }
        writeInteger(0 as UInt8)
    }

    /// Reads a text up to its NUL; nil if there is none.
    mutating func readMilterText() -> ByteBuffer? {
        let octets = readableBytesView
        guard let end = octets.firstIndex(of: 0) else { return nil }
        let text = readSlice(length: end - octets.startIndex)
        moveReaderIndex(forwardBy: 1)
        return text
    }
}
