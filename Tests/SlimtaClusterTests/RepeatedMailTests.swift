// New mail that is there already, beside mail that is not: what the queue makes again after a doubt is there once, and what is in
// the same group is not held up by it.

import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import TestKit
import Testing

@testable import SlimtaCluster

@Suite(
    "New mail that is made again", .enabled(if: PostgresServer.isThere, Comment(rawValue: PostgresServer.missing)))
struct RepeatedMailTests {
    private static func commit(_ storage: any QueueBackend, key: Int? = nil) -> QueueCommit {
        let envelope = Envelope(
            id: storage.newID(at: .now()), sender: nil,
            recipients: [Mailbox(parsing: "b@example.org")].compactMap { $0 }, received: .now(),
            client: ClientInfo(address: "192.0.2.1", name: "client", protocolWord: "ESMTP"))
        var commit = QueueCommit(
            accepted: [.init(envelope, due: envelope.received)],
            message: Message(head: ByteBuffer(string: "Subject: \(envelope.id)\r\n\r\n")))
        if let key { commit.receipts = [makeReceipt(key, of: [envelope])] }
        return commit
    }

    @Test func amongOthers() async throws {
        let place = try ClusterPlace()
        let storage = try await place.open()
        try await storage.start { _ in }
        let before = (0..<5).map { _ in Self.commit(storage) }
        for commit in before { try await storage.commit(commit) }
        // While the first is on its way the others become one group.
        let new = (0..<40).map { Self.commit(storage, key: $0 % 8 == 3 ? $0 : nil) }
        let mixed = new.enumerated().flatMap { $0 % 8 == 4 ? [before[$0 / 8], $1] : [$1] }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for commit in mixed { group.addTask { try await storage.commit(commit) } }
            try await group.waitForAll()
        }
        let ledger = try await storage.ledger()
        #expect(ledger.notices.accepted == 45 && ledger.isBalanced, "each once: \(ledger)")
        #expect(try await storage.count() == 45)
        for commit in before + new {
            let id = try #require(commit.anyID)
            let stored = try await storage.look(at: id)
            #expect(String(buffer: stored.message.head) == "Subject: \(id)\r\n\r\n")
            for receipt in commit.receipts { #expect(try await storage.receipt(for: receipt.key)?.id == receipt.id) }
        }
        await storage.close()
    }
}
