// What a milter is told, and how it is written (reference/content.md section 2.1). Edges and policies make events of what
// their clients say, MilterSessionMachine sends them.

package import NIOCore
package import SlimtaMail

/// Who a client is, for a milter.
package struct MilterClient: Hashable, Sendable {
    /// Where it connects from.
    package enum Address: Hashable, Sendable {
        /// Over the network.
        case ip(IPAddress, port: UInt16)
        /// Over a UNIX socket.
        case local(path: String)
        /// Nobody knows.
        case unknown
    }

    /// Its name; nil: it has none.
    package var name: String?
    /// Where it connects from.
    package var address: Address

    /// A client of this name at this address.
    package init(name: String?, address: Address) {
        self.name = name
        self.address = address
    }
}

/// A question to a milter. One verdict follows on each.
package enum MilterEvent: Hashable, Sendable {
    /// A client connects.
    case connect(MilterClient)
    /// EHLO or HELO with this name; once more after STARTTLS.
    case hello(String)
    /// MAIL: the path with its angle brackets, and each parameter as the client spelled it.
    case mail(path: String, parameters: [String])
    /// RCPT, in the same way.
    case recipient(path: String, parameters: [String])
    /// DATA or the first BDAT.
    case data
    /// The message is there: its fields, as ``MilterMail/fields`` has them. The body is given when it is wanted.
    case message([MilterField])

    /// What of the session it is.
    package var stage: MilterStage {
        switch self {
        case .connect: .connect
        case .hello: .hello
        case .mail: .mail
        case .recipient: .recipient
        case .data: .data
        case .message: .message
        }
    }
}

/// The stages of a session that have a verdict each.
package enum MilterStage: CaseIterable, Hashable, Sendable {
    case connect, hello, mail, recipient, data, message

    /// The event on the wire; the message has several.
    var step: MilterStep? {
        switch self {
        case .connect: .connect
        case .hello: .hello
        case .mail: .mail
        case .recipient: .recipient
        case .data: .data
        case .message: nil
        }
    }

    /// Whether it belongs to one message, not to the session.
    package var isOfMessage: Bool {
        switch self {
        case .connect, .hello: false
        case .mail, .recipient, .data, .message: true
        }
    }
}

/// A header field on its way to a milter, or from one.
package struct MilterField: Hashable, Sendable {
    /// Its name.
    package let name: String
    /// What is behind the colon, folded with CRLF, without the line end behind it.
    package let value: ByteBuffer

    /// A field as it stands in a header.
    package init(name: String, value: ByteBuffer) {
        self.name = name
        self.value = value
    }

    /// Octets of a packet for it, at most.
    var packetSize: Int { name.utf8.count + value.readableBytes + 2 }
}

extension ByteBuffer {
    /// Writes the client of a connection: host NUL, family, port, address NUL. The port is there for UNIX sockets too:
    /// without it libmilter cuts the address.
    mutating func writeMilterClient(_ client: MilterClient) {
        writeMilterPacket("C") { data in
            switch client.address {
            case .ip(let address, let port):
                data.writeMilterText((client.name ?? "[\(address)]").utf8)
                data.writeInteger(UInt8(ascii: address.isIPv4 ? "4" : "6"))
                data.writeInteger(port)
                data.writeMilterText(address.description.utf8)
            case .local(let path):
                data.writeMilterText((client.name ?? "localhost").utf8)
                data.writeInteger(UInt8(ascii: "L"))
                data.writeInteger(0 as UInt16)
                data.writeMilterText(path.utf8)
            case .unknown:
                data.writeMilterText((client.name ?? "unknown").utf8)
                data.writeInteger(UInt8(ascii: "U"))
            }
        }
    }

    /// Writes a packet of texts.
    mutating func writeMilterTexts(_ command: Unicode.Scalar, _ texts: [String]) {
        writeMilterPacket(command) { data in
            for text in texts { data.writeMilterText(text.utf8) }
        }
    }

    /// Writes a field: folds are LF without CR. `keepsBlanks`: with the blank behind the colon, else one is left out, and
    /// only a blank: not a HTAB. What is longer than `most` is cut there.
    mutating func writeMilterField(_ field: MilterField, keepsBlanks: Bool, most: Int = 65_000) {
        writeMilterPacket("L") { data in
            let name = field.name.utf8.prefix(most)
            data.writeMilterText(name)
            var value = field.value.readableBytesView.prefix(most - name.count)
            if !keepsBlanks, value.first == UInt8(ascii: " ") { value = value.dropFirst() }
            guard value.contains(where: { $0 == UInt8(ascii: "\r") || $0 == 0 }) else {
                data.writeBytes(value)
                data.writeInteger(0 as UInt8)
                return
            }
            let isFold = { (index: Int) in
                value[index] == UInt8(ascii: "\r") && index + 1 < value.endIndex
                    && value[index + 1] == UInt8(ascii: "\n")
            }
            data.writeMilterText(value.indices.lazy.filter { !isFold($0) }.map { value[$0] })
        }
    }
}
