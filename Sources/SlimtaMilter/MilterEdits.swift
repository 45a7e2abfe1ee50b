// What a milter changes (reference/content.md section 2.5), as values. MilterSessionMachine collects them and drops them if
// the message is refused after all; MilterMail applies them.

package import NIOCore
package import SlimtaMail

/// One change of a message.
package enum MilterEdit: Hashable, Sendable {
    /// h: a field behind the last.
    case append(MilterField)
    /// i: a field at this position of the header as it will be delivered, our Received counted.
    case insert(MilterField, at: Int)
    /// m: the field of this name, of which it is the `index`th, from 1, our Received not counted. Where there is none: as
    /// ``append(_:)``.
    case change(MilterField, index: Int)
    /// m without a value: the field is taken out, if it is there.
    case delete(name: String, index: Int)
    /// + and 2: one more recipient, with parameters of RCPT.
    case addRecipient(Mailbox, parameters: [String])
    /// -: a recipient less. An address as the milter wrote it, without angle brackets.
    case removeRecipient(String)
    /// e: another sender, with parameters of MAIL.
    case sender(Mailbox?, parameters: [String])
    /// q: the message is stored and held.
    case quarantine(reason: String)

    /// Octets that it keeps in memory, about.
    var size: Int {
        switch self {
        case .append(let field), .insert(let field, _), .change(let field, _): 64 + field.packetSize
        case .delete(let name, _): 64 + name.utf8.count
        case .addRecipient(let mailbox, let parameters):
            64 + mailbox.text.utf8.count + parameters.reduce(0) { $0 + $1.utf8.count }
        case .removeRecipient(let text): 64 + text.utf8.count
        case .sender(let mailbox, let parameters):
            64 + (mailbox?.text.utf8.count ?? 0) + parameters.reduce(0) { $0 + $1.utf8.count }
        case .quarantine(let reason): 64 + reason.utf8.count
        }
    }
}

/// All that one milter changes of one message.
package struct MilterEdits: Hashable, Sendable {
    /// Octets of edits without the body: what makes more has lost its way.
    private static let mostOctets = 1 << 20

    /// Changes in their order.
    package private(set) var list: [MilterEdit] = []
    /// The new body, with CRLF at every line end and at its own; nil: it stays.
    package private(set) var body: ByteBuffer?
    private var octets = 0
    /// Whether other edits have come behind the new body.
    private var isBodyOver = false

    /// No changes.
    package init() {}

    /// Whether there are none.
    package var isEmpty: Bool { list.isEmpty && body == nil }

    /// Adds one, without asking how many there are.
    mutating func add(_ edit: MilterEdit) { list.append(edit) }

    /// Adds one of a milter.
    mutating func take(_ edit: MilterEdit) throws(MilterFault) {
        octets += edit.size
        guard octets <= Self.mostOctets else { throw .tooMuch }
        isBodyOver = body != nil
        list.append(edit)
    }

    /// Adds a piece of the new body, of which there may be `most` octets.
    mutating func take(body piece: ByteBuffer, most: Int) throws(MilterFault) {
        guard !isBodyOver else { throw .bodyInPieces }
        guard (body?.readableBytes ?? 0) + piece.readableBytes <= most else { throw .tooMuch }
        if body == nil { body = ByteBuffer() }
        body?.writeImmutableBuffer(piece)
    }

    /// The same, the new body as it is stored: every CR and every LF makes a line end, and the last line has one.
    func completed() -> MilterEdits {
        guard let body else { return self }
        var edits = self
        edits.body = body.withUnsafeReadableBytes { hasCleanLines($0) } ? body : cleanLines(of: body)
        return edits
    }
}

/// Whether CR and LF are in it as CRLF only, and at the end.
private func hasCleanLines(_ octets: UnsafeRawBufferPointer) -> Bool {
    var start = 0
    while let lineFeed = octets.firstOffset(of: UInt8(ascii: "\n"), from: start) {
        guard lineFeed > start, octets.firstOffset(of: UInt8(ascii: "\r"), from: start, to: lineFeed) == lineFeed - 1
        else { return false }
        start = lineFeed + 1
    }
    return start == octets.count
}

private func cleanLines(of body: ByteBuffer) -> ByteBuffer {
    var clean = ByteBuffer()
    clean.reserveCapacity(body.readableBytes + body.readableBytes / 16 + 2)
    var previous: UInt8 = UInt8(ascii: "\n")
    for octet in body.readableBytesView {
        switch octet {
        case UInt8(ascii: "\r"): clean.writeInteger(0x0D0A as UInt16)
        // The other half of a CRLF that is there already.
        case UInt8(ascii: "\n") where previous == UInt8(ascii: "\r"): break
        case UInt8(ascii: "\n"): clean.writeInteger(0x0D0A as UInt16)
        default: clean.writeInteger(octet)
        }
        previous = octet
    }
    let endsLine = previous == UInt8(ascii: "\r") || previous == UInt8(ascii: "\n")
    if !endsLine { clean.writeInteger(0x0D0A as UInt16) }
    return clean
}
