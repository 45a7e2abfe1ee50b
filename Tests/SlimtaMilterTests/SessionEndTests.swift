// What ends a session, and what lets another one follow on its connection.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaMilter

private let client = MilterEvent.connect(
    MilterClient(name: "c.example.net", address: .ip(IPAddress("192.0.2.1")!, port: 25)))
private let mail = MilterEvent.mail(path: "<a@example.com>", parameters: ["SIZE=5"])
private let recipient = MilterEvent.recipient(path: "<b@example.net>", parameters: [])
/// Answers nothing until the end, as rspamd.
private let silentBits: UInt32 = 0xFF080

@Suite struct MilterSessionEndTests {
    /// K, where libmilter takes it (Tests/Interop/test_milter.py asks one).
    @Test func reuse() {
        var session = MilterSession()
        session.go(to: .end)
        #expect(!session.machine.canBeReused)
        session.say(.proceed)
        #expect(session.machine.canBeReused)
        _ = session.letters()
        session.machine.reuse()
        #expect(session.ask(client) == nil)
        // No A between the end and K.
        #expect(session.letters() == "K DC C")
        session.say(.proceed)
        #expect(!session.machine.canBeReused)
        session.ask(.hello("c"))
        // No A before it: it is the first of this session.
        #expect(session.letters() == "DH H")
        session.machine.ended(.timedOut)
        session.run()
        #expect(!session.machine.canBeReused)
        session.machine.reuse()
        session.run()
        #expect(session.letters() == "")

        // In the middle of a message A is said.
        session = MilterSession()
        session.go(to: .recipient)
        session.say(.proceed)
        _ = session.letters()
        #expect(session.machine.canBeReused)
        session.machine.reuse()
        session.run()
        #expect(session.letters() == "A K")
        // Nothing was told: no K is needed.
        session = MilterSession()
        #expect(session.machine.canBeReused)
        session.machine.reuse()
        session.run()
        #expect(session.letters() == "")
        // Macros alone leave libmilter where it was.
        session = MilterSession(bits: 1 << 2)
        session.go(to: .hello)
        session.say(.proceed)
        session.ask(mail)
        #expect(!session.machine.canBeReused)
    }

    @Test func noReuse() {
        for (step, reply) in [
            (MilterStep.connect, MilterReply.proceed), (.hello, .proceed), (.connect, .accept), (.mail, .accept),
            (.mail, .reject), (.recipient, .accept), (.body, .discard), (.end, .accept), (.end, .reject),
            (.end, .discard),
        ] {
            var session = MilterSession()
            session.go(to: step)
            session.say(reply)
            #expect(!session.machine.canBeReused, "\(reply) at \(step)")
        }
    }

    /// In one go: a second message that came to nothing, behind one that went on.
    @Test func reuseInOneGo() {
        var session = MilterSession(bits: silentBits)
        for event in [client, .hello("c")] { session.ask(event) }
        #expect(session.machine.canBeReused)
        session.submit()
        session.say(.proceed)
        _ = session.letters()
        for event in [mail, recipient] { session.ask(event) }
        #expect(session.machine.canBeReused)
        session.machine.reuse()
        session.run()
        #expect(session.letters() == "K")
        session.ask(client)
        session.submit()
        #expect(session.letters() == "DC C DM M DR R DT T DL L DL L DN N DB B DE E")
        session.say(.proceed)
        session.submit()
        #expect(session.letters() == "A DM M DR R DT T DL L DL L DN N DB B DE E")
        session.say(.proceed)
        session.machine.quit()
        session.run()
        #expect(session.letters() == "A Q")
    }

    /// A question whose answer nobody waits for any longer: the connection is of no more use.
    @Test func unansweredEvent() {
        for step in MilterStep.allCases {
            var session = MilterSession()
            session.go(to: step)
            let count = session.verdicts.count
            _ = session.letters()
            session.machine.abort()
            session.run()
            #expect(session.isClosed && !session.machine.isUsable && !session.machine.canBeReused)
            #expect(session.verdicts.count == count && session.letters() == "")
        }
    }

    @Test func quit() {
        var session = MilterSession()
        session.machine.quit()
        session.run()
        #expect(session.isClosed && session.letters() == "Q")
        session.machine.quit()
        session.run()
        #expect(session.letters() == "")
        session = MilterSession()
        session.go(to: .recipient)
        session.say(.proceed)
        _ = session.letters()
        session.machine.quit()
        session.run()
        #expect(session.letters() == "A Q")
        // Asked all the same, a verdict is there.
        #expect(session.ask(mail) == .refused(.milterIsTemporary))
        session = MilterSession(silent: .init(name: "m"))
        session.run()
        session.machine.quit()
        session.run()
        #expect(session.isClosed && session.letters() == "O")
    }
}
