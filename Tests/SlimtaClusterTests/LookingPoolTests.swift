// The threads that read: what they do when the database goes and comes, and at the end.

import SlimtaMail
import SlimtaQueue
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Looking: the readers' threads", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
struct LookingPoolTests {
    private static let one = PostgresStatement(name: "test_one", sql: "select 1", parameters: [])

    private func ask(_ pool: ReaderPool) async throws(StorageError) -> Int64 {
        try await pool.run { connection, deadline in try connection.run(Self.one, [], by: deadline).int(0, 0) }
    }

    private func pool(
        _ server: PostgresServer, port: Int? = nil, threads: Int = 2, patience: Duration = .seconds(10),
        node: NodeState = NodeState()
    ) throws -> ReaderPool {
        var options = ClusterOptions(
            database: PostgresOptions(connection: server.connection(to: "postgres", port: port)), node: "n",
            machine: "m")
        options.needsStandby = false
        let pool = ReaderPool(threads: threads, patience: patience, timeline: { node.timeline }) {
            [options] (deadline: Deadline) throws(PostgresError) in
            try PostgresConnection.session(options, node, by: deadline.orAfter(.seconds(10)))
        }
        try pool.start()
        return pool
    }

    /// A connection that is gone is made again; what was asked is answered.
    @Test func aConnectionThatWasCut() async throws {
        let server = try PostgresServer.shared()
        let link = try PostgresLink(to: server.port)
        let pool = try pool(server, port: link.port, threads: 1)
        for _ in 0..<10 {
            #expect(try await ask(pool) == 1)
            link.set(.refuse)
            link.set(.pass)
        }
        #expect(try await ask(pool) == 1)
        // The answer to a question is lost, and it is asked again.
        let marked = PostgresStatement(name: "test_marked", sql: "select $1", parameters: [.text])
        link.set(.loseAnswer(toClientDataContaining: Array("MARK".utf8)))
        let answer = try await pool.run { connection, deadline in
            try connection.run(marked, [.text("MARK")], by: deadline).text(0, 0)
        }
        #expect(answer == "MARK")
        await pool.close()
        link.stop()
    }

    /// While nothing can be reached jobs fail without waiting for it: one try for each would take minutes. When it can be
    /// reached they come through.
    @Test func aDatabaseThatIsAway() async throws {
        let server = try PostgresServer.shared()
        let link = try PostgresLink(to: server.port)
        let pool = try pool(server, port: link.port, threads: 1, patience: .seconds(2))
        #expect(try await ask(pool) == 1)
        link.set(.silent)
        let start = ContinuousClock.now
        var failures = 0
        for _ in 0..<200 {
            let error = await failure { () async throws(StorageError) in try await ask(pool) }
            if case .away = error { failures += 1 }
        }
        #expect(failures == 200)
        #expect(start.duration(to: .now) < .seconds(100))
        link.set(.pass)
        var isBack = false
        for _ in 0..<1000 where !isBack {
            isBack = await failure { () async throws(StorageError) in try await ask(pool) } == nil
            if !isBack { try await Task.sleep(for: .milliseconds(10)) }
        }
        #expect(isBack)
        await pool.close()
        link.stop()
    }

    /// Who is told that the database answers does not wait for the time of the next try.
    @Test func aDatabaseThatIsBack() async throws {
        let server = try PostgresServer.shared()
        let link = try PostgresLink(to: server.port)
        let pool = try pool(server, port: link.port, threads: 1)
        link.set(.refuse)
        for _ in 0..<20 {
            #expect(await failure { () async throws(StorageError) in try await ask(pool) } != nil)
            pool.tryAgain()
        }
        link.set(.pass)
        pool.tryAgain()
        #expect(try await ask(pool) == 1)
        await pool.close()
        link.stop()
    }

