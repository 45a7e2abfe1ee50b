// What is remembered of hosts' TLS: when it counts, when it ends, and that a file of it comes back the same.

import SlimtaMail
import Testing

@testable import SlimtaRelay

@Suite struct TLSMemoryTests {
    private static let key = TLSMemory.Key(domain: "example.com", host: "mx.example.com")

    private func time(_ day: Int, hour: Int = 12) -> Timestamp {
        Timestamp(milliseconds: Int64(day * 24 + hour) * 3_600_000)
    }

    @Test func countsFromTheThirdDay() {
        var memory = TLSMemory()
        #expect(memory.standing(of: Self.key, at: time(100)) == .nothing)
        for hour in 0..<24 { memory.encrypted(Self.key, at: time(100, hour: hour)) }
        memory.encrypted(Self.key, at: time(101))
        #expect(memory.standing(of: Self.key, at: time(101)).encrypted == nil)
        memory.encrypted(Self.key, at: time(110))
        #expect(memory.standing(of: Self.key, at: time(110)).encrypted == .init(days: 3, last: 110))
        // For thirty days, and for no other host.
        #expect(memory.standing(of: Self.key, at: time(140, hour: 23)).encrypted != nil)
        #expect(memory.standing(of: Self.key, at: time(141, hour: 0)).encrypted == nil)
        let other = TLSMemory.Key(domain: "example.com", host: "mx2.example.com")
        #expect(memory.standing(of: other, at: time(110)) == .nothing)
        // What has ended begins anew.
        memory.encrypted(Self.key, at: time(150))
        #expect(memory.standing(of: Self.key, at: time(150)).encrypted == nil)
    }

    @Test func aClockThatIsSetBackAddsNoDays() {
        var memory = TLSMemory()
        for day in [100, 99, 98, 97, 100] { memory.encrypted(Self.key, at: time(day)) }
        #expect(memory.standing(of: Self.key, at: time(100)).encrypted == nil)
        #expect(memory.entries[Self.key]?.days == 1)
    }

    @Test func daneIsExpectedForAWeek() {
        var memory = TLSMemory()
        memory.encrypted(Self.key, at: time(100), by: .dane)
        memory.encrypted(Self.key, at: time(103))
        #expect(memory.standing(of: Self.key, at: time(107)).hadDANE)
        #expect(!memory.standing(of: Self.key, at: time(108)).hadDANE)
    }

    @Test func isForgotten() {
        var memory = TLSMemory()
        for day in 100..<103 {
            memory.encrypted(Self.key, at: time(day))
            memory.encrypted(.init(domain: "example.com", host: "mx2.example.com"), at: time(day))
            memory.encrypted(.init(domain: "example.net", host: "mx.example.com"), at: time(day))
        }
        #expect(memory.forget(domain: "example.com") == 2)
        #expect(memory.standing(of: Self.key, at: time(103)) == .nothing)
        #expect(memory.entries.count == 1)
        memory.sweep(at: time(140))
        #expect(memory.entries.isEmpty)
    }

    @Test func hasBounds() {
        var memory = TLSMemory()
        for number in 0..<TLSMemory.capacity {
            memory.insert(
                .init(days: 1, first: number % 7, last: number % 7), for: .init(domain: "d\(number)", host: "h"))
        }
        memory.encrypted(Self.key, at: time(8))
        #expect(memory.entries.count == TLSMemory.capacity * 9 / 10 + 1)
        // Those that were seen least lately went.
        #expect(memory.entries.values.count { $0.last == 6 } == TLSMemory.capacity / 7)
        #expect(memory.entries[Self.key] != nil)
    }

    @Test func comesBackFromItsFile() {
        var memory = TLSMemory()
        for day in [100, 101, 103] {
            memory.encrypted(Self.key, at: time(day), by: day == 103 ? [.dane, .policy] : [])
        }
        memory.encrypted(.init(domain: "example.net", host: "mx.example.net"), at: time(104))
        let text = memory.text
        #expect(
            text == """
                example.com mx.example.com days=3 first=100 last=103 dane=103 sts=103
                example.net mx.example.net days=1 first=104 last=104

                """)
        var again = TLSMemory()
        let isWhole = again.read(text)
        #expect(isWhole && again == memory)
    }

    @Test(arguments: [
        "example.com", "example.com mx.example.com", "a b days=1 first=1", "a b days=0 first=1 last=1",
        "a b days=3 first=1 last=2", "a b days=1 first=2 last=1", "a b days=1 first=1 last=1 more=1",
        "a b days=1 first=1 last=1 last=1", "a b days=+1 first=1 last=1", "A b days=1 first=1 last=1",
        "a  b days=1 first=1 last=1", "a b days=99999999999999999999 first=1 last=1", "a b days=1 first=1 last=1 dane=",
    ])
    func whatIsNotUnderstoodIsLeftOut(_ line: String) {
        var memory = TLSMemory()
        let isWhole = memory.read("\(line)\nexample.com mx.example.com days=1 first=1 last=1\n")
        #expect(!isWhole && memory.entries.count == 1)
    }
}
