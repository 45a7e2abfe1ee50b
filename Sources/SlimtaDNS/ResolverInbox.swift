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
        /// The thread has ended.
        var isClosed = false
        var closers: [CheckedContinuation<Void, Never>] = []
        /// Nil until it is known.
        var validation: ValidationState?
        var validationWaiters: [CheckedContinuation<ValidationState, Never>] = []
    }

    static let closedError = DNSError.temporary("resolver closed")

    private let state = Mutex(State())
    /// An eventfd: readable when there is something new.
    let event: CInt

    init() throws(DNSError) {
        event = C_eventfd()
        guard event >= 0 else { throw .temporary("eventfd: \(String(cString: strerror(errno)))") }
    }

    deinit { _ = Glibc.close(event) }

    // MARK: Called by tasks

    func ask(_ query: DNSQuery) {
        if !submit(.ask(query)) { query.answer(.failure(Self.closedError)) }
    }

    func forget(_ query: DNSQuery) { _ = submit(.forget(query)) }

    /// Tells the thread to end.
    func beginClosing() {
        state.withLock { $0.isClosing = true }
        wake()
    }

    /// Returns when the thread has ended.
    func waitUntilClosed() async {
        await withCheckedContinuation { continuation in
            let isClosed = state.withLock { state in
                if !state.isClosed { state.closers.append(continuation) }
                return state.isClosed
            }
            if isClosed { continuation.resume() }
        }
    }

    var validation: ValidationState {
        get async {
            await withCheckedContinuation { continuation in
                let known = state.withLock { state in
                    if state.validation == nil { state.validationWaiters.append(continuation) }
                    return state.validation
                }
                if let known { continuation.resume(returning: known) }
            }
        }
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

    func found(_ validation: ValidationState) {
        let waiters = state.withLock { state in
            defer { state.validationWaiters = [] }
            state.validation = validation
            return state.validationWaiters
        }
        for waiter in waiters { waiter.resume(returning: validation) }
    }

    /// The last thing that the thread does with it.
    func closed() {
        let closers = state.withLock { state in
            defer { state.closers = [] }
            state.isClosed = true
            return state.closers
        }
        for closer in closers { closer.resume() }
    }
}
