// The buffer that records are encoded in, and the cursor that reads it: by itself, without the codecs.

import SlimtaMail
import SlimtaRecords
import Testing

@Suite struct OutputBufferTests {
    /// What was written stays as it was when the buffer grows, and is aligned for the disk again.
    @Test func itGrows() {
        let output = OutputBuffer(capacity: 1)
        #expect(output.capacity == OutputBuffer.page)
        for number in 0..<3000 { output.append(UInt64(number)) }
        #expect(output.count == 24_000 && output.capacity >= 24_000 && output.capacity % OutputBuffer.page == 0)
        #expect(UInt(bitPattern: output.base) % UInt(OutputBuffer.page) == 0)
        for number in 0..<3000 { #expect(output.octets.number(at: number * 8, as: UInt64.self) == UInt64(number)) }
        // One piece that is more than twice as large.
        let piece = [UInt8](repeating: 7, count: 200_000)
        piece.withUnsafeBytes { output.append($0) }
        #expect(output.array.dropFirst(24_000).elementsEqual(piece))
    }

    @Test func itIsCutAndPadded() {
        let output = OutputBuffer()
        output.append("abcdef")
        output.truncate(to: 3)
        output.pad(to: 8)
        #expect(output.array == Array("abc".utf8) + [0, 0, 0, 0, 0])
        output.pad(to: 8)
        #expect(output.count == 8)
        output.patch(UInt16(0x0201), at: 1)
        #expect(output.array.prefix(4) == [0x61, 1, 2, 0])
        output.removeAll()
        #expect(output.array.isEmpty)
    }

    @Test func fieldsNest() throws {
        let output = OutputBuffer()
        let outer = output.begin(1)
        output.field(2, UInt32(0x0403_0201))
        output.field(3, "text")
        output.field(4, "")
        let inner = output.begin(5)
        output.end(inner)
        output.end(outer)
        output.field(6, QueueID(high: 1, low: 2))
        #expect(
            output.array.prefix(28) == [
                1, 23, 0, 0, 0, 2, 4, 0, 0, 0, 1, 2, 3, 4, 3, 4, 0, 0, 0, 0x74, 0x65, 0x78, 0x74, 5, 0, 0, 0, 0,
            ])
        try withExtendedLifetime(output) {
            var cursor = InputCursor(output.octets)
            var fields = try #require(try cursor.field()).cursor
            #expect(try fields.field()?.number(UInt32.self) == 0x0403_0201)
            #expect(try fields.field()?.text == "text")
            #expect(try fields.field()?.value.isEmpty == true)
            #expect(try fields.field() == nil && fields.isAtEnd)
            #expect(try cursor.field()?.id() == QueueID(high: 1, low: 2))
            #expect(cursor.isAtEnd)
        }
    }

    /// What a length says that is not there, or a number of another size, is an error.
    @Test func whatIsNotThereIsAnError() {
        [UInt8]([1, 4, 0, 0, 0, 1, 2, 3]).withUnsafeBytes { octets in
            var cursor = InputCursor(octets)
            #expect(throws: FormatError("octets")) { try cursor.field() }
            cursor = InputCursor(UnsafeRawBufferPointer(rebasing: octets.prefix(3)))
            #expect(throws: FormatError("number")) { try cursor.field() }
            let field = Field(tag: 1, value: octets)
            #expect(throws: FormatError("number field")) { try field.number(UInt32.self) }
            #expect(throws: FormatError("id")) { try field.id() }
            #expect(throws: FormatError("digest")) { try field.digest() }
        }
    }
}
