// One question and one answer over a connection of their own, the answer ending with the connection: SPAMC, for one. It knows
// nothing of what is said. Used by the composition root for what asks in that way.

package import NIOCore
internal import NIOPosix
internal import SlimtaMail
internal import Synchronization

/// Connects, sends, says that there is no more, and reads to the end. Of many who ask at once some do, and the others wait in
/// turn: a server that takes more connections than it serves would let the time of all run out.
package struct OneShotExchange: Sendable {
    /// Why there is no answer, in words for the log.
    package struct Failure: Error, CustomStringConvertible {
        /// In words for the log.
        package let description: String
        /// The server answers others: there were too many before this one.
        package var isOverload = false
    }

    /// Those who wait for a turn.
    private final class Line: Sendable {
        let turns: Turns
        /// When somebody had an answer last.
        let answered = Mutex<ContinuousClock.Instant?>(nil)

        init(_ count: Int) { turns = Turns(count) }
    }

    private let address: SocketAddress
    private let group: any EventLoopGroup
    private let line: Line
    private let patience: Duration

    /// Exchanges with whoever listens on `address`.
    ///
    /// - Parameters:
    ///   - count: how many exchanges there are at once.
    ///   - patience: how long one may wait for its turn while others have answers. SMTP's clients wait ten minutes for all of
    ///     it (RFC 5321 section 4.5.3.2.6).
    package init(
        with address: SocketAddress, atOnce count: Int, patience: Duration = .seconds(240), group: any EventLoopGroup
    ) {
        self.address = address
        self.group = group
        self.patience = patience
        line = Line(count)
    }

    /// How many wait for their turn.
    var waitingCount: Int { line.turns.waitingCount }

    /// Makes one exchange; `limit` octets of an answer are read at most, and more is a failure.
    ///
    /// - Parameters:
    ///   - octets: are sent first.
    ///   - next: gives what is sent behind them, part by part, nil at the end; it is asked when the one before has gone.
    ///   - timeout: for all of it, from its turn on. Who has waited so long for a turn while nobody had an answer does not ask.
    package func run(
        _ octets: [ByteBuffer], then next: @escaping @Sendable () async throws -> ByteBuffer?, limit: Int,
        timeout: Duration
    ) async -> Result<ByteBuffer, Failure> {
        let began = ContinuousClock.now
        let result: Result<ByteBuffer, Failure>? = await line.turns.take {
            let waited = ContinuousClock.now - began
            let hasAnswered = self.line.answered.withLock { $0.map { $0 >= began } ?? false }
            if waited >= timeout, !hasAnswered {
                return .failure(Failure(description: "no answer in time to those before"))
            }
            if hasAnswered, waited > self.patience {
                return .failure(Failure(description: "too many ask at once", isOverload: true))
            }
            let result = await self.runInTurn(octets, then: next, limit: limit, timeout: timeout)
            if case .success(let answer) = result, answer.readableBytes > 0 {
                self.line.answered.withLock { $0 = .now }
            }
            return result
        }
        return result ?? .failure(Failure(description: "broken off"))
    }

    private func runInTurn(
        _ octets: [ByteBuffer], then next: @escaping @Sendable () async throws -> ByteBuffer?, limit: Int,
        timeout: Duration
    ) async -> Result<ByteBuffer, Failure> {
        let deadline = ContinuousClock.now + timeout
        let channel: NIOAsyncChannel<ByteBuffer, ByteBuffer>
        do {
            channel = try await ClientBootstrap(group: group)
                .connectTimeout(TimeAmount(timeout))
                .channelOption(.allowRemoteHalfClosure, value: true)
                .connect(to: address) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel(
                            wrappingChannelSynchronously: channel,
                            configuration: .init(isOutboundHalfClosureEnabled: true))
                    }
                }
        } catch {
            return .failure(Failure(description: "cannot connect: \(error.connectionReason)"))
        }
        // Closing is what ends whatever is waited for: reads, writes, and a reader of files behind the next of them.
        let timer = Task { [channel = channel.channel] in
            try await Task.sleep(until: deadline)
            try? await channel.close()
        }
        defer { timer.cancel() }
        let result = await exchange(channel, octets, next, limit)
        return ContinuousClock.now >= deadline ? .failure(Failure(description: "no answer in time")) : result
    }

    private func exchange(
        _ channel: NIOAsyncChannel<ByteBuffer, ByteBuffer>, _ octets: [ByteBuffer],
        _ next: @escaping @Sendable () async throws -> ByteBuffer?, _ limit: Int
    ) async -> Result<ByteBuffer, Failure> {
        do {
            let answer: ByteBuffer? = try await channel.executeThenClose { inbound, outbound in
                for part in octets where part.readableBytes > 0 { try await outbound.write(part) }
                while let part = try await next() { try await outbound.write(part) }
                outbound.finish()
                var answer = ByteBuffer()
                for try await part in inbound {
                    guard answer.readableBytes + part.readableBytes <= limit else { return nil }
                    answer.writeImmutableBuffer(part)
                }
                return answer
            }
            return answer.map { .success($0) } ?? .failure(Failure(description: "its answer is too long"))
        } catch {
            return .failure(Failure(description: "the connection has failed: \(error.connectionReason)"))
        }
    }
}
