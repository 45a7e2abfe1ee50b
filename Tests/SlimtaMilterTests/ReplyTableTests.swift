// Every reply to every event, as a table; and what a failure comes to, for each stage and each `on_failure`.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaMilter

private let rejected = Reply(550, EnhancedStatus(5, 7, 1), "Command rejected")
private let temporary = Reply(451, EnhancedStatus(4, 7, 1), "Service unavailable - try again later")

@Suite struct MilterReplyTableTests {
    /// What is in a cell: `>` goes on, `a` accepted, `r` 550, `t` 451, `y` its own text, `d` discarded, `x` 421, `s` the next
    /// kind of event, `.` waits on, `F` finished, `!` failure.
    private static let table = """
        reply  C H M R T L N B E
        c      > > > > > > > > F
        a      a a a a a a a a F
        r      r r r r r r r r r
        t      t t t t t t t t t
        y      y y y y y y y y y
        421    x x x x x x x x x
        bad-y  t t t t t t t t t
        d      ! ! d d d d d d d
        s      ! ! ! ! ! > ! s !
        p      . . . . . . . . .
        4      x x ! ! ! ! ! ! !
        f      x x ! ! ! ! ! ! !
        h      ! ! ! ! ! ! ! ! .
        i      ! ! ! ! ! ! ! ! .
        m      ! ! ! ! ! ! ! ! .
        m-0    ! ! ! ! ! ! ! ! .
        b      ! ! ! ! ! ! ! ! .
        +      ! ! ! ! ! ! ! ! .
        2      ! ! ! ! ! ! ! ! .
        -      ! ! ! ! ! ! ! ! .
        e      ! ! ! ! ! ! ! ! .
        q      ! ! ! ! ! ! ! ! .
        l      ! ! ! ! ! ! ! ! .
        O      ! ! ! ! ! ! ! ! !
        ?      ! ! ! ! ! ! ! ! !
        c-data ! ! ! ! ! ! ! ! !
        h-half ! ! ! ! ! ! ! ! !
        h-more ! ! ! ! ! ! ! ! !
        i-half ! ! ! ! ! ! ! ! !
        y-half ! ! ! ! ! ! ! ! !
        q-half ! ! ! ! ! ! ! ! !
        +-bad  ! ! ! ! ! ! ! ! !
        2-bad  ! ! ! ! ! ! ! ! !
        h-name ! ! ! ! ! ! ! ! !
        h-cr   ! ! ! ! ! ! ! ! !
        h-fold ! ! ! ! ! ! ! ! !
        h-long ! ! ! ! ! ! ! ! !
        empty  ! ! ! ! ! ! ! ! !
        long   ! ! ! ! ! ! ! ! !
        """

    private static let rows = table.split(separator: "\n").dropFirst().map { line in
        line.split(separator: " ").map(String.init)
    }

    private static func write(_ reply: String, into out: inout ByteBuffer) {
        func texts(_ letter: Unicode.Scalar, _ texts: String...) { out.writeMilterTexts(letter, texts) }
        func numbered(_ letter: Unicode.Scalar, _ number: UInt32, _ texts: String...) {
            out.writeMilterPacket(letter) { data in
                data.writeInteger(number)
                for text in texts { data.writeMilterText(text.utf8) }
            }
        }
        switch reply {
        case "y": texts("y", "554 5.7.9 100%% no")
        case "421": texts("y", "421 4.7.0 go away")
        case "bad-y": texts("y", "554 5.7.9 one\n554 5.7.9 two")
        case "h", "h-more": texts("h", "X-New", "v")
        case "i": numbered("i", 1, "X-New", "v")
        case "m": numbered("m", 1, "X-New", "v")
        case "m-0": numbered("m", 0, "X-New", "")
        case "b": out.writeMilterPacket("b") { $0.writeString("new") }
        case "+": texts("+", "<c@example.org>")
        case "2": texts("2", "<c@example.org>", "NOTIFY=NEVER ORCPT=rfc822;c@example.org")
        case "-": texts("-", "<b@example.net>")
        case "e": texts("e", "<>")
        case "q": texts("q", "odd")
        case "l": numbered("l", 0, "j")
        case "O": numbered("O", 6)
        case "c-data": out.writeMilterPacket("c") { $0.writeInteger(0 as UInt8) }
        case "h-half": texts("h", "X-New")
        case "i-half": out.writeMilterPacket("i") { $0.writeInteger(0 as UInt16) }
        case "y-half": out.writeMilterPacket("y") { $0.writeString("550 5.7.1 no end") }
        case "q-half": out.writeMilterPacket("q")
        case "+-bad": texts("+", "<not an address>")
        case "2-bad": texts("2", "<c@example.org>", "SIZE=1")
        case "h-name": texts("h", "X:New", "v")
        case "h-cr": texts("h", "X-New", "v\r\n w")
        case "h-fold": texts("h", "X-New", "v\nBcc: w")
        case "h-long": texts("h", "X-New", String(repeating: "v", count: 992))
        case "empty": out.writeInteger(0 as UInt32)
        case "long": out.writeInteger(65_537 as UInt32)
        default: out.writeMilterPacket(reply.unicodeScalars.first!)
        }
        // Something behind the end: one more text in the same packet.
        if reply == "h-more" {
            out.clear()
            texts("h", "X-New", "v", "w")
        }
    }

