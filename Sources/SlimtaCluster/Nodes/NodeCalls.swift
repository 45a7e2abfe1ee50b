// How nodes wake each other when one of them has put mail into a part of the queue that is another's. ClusterStorage has one of
// these for each node, with a thread; the line says what it has put where, and the node's thread is called.
//
// It saves time and nothing else: who is not called finds all with its next beat. So it may fail, and where the database knows no
// notifications, or something between it and us passes none on, everything works without.

import CPostgres
import Glibc
import SlimtaMail
import SlimtaThreads
import Synchronization

/// Calls other nodes, and hears their calls.
///
/// A transaction that notifies takes a lock of the whole server at its commit, and holds it until that is on the disk. So it is
/// never one that mail is in, it waits for no disk, and there is one in 20 ms at most, however much is committed.
final class NodeCalls: Sendable {
    private struct State {
        /// Whose owners are to be called.
        var buckets: Set<UInt16> = []
        var isStopped = false
    }

    private let options: ClusterOptions
    private let node: NodeState
    private let report: @Sendable (ClusterEvent) -> Void
    private let state = Mutex(State())
    private let bell = Bell()
    private let limit = DeadlineLimit()

    /// The time from one call to the next.
    private static let pause = Duration.milliseconds(20)
    /// So long nobody is called before it is looked whether the connection is still one.
    private static let silence = Duration.seconds(30)
    /// When it is tried again where the database does not know what is asked of it.
    private static let longRest = Duration.seconds(600)
    /// What is under way when it is told to stop may take so long.
    private static let grace = Duration.seconds(1)

    init(_ options: ClusterOptions, _ node: NodeState, report: @escaping @Sendable (ClusterEvent) -> Void) {
        self.options = options
        self.node = node
        self.report = report
    }

    /// Something is in these buckets now, durably, that their owners do not know of.
    func filled(_ buckets: Set<UInt16>) {
        if buckets.isEmpty { return }
        state.withLock { $0.buckets.formUnion(buckets) }
        bell.ring()
    }

    /// It ends soon, whatever the database does.
    func stop() {
        state.withLock { $0.isStopped = true }
        limit.end(after: Self.grace)
        bell.ring()
    }

    /// Works until it is stopped: on a thread of its own.
    /// - Parameter called: another node says that there is something for this one.
    func run(_ called: @Sendable () -> Void) {
        if !options.calls { return }
        var backOff = BackOff()
        var isTold = false
        while !isStopped {
            do throws(PostgresError) {
                try work(try connect(), called) { backOff.reset() }
            } catch {
                if case .refused(let code, let text, _) = error, Self.unknown.contains(code) {
                    if !isTold { report(.callsMissing(text)) }
                    isTold = true
                    rest(Self.longRest)
                } else {
                    rest(backOff.next())
                }
            }
        }
    }

    /// A feature that the server has not, a syntax, a function.
    private static let unknown: Set<String> = ["0A000", "42601", "42883"]

    private var isStopped: Bool { state.withLock { $0.isStopped } }

    private func connect() throws(PostgresError) -> PostgresConnection {
        let deadline = Deadline.after(options.commitTimeout, limit: limit)
        let connection = try PostgresConnection.session(options, node, by: deadline)
        // A lost call is none.
        try connection.execute("set synchronous_commit = off", by: deadline)
        if options.roles.contains(.relay) {
            try connection.awaitCalls(with: options.node)
            try connection.execute("listen slimtad_inbox", by: deadline)
        }
        return connection
    }

    /// Calls and hears until the connection is lost.
    private func work(
        _ connection: PostgresConnection, _ called: () -> Void, _ worked: () -> Void
    ) throws(PostgresError) {
        // What was called out while nobody listened is found as if it had been heard.
        called()
        var last: Int64 = 0
        while !isStopped {
            let quiet = monotonicMilliseconds() - last
            let isWanted = state.withLock { !$0.buckets.isEmpty }
            if quiet >= (isWanted ? Self.pause : Self.silence).milliseconds {
                try call(connection)
                worked()
                last = monotonicMilliseconds()
                continue
            }
            let wait = (isWanted ? Self.pause : Self.silence) - .milliseconds(quiet)
            if try connection.waitForCall(orBell: bell.descriptor, by: .after(wait)) { called() }
            bell.clear()
        }
    }

    /// Calls who owns what was filled; nobody, if nothing was.
    private func call(_ connection: PostgresConnection) throws(PostgresError) {
        let buckets = state.withLock { state in
            defer { state.buckets = [] }
            return state.buckets
        }
        var numbers = PostgresColumn(.int4)
        for bucket in buckets { numbers.append(Int32(bucket)) }
        do throws(PostgresError) {
            _ = try connection.run(
                Self.statement, [numbers.value], by: .after(options.commitTimeout, limit: limit))
        } catch {
            state.withLock { $0.buckets.formUnion(buckets) }
            throw error
        }
    }

    private static let statement = PostgresStatement(
        name: "call",
        sql: """
            select pg_notify('slimtad_inbox', owner)
            from (select distinct owner from slimtad.bucket where number = any($1) and owner is not null) o
            """,
        parameters: [.int4Array])

    private func rest(_ duration: Duration) {
        let end = monotonicMilliseconds() + duration.milliseconds
        while !isStopped {
            let left = end - monotonicMilliseconds()
            if left <= 0 { return }
            bell.wait(.milliseconds(left))
            bell.clear()
        }
    }
}

/// What a thread is woken by that waits for a connection.
private final class Bell: Sendable {
    let descriptor = cpq_bell()

    deinit { if descriptor >= 0 { _ = close(descriptor) } }

    func ring() {
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }

    func clear() {
        var count: UInt64 = 0
        _ = read(descriptor, &count, 8)
    }

    func wait(_ timeout: Duration) {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&entry, 1, Deadline.after(timeout).milliseconds)
    }
}
