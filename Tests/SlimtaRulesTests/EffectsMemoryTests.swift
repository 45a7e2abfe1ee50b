// What rules said that holds for a message: for how long.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct EffectsMemoryTests {
    private func verdict(_ name: String, held: Bool = false, refused: Bool = false) -> Verdict {
        var verdict = Verdict()
        verdict.fields = ["X-Gate: \(name)\r\n"]
        if held { verdict.heldBy = name }
        if refused { verdict.decision = .refuse(Reply(550, nil, "no")) }
        return verdict
    }

    private func verdict(_ fields: [String], heldBy: String? = nil) -> Verdict {
        var verdict = Verdict()
        (verdict.fields, verdict.heldBy) = (fields, heldBy)
        return verdict
    }

    private func names(_ memory: EffectsMemory, _ transaction: UInt64) -> [String] {
        memory.effects(ofTransaction: transaction).fields.map { String($0.dropFirst(8).dropLast(1)) }
    }

    @Test func aSession() {
        var memory = EffectsMemory()
        #expect(memory.isEmpty)
        memory.note(verdict("connect"), at: .connect, transaction: 0)
        memory.note(verdict("ehlo", held: true), at: .ehlo, transaction: 0)
        memory.note(verdict("starttls"), at: .starttls, transaction: 0)
        #expect(names(memory, 1) == ["connect", "ehlo"] && memory.effects(ofTransaction: 1).heldBy == "ehlo")
        // What was said in clear is forgotten; who the client is was not said by it.
        memory.tlsEstablished()
        #expect(names(memory, 1) == ["connect"] && memory.effects(ofTransaction: 1).heldBy == nil)
        memory.note(verdict("ehlo2"), at: .ehlo, transaction: 0)
        memory.note(verdict("auth"), at: .auth, transaction: 0)
        memory.note(verdict("mail"), at: .mail, transaction: 1)
        for name in ["rcpt", "rcpt", "rcpt2"] { memory.note(verdict(name), at: .rcpt, transaction: 1) }
        memory.note(verdict("refused", held: true, refused: true), at: .rcpt, transaction: 1)
        memory.note(verdict("data", held: true), at: .data, transaction: 1)
        memory.note(verdict("message", held: true), at: .message, transaction: 1)
        #expect(names(memory, 1) == ["connect", "ehlo2", "auth", "mail", "rcpt", "rcpt2", "data", "message"])
        #expect(memory.effects(ofTransaction: 1).heldBy == "data")
        // RSET, or the next MAIL: only the session's are left.
        #expect(names(memory, 2) == ["connect", "ehlo2", "auth"])
        memory.note(verdict("mail2"), at: .mail, transaction: 2)
        #expect(names(memory, 2) == ["connect", "ehlo2", "auth", "mail2"])
        // The next EHLO decides anew.
        memory.note(Verdict(), at: .ehlo, transaction: 2)
        #expect(names(memory, 3) == ["connect", "auth"])
        #expect(!memory.isEmpty)
    }

    /// A service that puts a field in for each recipient fills no disk: what has no room is left out, and told once.
    @Test(arguments: [(1, 100), (1000, 65)]) func aMessageHasRoomForSoMany(octets: Int, most: Int) {
        var memory = EffectsMemory()
        let padding = String(repeating: "x", count: octets)
        func add(_ number: Int, _ stage: Stage, _ transaction: UInt64) -> Bool {
            memory.note(verdict(["X: \(number)\(padding)\r\n"]), at: stage, transaction: transaction)
        }
        let session = [add(1, .connect, 0), add(2, .ehlo, 0), add(3, .auth, 0)]
        #expect(session == [false, false, false])
        for transaction in [1, 2] as [UInt64] {
            let told = (4...300).filter { add($0, .rcpt, transaction) }
            let fields = memory.effects(ofTransaction: transaction).fields
            let sum = fields.reduce(0) { $0 + $1.utf8.count }
            // Those that came first.
            #expect(fields.map { Int($0.dropFirst(3).prefix { $0 != "x" }) } == (1...fields.count).map { $0 })
            #expect(told == [fields.count + 1] && sum <= 65536)
            #expect(octets == 1 ? fields.count == most : fields.count + 1 >= most)
            // One that is there already needs no room, and whether the message is held is not forgotten.
            let isCut = memory.note(verdict([fields[10]], heldBy: "h"), at: .data, transaction: transaction)
            #expect(!isCut && memory.effects(ofTransaction: transaction).heldBy == "h")
        }
        #expect(memory.effects(ofTransaction: 3).fields.count == 3)
    }

    /// What a session has for each message leaves the less for each.
    @Test func theSessionsOwnAreBounded() {
        var memory = EffectsMemory()
        let large = (0..<70).map { "X: \($0) " + String(repeating: "x", count: 1000) + "\r\n" }
        for stage in [Stage.connect, .ehlo, .auth] {
            let isCut = memory.note(verdict(large), at: stage, transaction: 0)
            #expect(isCut)
        }
        let sum = memory.effects(ofTransaction: 1).fields.reduce(0) { $0 + $1.utf8.count }
        #expect((64000...65536).contains(sum))
    }

    @Test func aRefusedGreetingLeavesNothing() {
        var memory = EffectsMemory()
        memory.note(verdict("a", held: true, refused: true), at: .ehlo, transaction: 0)
        #expect(memory.isEmpty)
    }
}
