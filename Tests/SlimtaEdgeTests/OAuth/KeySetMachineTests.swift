// When keys are fetched, and what holds meanwhile; and what is remembered of what an issuer said.

import NIOCore
import SlimtaMail
import SlimtaNet
import Testing

@testable import SlimtaEdge

@Suite struct KeySetMachineTests {
    private let start = ContinuousClock.Instant.now
    private let (old, new): (JSONWebKeys, JSONWebKeys)

    init() throws {
        let issuer = try Issuer.shared.get()
        old = try JSONWebKeys(Issuer.set([issuer.rsa.jwk()]))
        new = try JSONWebKeys(Issuer.set([issuer.ec.jwk()]))
    }

    private func at(_ seconds: Double) -> ContinuousClock.Instant { start + .seconds(seconds) }

    private func begun(_ machine: inout KeySetMachine, _ seconds: Double) -> Bool { machine.begunIfDue(at(seconds)) }

    /// What the machine says of the key of the old set, and of that of the new one.
    private func ask(_ machine: inout KeySetMachine, _ id: String, _ seconds: Double) -> String {
        switch machine.key(id, for: id == "rsa-1" ? .rs256 : .es256, at(seconds)) {
        case .key(.key): "key"
        case .key(.unknown): "unknown"
        case .key(.none): "none"
        case .fetch: "fetch"
        case .wait: "wait"
        case .unavailable: "unavailable"
        }
    }

    @Test func firstFetch() {
        var machine = KeySetMachine(now: at(0))
        #expect(ask(&machine, "rsa-1", 0) == "fetch")
        #expect(ask(&machine, "rsa-1", 1) == "wait")
        #expect(!begun(&machine, 1))
        #expect(machine.failed("down", at(2)) == .failed("down"))
        #expect(machine.complaint == "down")
        #expect(ask(&machine, "rsa-1", 6.9) == "unavailable")
        #expect(ask(&machine, "rsa-1", 7) == "fetch")
        // Told once.
        #expect(machine.failed("down again", at(8)) == nil)
        #expect(machine.due == at(13) && begun(&machine, 13) && !begun(&machine, 13))
        #expect(machine.fetched(old, age: nil, at(14)) == .restored)
        #expect(machine.complaint == nil && machine.due == at(14 + 900))
        #expect(ask(&machine, "rsa-1", 15) == "key")
    }

    /// Another configuration has the keys of the one before, and no more of a fetch than that there is to be one.
    @Test func anotherTakesOver() {
        var machine = KeySetMachine(now: at(0))
        #expect(begun(&machine, 0))
        #expect(machine.fetched(old, age: .seconds(900), at(1)) == nil)
        #expect(begun(&machine, 901))
        var next = KeySetMachine(after: machine, now: at(902))
        #expect(ask(&next, "rsa-1", 902) == "key")
        #expect(begun(&next, 902))
        #expect(next.failed("down", at(903)) == .failed("down"))
        #expect(ask(&next, "rsa-1", 904) == "key")
        // As long as with the one before.
        #expect(ask(&next, "rsa-1", 86400) == "key")
        #expect(ask(&next, "rsa-1", 86401) == "fetch")
    }

    /// Bounds of max-age.
    @Test(arguments: [(0.0, 60.0), (59, 60), (300, 300), (90_000, 86_400)]) func age(_ said: Double, _ taken: Double) {
        var machine = KeySetMachine(now: at(0))
        #expect(begun(&machine, 0))
        #expect(machine.fetched(old, age: .seconds(said), at(1)) == nil)
        #expect(machine.due == at(1 + taken))
    }

    /// A key that is gone stops working at the next fetch, and a new one works at once.
    @Test func rotation() {
        var machine = KeySetMachine(now: at(0))
        #expect(begun(&machine, 0))
        _ = machine.fetched(old, age: nil, at(0))
        #expect(ask(&machine, "ec-1", 10) == "fetch")
        // The old ones hold while others are fetched.
        #expect(ask(&machine, "rsa-1", 10) == "key" && ask(&machine, "ec-1", 10) == "wait")
        _ = machine.fetched(new, age: nil, at(11))
        #expect(ask(&machine, "ec-1", 11) == "key")
        #expect(ask(&machine, "rsa-1", 11) == "unknown")
    }

    /// Whatever names somebody makes up: one fetch in 30 s.
    @Test func madeUpNames() {
        var machine = KeySetMachine(now: at(0))
        #expect(begun(&machine, 0))
        _ = machine.fetched(old, age: .seconds(86_400), at(0))
        var fetches = 0
        for step in 0..<6000 {
            let now = Double(step) / 10
            if ask(&machine, "made-up-\(step)", now) == "fetch" {
                fetches += 1
                #expect(ask(&machine, "made-up-too", now) == "wait")
                _ = machine.fetched(old, age: .seconds(86_400), at(now))
            }
            #expect(ask(&machine, "rsa-1", now) == "key")
        }
        #expect(fetches == 20)
    }

