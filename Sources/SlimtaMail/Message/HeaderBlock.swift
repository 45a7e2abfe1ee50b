// Where the header fields of a message are. Octets are never changed here: policies look fields up by name, and the
// edge removes whole fields (Bcc) by their ranges.

package import NIOCore

/// The header of a message (RFC 5322 section 2.2) as ranges of its octets.
package struct HeaderBlock: Sendable {
    /// One field: its name and all of its lines.
    package struct Field: Hashable, Sendable {
        /// The name, without the colon and blanks before it. Offsets into the scanned octets.
        package let name: Range<Int>
        /// The field with its folded lines and its last CRLF.
        package let range: Range<Int>

        /// The name as it is written. `buffer` is what was scanned, as for all that follow.
        package func name(in buffer: ByteBuffer) -> String {
            String(decoding: octets(name, buffer), as: UTF8.self)
        }

        /// Whether it is called `name` (lower case).
        package func isNamed(_ name: StaticString, in buffer: ByteBuffer) -> Bool {
            buffer.withUnsafeReadableBytes { matches(name, $0, self.name) }
        }

        /// The offset behind the colon.
        package func valueOffset(in buffer: ByteBuffer) -> Int {
            let behind = octets(name.upperBound..<range.upperBound, buffer)
            return name.upperBound + behind.prefix { $0 != UInt8(ascii: ":") }.count + 1
        }

        /// What is behind the colon, folded as it is, without the line end behind it.
        package func value(in buffer: ByteBuffer) -> ByteBufferView {
            var value = octets(valueOffset(in: buffer)..<range.upperBound, buffer)
            if value.last == UInt8(ascii: "\n") { value = value.dropLast() }
            if value.last == UInt8(ascii: "\r") { value = value.dropLast() }
            return value
        }

        private func octets(_ range: Range<Int>, _ buffer: ByteBuffer) -> ByteBufferView {
            let view = buffer.readableBytesView
            return view[view.startIndex + range.lowerBound..<view.startIndex + range.upperBound]
        }
    }

    /// The fields in their order.
    package let fields: [Field]
    /// The offset behind the header and the empty line that ends it: where the body begins.
    package let end: Int
    /// Whether the header ended as RFC 5322 section 2.1 wants: at an empty line, or at the end of the octets. False if it
    /// was cut off by a line that is no field; that line then is at `end`.
    package let isWellFormed: Bool
    /// Whether the end of the header was seen. False: the octets ended within it, perhaps within the line at `end`, of
    /// which more octets could make a field or the empty line.
    package let isComplete: Bool

    /// Scans the readable octets of `buffer`, lines ended by CRLF. Linear, and stops at the first empty line.
    package init(scanning buffer: ByteBuffer) {
        (fields, end, isWellFormed, isComplete) = buffer.withUnsafeReadableBytes { octets in
            var fields: [Field] = []
            var offset = 0
            while offset < octets.count {
                let next = octets.endOfLine(from: offset)
                // Only a whole line can say that it is no field.
                let isWhole = octets[next - 1] == UInt8(ascii: "\n")
                let first = octets[offset]
                if isEmpty(octets, offset..<next) { return (fields, next, true, true) }
                if first == UInt8(ascii: " ") || first == UInt8(ascii: "\t") {
                    // A folded line (RFC 5322 section 2.2.3) belongs to the field before it; the first has none.
                    guard let field = fields.popLast() else { return (fields, offset, false, isWhole) }
                    fields.append(Field(name: field.name, range: field.range.lowerBound..<next))
                } else if let name = fieldName(in: octets, offset..<next) {
                    fields.append(Field(name: name, range: offset..<next))
                } else {
                    return (fields, offset, false, isWhole)
                }
                offset = next
            }
            return (fields, offset, true, false)
        }
    }

    /// The lines of a mailbox file ("From a@b Sat Jan ...", ">From ...") at the beginning of a message, with which programs
    /// hand over what they took out of one: how many, and where they end. None if no field follows: then they are text.
    ///
    /// They are no part of the message. Whoever looks at the header of what a client sends passes over them: they are
    /// dropped before it is stored, and what is behind them is its header.
    package static func mailboxLines(in octets: UnsafeRawBufferPointer) -> (count: Int, end: Int) {
        var (count, end) = (0, 0)
        while octets[end...].starts(with: "From ".utf8) || octets[end...].starts(with: ">From ".utf8) {
            let next = octets.endOfLine(from: end)
            // "From : a@b" is a field.
            if isField(octets, end..<next) { break }
            (count, end) = (count + 1, next)
        }
        guard count > 0, end < octets.count, isField(octets, end..<octets.endOfLine(from: end)) else { return (0, 0) }
        return (count, end)
    }

    /// Whether a line begins a field.
    package static func isField(_ octets: UnsafeRawBufferPointer, _ line: Range<Int>) -> Bool {
        fieldName(in: octets, line) != nil
    }

    /// The fields named `name` (lower case) in `buffer`, which is what was scanned.
    package func fields(named name: StaticString, in buffer: ByteBuffer) -> [Field] {
        buffer.withUnsafeReadableBytes { octets in fields.filter { matches(name, octets, $0.name) } }
    }

    /// Which of `names` (lower case) each field has, in the order of the fields; nil: none of them.
    package func kinds(of names: [StaticString], in buffer: ByteBuffer) -> [Int?] {
        buffer.withUnsafeReadableBytes { octets in
            fields.map { field in names.firstIndex { matches($0, octets, field.name) } }
        }
    }

    /// The fields whose names begin with `start` (lower case).
    package func fields(in buffer: ByteBuffer, namesBeginningWith start: StaticString) -> [Field] {
        buffer.withUnsafeReadableBytes { octets in
            fields.filter { field in
                let end = field.name.lowerBound + start.utf8CodeUnitCount
                return end <= field.name.upperBound && matches(start, octets, field.name.lowerBound..<end)
            }
        }
    }

    /// Whether there is a field named `name` (lower case).
    package func has(_ name: StaticString, in buffer: ByteBuffer) -> Bool {
        buffer.withUnsafeReadableBytes { octets in fields.contains { matches(name, octets, $0.name) } }
    }
}

