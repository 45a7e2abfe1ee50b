// One request of HTTPClient on its way, and the place where its caller waits. What HTTPClientPool and HTTPClientHandler tell
// the caller is here; a call knows neither of them.

import NIOCore
import NIOHTTP1
import Synchronization

/// A connection that sends what is not in memory of a body, as far as the caller is concerned.
protocol HTTPBodyReceiver: Sendable {
    /// The next part of the call's body. Returns when there is room for one more; false: no more is wanted.
    func send(_ part: ByteBuffer, of call: HTTPCall) async -> Bool
    /// The last part of it, or nothing: what comes behind the parts before.
    func endBody(with last: ByteBuffer, of call: HTTPCall)
    /// The rest cannot be had: why.
    func failBody(_ why: String, of call: HTTPCall)
}

/// A request on its way. It ends once: with an answer, an error, the time or the task.
///
/// Whoever works on it says at most two things: that a connection wants the rest of the body, and how it ended.
final class HTTPCall: PooledWork {
    typealias Outcome = Result<HTTPAnswer, HTTPClientError>

    enum Event: Sendable {
        /// What is in memory of the body was sent: the caller sends the rest through the connection.
        case wantsBody(any HTTPBodyReceiver)
        case ended(Outcome)
    }

    /// How often a request is made again because a connection turned out to be dead.
    static let repetitions = 3

    private struct State {
        var event: Event?
        var waiting: CheckedContinuation<Event, Never>?
        var isOver = false
        var repetitions = 0
    }

    let head: HTTPRequestHead
    let body: ByteBuffer?
    let stream: HTTPRequestStream?
    let isIdempotent: Bool
    let origin: HTTPOrigin
    let key: HTTPClientKey
    let limits: HTTPClientLimits
    /// The last octet of the request must have left until then.
    let requestEnd: NIODeadline
    /// The last octet of the answer must have come until then.
    let end: NIODeadline
    private let state = Mutex(State())

    init(
        _ question: HTTPQuestion, to origin: HTTPOrigin, _ limits: HTTPClientLimits, isKept: Bool, at now: NIODeadline
    ) throws(HTTPClientError) {
        head = try question.head(to: origin, isKept: isKept)
        body = question.body
        stream = question.stream
        isIdempotent = question.isIdempotent
        self.origin = origin
        key = origin.key
        self.limits = limits
        end = now + limits.timeout
        requestEnd = min(end, now + limits.requestTimeout)
    }

    /// Whether it has ended: nobody need work on it.
    var isOver: Bool { state.withLock { $0.isOver } }

    /// What happens next; one caller at a time.
    func next() async -> Event {
        await withCheckedContinuation { continuation in
            let event: Event? = state.withLock { state in
                guard let event = state.event else {
                    state.waiting = continuation
                    return nil
                }
                state.event = nil
                return event
            }
            if let event { continuation.resume(returning: event) }
        }
    }

    /// Reads the rest of the body and hands it on, as fast as it is taken. The last octets wait until the end is read
    /// behind them: what is damaged may be known only then, and a server that has the whole length has a whole request.
    func sendBody(through connection: any HTTPBodyReceiver) async {
        guard let stream else { return }
        let read = stream.open()
        var left = stream.length
        var last: ByteBuffer?
        do {
            while let part = try await read() {
                left -= part.readableBytes
                guard left >= 0 else { return connection.failBody("it is longer than was said", of: self) }
                if left == 0 {
                    last = last ?? part
                    continue
                }
                guard await connection.send(part, of: self) else { return }
            }
        } catch {
            return connection.failBody("\(error)", of: self)
        }
        guard left == 0 else { return connection.failBody("it is shorter than was said", of: self) }
        connection.endBody(with: last ?? ByteBuffer(), of: self)
    }

    /// How it ended, or that the body is wanted. The first end counts.
    func tell(_ event: Event) {
        let waiting = state.withLock { state -> CheckedContinuation<Event, Never>? in
            if state.isOver { return nil }
            if case .ended = event { state.isOver = true }
            guard let waiting = state.waiting else {
                state.event = event
                return nil
            }
            state.waiting = nil
            return waiting
        }
        waiting?.resume(returning: event)
    }

    /// Whether it may be begun once more; counts.
    func mayRepeat() -> Bool {
        state.withLock { state in
            state.repetitions += 1
            return state.repetitions <= Self.repetitions
        }
    }
}