    /// A failure keeps what there is for a day, and unknown names are then nobody's fault.
    @Test func down() {
        var machine = KeySetMachine(now: at(0))
        #expect(begun(&machine, 0))
        _ = machine.fetched(old, age: nil, at(0))
        #expect(begun(&machine, 900))
        #expect(machine.failed("down", at(905)) == .failed("down"))
        #expect(machine.due == at(935))
        #expect(ask(&machine, "rsa-1", 905) == "key")
        #expect(ask(&machine, "ec-1", 906) == "fetch")
        #expect(machine.failed("down", at(911)) == nil)
        #expect(ask(&machine, "ec-1", 911) == "unavailable" && ask(&machine, "rsa-1", 911) == "key")
        #expect(ask(&machine, "rsa-1", 86_399) == "key")
        #expect(begun(&machine, 86_399))
        #expect(ask(&machine, "rsa-1", 86_400) == "wait")
        #expect(machine.failed("down", at(86_405)) == nil)
        #expect(ask(&machine, "rsa-1", 86_405) == "unavailable")
        #expect(ask(&machine, "rsa-1", 86_410) == "fetch")
        #expect(machine.fetched(new, age: nil, at(86_411)) == .restored)
        #expect(ask(&machine, "ec-1", 86_411) == "key")
    }
}

@Suite struct IntrospectionTests {
    private let now = Issuer.now

    private func answer(_ body: String, _ status: Int = 200) -> IntrospectionAnswer {
        IntrospectionAnswer(status: status, body: body.utf8, Issuer.rules, now: now)
    }

    private func active(_ changes: [(String, JSON)] = []) -> String {
        Issuer.object(
            [
                ("active", .bool(true)), ("iss", .string(Issuer.name)), ("aud", "slimtad"),
                ("exp", .number(now.seconds + 30)), ("email", "maria@example.com"), ("email_verified", .bool(true)),
            ], changes)
    }

    @Test func answers() throws {
        let end = Timestamp(milliseconds: (now.seconds + 30) * 1000)
        let login = IntrospectionAnswer.login(
            TokenLogin(name: "maria@example.com", senders: ["maria@example.com"], end: end))
        #expect(answer(active()) == login)
        let refused: [([(String, JSON)], TokenFault)] = [
            ([("active", .bool(false))], .inactive), ([("aud", .null)], .audience), ([("iss", "x")], .issuer),
            ([("exp", .null)], .expired), ([("email", .null)], .login),
        ]
        for (changes, fault) in refused { #expect(answer(active(changes)) == .refused(fault)) }
        #expect(answer(#"{"active":false}"#) == .refused(.inactive))
        let silent: [(Int, String)] = [
            (401, "{}"), (403, "{}"), (400, active()), (302, active()), (503, "try later"), (200, ""),
            (200, "<html>"), (200, "[]"), (200, "{}"), (200, active([("active", "true")])),
            (200, active([("active", .number(1))])), (200, #"{"active":true,"active":false}"#),
        ]
        for (status, body) in silent {
            guard case .unavailable = answer(body, status) else {
                Issue.record("\(status) \(body)")
                continue
            }
        }
    }

    @Test func lifetimes() {
        func lifetime(_ end: Int64) -> Duration {
            answer(active([("exp", .number(now.seconds + end))])).lifetime(now: now)
        }
        #expect(lifetime(3600) == .seconds(60))
        #expect(lifetime(30) == .milliseconds(29_500))
        // The leeway of clocks is none for what is remembered.
        #expect(lifetime(-30) == .zero)
        #expect(IntrospectionAnswer.refused(.inactive).lifetime(now: now) == .seconds(10))
        #expect(IntrospectionAnswer.unavailable("down").lifetime(now: now) == .zero)
    }

    @Test func cache() {
        let start = ContinuousClock.Instant.now
        var cache = IntrospectionCache<Int>(capacity: 32)
        let login = answer(active())
        cache.answered(1, login, lifetime: .seconds(60), start)
        cache.answered(2, .refused(.inactive), lifetime: .seconds(10), start)
        cache.answered(3, .unavailable("down"), lifetime: .zero, start)
        #expect(cache.answer(1, start + .seconds(59)) == login && cache.answer(1, start + .seconds(60)) == nil)
        #expect(cache.answer(2, start + .seconds(9)) == .refused(.inactive))
        #expect(cache.answer(2, start + .seconds(10)) == nil && cache.answer(3, start) == nil)
        // Who makes up tokens pushes out no good one.
        for number in 10..<1000 { cache.answered(number, .refused(.inactive), lifetime: .seconds(10), start) }
        #expect(cache.answer(1, start) == login && cache.answer(999, start) != nil)
    }

    @Test func request() {
        #expect(IntrospectionAnswer.isToken("ab-._~+/Z9==".utf8))
        for text in ["", "a b", "a&b", "é", "a\n", "a%20"] { #expect(!IntrospectionAnswer.isToken(text.utf8)) }
        #expect(
            String(buffer: IntrospectionAnswer.form("a+b/c=".utf8))
                == "token_type_hint=access_token&token=a%2Bb%2Fc%3D")
        // RFC 6749 section 2.3.1: the colon of a secret or an identifier is not the one between them.
        #expect(
            IntrospectionAnswer.authorization(id: "cli:ent", secret: "s cr\u{E9}t")
                == "Basic " + Base64.encode("cli%3Aent:s%20cr%C3%A9t".utf8))
    }
}
