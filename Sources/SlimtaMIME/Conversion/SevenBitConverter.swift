// The second of two passes through a message that becomes 7-bit: it does what ConversionPlanner has decided, while the
// message passes on its way to a host.

package import NIOCore
internal import SlimtaMail

/// Converts a message, some octets at a time. The octets are those that the plan was made of.
package struct SevenBitConverter {
    private var walker: MIMEWalker<ConversionVisitor>
    /// Octets that were given out.
    package private(set) var size = 0

    /// Carries out `plan`.
    package init(_ plan: ConversionPlan) { walker = MIMEWalker(ConversionVisitor(plan)) }

    /// What the next octets, cut anywhere, have come to: perhaps nothing yet.
    package mutating func read(_ octets: ByteBuffer) -> ByteBuffer {
        walker.read(octets)
        return taken()
    }

    /// What is left when the message is over.
    package mutating func finish() -> ByteBuffer {
        walker.finish()
        return taken()
    }

    private mutating func taken() -> ByteBuffer {
        defer { walker.visitor.output = ByteBuffer() }
        size += walker.visitor.output.readableBytes
        return walker.visitor.output
    }
}

extension ConversionPlan {
    /// A message that is in memory, converted.
    package func applied(to message: ByteBuffer) -> ByteBuffer {
        var converter = SevenBitConverter(self)
        var converted = converter.read(message)
        converted.writeImmutableBuffer(converter.finish())
        return converted
    }
}

private struct ConversionVisitor: MIMEVisitor {
    private struct Level {
        let change: ConversionPlan.Change
        /// Whether the header of another message is to follow its own, and no empty line is between them.
        let isCut: Bool
        /// Whether the line end is written that is left of what is behind the parts.
        var hasEpilogue = false
    }

    private let plan: ConversionPlan
    private var open: [Level] = []
    /// Of the part that is encoded, with all that is in it.
    private var encoder: (index: Int, body: BodyEncoder)?
    /// Whether what was encoded last ends within a line. The line end before a delimiter is encoded with it where it ends a line
    /// of a header: of a message without content.
    private var isWithinLine = false
    var output = ByteBuffer()

    init(_ plan: ConversionPlan) { self.plan = plan }

    mutating func begin(_ entity: MIMEEntity) {
        let change = plan.changes[entity.index] ?? .init()
        // Fields that are new must not come into the header of the message that this one is in.
        if encoder == nil, change.changesHeader, open.last?.isCut == true { output.writeStaticString("\r\n") }
        let isCut = entity.form == .message && entity.headerEnd == .cut && !change.changesHeader
        open.append(Level(change: change, isCut: isCut))
        if encoder != nil {
            entity.mailboxLines.withUnsafeReadableBytes { encode($0) }
            entity.header.withUnsafeReadableBytes { encode($0) }
            return
        }
        output.writeImmutableBuffer(entity.mailboxLines)
        output.writeImmutableBuffer(entity.header(changedBy: change))
        if let body = change.body { encoder = (entity.index, BodyEncoder(body)) }
    }

    mutating func take(_ octets: UnsafeRawBufferPointer, as place: MIMEPlace) {
        guard encoder == nil else { return encode(octets) }
        guard let last = open.indices.last else { return }
        if isWithinLine, octets.first == UInt8(ascii: "-") { output.writeStaticString("\r\n") }
        isWithinLine = false
        switch place {
        case .preamble where open[last].change.dropsPreamble: break
        case .epilogue where open[last].change.dropsEpilogue:
            if !open[last].hasEpilogue { output.writeStaticString("\r\n") }
            open[last].hasEpilogue = true
        case .preamble, .epilogue, .body, .delimiter: output.writeBytes(octets)
        }
    }

    mutating func end(_ index: Int, isAtEnd: Bool) {
        open.removeLast()
        guard encoder?.index == index else { return }
        encoder?.body.finish(isAtEnd: isAtEnd, to: &output)
        isWithinLine = !isAtEnd && encoder?.body.isWithinLine == true
        encoder = nil
    }

    private mutating func encode(_ octets: UnsafeRawBufferPointer) { encoder?.body.write(octets, to: &output) }
}

extension ConversionPlan.Change {
    /// Whether the header is written anew. Where it has no end it gets one: the first line of the content is none because it
    /// is no field, and it may become one.
    fileprivate var changesHeader: Bool {
        encoding != nil || charset != nil || getsVersion || encodesHeader || body != nil
    }
}

extension MIMEEntity {
    /// The header as the plan wants it: fields in their order, what is new behind them.
    fileprivate func header(changedBy change: ConversionPlan.Change) -> ByteBuffer {
        guard change.changesHeader else { return header }
        var edits: [Int: [UInt8]] = [:]
        if change.encodesHeader {
            for edit in HeaderContainment(of: fields, in: header).edits { edits[edit.range.lowerBound] = edit.field }
        }
        let octets = header.readableBytesView
        let label = change.encoding.map { "Content-Transfer-Encoding: \($0)\r\n" }
        var written = ByteBuffer()
        var isLabelled = false
        for field in fields.fields {
            if let label, field.isNamed("content-transfer-encoding", in: header) {
                // Of several the first one is read.
                if !isLabelled { written.writeString(label) }
                isLabelled = true
            } else if let edit = edits[field.range.lowerBound] {
                written.writeBytes(edit)
            } else {
                let raw = octets[
                    (octets.startIndex + field.range.lowerBound)..<(octets.startIndex + field.range.upperBound)]
                written.writeBytes(raw)
                if raw.last != UInt8(ascii: "\n") { written.writeStaticString("\r\n") }
            }
        }
        if change.getsVersion { written.writeStaticString("MIME-Version: 1.0\r\n") }
        if let charset = change.charset { written.writeString("Content-Type: text/plain; charset=\(charset)\r\n") }
        if let label, !isLabelled { written.writeString(label) }
        // Where the empty line was missing, content would now seem to be a field, or the header to go on.
        if headerEnd != .end { written.writeStaticString("\r\n") }
        return written
    }
}
