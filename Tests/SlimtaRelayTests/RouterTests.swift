// Routes: which relay gets whom, and whose outcome is whose.

import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import Synchronization
import Testing

/// Says its name, and notes what it was given.
final class NamedRelay: Relay {
    let name: String
    let seen = Mutex<[[String]]>([])

    init(_ name: String) { self.name = name }

    func destination(for domain: String) -> String { name }

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        let recipients = delivery.recipients.map { delivery.envelope.recipients[$0].text }
        seen.withLock { $0.append(recipients) }
        return recipients.map { Outcome(.delivered, Reply(250, nil, "\($0) by \(name)")) }
    }
}

struct RouterTests {
    @Test func theFirstMatchWins() async throws {
        let (one, two, other) = (NamedRelay("one"), NamedRelay("two"), NamedRelay("other"))
        let router = Router(
            [
                .init(matches: { $0 == "b.example" }, one),
                .init(matches: { $0.hasSuffix(".example") || $0 == "c.test" }, two),
            ], otherwise: other)
        var delivery = Delivery(to: ["1@x.test", "2@b.example", "3@a.example", "4@C.test", "5@y.test", "6@B.example"])
        delivery.recipients = [0, 1, 2, 3, 5]
        let outcomes = await router.attempt(delivery)
        #expect(
            outcomes.map(\.reply.text) == [
                "1@x.test by other", "2@b.example by one", "3@a.example by two", "4@C.test by two",
                "6@B.example by one",
            ])
        #expect(router.destination(for: "b.example") == "one")
        #expect(router.destination(for: "x.test") == "other")
        #expect(one.seen.withLock { $0 } == [["2@b.example", "6@B.example"]])
    }

    /// One domain may go different ways, by who sends: what is shared is shared by those of one way.
    @Test func byWhoSends() async throws {
        let (one, two, other) = (NamedRelay("one"), NamedRelay("two"), NamedRelay("other"))
        let router = Router(
            [
                .init(matches: { _ in true }, isFor: { $0.sender?.domain == "shop.test" }, one),
                .init(matches: { $0 == "x.test" }, isFor: { $0.client.login == "maria" }, two),
                .init(matches: { $0 == "x.test" }, other),
            ], otherwise: BlackholeRelay())
        var maria = Delivery(to: ["1@x.test", "2@y.test"], from: "a@b.test")
        maria.envelope.client.login = "maria"
        for (delivery, names, destinations) in [
            (Delivery(to: ["1@x.test", "2@y.test"], from: "a@shop.test"), ["by one", "by one"], ["one", "one"]),
            (maria, ["by two", "discarded"], ["two", "y.test"]),
            (
                Delivery(to: ["1@x.test", "2@y.test"], from: "a@b.test"), ["by other", "discarded"],
                ["other", "y.test"]
            ),
            (Delivery(to: ["1@x.test", "2@y.test"], from: nil), ["by other", "discarded"], ["other", "y.test"]),
        ] {
            let texts = await router.attempt(delivery).map(\.reply.text)
            #expect(zip(texts, names).allSatisfy { $0.hasSuffix($1) }, "\(texts)")
            #expect(["x.test", "y.test"].map { router.destination(for: $0, of: delivery.envelope) } == destinations)
        }
        // Where nobody knows who sends.
        #expect(router.destination(for: "x.test") == "other" && router.destination(for: "y.test") == "y.test")
        #expect(router.destinations(for: "x.test") == ["one", "two", "other"])
        #expect(router.destinations(for: "y.test") == ["one", "y.test"])
    }

    @Test func withoutRoutes() async {
        let router = Router([], otherwise: BlackholeRelay())
        let outcomes = await router.attempt(Delivery(to: ["a@x.test", "b@y.test"]))
        #expect(outcomes.map(\.result) == [.delivered, .delivered])
        #expect(router.destination(for: "x.test") == "x.test")
        #expect(outcomes.allSatisfy { $0.reply.description == "250 2.0.0 discarded" })
    }
}
