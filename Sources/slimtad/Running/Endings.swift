// How what one configuration made ends without anybody waiting for it: relays have connections and a resolver has threads,
// and neither can be ended in a deinit. World and RelaySet make leases; the daemon runs the endings beside its other tasks.

/// What is to be ended, in the order in which it was left.
final class Endings: Sendable {
    private let (stream, continuation) = AsyncStream.makeStream(of: (@Sendable () async -> Void).self)

    fileprivate func add(_ end: @escaping @Sendable () async -> Void) { continuation.yield(end) }

    /// Ends what comes, each beside the others, until it is cancelled.
    func run() async {
        await withDiscardingTaskGroup { endings in
            for await end in stream { endings.addTask { await end() } }
        }
    }
}

/// Is held by whoever uses something: when the last one lets go of it, that something is ended.
final class Lease: Sendable {
    private let endings: Endings
    private let ending: @Sendable () async -> Void

    /// - Parameter ending: is called once or, where ``end()`` was called before, again.
    init(_ endings: Endings, ending: @escaping @Sendable () async -> Void) {
        self.endings = endings
        self.ending = ending
    }

    deinit { endings.add(ending) }

    /// Ends it now, whoever still has it: at the stop of the daemon.
    func end() async { await ending() }
}