private func matches(_ name: StaticString, _ octets: UnsafeRawBufferPointer, _ range: Range<Int>) -> Bool {
    guard range.count == name.utf8CodeUnitCount else { return false }
    for (index, offset) in range.enumerated() {
        guard octets[offset].asciiLowercased() == name.utf8Start[index] else { return false }
    }
    return true
}

/// Whether the line is nothing but its end: CRLF, or LF in what did not come over SMTP.
private func isEmpty(_ octets: UnsafeRawBufferPointer, _ line: Range<Int>) -> Bool {
    switch line.count {
    case 1: octets[line.lowerBound] == UInt8(ascii: "\n")
    case 2: octets[line.lowerBound] == UInt8(ascii: "\r") && octets[line.lowerBound + 1] == UInt8(ascii: "\n")
    default: false
    }
}

/// The name of the field that the line is: printable octets without colon (RFC 5322 section 3.6.8), then blanks
/// (obsolete, section 4.5.8, and seen), then a colon.
private func fieldName(in octets: UnsafeRawBufferPointer, _ line: Range<Int>) -> Range<Int>? {
    var end = line.lowerBound
    while end < line.upperBound, (33...126).contains(octets[end]), octets[end] != UInt8(ascii: ":") { end += 1 }
    guard end > line.lowerBound else { return nil }
    var colon = end
    while colon < line.upperBound, octets[colon] == UInt8(ascii: " ") || octets[colon] == UInt8(ascii: "\t") {
        colon += 1
    }
    guard colon < line.upperBound, octets[colon] == UInt8(ascii: ":") else { return nil }
    return line.lowerBound..<end
}
