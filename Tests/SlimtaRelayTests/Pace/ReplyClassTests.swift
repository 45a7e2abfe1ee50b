// What "not now" means: replies as sites give them, and what they are taken for.

import SlimtaMail
import Testing

@testable import SlimtaRelay

@Suite struct ReplyClassTests {
    private static func reply(_ line: String) -> Reply {
        let words = line.split(separator: " ", maxSplits: 1)
        let rest = words.count > 1 ? String(words[1]) : ""
        let status = EnhancedStatus(prefixOf: rest)
        let text = status == nil ? rest : rest.split(separator: " ", maxSplits: 1).dropFirst().joined()
        return Reply(UInt16(words[0]) ?? 0, status, text)
    }

    @Test(arguments: [
        // Connections
        ("421 4.7.0 Too many concurrent SMTP connections; please try again later.", ReplyClass.connections),
        ("421 too many connections from your IP", .connections),
        ("450 4.7.0 Too many connections", .connections),
        ("432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending", .connections),
        ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", .connections),
        // Rate
        ("421 4.7.28 Our system has detected an unusual rate of unsolicited mail", .rate),
        ("450 4.7.28 so much mail", .rate),
        ("450 4.7.1 Rate limit exceeded", .rate),
        ("450 rate limit", .rate),
        ("451 4.7.1 Error: too much mail, slow down", .rate),
        ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", .rate),
        ("451 4.7.0 [GL01] wait", .rate),
        ("452 4.5.3 recipient limit exceeded", .rate),
        ("450 4.7.1 rate limited, try again in 60 seconds", .rate),
        // Greylisting
        ("450 4.2.0 <a@b>: Recipient address rejected: Greylisted, see http://postgrey.example/", .greylist),
        ("451 4.7.1 Greylisting in action, please come back later", .greylist),
        ("451 graylisted", .greylist),
        ("451 4.7.1 Please try again in 300 seconds", .greylist),
        // Messages
        ("421 4.7.0 too many messages in this session", .messages),
        ("421 Max messages per connection reached", .messages),
        // All else
        ("452 4.2.2 mailbox full", .own), ("450 4.2.1 mailbox temporarily disabled", .own),
        ("450 4.1.8 sender domain not found", .own), ("451 4.3.0 queue file write error", .own),
        ("450 4.2.1 rate limit of this mailbox", .own), ("421 4.3.2 shutting down", .own),
        ("452 4.3.1 insufficient storage", .own), ("451 4.7.1 against our corporate policy", .own),
        ("550 5.7.1 rate limit exceeded", .own), ("250 2.0.0 ok", .own),
        ("451 4.7.1 [] [] [a1] [abcde12] please wait", .own),
    ])
    func replies(_ line: String, _ expected: ReplyClass) {
        #expect(ReplyClass(Self.reply(line), .init()) == expected)
    }

    @Test func contexts() {
        let busy = Self.reply("421 4.3.2 busy")
        #expect(ReplyClass(busy, .init(stage: .opening, othersAreOpen: true)) == .connections)
        #expect(ReplyClass(busy, .init(stage: .opening)) == .own)
        #expect(ReplyClass(busy, .init(othersAreOpen: true)) == .own)
        let recipients = Self.reply("452 4.5.3 enough")
        #expect(ReplyClass(recipients, .init(someAreAccepted: true)) == .recipients)
        #expect(ReplyClass(recipients, .init()) == .own)
        #expect(ReplyClass(Self.reply("452 too many recipients"), .init(someAreAccepted: true)) == .recipients)
        let plain = Self.reply("451 4.7.1 not now")
        #expect(ReplyClass(plain, .init(isFirstForGreylister: true)) == .greylist)
        #expect(ReplyClass(Self.reply("451 4.3.0 not now"), .init(isFirstForGreylister: true)) == .own)
        #expect(ReplyClass(plain, .init()) == .own)
    }

    @Test func wording() {
        let first = Self.reply("451 4.7.1 ticket 4711/a for 192.0.2.1")
        #expect(first.wording == Self.reply("451 4.7.1 ticket 12/a for 198.51.100.77").wording)
        #expect(first.wording != Self.reply("451 4.7.1 ticket 12/b for 198.51.100.77").wording)
    }
}
