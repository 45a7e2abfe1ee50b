// A large message is accepted only if all of it is there when its envelope comes: pieces are written before, over other
// connections.

import NIOCore
import SlimtaMail
import SlimtaQueue
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Large messages that are not whole", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
struct WholeMessageTests {
    private func envelope(_ storage: any QueueBackend) -> Envelope {
        Envelope(
            id: storage.newID(at: .now()), sender: Mailbox(parsing: "a@example.com"),
            recipients: [Mailbox(parsing: "b@example.org")].compactMap { $0 }, received: .now(), body: .sevenBit,
            smtpUTF8: false, client: ClientInfo(address: "192.0.2.1", name: "client", protocolWord: "ESMTP"),
            prependedFields: ByteBuffer())
    }

    @Test(arguments: [
        nil, "delete from slimtad.message_00 where chunk = 1", "delete from slimtad.message_00 where chunk = 3",
        "truncate slimtad.message_00",
    ])
    func isItThere(_ change: String?) async throws {
        let place = try ClusterPlace()
        let storage = try await place.open()
        try await storage.start { _ in }
        for size in [0, 2 * Chunk.size + 1] {
            let envelope = envelope(storage)
            let writer = storage.beginSpool(envelope.id)
            writer.append(ByteBuffer(repeating: 7, count: size)) { _ in }
            let finished = await withCheckedContinuation { continuation in
                writer.finish { continuation.resume(returning: $0) }
            }
            let body = try finished.get()
            if let change { _ = try place.server.sql(change, in: place.name) }
            // With others in its group, which are not at fault.
            let other = self.envelope(storage)
            async let plain: Void = storage.commit(
                QueueCommit(accepted: [.init(other, due: .now())], message: Message(head: ByteBuffer(string: "other"))))
            let refusal = await failure { () async throws(StorageError) in
                try await storage.commit(
                    QueueCommit(
                        accepted: [.init(envelope, due: .now())],
                        message: Message(head: ByteBuffer(string: "head"), rest: body)))
            }
            try await plain
            let isRefused = change != nil && size > 0
            if case .failed = refusal { #expect(isRefused) } else { #expect(refusal == nil && !isRefused) }
            let found = await failure { () async throws(StorageError) in try await storage.load(envelope.id) }
            #expect(found == (isRefused ? .notFound : nil))
        }
        #expect(try await storage.ledger().submitted.accepted == (change == nil ? 4 : 3))
        await storage.close()
    }
}
