// The line before the name servers: bounds, turns, and that nothing is lost or left in it.

import SlimtaMail
import Synchronization
import Testing

@testable import SlimtaEdge

@Suite struct LookupLineTests {
    private static func source(_ number: Int) throws -> LookupLineMachine.Source {
        ConnectionLimiter.Source(.ip(try #require(IPAddress("192.0.2.\(number)")), port: 25))
    }

    private static func machine(
        running: Int = 4, ofSource: Int = 2, waiting: Int = 6, waitingOfSource: Int = 3
    ) -> LookupLineMachine {
        LookupLineMachine(
            .init(running: running, runningOfSource: ofSource, waiting: waiting, waitingOfSource: waitingOfSource))
    }

    /// One source has its share and no more; the others are asked at once.
    @Test func shareOfOne() throws {
        var line = Self.machine()
        let (a, b) = (try Self.source(1), try Self.source(2))
        let verdicts = (0..<6).map { line.asked(.init(number: $0, source: a)) }
        #expect(verdicts == [.go, .go, .wait, .wait, .wait, .full])
        #expect(line.asked(.init(number: 10, source: b)) == .go)
        #expect(line.ended(b) == nil)
        #expect(line.ended(a)?.number == 2)
        #expect(line.ended(a)?.number == 3)
        #expect(line.ended(a)?.number == 4)
        #expect(line.ended(a) == nil)
        #expect(line.ended(a) == nil)
        #expect((line.running, line.waiting, line.sourceCount) == (0, 0, 0))
    }

    /// Sources take turns: who came with many does not keep the others waiting for all of them.
    @Test func turns() throws {
        var line = Self.machine(running: 1, ofSource: 1, waiting: 100, waitingOfSource: 100)
        let sources = try (1...3).map { try Self.source($0) }
        #expect(line.asked(.init(number: 0, source: sources[0])) == .go)
        for number in 1..<4 { _ = line.asked(.init(number: UInt64(number), source: sources[0])) }
        for number in 4..<6 { _ = line.asked(.init(number: UInt64(number), source: sources[1])) }
        _ = line.asked(.init(number: 6, source: sources[2]))
        var (order, last): ([UInt64], LookupLineMachine.Source) = ([], sources[0])
        while let next = line.ended(last) {
            order.append(next.number)
            last = next.source
        }
        #expect(order == [4, 6, 1, 5, 2, 3])
        #expect(line.sourceCount == 0)
    }

    @Test func cancelled() throws {
        var line = Self.machine(running: 1, ofSource: 1)
        let (a, b) = (try Self.source(1), try Self.source(2))
        #expect(line.asked(.init(number: 0, source: a)) == .go)
        #expect(line.asked(.init(number: 1, source: b)) == .wait)
        #expect(line.asked(.init(number: 2, source: a)) == .wait)
        #expect(line.cancelled(.init(number: 1, source: b)) == true)
        #expect(line.cancelled(.init(number: 1, source: b)) == false)
        #expect(line.cancelled(.init(number: 0, source: a)) == false)
        #expect(line.ended(a)?.number == 2)
        #expect(line.ended(a) == nil)
        #expect((line.waiting, line.sourceCount) == (0, 0))
    }

    /// Whatever happens in whatever order: the bounds hold, whoever waits gets his turn, and nothing is left.
    @Test func anyOrder() throws {
        var random = SystemRandomNumberGenerator()
        let sources = try [nil] + (1...5).map { try Self.source($0) }
        for _ in 0..<200 {
            var line = Self.machine(running: 3, ofSource: 2, waiting: 8, waitingOfSource: 3)
            var (running, waiting): ([LookupLineMachine.Ticket], [LookupLineMachine.Ticket]) = ([], [])
            func end() {
                let ticket = running.remove(at: .random(in: running.indices, using: &random))
                guard let next = line.ended(ticket.source) else { return }
                #expect(waiting.contains(next))
                waiting.removeAll { $0 == next }
                running.append(next)
            }
            for number in 0..<UInt64(100) {
                switch Int.random(in: 0...3, using: &random) {
                case 0 where !running.isEmpty: end()
                case 1 where !waiting.isEmpty:
                    let ticket = waiting.remove(at: .random(in: waiting.indices, using: &random))
                    #expect(line.cancelled(ticket) == true)
                case 0, 1, 2, 3, _:
                    let ticket = LookupLineMachine.Ticket(number: number, source: try #require(sources.randomElement()))
                    switch line.asked(ticket) {
                    case .go: running.append(ticket)
                    case .wait: waiting.append(ticket)
                    case .full: break
                    }
                }
                #expect((line.running, line.waiting) == (running.count, waiting.count))
                #expect(running.count <= 3 && waiting.count <= 8)
                for source in sources { #expect(running.count { $0.source == source } <= 2) }
                // Nobody waits for nothing.
                if running.count < 3 {
                    for ticket in waiting { #expect(running.count { $0.source == ticket.source } == 2) }
                }
            }
            while !running.isEmpty { end() }
            #expect(waiting.isEmpty)
            #expect((line.running, line.waiting, line.sourceCount) == (0, 0, 0))
        }
    }

    /// Tasks that run, wait, find no room and are cancelled, all at once: each ends, and the line is empty then.
    @Test func tasks() async throws {
        let (full, most) = (Figure(), Figure())
        let line = LookupLine(.init(running: 4, runningOfSource: 2, waiting: 50, waitingOfSource: 20)) {
            full.change { $0 += 1 }
        }
        let tasks = try (0..<500).map { number in
            let source = try Self.source(number % 7)
            let task = Task {
                await line.run(for: source) {
                    most.change { $0 = max($0, line.counts.running) }
                    await Task.yield()
                    return number
                }
            }
            if number % 3 == 0 { task.cancel() }
            return task
        }
        var ended = 0
        for (number, task) in tasks.enumerated() {
            guard let value = await task.value else { continue }
            #expect(value == number)
            ended += 1
        }
        #expect(line.counts == (0, 0))
        #expect((1...4).contains(most.value))
        #expect(ended > 0)
        #expect(ended + full.value <= 500)
    }

    private final class Figure: Sendable {
        private let number = Mutex(0)
        var value: Int { number.withLock { $0 } }
        func change(_ body: (inout Int) -> Void) { number.withLock { body(&$0) } }
    }
}
