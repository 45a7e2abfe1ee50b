// What the scheduler needs for each message.

import Foundation
import SlimtaMail
import Testing

@testable import SlimtaQueue

@Suite struct MemoryTests {
    @Test func anEntryHas32Octets() { #expect(MemoryLayout<QueueEntry>.stride == 32) }

    /// In a process of its own, where nobody else allocates. A quarter of a million has the same rounding up to powers
    /// of two as a million.
    @Test func aMessageCostsAtMost60Octets() async {
        await #expect(processExitsWith: .success) {
            let before = allocated()
            var queue = machine(attempts: 10, [])
            let count: UInt64 = 250_000
            for number in 0..<count {
                queue.added(summary(number, due: Int64(number % 5000), to: "d\(number % 100).test", attempts: 1))
            }
            let each = (allocated() - before) / Int(count)
            precondition(queue.count == Int(count))
            precondition(each >= 32 && each <= 60, "\(each) octets a message")
            // What is parked needs no more.
            for _ in 0..<20 {
                for taken in queue.takeDue(now: time(10)) {
                    let failure = Outcome(.temporary, Reply(451, .init(4, 4, 1), "no"), isHostFailure: true)
                    _ = queue.retry(
                        taken.id, at: time(6000), .unreachable(failure), now: time(10),
                        to: "d\(taken.id.low % 100).test")
                }
            }
            while let next = queue.nextDue, next <= time(10_000) {
                for taken in queue.takeDue(now: time(10_000)) { queue.postponed(taken.id, until: time(20_000)) }
            }
            let parked = (allocated() - before) / Int(count)
            precondition(parked <= 80, "\(parked) octets a message")
        }
    }
}

/// Octets of memory that this process has in use, without what it has of files: pages of its program come when they are first
/// run.
private func allocated() -> Int {
    let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
    return fields.count > 2 ? ((Int(fields[1]) ?? 0) - (Int(fields[2]) ?? 0)) * 4096 : 0
}