    /// A server that does not answer: by the deadline it is away, for those that wait for their turn as well.
    @Test func aDatabaseThatIsSilent() async throws {
        let server = try PostgresServer.shared()
        let link = try PostgresLink(to: server.port)
        let pool = try pool(server, port: link.port, threads: 1, patience: .milliseconds(500))
        #expect(try await ask(pool) == 1)
        link.set(.silent)
        let errors = await withTaskGroup(of: StorageError?.self) { group in
            for _ in 0..<20 { group.addTask { await failure { () async throws(StorageError) in try await ask(pool) } } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(errors.allSatisfy { if case .away = $0 { true } else { false } }, "\(errors)")
        await pool.close()
        link.stop()
    }

    @Test func refusals() async throws {
        let server = try PostgresServer.shared()
        let pool = try pool(server, threads: 1)
        let wrong = PostgresStatement(name: "test_wrong", sql: "select 1 / $1", parameters: [.int4])
        let error = await failure { () async throws(StorageError) in
            try await pool.run { connection, deadline in _ = try connection.run(wrong, [.int4(0)], by: deadline) }
        }
        guard case .failed(let text) = error else { return #expect(error == .failed("")) }
        #expect(text.contains("22012"))
        // The connection is as good as before, and set up.
        let settings = PostgresStatement(
            name: "test_settings",
            sql: "select current_setting('plan_cache_mode') || current_setting('enable_seqscan') || pg_backend_pid()",
            parameters: [])
        let ask: @Sendable (PostgresConnection, Deadline) throws -> String = { connection, deadline in
            try connection.run(settings, [], by: deadline).text(0, 0)
        }
        let first = try await pool.run(ask)
        #expect(first.hasPrefix("force_generic_planoff"))
        #expect(try await pool.run(ask) == first)
        await pool.close()
        #expect(StorageError(.refused(state: "53100", text: "", step: 0)) == .full)
        #expect(StorageError(.refused(state: "57P01", text: "t", step: 0)) == .away("the database refuses (57P01): t"))
        #expect(StorageError(.doubtful("t")) == .away("no answer of the database: t"))
        #expect(StorageError(.unreachable("t")) == .away("no connection to the database: t"))
        #expect(
            StorageError(.refused(state: "42P01", text: "t", step: 0)) == .failed("the database refuses (42P01): t"))
    }

    /// Once the node has met a later server, an earlier one is asked nothing, by no connection that is there.
    @Test func aServerThatWasLeftBehind() async throws {
        let node = NodeState()
        let pool = try pool(try PostgresServer.shared(), threads: 1, node: node)
        #expect(try await ask(pool) == 1)
        #expect(node.timeline == 1)
        node.withLock { $0.timeline = 2 }
        let error = await failure { () async throws(StorageError) in try await ask(pool) }
        guard case .away(let text) = error else { return #expect(error == .away("")) }
        #expect(text.contains("left behind by a failover"))
        await pool.close()
    }

    /// What runs comes to its end; what waits does not begin; then nothing runs.
    @Test func theEnd() async throws {
        let server = try PostgresServer.shared()
        let pool = try pool(server, threads: 1)
        let sleep = PostgresStatement(name: "test_sleep", sql: "select pg_sleep(0.5)::text", parameters: [])
        let begun = AsyncStream<Void>.makeStream()
        async let running: Void = pool.run { connection, deadline in
            begun.continuation.finish()
            _ = try connection.run(sleep, [], by: deadline)
        }
        for await _ in begun.stream {}
        let waiting = Mutex<[StorageError?]>([])
        for _ in 0..<3 {
            pool.submit { connection, deadline in
                try connection.run(Self.one, [], by: deadline).count
            } completion: { result in
                waiting.withLock { $0.append(result.failure) }
            }
        }
        await pool.close()
        try await running
        #expect(waiting.withLock { $0 } == [.closed, .closed, .closed])
        #expect(await failure { () async throws(StorageError) in try await ask(pool) } == .closed)
        await pool.close()
    }
}

extension Result where Failure == StorageError {
    fileprivate var failure: StorageError? {
        if case .failure(let error) = self { error } else { nil }
    }
}
