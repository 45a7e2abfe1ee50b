// The fields of a message while milters change them. The places of fields are counted as Postfix counts them (reference/
// content.md section 2.5), in which our own Received has a place, though it is written only behind the milters.

internal import NIOCore
internal import SlimtaMail

/// A header as a list of fields, with the place where our Received goes.
struct MilterHeader: Sendable {
    /// A field with its lines; nil is our Received.
    private struct Entry {
        var name: Range<Int>
        var octets: ByteBuffer

        func isNamed(_ other: String) -> Bool {
            guard name.count == other.utf8.count else { return false }
            let own = octets.readableBytesView
            return zip(own[own.startIndex + name.lowerBound..<own.startIndex + name.upperBound], other.utf8)
                .allSatisfy { $0.asciiLowercased() == $1.asciiLowercased() }
        }
    }

    private var entries: [Entry?]

    /// The fields of what was scanned, our Received above them.
    init(_ block: HeaderBlock, in head: ByteBuffer) {
        entries = [nil]
        entries += block.fields.compactMap { field in
            guard
                var octets = head.getSlice(
                    at: head.readerIndex + field.range.lowerBound, length: field.range.count)
            else { return nil }
            // A header that is all of the message may end in the middle of a line.
            if octets.readableBytesView.last != UInt8(ascii: "\n") { octets.writeInteger(0x0D0A as UInt16) }
            let start = field.range.lowerBound
            return Entry(name: field.name.lowerBound - start..<field.name.upperBound - start, octets: octets)
        }
    }

    /// The fields as milters see them: without our Received.
    var fields: [MilterField] {
        entries.compactMap { entry in
            guard let entry, let field = HeaderBlock(scanning: entry.octets).fields.first else { return nil }
            return MilterField(name: field.name(in: entry.octets), value: ByteBuffer(field.value(in: entry.octets)))
        }
    }

    /// What goes above our Received.
    var above: ByteBuffer { written(entries.prefix { $0 != nil }) }

    /// What goes below it.
    var below: ByteBuffer { written(entries.drop { $0 != nil }) }

    mutating func append(_ field: MilterField) { entries.append(Self.entry(field)) }

    /// At this position: 0 is above all, and what is beyond the end is at the end. Our Received has a position.
    mutating func insert(_ field: MilterField, at position: Int) {
        entries.insert(Self.entry(field), at: min(position, entries.count))
    }

    /// Replaces the `index`th field of the name, from 1, our Received not counted. There is none: at the end.
    mutating func change(_ field: MilterField, index: Int) {
        if let place = place(of: field.name, index) {
            entries[place] = Self.entry(field)
        } else {
            append(field)
        }
    }

    /// Takes out the `index`th field of the name, as ``change(_:index:)`` counts. The next one has its index from then on.
    mutating func delete(_ name: String, index: Int) {
        if let place = place(of: name, index) { entries.remove(at: place) }
    }

    private func place(of name: String, _ index: Int) -> Int? {
        var count = 0
        return entries.firstIndex { entry in
            guard entry?.isNamed(name) == true else { return false }
            count += 1
            return count == index
        }
    }

    private static func entry(_ field: MilterField) -> Entry {
        var octets = ByteBuffer()
        octets.writeString(field.name)
        octets.writeInteger(UInt8(ascii: ":"))
        octets.writeImmutableBuffer(field.value)
        octets.writeInteger(0x0D0A as UInt16)
        return Entry(name: 0..<field.name.utf8.count, octets: octets)
    }

    private func written(_ entries: ArraySlice<Entry?>) -> ByteBuffer {
        var written = ByteBuffer()
        for case .some(let entry) in entries { written.writeImmutableBuffer(entry.octets) }
        return written
    }
}
