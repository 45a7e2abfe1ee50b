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

    @Test func aRefusedGreetingLeavesNothing() {
        var memory = EffectsMemory()
        memory.note(verdict("a", held: true, refused: true), at: .ehlo, transaction: 0)
        #expect(memory.isEmpty)
    }
}
