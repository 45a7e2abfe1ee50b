// What tests of the wire have in common: a database of their own in the server that all tests share, and threads that may
// block.

import Foundation
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

/// Long enough for a busy machine; a test that waits for it fails.
let patience = Duration.seconds(30)

extension Trait where Self == ConditionTrait {
    /// Skips without a server, and says so.
    static var needsPostgres: Self {
        .enabled(if: PostgresServer.isThere, Comment(rawValue: PostgresServer.missing))
    }
}

/// A database of a test.
struct WireDatabase: Sendable {
    let server: PostgresServer
    let name: String

    /// A new one, in the shared server or another.
    init(_ server: PostgresServer? = nil) throws {
        self.server = try server ?? PostgresServer.shared()
        name = try self.server.createDatabase()
    }

    /// Straight to it, or through a link.
    func options(over link: PostgresLink? = nil, words: String = "") -> PostgresOptions {
        PostgresOptions(connection: server.connection(to: name, port: link?.port) + " " + words)
    }

    func connect(over link: PostgresLink? = nil) throws -> PostgresConnection {
        try PostgresConnection(options(over: link), by: .after(patience))
    }

    @discardableResult
    func sql(_ text: String) throws -> String { try server.sql(text, in: name) }

    /// Waits until `question` answers `answer`.
    func wait(until answer: String, _ question: String) throws {
        for _ in 0..<1_500 {
            if try sql(question) == answer { return }
            usleep(20_000)
        }
        Issue.record("never \(answer): \(question)")
    }
}

/// A statement that a test makes up.
func statement(_ name: String, _ parameters: [PostgresType], _ sql: String) -> PostgresStatement {
    PostgresStatement(name: name, sql: sql, parameters: parameters)
}

/// One without parameters.
func statement(_ name: String, _ sql: String) -> PostgresStatement { statement(name, [], sql) }

extension PostgresConnection {
    /// The first column of all rows of a statement that is asked once.
    func numbers(_ sql: String, as name: String = "numbers") throws -> [Int64] {
        let rows = try run(statement(name, sql), [], by: .after(patience))
        return (0..<rows.count).map { rows.int($0, 0) }
    }

    /// The process that serves it.
    func process() throws -> Int64 {
        try run(statement("process", "select pg_backend_pid()"), [], by: .after(patience)).int(0, 0)
    }
}

/// What a thread of its own comes to, which has begun when this is made: tests must not block the few that they share.
struct Background<Value: Sendable>: Sendable {
    private let results: AsyncThrowingStream<Value, any Error>

    init(_ body: @escaping @Sendable () throws -> Value) {
        let (results, continuation) = AsyncThrowingStream.makeStream(of: Value.self)
        self.results = results
        Thread.detachNewThread {
            do {
                continuation.yield(try body())
                continuation.finish()
            } catch { continuation.finish(throwing: error) }
        }
    }

    /// Its result, once.
    func value() async throws -> Value {
        for try await value in results { return value }
        throw CancellationError()
    }
}

/// What something throws; nil: nothing, or no error of the wire.
func failure<Value>(_ body: () throws -> Value) -> PostgresError? {
    do {
        _ = try body()
        return nil
    } catch { return error as? PostgresError }
}

extension PostgresError {
    /// The SQLSTATE of a refusal.
    var state: String? { if case .refused(let state, _, _) = self { state } else { nil } }
    var isUnreachable: Bool { if case .unreachable = self { true } else { false } }
    var isDoubtful: Bool { if case .doubtful = self { true } else { false } }
}