    @Test(arguments: rows) func reply(_ row: [String]) {
        for (step, expected) in zip(MilterStep.allCases, row.dropFirst()) {
            var session = MilterSession()
            session.go(to: step)
            #expect(session.machine.state == .waiting(step))
            _ = session.letters()
            let before = session.verdicts.count
            let waited = session.machine.waitsFor
            session.say { Self.write(row[0], into: &$0) }
            let verdict = session.verdicts.count > before ? session.verdicts[before] : nil
            #expect(session.verdicts.count <= before + 1)
            #expect(Self.cell(session, step, verdict, waited) == expected, "\(row[0]) at \(step)")
            // Whatever it was, the message comes to one verdict a question.
            Self.finish(&session, from: step, hasVerdict: verdict != nil)
        }
    }

    private static func cell(
        _ session: MilterSession, _ step: MilterStep, _ verdict: MilterVerdict?, _ waited: MilterSessionMachine.Wait
    ) -> String {
        if session.machine.failure != nil {
            #expect(session.isClosed && !session.machine.isUsable)
            return "!"
        }
        switch verdict {
        case .proceed: return ">"
        case .accepted: return "a"
        case .refused(rejected): return "r"
        case .refused(temporary): return "t"
        case .refused(Reply(554, EnhancedStatus(5, 7, 9), "100% no")): return "y"
        case .refused: return "?"
        case .discarded: return "d"
        case .closing: return "x"
        // Accepted before the end: there are no edits.
        case .finished: return step == .end ? "F" : "a"
        case nil: break
        }
        switch (step, session.machine.state) {
        case (.field, .waiting(.endOfFields)):
            // There is one field only: to go on and to skip the others is the same.
            return session.machine.content.part == .body && session.machine.content.sentFields == 1 ? ">" : "?"
        case (.endOfFields, .content): return session.last == .wantsBody ? ">" : "?"
        case (.body, .waiting(.end)): return session.machine.content.skipsBody ? "s" : ">"
        case (_, .waiting(step)):
            // A sign of life gives it more time, an edit does not.
            return "."
        default: return "?"
        }
    }

    /// Asks for all that is still to come, with a milter that says yes, or is gone.
    private static func finish(_ session: inout MilterSession, from step: MilterStep, hasVerdict: Bool) {
        var open = !hasVerdict
        func settle(_ session: inout MilterSession) {
            var turns = 0
            while open, turns < 20 {
                turns += 1
                let before = session.verdicts.count
                switch session.last {
                case .wantsBody: session.endOfBody()
                default: session.say(.proceed)
                }
                if session.verdicts.count > before { open = false }
            }
        }
        settle(&session)
        #expect(!open)
        let rest: [(MilterStep, MilterEvent)] = [
            (.hello, .hello("c")), (.mail, .mail(path: "<>", parameters: [])),
            (.recipient, .recipient(path: "<b@example.net>", parameters: [])), (.data, .data), (.field, .message([])),
        ]
        for (place, event) in rest where place.rawValue > step.rawValue {
            let before = session.verdicts.count
            session.ask(event)
            open = session.verdicts.count == before
            settle(&session)
            #expect(session.verdicts.count == before + 1, "\(event.stage) after \(step)")
        }
    }

    /// `skip` is for who has said that it says it.
    @Test func skipWasAgreedUpon() {
        for step in [MilterStep.field, .body] {
            var session = MilterSession(bits: 0)
            session.go(to: step)
            session.say(.skip)
            #expect(session.machine.failure?.cause == .fault(.outOfTurn(UInt8(ascii: "s"), step)))
        }
    }

    @Test func skippedFields() {
        var session = MilterSession()
        session.go(to: .data)
        session.say(.proceed)
        session.ask(.message(MilterSession.fields))
        _ = session.letters()
        session.say(.skip)
        #expect(session.letters() == "DN N")
    }
}

