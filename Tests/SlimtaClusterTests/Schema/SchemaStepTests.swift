// The way from one version of the tables to the next, with steps of these tests: each is done once, or not at all, and nobody
// waits long for it.

import Foundation
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

@Suite(.enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)")) struct SchemaStepTests {
    private static let steps = [
        SchemaStep(version: 2, oldest: 1, sql: "alter table slimtad.item add column colour text"),
        SchemaStep(
            version: 3, oldest: 2, sql: "create table slimtad.extra (x int4); insert into slimtad.extra values (7)"),
    ]

    private static func place() throws -> SchemaPlace {
        let place = try SchemaPlace()
        _ = try place.connect().initialise(buckets: 4)
        return place
    }

    /// The steps of this release lead to its version, one by one.
    @Test func ownSteps() {
        let versions = SchemaStep.all.map(\.version)
        #expect(versions == Array((2...).prefix(versions.count)) && versions.last ?? 1 == Schema.version)
        #expect(SchemaStep.all.allSatisfy { $0.oldest <= $0.version })
    }

    @Test func oneAfterTheOther() throws {
        let place = try Self.place()
        let database = try place.connect()
        var done = try database.upgrade()
        #expect(done.from == 1 && done.form.version == 1)
        done = try database.upgrade(by: [Self.steps[0]])
        #expect(done.from == 1 && done.form.version == 2 && done.form.oldest == 1)
        done = try database.upgrade(by: Self.steps)
        #expect(done.from == 2 && done.form.version == 3 && done.form.oldest == 2 && done.form.buckets == 4)
        done = try database.upgrade(by: Self.steps)
        #expect(done.from == 3 && done.form.version == 3)
        #expect(try place.sql("select count(colour) from slimtad.item") == "0")
        #expect(try place.sql("select x from slimtad.extra") == "7")
    }

    @Test func noTables() throws {
        let database = try SchemaPlace().connect()
        #expect(throws: ClusterDatabaseError.noTables) { try database.upgrade(by: Self.steps) }
    }

    /// A step that is refused leaves nothing of itself, and what was before it stays.
    @Test func refusedStep() throws {
        let place = try Self.place()
        let wrong = SchemaStep(
            version: 3, oldest: 3, sql: "create table slimtad.extra (x int4); select 1 / 0 from no_table")
        let database = try place.connect()
        let error = #expect(throws: ClusterDatabaseError.self) { try database.upgrade(by: [Self.steps[0], wrong]) }
        guard case .server(.refused(state: "42P01", _, _)) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let form = try database.form()
        #expect(form?.version == 2 && form?.oldest == 1)
        #expect(try !place.tables().contains("extra"))
        #expect(try database.upgrade(by: Self.steps).form.version == 3)
    }

    @Test func manyAtOnce() throws {
        let place = try Self.place()
        let results = Mutex<[Result<Int32, any Error>]>([])
        DispatchQueue.concurrentPerform(iterations: 6) { _ in
            let result = Result { try place.connect().upgrade(by: Self.steps).form.version }
            results.withLock { $0.append(result) }
        }
        #expect(try results.withLock { try $0.map { try $0.get() } } == Array(repeating: 3, count: 6))
        #expect(try place.sql("select count(*) from slimtad.extra") == "1")
    }

    /// Somebody else does the same step, and is faster by a commit: it is not done twice.
    @Test func outrun() throws {
        for _ in 1...5 {
            let place = try Self.place()
            let result = try place.race(with: Self.steps[0].transaction) {
                try place.connect().upgrade(by: Self.steps).form.version
            }
            // This machine was too slow to see it wait.
            if case .failure(ClusterDatabaseError.server(.refused(state: "55P03", _, _))) = result { continue }
            #expect(try result.get() == 3)
            return
        }
        Issue.record("five times the other transaction was not ended within two seconds")
    }

    /// Somebody reads on and on: the step gives up within seconds, so that nobody waits behind it, and changes nothing.
    @Test func tableInUse() throws {
        let place = try Self.place()
        let reader = try place.session()
        try reader.execute("begin; lock table slimtad.item in access share mode", by: .after(.seconds(20)))
        let clock = ContinuousClock()
        let start = clock.now
        let database = try place.connect()
        let error = #expect(throws: ClusterDatabaseError.self) { try database.upgrade(by: Self.steps) }
        guard case .server(.refused(state: "55P03", _, _)) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect((.seconds(1.9) ... .seconds(15)).contains(clock.now - start))
        #expect(try database.form()?.version == 1)
        try reader.execute("commit", by: .after(.seconds(20)))
        #expect(try database.upgrade(by: Self.steps).form.version == 3)
    }

    /// Nodes of the release before go on; of an older one not.
    @Test(arguments: [
        (Int32(1), Int32(1), Int32(1), nil), (2, 1, 1, nil),
        (3, 2, 1, ClusterDatabaseError.newer(version: 3, oldest: 2)),
        (3, 2, 2, nil), (1, 1, 2, .older(version: 1)), (3, 3, 3, nil), (2, 2, 3, .older(version: 2)),
    ])
    func whoMayWork(_ version: Int32, _ oldest: Int32, _ known: Int32, _ refusal: ClusterDatabaseError?) {
        let form = DatabaseForm(version: version, oldest: oldest, buckets: 1, since: 0)
        #expect(form.refusal(knowing: known) == refusal)
    }
}
