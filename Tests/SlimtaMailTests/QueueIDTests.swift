// Queue ids: what is printed is read again, and they sort by time.

import SlimtaMail
import TestKit
import Testing

@Suite struct QueueIDTests {
    @Test func roundTrip() throws {
        var generator = SeededGenerator(seed: 1)
        var halves: [(UInt64, UInt64)] = [(0, 0), (.max, .max), (1, 0), (0, 1), (0x0123_4567_89AB_CDEF, 0xF)]
        for _ in 0..<500 { halves.append((generator.next(), generator.next())) }
        for (high, low) in halves {
            let id = QueueID(high: high, low: low)
            let text = id.description
            #expect(text.utf8.count == 32)
            #expect(text.utf8.allSatisfy { "0123456789abcdef".utf8.contains($0) })
            #expect(QueueID(text) == id)
            #expect(QueueID(text.uppercased()) == id)
            #expect(QueueID("x" + text)?.description == nil)
            #expect(QueueID(text.dropLast()) == nil)
            #expect(QueueID(text + "0") == nil)
        }
        #expect(QueueID(high: 0x0123_4567_89AB_CDEF, low: 0xF).description == "0123456789abcdef000000000000000f")
    }

    @Test(arguments: [
        "", "0", "0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdef0",
        "0123456789abcdef0123456789abcdeg", "0123456789abcdef 123456789abcdef", "0x23456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcde/", "0123456789abcdef0123456789abcde\u{E9}",
        "../../../../../../../../etc/passwd",
    ])
    func refuses(_ text: String) { #expect(QueueID(text) == nil) }

    @Test func order() {
        // By time first, and texts in the same order as values: directory listings and gdbmtool show it.
        var ids: [QueueID] = []
        for milliseconds in [0, 1, 999, 1_700_000_000_000, 1_700_000_000_001, (1 << 48) - 1] as [Int64] {
            for _ in 0..<5 {
                let id = QueueID(at: Timestamp(milliseconds: milliseconds))
                #expect(id.time.milliseconds == milliseconds)
                ids.append(id)
            }
        }
        for (earlier, later) in zip(ids, ids.dropFirst()) where earlier.time != later.time { #expect(earlier < later) }
        #expect(ids.sorted().map(\.description) == ids.map(\.description).sorted())
        #expect(Set(ids).count == ids.count)
        #expect(QueueID(high: 1, low: .max) < QueueID(high: 2, low: 0))
        #expect(QueueID(high: 1, low: 1) < QueueID(high: 1, low: 2))
        #expect(!(QueueID(high: 1, low: 1) < QueueID(high: 1, low: 1)))
    }

    @Test func timesBeyond48BitsDoNotTrap() {
        for milliseconds in [-1, .min, .max, 1 << 48] as [Int64] {
            _ = QueueID(at: Timestamp(milliseconds: milliseconds)).time
        }
    }

    @Test func beginnings() throws {
        let id = QueueID(high: 0x019A_0000_1234_ABCD, low: 5)
        for length in 1...32 {
            let range = try #require(QueueID.all(beginningWith: "\(id)".prefix(length).uppercased()))
            #expect(range.contains(id))
            #expect("\(range.lowerBound)".prefix(length) == "\(id)".prefix(length))
            #expect("\(range.upperBound)".prefix(length) == "\(id)".prefix(length))
            #expect(range.lowerBound.predecessor.map { !range.contains($0) } ?? true)
        }
        #expect(QueueID.all(beginningWith: "\(id)") == id...id)
        for text in ["", "g", "019a-", "\(id)0", "\u{0661}"] { #expect(QueueID.all(beginningWith: text) == nil) }
        #expect(QueueID(high: 1, low: 0).predecessor == QueueID(high: 0, low: .max))
        #expect(QueueID(high: 0, low: 0).predecessor == nil)
    }
}
