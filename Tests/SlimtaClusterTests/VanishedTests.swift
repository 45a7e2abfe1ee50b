// Mail that is not in the database any more: who wanted to record something of it says so.

import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

@Suite(
    "Mail that has vanished", .enabled(if: PostgresServer.isThere, Comment(rawValue: PostgresServer.missing)),
    .serialized)
struct VanishedTests {
    /// A node with two messages, of which the second is deleted; and what its queue was told is gone.
    private struct Two {
        let place: ClusterPlace
        let storage: any QueueBackend
        let kept, lost: Envelope
        let withdrawn = Withdrawn()

        init() async throws {
            place = try ClusterPlace()
            storage = try await place.open()
            try await storage.start { [withdrawn] in withdrawn.note($0) }
            (kept, lost) = (Self.envelope(storage), Self.envelope(storage))
            for envelope in [kept, lost] {
                try await storage.commit(
                    QueueCommit(
                        accepted: [.init(envelope, due: envelope.received)],
                        message: Message(head: ByteBuffer(string: "Subject: x\r\n\r\n"))))
            }
            _ = try place.server.sql("delete from slimtad.item where id = '\(lost.id)'", in: place.name)
        }

        private static func envelope(_ storage: any QueueBackend) -> Envelope {
            Envelope(
                id: storage.newID(at: .now()), sender: Mailbox(parsing: "a@example.com"),
                recipients: [Mailbox(parsing: "b@example.org")].compactMap { $0 }, received: .now(),
                client: ClientInfo(address: "192.0.2.1", name: "client", protocolWord: "ESMTP"))
        }

        /// What was reported, once all that was committed before is over.
        func vanished() async throws -> [[QueueID]] {
            try await storage.commit(QueueCommit())
            return place.events.compactMap { if case .vanished(let ids) = $0 { ids } else { nil } }
        }
    }

    private final class Withdrawn: Sendable {
        private let ids = Mutex<[QueueID]>([])

        func note(_ events: [QueueEvent]) {
            for case .withdrawn(let some) in events { ids.withLock { $0 += some } }
        }

        var all: [QueueID] { ids.withLock { $0 } }
    }

    @Test func aState() async throws {
        let two = try await Two()
        let states = [two.kept, two.lost].map { EnvelopeState(of: $0, due: $0.received) }
        try await two.storage.commit(QueueCommit(states: states))
        #expect(try await two.vanished() == [[two.lost.id]])
        for _ in 0..<1000 where two.withdrawn.all.isEmpty { try await Task.sleep(for: .milliseconds(10)) }
        #expect(two.withdrawn.all == [two.lost.id])
        await two.storage.close()
    }

    @Test func anEnd() async throws {
        let two = try await Two()
        let ends = [two.kept, two.lost].map { Ending(id: $0.id, delivered: 1) }
        try await two.storage.commit(QueueCommit(ended: ends))
        #expect(try await two.vanished() == [[two.lost.id]])
        await two.storage.close()
    }

    /// It is made again, and has come through before.
    @Test func anEndInDoubt() async throws {
        let two = try await Two()
        let ending = QueueCommit(ended: [Ending(id: two.kept.id, delivered: 1)])
        two.place.link("only")?.set(.loseAnswer(toClientDataContaining: [0] + Array("ended".utf8) + [0]))
        await #expect(throws: StorageError.doubtful) { try await two.storage.commit(ending) }
        #expect(try two.place.server.sql("select count(*) from slimtad.item", in: two.place.name) == "0", "it is there")
        try await two.storage.commit(ending)
        #expect(try await two.vanished() == [])
        await two.storage.close()
    }
}
