// Logins over the control socket: what becomes of their mail when they are held, and of the room for it.

import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaRules
import StorageKit
import Testing

@testable import SlimtaControl

@Suite struct LoginTests {
    /// What is being attempted when its login is held is held when the attempt has failed, and not tried again.
    @Test func whatIsAttemptedIsHeldBehindTheAttempt() async throws {
        let fixture = try await ControlFixture()
        let attempted = try await fixture.accept(to: "x@gate.test", login: "ann", edge: "one")[0]
        let other = try await fixture.accept(to: "x@gate.test", login: "bob", edge: "one")[0]
        try await fixture.delivering {
            try await eventually("attempts") { try await Set(fixture.places().values) == ["active"] }
            let answer = try await fixture.ask(.post, "logins/hold", ("login", "ann")).json
            #expect(answer["done"].integer == 0)
            #expect(answer["failed"].elements.map { $0["error"].text } == [QueueOperationError.inFlight.text])
            fixture.relay.openGate()
            try await eventually("the hold") {
                try await fixture.places() == ["\(attempted)": "held", "\(other)": "deferred"]
            }
            #expect(try await fixture.storage.load(attempted).state.heldReason == Quotas.heldReason)
        }
    }

    /// Nobody waits for an answer where a login is held by itself: what cannot be held, or released, is told in the log.
    @Test func whatCannotBeDoneIsLogged() async throws {
        let database = MemoryDatabase()
        let fixture = try await ControlFixture(database)
        let id = try await fixture.accept(login: "ann", edge: "one")[0]
        await fixture.quotas.hold(.login("ann"), because: "it sends too much", at: .now())
        database.setAway("node", "no route")
        await fixture.control.holdRecent(of: "ann")
        await fixture.control.releaseStored([id])
        let away = StorageError.away("no route").text
        #expect(
            fixture.lines == [
                "recent mail of a login is not held error=\(away) login=ann",
                "mail of a released login stays held error=\(away) queue_id=\(id)",
            ])
        database.setAway("node", nil)
        await fixture.control.holdRecent(of: "ann")
        #expect(fixture.lines.last == "recent mail of a login is held login=ann messages=1")
        await fixture.control.releaseStored([id])
        #expect(try await fixture.places() == ["\(id)": "due"] && fixture.lines.count == 3)
    }

    /// What was bounced makes room for as much again.
    @Test func bouncedMailMakesRoom() async throws {
        let fixture = try await ControlFixture()
        let id = try await fixture.accept(login: "ann", edge: "one")[0]
        let envelope = try await fixture.storage.load(id).envelope
        #expect(try await fixture.ask(.post, "logins/hold", ("login", "ann")).json["done"].integer == 1)
        fixture.quotas.take(envelope, size: 1000) { charge, refusal in #expect(charge != nil && refusal == nil) }
        let shown = try await fixture.ask(.get, "logins", ("login", "ann")).json
        #expect(shown["held_messages"].integer == 1 && shown["held_octets"].integer == 1000)
        #expect(try await fixture.ask(.post, "logins/bounce", ("login", "ann")).json["done"].integer == 1)
        let after = try await fixture.ask(.get, "logins", ("login", "ann")).json
        #expect(after["held"] == .bool(true))
        #expect(after["held_messages"].integer == 0 && after["held_octets"].integer == 0)
    }
}