@Suite struct MilterFailureTests {
    private static let stages: [(stage: MilterStage, step: MilterStep)] = [
        (.connect, .connect), (.hello, .hello), (.mail, .mail), (.recipient, .recipient), (.data, .data),
        (.message, .field), (.message, .endOfFields), (.message, .body), (.message, .end),
    ]

    /// A failure at each step with each policy, in each way: one verdict, and the same one for what is asked behind it.
    @Test(arguments: MilterFailurePolicy.allCases) func onFailure(_ policy: MilterFailurePolicy) {
        let ends: [MilterSessionMachine.End?] = [.closed, .timedOut, .broken("ECONNRESET"), nil]
        for (stage, step) in Self.stages {
            for end in ends {
                var session = MilterSession(.init(name: "m", onFailure: policy))
                session.go(to: step)
                let before = session.verdicts.count
                if step == .end { session.say(.edit(.removeRecipient("b@example.net"))) }
                if let end {
                    session.machine.ended(end)
                    session.run()
                } else {
                    session.say(.proceed, .proceed)
                    // What comes behind a reply answers nothing; at the end it is too late to change the verdict.
                    if step != .field, step != .endOfFields, step != .body, step != .end {
                        #expect(session.verdicts.dropFirst(before) == [.proceed])
                        #expect(session.isClosed && session.machine.failure?.cause == .fault(.unasked))
                    }
                    continue
                }
                #expect(session.isClosed)
                #expect(session.verdicts.count == before + 1)
                let verdict = session.verdicts.last
                switch (policy, stage) {
                case (.tempfail, _): #expect(verdict == .refused(temporary))
                case (.reject, _): #expect(verdict == .refused(rejected))
                case (.accept, .message): #expect(verdict == .finished(MilterEdits()))
                case (.quarantine, .message):
                    guard case .finished(let edits) = verdict, edits.list.count == 1,
                        case .quarantine(let reason) = edits.list[0]
                    else {
                        Issue.record("\(String(describing: verdict))")
                        continue
                    }
                    #expect(reason.hasPrefix("milter m "))
                case (.accept, _), (.quarantine, _): #expect(verdict == .proceed)
                }
                // The rest of this message.
                session.ask(.message([]))
                #expect(session.verdicts.count == before + 2)
                #expect(!session.machine.isUsable)
                #expect(session.machine.waitsFor.kind == .nothing)
            }
        }
    }

    /// A milter that is not there refuses nobody before MAIL.
    @Test func notBeforeMAIL() {
        for policy in MilterFailurePolicy.allCases {
            var session = MilterSession(silent: .init(name: "m", onFailure: policy))
            session.machine.ask(.connect(MilterClient(name: nil, address: .unknown)))
            session.run()
            session.machine.ended(.unreachable("ECONNREFUSED"))
            session.run()
            #expect(session.verdicts == [.proceed])
            #expect(session.ask(.hello("c")) == .proceed)
            let verdict = session.ask(.mail(path: "<>", parameters: []))
            switch policy {
            case .tempfail: #expect(verdict == .refused(temporary))
            case .reject: #expect(verdict == .refused(rejected))
            case .accept, .quarantine: #expect(verdict == .proceed)
            }
            #expect(session.machine.failure?.description == "cannot be reached: ECONNREFUSED")
            #expect(policy.triesAgain == (policy != .accept))
        }
    }

    /// A milter that closes between two messages has failed at none.
    @Test func closesBetweenMessages() {
        var session = MilterSession()
        session.go(to: .end)
        session.say(.proceed)
        #expect(session.machine.isUsable)
        session.machine.ended(.closed)
        session.run()
        #expect(!session.machine.isUsable && session.machine.failure?.step == nil)
    }

    /// What waits when we begin to write answers something else (rspamd#1764).
    @Test func octetsThatWait() {
        var session = MilterSession()
        session.go(to: .mail)
        session.say(.proceed)
        var late = ByteBuffer()
        late.writeMilterReply(.reject)
        session.machine.received(late)
        session.machine.ask(.recipient(path: "<b@example.net>", parameters: []))
        session.run()
        #expect(session.verdicts.last == .refused(temporary))
        #expect(session.machine.failure?.cause == .fault(.unasked))
    }

    /// A milter that said that it does not answer, and does.
    @Test func repliesThatAreNotOwed() {
        // No reply to MAIL; RCPT is answered, so that events go out at once.
        var session = MilterSession(bits: 1 << 14)
        session.go(to: .hello)
        session.say(.proceed)
        #expect(session.ask(.mail(path: "<>", parameters: [])) == .proceed)
        session.say(.proceed)
        #expect(session.machine.failure?.cause == .fault(.unasked))
        #expect(session.ask(.recipient(path: "<b@example.net>", parameters: [])) == .refused(temporary))
    }
}
