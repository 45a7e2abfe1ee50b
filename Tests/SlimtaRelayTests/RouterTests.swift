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

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        let recipients = delivery.recipients.map { delivery.envelope.recipients[$0].text }
        seen.withLock { $0.append(recipients) }
        return recipients.map { Outcome(.delivered, Reply(250, nil, "\($0) by \(name)")) }
    }
}

struct RouterTests {
    @Test(arguments: [
        ("example.net", "example.net", true), ("EXAMPLE.net", "example.net", true),
        ("example.net", "a.example.net", false), ("example.net", "xexample.net", false),
        ("*.example.org", "example.org", false), ("*.example.org", "a.example.org", true),
        ("*.Example.org", "a.b.c.example.org", true), ("*.example.org", "xexample.org", false),
        ("*.example.org", ".example.org", false), ("*", "anything", true), ("*", "[192.0.2.1]", true),
        ("[192.0.2.1]", "[192.0.2.1]", true), ("*.e", "ä.e", true),
    ])
    func patterns(_ pattern: String, _ domain: String, _ matches: Bool) async throws {
        // A route of the pattern, seen from outside.
        let relay = NamedRelay("it")
        let router = Router(
            [.init([try #require(DomainPattern(pattern))], relay)], otherwise: NamedRelay("other"))
        let outcomes = await router.attempt(Delivery(to: ["a@\(domain)"]))
        #expect((outcomes[0].reply.text == "a@\(domain) by it") == matches)
    }

    @Test(arguments: ["", "a*", "*a", "a.*.b", "**", "*.", "*.*"]) func noPattern(_ text: String) {
        #expect(DomainPattern(text) == nil)
    }

    @Test func theFirstMatchWins() async throws {
        let (one, two, other) = (NamedRelay("one"), NamedRelay("two"), NamedRelay("other"))
        let router = Router(
            [
                .init([try #require(DomainPattern("b.example"))], one),
                .init([try #require(DomainPattern("*.example")), try #require(DomainPattern("c.test"))], two),
            ], otherwise: other)
        var delivery = Delivery(to: ["1@x.test", "2@b.example", "3@a.example", "4@C.test", "5@y.test", "6@B.example"])
        delivery.recipients = [0, 1, 2, 3, 5]
        let outcomes = await router.attempt(delivery)
        #expect(
            outcomes.map(\.reply.text) == [
                "1@x.test by other", "2@b.example by one", "3@a.example by two", "4@C.test by two",
                "6@B.example by one",
            ])
        #expect(one.seen.withLock { $0 } == [["2@b.example", "6@B.example"]])
    }

    @Test func withoutRoutes() async {
        let router = Router([], otherwise: BlackholeRelay())
        let outcomes = await router.attempt(Delivery(to: ["a@x.test", "b@y.test"]))
        #expect(outcomes.map(\.result) == [.delivered, .delivered])
        #expect(outcomes.allSatisfy { $0.reply.description == "250 2.0.0 discarded" })
    }
}
