// What operators do on one node to what another one has: with queues that deliver nothing by themselves, and a real server.

import Logging
import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Commands of operators", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"), .serialized)
struct CommandTests {
    /// A node with a queue.
    private struct Member {
        let storage: any QueueBackend
        let queue: Queue

        init(_ place: ClusterPlace, _ name: String) async throws {
            storage = try await place.open(node: name)
            queue = Queue(
                storage: storage, relay: NoRelay(),
                configuration: .init(
                    schedule: RetrySchedule(intervals: [.seconds(3600)], expire: .seconds(86400), warn: nil),
                    limits: .init(attempts: 5, attemptsPerDestination: 5), delivers: false, hostname: "queue.test"),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            try await storage.start { [queue] in queue.receive($0) }
        }

        func accept(_ count: Int) async throws -> [QueueID] {
            var ids: [QueueID] = []
            for _ in 0..<count {
                let envelope = CommandTests.envelope(storage)
                let result: Result<Void, StorageError> = await withCheckedContinuation { continuation in
                    queue.accept([envelope], Message(head: ByteBuffer(string: "Subject: x\r\n\r\nbody\r\n"))) {
                        continuation.resume(returning: $0)
                    }
                }
                try result.get()
                ids.append(envelope.id)
            }
            return ids
        }

        func carryOut(_ verb: OperatorCommand.Verb, _ ids: [QueueID]) async -> OperatorAnswer {
            await queue.carryOut(OperatorCommand(verb, ids, by: "ann"))
        }

        func held(_ ids: [QueueID]) async -> [Bool?] {
            await storage.states(ids).map { try? $0.get().isHeld }
        }
    }

    private struct NoRelay: Relay {
        func attempt(_ delivery: Delivery) async -> [Outcome] {
            delivery.recipients.map { _ in Outcome(.temporary, Reply(451, .init(4, 2, 0), "later"), isRemote: true) }
        }
    }

    private static func envelope(_ storage: any QueueBackend) -> Envelope {
        Envelope(
            id: storage.newID(at: .now()), sender: Mailbox(parsing: "a@example.com"),
            recipients: [Mailbox(parsing: "b@example.org")].compactMap { $0 }, received: .now(),
            client: ClientInfo(address: "192.0.2.1", name: "client", protocolWord: "ESMTP"))
    }

    /// The first has all that is queued.
    private func two(_ place: ClusterPlace) async throws -> (Member, Member, [QueueID]) {
        let first = try await Member(place, "first")
        let second = try await Member(place, "second")
        return (first, second, try await first.accept(6))
    }

    /// Nothing stays in the table.
    private func questions(_ place: ClusterPlace) throws -> String {
        try place.server.sql("select count(*) from slimtad.command", in: place.name)
    }

    @Test func everyCommand() async throws {
        let place = try ClusterPlace()
        let (first, second, ids) = try await two(place)
        #expect(await second.carryOut(.hold, ids) == OperatorAnswer(done: 6))
        #expect(await second.held(ids) == ids.map { _ in true })
        #expect(await second.carryOut(.flush, [ids[0]]) == OperatorAnswer(failed: [.init(id: ids[0], error: .held)]))
        #expect(await second.carryOut(.release, Array(ids[..<5])) == OperatorAnswer(done: 5))
        #expect(await second.held(ids) == [false, false, false, false, false, true])
        #expect(await second.carryOut(.flush, [ids[0]]) == OperatorAnswer(done: 1))
        #expect(await second.carryOut(.flushAll, []).done == 5)
        #expect(await second.carryOut(.remove, [ids[0], ids[1]]) == OperatorAnswer(done: 2))
        // Once: what has gone is not there any more, wherever it is asked.
        for member in [first, second] {
            let failures = [ids[0], ids[1]].map { QueueOperationFailure(id: $0, error: .notFound) }
            let again = await member.carryOut(.remove, [ids[0], ids[1]])
            #expect(again.done == 0 && Set(again.failed) == Set(failures))
        }
        #expect(await second.carryOut(.bounce, [ids[2]]) == OperatorAnswer(done: 1))
        let ledger = try await second.storage.ledger()
        #expect(ledger.isBalanced && ledger.removedBy == ["ann": 2])
        #expect(ledger.submitted.bounced == 1 && ledger.notices.accepted == 1)
        // Three are left, and a notice.
        #expect(try await second.storage.count() == 4)
        #expect(try questions(place) == "0")
        await first.storage.close()
        await second.storage.close()
    }

    @Test func whoOnlyLooksSeesAll() async throws {
        let place = try ClusterPlace()
        let (first, second, ids) = try await two(place)
        #expect(try await second.storage.look(at: ids[0]).envelope.id == ids[0])
        #expect(await failure { () async throws(StorageError) in try await second.storage.load(ids[0]) } == .lost)
        let absent = QueueID(at: .now(), bucket: 1)
        let refusal = await failure { () async throws(StorageError) in try await second.storage.look(at: absent) }
        #expect(refusal == .notFound)
        #expect(try await second.storage.count() == 6)
        await first.storage.close()
        await second.storage.close()
    }

