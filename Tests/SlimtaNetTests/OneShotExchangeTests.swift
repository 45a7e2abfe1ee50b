// One question and one answer over a connection of their own: how many there are at once, and how long the others wait.

import Glibc
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import SlimtaNet

@Suite(.timeLimit(.minutes(2))) struct OneShotExchangeTests {
    /// How many are connected, and whether they are to be answered.
    private struct Crowd {
        var (now, most, all) = (0, 0, 0)
        var isOpen = false
    }

    private static func ask(_ exchange: OneShotExchange, timeout: Duration = .seconds(60)) async -> String {
        let question = [ByteBuffer(string: "x\r\n\r\n")]
        switch await exchange.run(question, then: { nil }, limit: 100, timeout: timeout) {
        case .success(let answer): return String(buffer: answer)
        case .failure(let failure): return failure.isOverload ? "overload" : failure.description
        }
    }

    private func until(_ condition: () -> Bool) async throws {
        while !condition() { try await Task.sleep(for: .milliseconds(1)) }
    }

    @Test func someAtOnceAndTheOthersInTurn() async throws {
        let crowd = Mutex(Crowd())
        // It has two answers for two who are there at once.
        let server = try LyingServer { connection, _ in
            let number = crowd.withLock { crowd in
                (crowd.now, crowd.all) = (crowd.now + 1, crowd.all + 1)
                crowd.most = max(crowd.most, crowd.now)
                return crowd.all
            }
            while crowd.withLock({ $0.all < (number + 1) / 2 * 2 }) { usleep(1000) }
            crowd.withLock { $0.now -= 1 }
            connection.send("answer")
        }
        defer { server.stop() }
        let exchange = OneShotExchange(
            with: server.address, atOnce: 2, group: MultiThreadedEventLoopGroup.singleton)
        let answers = await withTaskGroup(of: String.self) { group in
            for _ in 0..<6 { group.addTask { await Self.ask(exchange) } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(answers == Array(repeating: "answer", count: 6))
        #expect(crowd.withLock { $0.most == 2 && $0.all == 6 })
    }

    /// - Parameter answer: of the first; the second waits for that, and has no patience.
    @Test(arguments: [("answer", "overload"), ("", "no answer in time to those before")])
    func whoHasWaitedTooLong(_ answer: String, _ second: String) async throws {
        let crowd = Mutex(Crowd())
        let server = try LyingServer { connection, _ in
            crowd.withLock { $0.all += 1 }
            while crowd.withLock({ !$0.isOpen }) { usleep(1000) }
            connection.send(answer)
        }
        defer { server.stop() }
        let exchange = OneShotExchange(
            with: server.address, atOnce: 1, patience: .zero, group: MultiThreadedEventLoopGroup.singleton)
        async let one = Self.ask(exchange)
        try await until { crowd.withLock { $0.all == 1 } }
        async let two = Self.ask(exchange, timeout: .milliseconds(1))
        try await until { exchange.waitingCount == 1 }
        try await Task.sleep(for: .milliseconds(2))
        crowd.withLock { $0.isOpen = true }
        #expect(await one == answer)
        #expect(await two == second)
        #expect(crowd.withLock { $0.all } == 1)
    }
}
