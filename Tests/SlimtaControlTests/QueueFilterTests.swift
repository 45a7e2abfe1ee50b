// Filters: what they are read from, and what they mean.

import SlimtaMail
import SlimtaNet
import SlimtaQueue
import Testing

@testable import SlimtaControl

private let now = Timestamp(milliseconds: 1_795_255_200_000)

private func filter(_ query: (String, String)...) throws -> QueueFilter {
    try QueueFilter(query.map { HTTPTarget.Parameter($0.0, $0.1) })
}

@Suite struct QueueFilterTests {
    private let envelope: Envelope
    private let state: EnvelopeState

    init() {
        envelope = Envelope(
            id: QueueID(at: now), sender: Mailbox(parsing: "Ann@Example.COM")!,
            recipients: ["b@One.test", "c@two.test", "d@three.test"].map { Mailbox(parsing: $0)! },
            received: now + .seconds(-3600),
            client: ClientInfo(address: "192.0.2.1", name: "c", protocolWord: "ESMTPSA", login: "ann", edge: "one"))
        var state = EnvelopeState(of: envelope, due: now + .seconds(60))
        state.recipients[0].reply = "450 4.2.0 Greylisted, come back"
        state.recipients[1] = RecipientState(fate: .delivered, reply: "250 fine", relay: "mx")
        self.state = state
    }

    private func matches(_ query: (String, String)...) throws -> Bool {
        try QueueFilter(query.map { HTTPTarget.Parameter($0.0, $0.1) })
            .matches(envelope, state, QueuePlace(of: state, now: now), now: now)
    }

    @Test(arguments: [
        ("sender", "ann@example.com"), ("sender", "@EXAMPLE.com"), ("recipient", "B@one.TEST"),
        ("recipient", "@three.test"), ("domain", "one.test"), ("domain", "@One.test"), ("login", "ann"), ("age", "1h"),
        ("edge", "one"), ("age", "30m-2h"), ("age", "0-1h"), ("age", "3600s"), ("state", "deferred"),
        ("reason", "greyLISTED"),
    ])
    func means(_ name: String, _ value: String) throws {
        #expect(try matches((name, value)))
        #expect(try !matches((name, value), ("login" == name ? "sender" : "login", "login" == name ? "<>" : "bob")))
    }

    @Test(arguments: [
        ("sender", "<>"), ("sender", "nn@example.com"), ("sender", "@example.co"), ("recipient", "@two.test"),
        ("recipient", "x@one.test"), ("domain", "two.test"), ("domain", "test"), ("login", "Ann"), ("edge", "two"),
        ("age", "3601s"),
        ("age", "1d"), ("age", "0-59m"), ("state", "held"), ("state", "due"), ("state", "active"), ("reason", "fine"),
        ("reason", "gone"),
    ])
    func doesNotMean(_ name: String, _ value: String) throws { #expect(try !matches((name, value))) }

    @Test func oneRecipientHasToBeAllThatIsAskedOfRecipients() throws {
        #expect(try matches(("domain", "one.test"), ("reason", "greylisted")))
        #expect(try !matches(("domain", "three.test"), ("reason", "greylisted")))
    }

    @Test(arguments: [
        ("sender", "ann"), ("sender", ""), ("recipient", "x"), ("age", "1"), ("age", "h"), ("age", "-1h"),
        ("age", "1h-"),
        ("age", "+1h"), ("age", "1h-2x"), ("age", "99999999999d"), ("age", "1.5h"), ("state", "gone"),
        ("state", "Held"),
        ("domain", ""),
    ])
    func refuses(_ name: String, _ value: String) {
        #expect(throws: QueueFilter.Mistake.self) { try filter((name, value)) }
    }

    @Test func refusesWhatIsGivenTwice() {
        #expect(throws: Never.self) { try matches(("edge", "one"), ("edge", "two")) }
        for name in QueueFilter.names where name != "edge" {
            let value = ["age": "1h", "state": "due"][name] ?? "a@b"
            #expect(throws: QueueFilter.Mistake.self) { try filter((name, value), (name, value)) }
        }
    }

    @Test func leavesOtherParametersAlone() throws { #expect(try filter(("limit", "x"), ("id", "")).isEmpty) }

    @Test func places() {
        var state = self.state
        #expect(QueuePlace(of: state, now: now) == .deferred)
        state.due = now
        #expect(QueuePlace(of: state, now: now) == .due)
        state.isHeld = true
        #expect(QueuePlace(of: state, now: now) == .held)
    }
}
