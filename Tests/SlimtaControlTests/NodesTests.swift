// Several daemons with one queue: what is asked of one reaches what the others have, and what is said of nodes.

import SlimtaMail
import SlimtaNet
import SlimtaQueue
import StorageKit
import Synchronization
import Testing

@testable import SlimtaControl

@Suite struct NodesTests {
    let database = MemoryDatabase()

    /// The first has all that is queued.
    private func two() async throws -> (ControlFixture, ControlFixture, [QueueID]) {
        let first = try await ControlFixture(MemoryStorage(database, name: "first"))
        let second = try await ControlFixture(MemoryStorage(database, name: "second"))
        return (first, second, try await first.accept(3, login: "ann", edge: "submission"))
    }

    @Test func changesReachWhoHasIt() async throws {
        let (first, second, ids) = try await two()
        var answer = try await second.ask(.post, "queue/hold", ("login", "ann")).json
        #expect(answer["done"].integer == 3 && answer["failed"].elements.isEmpty && answer["silent"].elements.isEmpty)
        #expect(Set(try await first.places().values) == ["held"])
        answer = try await second.ask(.post, "queue/release", ("all", "yes")).json
        #expect(answer["done"].integer == 3)
        answer = try await second.ask(.post, "queue/flush", ("all", "yes")).json
        #expect(answer["done"].integer == 3)
        let nobody = "\(QueueID(high: 1, low: 1))"
        answer = try await second.ask(.post, "queue/remove", ("id", "\(ids[0])"), ("id", nobody)).json
        #expect(answer["done"].integer == 1)
        #expect(answer["failed"].elements.map { $0["id"].text } == [nobody])
        #expect(answer["failed"].elements.map { $0["error"].text } == ["is not queued"])
        #expect(try await second.ask(.post, "queue/bounce", ("id", "\(ids[1])")).json["done"].integer == 1)
        let ledger = try await first.storage.ledger()
        #expect(ledger.isBalanced && ledger.removedBy == ["user7": 1] && ledger.submitted.bounced == 1)
        #expect(try await second.ask(.get, "queue/\(ids[2])").json["id"].text == "\(ids[2])")
        #expect(try await second.ask(.get, "queue/count").json["count"].integer == 2)
    }

    @Test func heldLoginsHaveMailEverywhere() async throws {
        let (first, second, ids) = try await two()
        #expect(try await second.ask(.post, "logins/hold", ("login", "ann")).json["done"].integer == 3)
        let states = await first.storage.states(ids).map { try? $0.get().isHeld }
        #expect(states == [true, true, true])
        #expect(try await second.ask(.post, "logins/release", ("login", "ann")).json["done"].integer == 3)
        #expect(await first.storage.states(ids).map { try? $0.get().isHeld } == [false, false, false])
    }

    /// Whoever can write to the database gets no further than the commands go.
    @Test func whatOtherNodesMayAsk() async throws {
        let (first, _, ids) = try await two()
        func status(_ method: String, _ path: [String], _ query: [(String, String)] = []) async throws -> Int64? {
            let question = JSON.object([
                .init("method", .string(method)), .init("path", .array(path.map { .string($0) })),
                .init(
                    "query",
                    .array(query.map { .object([.init("name", .string($0.0)), .init("value", .string($0.1))]) })),
            ])
            let answer = await first.control.answer(NodeQuestion(question.line, by: "root on second"))
            return try JSON(parsing: Array(answer.utf8))["status"].integer
        }
        #expect(try await status("GET", ["logins"], [("limit", "5")]) == 200)
        #expect(try await status("GET", ["sites"]) == 200)
        #expect(try await status("POST", ["logins", "hold"], [("login", "ann"), ("mail", "no")]) == 200)
        #expect(
            try await first.ask(.get, "logins", ("login", "ann")).json["reason"].text == "root on second wants it so")
        #expect(await first.storage.states(ids).allSatisfy { (try? $0.get().isHeld) != true })
        #expect(try await status("POST", ["logins", "bounce"], [("login", "ann"), ("mail", "no")]) == 400)
        for path in [
            ["drain"], ["reload"], ["status"], ["queue", "remove"], ["nodes", "drain"], ["dkim", "make"], [],
        ] {
            #expect(try await status("POST", path) == 404)
        }
        #expect(try await status("PUT", ["logins"]) == 404)
        // It would be asked in a circle.
        #expect(try await status("GET", ["logins"], [("nodes", "all")]) == 400)
        #expect(
            try JSON(parsing: Array(await first.control.answer(NodeQuestion("no", by: "")).utf8))["status"].integer
                == 404)
        #expect(first.daemon.orders == [])
    }

    /// Of a queue that one machine has alone there is nobody else to ask.
    @Test func allNodesOfOne() async throws {
        let (first, _, _) = try await two()
        #expect(try await first.ask(.get, "sites", ("nodes", "all")).json["sites"].elements.count == 1)
        #expect(try await first.ask(.get, "sites", ("nodes", "some")).status == 400)
        #expect(try await first.ask(.get, "guesses", ("nodes", "all")).status == 400)
    }

    @Test func statesInAWord() {
        var node = SharedQueue.Node(
            name: "n", incarnation: 1, isEdge: true, isRelay: true, egress: "n", version: "1", begun: .zero,
            heard: .seconds(7), isGone: false, isSilent: false, isDraining: false, queued: 0, buckets: 3)
        #expect(node.state == "works")
        node.isDraining = true
        #expect(node.state == "draining")
        node.buckets = 0
        #expect(node.state == "drained")
        node.isSilent = true
        #expect(node.state == "silent")
        var queue = SharedQueue(
            nodes: [node], buckets: 3, freeBuckets: 0, logPosition: "0/1", standbys: [],
            oldestTransaction: .seconds(599))
        #expect(Control.warnings(of: queue) == ["node n was not heard of for 7 s"])
        node.isGone = true
        #expect(node.state == "gone")
        queue.nodes = [node]
        #expect(Control.warnings(of: queue).isEmpty && Control.warnings(of: nil).isEmpty)
        queue.oldestTransaction = .seconds(660)
        #expect(Control.warnings(of: queue).first?.contains("for 11 minutes") == true)
        let standby = SharedQueue.Standby(name: "s", behind: nil, mode: nil)
        queue.standbys = [standby]
        let json = JSON.sharing(queue)
        #expect(json["standbys"].elements.first?["behind_octets"] == .null)
        #expect(json["nodes"].elements.first?["roles"].elements == [.string("edge"), .string("relay")])
        #expect(json["oldest_transaction_seconds"].integer == 660)
    }
}
