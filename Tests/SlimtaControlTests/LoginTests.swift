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
        await fixture.control.lookAfterHolds()
        await fixture.control.releaseStored([id])
        let away = StorageError.away("no route").text
        #expect(
            fixture.lines == [
                "recent mail of a login is not held error=\(away) login=ann",
                "mail of a released login stays held error=\(away) queue_id=\(id)",
            ])
        database.setAway("node", nil)
        await fixture.control.lookAfterHolds()
        #expect(fixture.lines.last == "recent mail of a login is held login=ann messages=1")
        await fixture.control.releaseStored([id])
        #expect(try await fixture.places() == ["\(id)": "due"] && fixture.lines.count == 3)
    }

    /// Who is not there is not held, nor bounced, which is told; one of whom nobody can know is held beforehand. What is
    /// in the queue was sent by somebody. Names are spelled as at logins.
    @Test func nobodyIsNotHeld() async throws {
        let fixture = try await ControlFixture()
        for action in ["hold", "bounce"] {
            let (status, answer) = try await fixture.ask(.post, "logins/\(action)", ("login", "ghost"))
            #expect(status == 404 && answer["error"].text?.hasPrefix("nobody is called ghost: ") == true)
        }
        #expect(try await fixture.ask(.get, "logins").json["logins"].elements.isEmpty)
        let foreign = try await fixture.ask(.post, "logins/hold", ("login", "x@y.test"))
        #expect(foreign.status == 200 && foreign.json["known"] == .bool(false))
        #expect(try await fixture.ask(.post, "logins/hold", ("login", "192.0.2.7")).status == 200)
        try await fixture.accept(login: "ghost", edge: "one")
        let gone = try await fixture.ask(.post, "logins/hold", ("login", "ghost")).json
        #expect(gone["known"] == .bool(true) && gone["done"].integer == 1)
        let held = try await fixture.ask(.post, "logins/hold", ("login", "ANN")).json
        #expect(held["login"].text == "ann" && held["known"] == .bool(true))
        #expect(try await fixture.ask(.get, "logins", ("login", "Ann")).json["held"] == .bool(true))
        #expect(try await fixture.ask(.post, "logins/bounce", ("login", "bob")).status == 409)
        #expect(try await fixture.ask(.post, "logins/release", ("login", "aNN")).json["login"].text == "ann")
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

    /// A hold that a crash has left behind: what it still owes is done before anything is attempted, and once.
    @Test func whatACrashHasLeftIsDone() async throws {
        let database = MemoryDatabase()
        let fixture = try await ControlFixture(database)
        let recent = try await fixture.accept(2, login: "ann", edge: "one")
        let others = try await fixture.accept(login: "bob", edge: "one") + fixture.accept(login: "ann")
        await fixture.storage.close()
        var rules = QuotaRules()
        rules.limits = QuotaLimits(breaker: [.init(.messages, .hour, 1)])
        (rules.learning, rules.learningRecipients) = (.zero, 0)
        rules.notify = Mailbox(parsing: "postmaster@later.test")
        var quotas = Quotas(rules: rules, key: SIMD2(3, 4))
        for _ in 0..<2 {
            let to = [try #require(Mailbox(parsing: "x@x.test"))]
            let charge = try #require(quotas.take(.login("ann"), to: to, size: 9, at: .now()).charge)
            _ = quotas.settle(charge, as: quotas.isHeld(charge) ? .held : .stored)
        }
        for crash in 1...3 {
            // Each begins with what was known when the login was held.
            quotas = try #require(Quotas(octets: quotas.octets))
            quotas.rules = rules
            let again = try await ControlFixture(database, quotas)
            #expect(again.quotas.holds[.login("ann")]?.duties == [.recent, .notice])
            await again.control.lookAfterHolds()
            #expect(again.quotas.holds[.login("ann")]?.duties == [])
            let places = try await again.places()
            #expect(recent.allSatisfy { places["\($0)"] == "held" } && others.allSatisfy { places["\($0)"] == "due" })
            let notices = places.keys.compactMap { QueueID($0) }.filter { !(recent + others).contains($0) }
            try #require(notices.count == 1)
            let envelope = try await again.storage.load(notices[0]).envelope
            #expect(envelope.sender == nil && envelope.recipients.map(\.text) == ["postmaster@later.test"])
            #expect(again.lines.contains { $0.hasPrefix("notice of a held login queued") } == (crash == 1))
            await again.storage.close()
        }
    }

    /// What an operator takes out makes room, whether by its id or with others; what policies have split counts once.
    @Test func removedMailMakesRoom() async throws {
        let fixture = try await ControlFixture()
        await fixture.quotas.hold(.login("ann"), because: "root", at: .now())
        func held() async throws -> Int64? {
            try await fixture.ask(.get, "logins", ("login", "ann")).json["held_messages"].integer
        }
        var ids: [[QueueID]] = []
        for count in [1, 3, 1] {
            let some = try await fixture.accept(count, login: "ann", edge: "one", heldReason: Quotas.heldReason)
            ids.append(some)
            let envelope = try await fixture.storage.load(some[0]).envelope
            fixture.quotas.take(envelope, size: 22) { charge, _ in
                guard let charge else { return }
                fixture.quotas.settle(charge, stored: some, isHeld: true) {}
            }
            // Ids, and times of arrival, have milliseconds.
            try await Task.sleep(for: .milliseconds(2))
        }
        #expect(try await held() == 3)
        _ = try await fixture.ask(.post, "queue/remove", ("id", "\(ids[0][0])"))
        #expect(try await held() == 2)
        _ = try await fixture.ask(.post, "queue/bounce", ("id", "\(ids[1][0])"))
        #expect(try await held() == 2)
        _ = try await fixture.ask(.post, "queue/release", ("id", "\(ids[1][1])"), ("id", "\(ids[1][2])"))
        #expect(try await held() == 1)
        _ = try await fixture.ask(.post, "queue/remove", ("login", "ann"), ("reason", "breaker"))
        #expect(try await held() == 0)
        let shown = try await fixture.ask(.get, "logins", ("login", "ann")).json
        #expect(shown["held_octets"].integer == 0)
    }
}
