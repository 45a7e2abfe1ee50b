// What goes to a relay by other addresses, with other fields; and that outcomes are those of who was queued.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import SlimtaRules
import Synchronization
import Testing

struct RewritingRelayTests {
    /// Takes what it is given, and answers each recipient with its address.
    final class Witness: Relay {
        let seen = Mutex<[Delivery]>([])

        func attempt(_ delivery: Delivery) async -> [Outcome] {
            seen.withLock { $0.append(delivery) }
            return delivery.recipients.map { index in
                let recipient = delivery.envelope.recipients[index]
                let outcome = Outcome(.delivered, Reply(250, EnhancedStatus(2, 0, 0), recipient.text))
                delivery.report(index, outcome)
                return outcome
            }
        }
    }

    static func rewrites() throws -> RouteRewrites {
        func rule(_ origin: String, _ target: String) throws -> AddressRewrite {
            AddressRewrite(
                try AddressRewrite.Origin(origin, allowsNull: true),
                to: try AddressRewrite.Target(target, allowsNull: true))
        }
        var rewrites = RouteRewrites()
        rewrites.senders = [try rule("@client.test", "@example.test")]
        rewrites.recipients = [try rule("b@x.test", "all@z.test"), try rule("@x.test", "@y.test")]
        rewrites.fields = [try FieldTemplate("X-Sender: {sender}")]
        return rewrites
    }

    @Test func rewritten() async throws {
        let witness = Witness()
        let relay = RewritingRelay(witness, try Self.rewrites())
        let told = Mutex<[Int]>([])
        var delivery = Delivery(to: ["a@x.test", "b@x.test", "c@w.test", "d@x.test"])
        delivery.recipients = [0, 1, 3]
        delivery.report = { index, _ in told.withLock { $0.append(index) } }
        let outcomes = await relay.attempt(delivery)
        #expect(outcomes.map(\.reply.text) == ["a@y.test", "all@z.test", "d@y.test"])
        #expect(told.withLock { $0 } == [0, 1, 3])
        let seen = try #require(witness.seen.withLock { $0.first })
        #expect(seen.envelope.sender?.text == "sender@example.test")
        // Who is not tried is left alone, and the queued envelope anyway.
        #expect(seen.envelope.recipients[2].text == "c@w.test")
        #expect(String(buffer: seen.envelope.prependedFields) == "X-Sender: sender@client.test\r\nReceived: here\r\n")
        #expect(delivery.envelope.recipients[0].text == "a@x.test")
    }

    /// A command would run twice for one mailbox, and a server be told its name twice.
    @Test func recipientsThatBecomeOne() async throws {
        let witness = Witness()
        var rewrites = RouteRewrites()
        rewrites.recipients = [
            AddressRewrite(
                try AddressRewrite.Origin("@x.test", allowsNull: true),
                to: try AddressRewrite.Target("all@z.test", allowsNull: true))
        ]
        let told = Mutex<[Int]>([])
        var delivery = Delivery(to: ["a@x.test", "c@w.test", "b@x.test", "all@Z.test", "d@x.test"])
        delivery.recipients = [1, 2, 3, 4]
        delivery.report = { index, _ in told.withLock { $0.append(index) } }
        let outcomes = await RewritingRelay(witness, rewrites).attempt(delivery)
        #expect(outcomes.map(\.reply.text) == ["c@w.test", "all@z.test", "all@z.test", "all@z.test"])
        #expect(witness.seen.withLock { $0.map(\.recipients) } == [[1, 2]])
        #expect(told.withLock { $0.sorted() } == [1, 2, 3, 4])
    }

    @Test func nullSender() async throws {
        let witness = Witness()
        _ = await RewritingRelay(witness, try Self.rewrites()).attempt(Delivery(to: ["a@x.test"], from: nil))
        #expect(witness.seen.withLock { $0.first.map { $0.envelope.sender == nil } } == true)
    }

    /// Mail shares turns and back-off with the mail of the domain that it goes to.
    @Test func destination() throws {
        let relay = RewritingRelay(Witness(), try Self.rewrites())
        #expect(relay.destination(for: "x.test") == "y.test")
        #expect(relay.destination(for: "w.test") == "w.test")
    }
}