    /// It is said that nothing was done, and nothing is done later either.
    @Test func ownerThatHasDied() async throws {
        let place = try ClusterPlace { $0.commitTimeout = .seconds(2) }
        let (first, second, ids) = try await two(place)
        await place.crash(first.storage)
        var answer = await second.carryOut(.remove, [ids[0]])
        if answer.done == 0 {
            guard case .elsewhere(let text) = answer.failed.first?.error else {
                Issue.record("\(answer)")
                return
            }
            let isSilent = text.contains("node first has it and does not answer; nothing was done")
            #expect(isSilent || text.contains("goes from one node") || text.contains("no node has it"), "\(text)")
            #expect(try questions(place) == "0")
            try await eventually("the other has what the dead one had") {
                answer = await second.carryOut(.remove, [ids[0]])
                return answer.done == 1
            }
        }
        let ledger = try await second.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.removed == 1)
        await second.storage.close()
    }

    /// Who has read a question and does not answer: nobody knows how far it is, and it is not asked of another one.
    @Test func ownerThatIsFenced() async throws {
        let place = try ClusterPlace { $0.commitTimeout = .seconds(3) }
        let first = try await place.open(node: "first")
        let (questions, asked) = AsyncStream.makeStream(of: Void.self)
        try await first.start { events in
            if events.contains(where: { if case .command = $0 { true } else { false } }) { asked.yield() }
        }
        let second = try await Member(place, "second")
        let envelope = Self.envelope(first)
        try await first.commit(
            QueueCommit(
                accepted: [.init(envelope, due: .now())], message: Message(head: ByteBuffer(string: "x: y\r\n"))))
        let id = envelope.id
        let told = Task {
            defer { asked.finish() }
            return await second.carryOut(.hold, [id])
        }
        for await _ in questions { break }
        await place.fence("first", heir: "second")
        let answer = await told.value
        guard case .elsewhere(let text) = answer.failed.first?.error else {
            Issue.record("\(answer)")
            return
        }
        #expect(answer.done == 0 && text.contains("node first") && text.contains("may be done or not"))
        #expect(try self.questions(place) == "0")
        try await eventually("then it is asked of who has it") { await second.carryOut(.hold, [id]).done == 1 }
        await first.close()
        await second.storage.close()
    }

    /// Asked of one who leaves meanwhile: of who has it then.
    @Test func ownerThatLeaves() async throws {
        let place = try ClusterPlace()
        let (first, second, ids) = try await two(place)
        async let answer = second.carryOut(.remove, ids)
        await first.storage.close()
        let told = await answer
        #expect(told == OperatorAnswer(done: 6))
        #expect(try await second.storage.count() == 0)
        #expect(try await second.storage.ledger().removedBy["ann"] == 6)
        #expect(try questions(place) == "0")
        await second.storage.close()
    }

    @Test func bucketsOfNobody() async throws {
        let place = try ClusterPlace {
            $0.commitTimeout = .seconds(2)
            if $0.node == "second" { $0.roles = .edge }
        }
        let (first, second, ids) = try await two(place)
        await first.storage.close()
        let answer = await second.carryOut(.hold, [ids[0]])
        guard case .elsewhere(let text) = answer.failed.first?.error else {
            Issue.record("\(answer)")
            return
        }
        #expect(answer.done == 0 && text.contains("no node has it"))
        await second.storage.close()
    }

    /// All that is due is asked of others too: who cannot be asked is named.
    @Test func flushWithoutTheDatabase() async throws {
        let place = try ClusterPlace()
        let (first, second, _) = try await two(place)
        await place.setAway("second", "no route")
        try await eventually("it knows") { second.storage.status().failure != nil }
        let answer = await second.carryOut(.flushAll, [])
        #expect(answer.silent.count == 1 && answer.silent[0].hasPrefix("all other nodes ("), "\(answer)")
        await place.setAway("second", nil)
        await first.storage.close()
        await second.storage.close()
    }

    /// Rows of who asked and died, and questions that are too old, are taken away and not carried out.
    @Test func oldQuestions() async throws {
        let place = try ClusterPlace { $0.housekeeping = .milliseconds(200) }
        let (first, second, ids) = try await two(place)
        try place.server.sql(
            """
            insert into slimtad.command (id, node, incarnation, verb, ids, by_name, asked)
            select '\(QueueID(at: .now()).uuid)', 'first', incarnation, 'remove', array['\(ids[0].uuid)'::uuid], 'ann',
                clock_timestamp() - interval '11 minutes' from slimtad.node where name = 'first'
            """, in: place.name)
        try await eventually("a keeper takes it away") { (try? questions(place)) == "0" }
        #expect(try await first.storage.count() == 6)
        await first.storage.close()
        await second.storage.close()
    }
}

extension QueueID {
    /// As SQL has it.
    fileprivate var uuid: String { "\(self)" }
}

/// Waits until something is so; an issue if that takes too long.
private func eventually(_ what: Comment, _ condition: () async throws -> Bool) async throws {
    for _ in 0..<600 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(100))
    }
    Issue.record(what)
}
