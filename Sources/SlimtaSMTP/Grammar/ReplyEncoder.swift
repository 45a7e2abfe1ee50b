// Replies as they go out on the wire. Used by SMTPServerMachine.

internal import NIOCore
internal import SlimtaMail

extension Reply {
    /// Appends the reply to `output`: the enhanced status code stands on every line (RFC 2034 section 4).
    func encode(into output: inout ByteBuffer) {
        output.reserveCapacity(minimumWritableBytes: lines.reduce(0) { $0 + $1.utf8.count + 16 })
        // Three digits; what comes behind them tells the last line from the others.
        let code = UInt32(self.code)
        let digits = (0x30 + code / 100) << 24 | (0x30 + code / 10 % 10) << 16 | (0x30 + code % 10) << 8
        let status = status.map { "\($0) " }
        for (index, line) in lines.enumerated() {
            output.writeInteger(digits | UInt32(UInt8(ascii: index == lines.count - 1 ? " " : "-")))
            if let status { output.writeString(status) }
            output.writeString(line)
            output.writeInteger(0x0D0A as UInt16)
        }
    }
}
