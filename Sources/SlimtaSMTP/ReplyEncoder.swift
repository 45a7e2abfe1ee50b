// Replies as they go out on the wire. Used by SMTPServerMachine.

internal import NIOCore
internal import SlimtaMail

extension Reply {
    /// Appends the reply to `output`: the enhanced status code stands on every line (RFC 2034 section 4).
    func encode(into output: inout ByteBuffer) {
        for (index, line) in lines.enumerated() {
            output.writeString("\(code)")
            output.writeInteger(index == lines.count - 1 ? UInt8(ascii: " ") : UInt8(ascii: "-"))
            if let status { output.writeString("\(status) ") }
            output.writeString(line)
            output.writeStaticString("\r\n")
        }
    }
}
