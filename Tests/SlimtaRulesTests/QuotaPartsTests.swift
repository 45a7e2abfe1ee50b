// The parts that quotas are made of: windows that move, recipients that are known, the digest, the last outcomes.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct QuotaPartsTests {
    /// The vectors of the paper's reference code: octets 0, 1, 2, ... under the key 00 01 ... 0f.
    @Test func sipHash() {
        let digest = SipHash(key: SIMD2(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908))
        let vectors: [Int: UInt64] = [
            0: 0x726f_db47_dd0e_0e31, 1: 0x74f8_39c5_93dc_67fd, 2: 0x0d6c_8009_d9a9_4f5a, 7: 0xab02_00f5_8b01_d137,
            8: 0x93f5_f579_9a93_2462, 15: 0xa129_ca61_49be_45e5,
        ]
        for (count, expected) in vectors {
            let octets = (0..<count).map { UInt8($0) }
            #expect(octets.withUnsafeBytes { digest($0) } == expected, "\(count) octets")
        }
    }

    @Test func digestsOfAddresses() throws {
        let digest = SipHash(key: SIMD2(1, 2))
        func of(_ text: String) throws -> UInt64 { digest(try #require(Mailbox(parsing: text, allowsUTF8: true))) }
        #expect(try of("Bob@EXAMPLE.com") == of("bob@example.com"))
        #expect(try of("bob@bücher.example") == of("bob@xn--bcher-kva.example"))
        #expect(try of("bob@example.com") != of("bob@example.org"))
        #expect(
            try digest(#require(Mailbox(parsing: "a@b.c")))
                != SipHash(key: SIMD2(1, 3))(#require(Mailbox(parsing: "a@b.c"))))
    }

    /// As a list of all that happened, give or take the part that is being left.
    @Test func historyIsLikeAList() async {
        var random = SystemRandomNumberGenerator()
        var history = QuotaHistory()
        var times: [(part: UInt32, amount: Int)] = []
        var now: UInt32 = 1000
        for _ in 0..<2000 {
            now += .random(in: 0...3, using: &random)
            let amount = Int.random(in: 0...5, using: &random)
            history.add(QuotaAmounts(messages: 1, recipients: amount), in: now)
            times.append((now, amount))
            let recent = times.filter { now - $0.part <= QuotaHistory.parts }
            let sum = history.sum(to: now)
            #expect(sum.messages == recent.count && sum.recipients == recent.map(\.amount).reduce(0, +))
            #expect(history.words.count <= Int(QuotaHistory.parts + 1) * QuotaHistory.stride)
            if times.count % 100 == 0 { await Task.yield() }
        }
        #expect(history.sum(to: now + QuotaHistory.parts + 1) == QuotaAmounts())
    }

    @Test func historyTakesBack() {
        var history = QuotaHistory()
        history.add(QuotaAmounts(messages: 3, recipients: 5), in: 10)
        history.add(QuotaAmounts(messages: 1), in: 11)
        history.subtract(QuotaAmounts(messages: 1, recipients: 9), in: 10)
        #expect(history.sum(to: 11) == QuotaAmounts(messages: 3))
        history.subtract(QuotaAmounts(messages: 1), in: 12)
        #expect(history.sum(to: 12) == QuotaAmounts(messages: 3))
    }

    /// A clock that is put back makes nothing uncounted, and one that was far ahead blocks nobody for good.
    @Test func historyAndTheClock() {
        var history = QuotaHistory()
        history.add(QuotaAmounts(messages: 2), in: 100)
        history.add(QuotaAmounts(messages: 1), in: 90)
        #expect(history.sum(to: 90).messages == 3 && history.sum(to: 100).messages == 3)
        #expect(history.sum(to: 30).messages == 0)
        history.add(QuotaAmounts(messages: 1), in: 20)
        #expect(history.sum(to: 20).messages == 1 && history.sum(to: 100).messages == 0)
    }

    @Test func countsDoNotWrap() {
        var history = QuotaHistory()
        for _ in 0..<3 { history.add(QuotaAmounts(messages: Int(UInt32.max) - 1, recipients: .max / 2), in: 1) }
        #expect(history.sum(to: 1) == QuotaAmounts(messages: Int(UInt32.max), recipients: Int(UInt32.max)))
        history.add(QuotaAmounts(messages: Int(UInt32.max)), in: 2)
        #expect(history.sum(to: 2).messages == 2 * Int(UInt32.max))
    }

    @Test func knownRecipients() {
        var known = KnownRecipients()
        let digests = (0..<100).map { _ in UInt64.random(in: 0 ... .max) }
        known.note(Array(digests[..<50]), on: 1000, limit: 1000)
        known.note(Array(digests[25...]) + digests[25...], on: 1010, limit: 1000)
        #expect(known.count == 100 && digests.allSatisfy { known.contains($0, on: 1010) })
        #expect(known.entries == known.entries.sorted())
        #expect(!known.contains(digests[0] ^ 1 << 40, on: 1010))
        // 90 days after they were last written to they are new again.
        #expect(known.contains(digests[0], on: 1090) && !known.contains(digests[0], on: 1091))
        #expect(known.contains(digests[25], on: 1100) && !known.contains(digests[25], on: 1101))
        known.forget(on: 1095, limit: 1000)
        #expect(known.count == 75)
        // By a clock that was put back they are not older than new.
        #expect(known.contains(digests[25], on: 5))
    }

    @Test func theOldestRecipientsAreForgotten() {
        var known = KnownRecipients()
        let digests = (0..<300).map { _ in UInt64.random(in: 0 ... .max) }
        for (index, digest) in digests.enumerated() { known.note([digest], on: UInt16(1000 + index / 10), limit: 100) }
        #expect((94...100).contains(known.count))
        #expect(digests.suffix(90).allSatisfy { known.contains($0, on: 1030) })
        #expect(digests.prefix(190).allSatisfy { !known.contains($0, on: 1030) })
        // All of one day: no more than there is room for.
        known.note((0..<500).map { _ in .random(in: 0 ... .max) }, on: 1030, limit: 100)
        #expect(known.count == 94)
    }

    @Test func shareOfRefused() {
        var last = LastOutcomes()
        for _ in 0..<19 { last.note(isRefused: true) }
        #expect(!last.isOver(20))
        last.note(isRefused: true)
        #expect(last.isOver(20) && last.refused == 20 && last.count == 20)
        for _ in 0..<80 { last.note(isRefused: false) }
        #expect(last.isOver(20) && last.count == 100)
        last.note(isRefused: false)
        #expect(!last.isOver(20) && last.refused == 19)
        for _ in 0..<99 { last.note(isRefused: false) }
        #expect(last.refused == 0 && last.count == 100)
    }
}
