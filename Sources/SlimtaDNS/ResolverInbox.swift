// What passes between the tasks that ask and the thread that does the asking. Resolver puts in, ResolverLoop takes out.

import CUnbound
import Glibc
import Synchronization

/// The way to the resolver's thread, which waits for the event's file descriptor among others.
final class ResolverInbox: Sendable {
    enum Command: Sendable {
        case ask(DNSQuery)
        case forget(DNSQuery)
    }

    private struct State {
        var commands: [Command] = []
        /// Told to end: nothing is taken any more.
        var isClosing = false
    }

    static let closedError = DNSError.temporary("resolver closed")

    private let state = Mutex(State())
    /// Whether libunbound's threads answer.
    let started = Fact<Void>()
    let validation = Fact<ValidationState>()
    /// Whether the thread has ended: the last thing that it says.
    let closed = Fact<Void>()
    /// An eventfd: readable when there is something new.
    let event: CInt

    init() throws(DNSError) {
        event = C_eventfd()
        guard event >= 0 else { throw .temporary("eventfd: \(String(cString: strerror(errno)))") }
    }

    deinit { _ = Glibc.close(event) }

    // MARK: Called by tasks

    var isClosing: Bool { state.withLock { $0.isClosing } }

    func ask(_ query: DNSQuery) {
        if !submit(.ask(query)) { query.answer(.failure(Self.closedError)) }
    }

    func forget(_ query: DNSQuery) { _ = submit(.forget(query)) }

    /// Tells the thread to end.
    func beginClosing() {
        state.withLock { $0.isClosing = true }
        wake()
    }

    private func submit(_ command: Command) -> Bool {
        let (isAccepted, isFirst) = state.withLock { state in
            guard !state.isClosing else { return (false, false) }
            state.commands.append(command)
            return (true, state.commands.count == 1)
        }
        if isFirst { wake() }
        return isAccepted
    }

    private func wake() {
        var one: UInt64 = 1
        // It can only fail if the counter is full, and then the thread wakes up anyway.
        _ = write(event, &one, 8)
    }

    // MARK: Called by the thread

    /// What has come since the last call, and whether it is to end.
    func take() -> (commands: [Command], isClosing: Bool) {
        var count: UInt64 = 0
        _ = read(event, &count, 8)
        return state.withLock { state in
            defer { state.commands = [] }
            return (state.commands, state.isClosing)
        }
    }
}

/// Something that becomes known, and who waits for that. What is said later takes the place of what was said before.
final class Fact<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var waiters: [CheckedContinuation<Value, Never>] = []
    }

    private let state = Mutex(State())

    func become(_ value: Value) {
        let waiters = state.withLock { state in
            defer { state.waiters = [] }
            state.value = value
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: value) }
    }

    /// Waits until it is known.
    var value: Value {
        get async {
            await withCheckedContinuation { continuation in
                let known = state.withLock { state in
                    if state.value == nil { state.waiters.append(continuation) }
                    return state.value
                }
                if let known { continuation.resume(returning: known) }
            }
        }
    }
}
