// The client machine's LMTP (RFC 2033): LHLO, a reply for each accepted recipient, and what comes where they should.

import NIOCore
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Testing

struct LMTPClientMachineTests {
    typealias Action = SMTPClientMachine.Action

    static let ends: [SMTPClientMachine.End] = [.closed, .timedOut, .broken("reset"), .tlsFailed("x"), .cancelled]

    /// A session that is ready.
    static func ready(_ extensions: [String] = ["PIPELINING", "ENHANCEDSTATUSCODES"]) -> ClientDialog {
        var dialog = ClientDialog(dialect: .lmtp)
        _ = dialog.hear("220 server.test\r\n")
        _ = dialog.hear((["server.test"] + extensions).ehloReply)
        _ = dialog.said()
        return dialog
    }

    /// Four recipients, of whom the second was refused, and the message is being sent, or was.
    static func inContent(isSent: Bool) -> ClientDialog {
        var dialog = ready()
        _ = dialog.begin(SMTPTransaction(to: 4))
        let actions = dialog.hear("250 a\r\n250 b\r\n550 c\r\n250 d\r\n250 e\r\n354 f\r\n")
        precondition(actions == [.sendContent(allowsEightBit: false)])
        if isSent { dialog.machine.contentSent() }
        _ = dialog.said()
        return dialog
    }

    static let refused = remoteOutcome(550, "c")

    static func lost(_ end: SMTPClientMachine.End) -> Outcome {
        var dialog = ClientDialogProbe.smtpInFinalReply()
        guard case .finished(let outcomes, _) = dialog.machine.ended(end) else { preconditionFailure() }
        return outcomes[0]
    }

    // MARK: Sessions

    @Test func opening() {
        var dialog = ClientDialog(dialect: .lmtp)
        _ = dialog.hear("220 server.test LMTP\r\n")
        #expect(dialog.said() == "LHLO client.test\r\n")
        #expect(dialog.hear("250-server.test\r\n250 PIPELINING\r\n") == [.ready])
    }

    /// Whatever is said where a session should open: there is no HELO, and nothing bounces for it.
    @Test(arguments: [
        "500 what", "502 no", "550 5.7.1 not you", "554 no", "450 later", "421 4.3.2 down", "354 go", "x",
    ])
    func neverAnotherHello(_ reply: String) {
        for before in [[], ["220 x\r\n"]] {
            var dialog = ClientDialog(dialect: .lmtp)
            for line in before { _ = dialog.hear(line) }
            guard case .failed(let failure) = dialog.hear(reply + "\r\n").first else {
                Issue.record("\(reply): not failed")
                continue
            }
            #expect(failure.outcome.result == .temporary)
            #expect(!dialog.said().contains("HELO"))
        }
        var silent = ClientDialog(dialect: .lmtp)
        _ = silent.hear("220 x\r\n")
        guard case .failed(let failure) = silent.machine.ended(.timedOut) else {
            Issue.record("not failed")
            return
        }
        #expect(failure.outcome.reply.text == "timed out in reply to LHLO")
    }

    /// STARTTLS, LHLO again, AUTH: as with SMTP.
    @Test func tlsAndLogin() {
        var dialog = ClientDialog(
            .required, credentials: .init(username: "test", password: "test"), dialect: .lmtp)
        _ = dialog.hear("220 x\r\n")
        _ = dialog.hear(["x", "STARTTLS"].ehloReply)
        #expect(dialog.hear("220 go\r\n") == [.startTLS])
        dialog.machine.tlsEstablished(into: &dialog.out)
        _ = dialog.hear(["x", "AUTH PLAIN"].ehloReply)
        #expect(dialog.said() == "LHLO client.test\r\nSTARTTLS\r\nLHLO client.test\r\nAUTH PLAIN AHRlc3QAdGVzdA==\r\n")
        #expect(dialog.hear("235 2.7.0 ok\r\n") == [.ready])
    }

    // MARK: A reply for each

    static let replies = ["250 2.0.0 one\r\n", "452 4.2.2 three is full\r\n", "550 5.2.1 four is off\r\n"]
    static let outcomes = [
        remoteOutcome(250, "one", EnhancedStatus(2, 0, 0)), refused,
        remoteOutcome(452, "three is full", EnhancedStatus(4, 2, 2)),
        remoteOutcome(550, "four is off", EnhancedStatus(5, 2, 1)),
    ]
    static let settled: [Action] = [.settled(0, outcomes[0]), .settled(2, outcomes[2])]

    @Test func eachItsOwn() {
        var dialog = Self.inContent(isSent: true)
        #expect(dialog.hear(Self.replies[0]) == [Self.settled[0]])
        #expect(dialog.machine.waitsFor.kind == .finalReply)
        #expect(dialog.hear(Self.replies[1]) == [Self.settled[1]])
        #expect(dialog.hear(Self.replies[2]) == [.finished(Self.outcomes, isReusable: true)])
        #expect(dialog.machine.causes.map(\.stage) == [.finalReply, .recipient, .finalReply, .finalReply])
        #expect(dialog.machine.causes.map(\.kind) == [.reply, .reply, .reply, .reply])
        #expect(dialog.machine.isReady)
    }

    /// In whatever pieces they come.
    @Test func inPieces() {
        let whole = Array(Self.replies.joined().utf8)
        for size in [1, 2, 3, 7, whole.count] {
            var dialog = Self.inContent(isSent: true)
            var actions: [Action] = []
            for start in stride(from: 0, to: whole.count, by: size) {
                actions += dialog.hear(Array(whole[start..<min(start + size, whole.count)]))
            }
            #expect(actions == Self.settled + [.finished(Self.outcomes, isReusable: true)])
        }
    }

    /// The message as a whole is refused: they say it to each.
    @Test(arguments: ["554 5.6.0 no", "451 4.3.0 later"]) func refusedAsAWhole(_ reply: String) {
        var dialog = Self.inContent(isSent: true)
        let actions = dialog.hear(String(repeating: reply + "\r\n", count: 3))
        guard case .finished(let outcomes, true) = actions.last, actions.count == 3 else {
            Issue.record("\(actions)")
            return
        }
        #expect(outcomes.map(\.reply.description) == [reply, "550 c", reply, reply])
    }

    /// One who is there twice is answered twice.
    @Test func duplicates() {
        var transaction = SMTPTransaction(to: 1)
        transaction.recipients += transaction.recipients
        var dialog = Self.ready()
        _ = dialog.begin(transaction)
        _ = dialog.hear("250 a\r\n250 b\r\n250 c\r\n354 d\r\n")
        dialog.machine.contentSent()
        #expect(dialog.hear("250 e\r\n") == [.settled(0, remoteOutcome(250, "e"))])
        #expect(
            dialog.hear("450 f\r\n") == [
                .finished([remoteOutcome(250, "e"), remoteOutcome(450, "f")], isReusable: true)
            ])
    }

    @Test func severalMessages() {
        var dialog = Self.ready([])
        for _ in 0..<3 {
            _ = dialog.begin(SMTPTransaction(to: 2))
            for _ in 0..<3 { #expect(dialog.hear("250 x\r\n") == []) }
            #expect(
                dialog.said()
                    == "MAIL FROM:<a@client.test>\r\nRCPT TO:<one@server.test>\r\nRCPT TO:<two@server.test>\r\nDATA\r\n"
            )
            #expect(dialog.hear("354 go\r\n") == [.sendContent(allowsEightBit: false)])
            dialog.machine.contentSent()
            #expect(dialog.hear("250 x\r\n") == [.settled(0, remoteOutcome(250, "x"))])
            #expect(
                dialog.hear("250 y\r\n") == [
                    .finished([remoteOutcome(250, "x"), remoteOutcome(250, "y")], isReusable: true)
                ])
        }
    }

    // MARK: Nobody accepted

    /// DATA was sent with the rest: 503 is what it should get; where it gets 354 there is nobody to answer for.
    @Test func allRefused() {
        for (reply, said, isOver) in [("503 5.5.1 no recipients", "RSET\r\n", false), ("354 go", ".\r\n", true)] {
            var dialog = Self.ready()
            _ = dialog.begin(SMTPTransaction(to: 2))
            _ = dialog.said()
            let actions = dialog.hear("250 a\r\n550 b\r\n550 c\r\n\(reply)\r\n")
            #expect(dialog.said() == said)
            let outcomes = [remoteOutcome(550, "b"), remoteOutcome(550, "c")]
            if isOver {
                #expect(actions == [.finished(outcomes, isReusable: false)])
            } else {
                #expect(actions == [])
                #expect(dialog.hear("250 d\r\n") == [.finished(outcomes, isReusable: true)])
            }
        }
        // One by one, DATA is not even asked.
        var dialog = Self.ready([])
        _ = dialog.begin(SMTPTransaction(to: 1))
        for reply in ["250 a\r\n", "550 b\r\n"] { #expect(dialog.hear(reply) == []) }
        #expect(dialog.said().hasSuffix("RSET\r\n"))
    }

    // MARK: Too few, too many, something else

    /// However the session ends among the replies: who was answered keeps the answer, and all others are tried again.
    @Test(arguments: 0..<3) func lostAmongReplies(_ heard: Int) {
        for end in Self.ends {
            var dialog = Self.inContent(isSent: true)
            #expect(dialog.hear(Self.replies.prefix(heard).joined()) == Array(Self.settled.prefix(heard)))
            guard case .finished(let outcomes, false) = dialog.machine.ended(end) else {
                Issue.record("not finished")
                continue
            }
            let lost = Self.lost(end)
            #expect(lost.result == .temporary)
            let open = [0, 2, 3].dropFirst(heard)
            for index in outcomes.indices {
                #expect(outcomes[index] == (open.contains(index) ? lost : Self.outcomes[index]))
                #expect(open.contains(index) == (dialog.machine.causes[index].kind != .reply))
            }
            #expect(dialog.hear("250 late\r\n") == [])
        }
    }

    /// 421 is for whose turn it is and for all behind: nobody of them is refused for good.
    @Test(arguments: 0..<3) func unavailableAmongReplies(_ heard: Int) {
        var dialog = Self.inContent(isSent: true)
        let actions = dialog.hear(Self.replies.prefix(heard).joined() + "421 4.3.2 going down\r\n250 x\r\n")
        let down = remoteOutcome(421, "going down", EnhancedStatus(4, 3, 2))
        let open = [0, 2, 3].dropFirst(heard)
        let outcomes = Self.outcomes.indices.map { open.contains($0) ? down : Self.outcomes[$0] }
        #expect(actions == Array(Self.settled.prefix(heard)) + [.finished(outcomes, isReusable: false)])
    }

    /// Something else than a reply: those who have theirs keep it. What begins with a yes is one.
    @Test(arguments: ["x\r\n", "354 go\r\n", "550-a\r\n551 b\r\n", "999 x\r\n", "\r\n"]) func garbage(_ text: String) {
        for heard in 0..<3 {
            var dialog = Self.inContent(isSent: true)
            let actions = dialog.hear(Self.replies.prefix(heard).joined() + text)
            guard case .finished(let outcomes, false) = actions.last else {
                Issue.record("\(text) behind \(heard): \(actions)")
                continue
            }
            for index in [0, 2, 3].prefix(heard) { #expect(outcomes[index] == Self.outcomes[index]) }
            for index in [0, 2, 3].dropFirst(heard) {
                #expect(outcomes[index].result == .temporary && !outcomes[index].isRemote)
                #expect(outcomes[index].reply.status == EnhancedStatus(4, 5, 0))
            }
        }
    }

    @Test(arguments: ["25\r\n", "250-a\r\n251 b\r\n", "250_x\r\n"]) func oddYes(_ text: String) {
        for heard in 0..<3 {
            var dialog = Self.inContent(isSent: true)
            let actions = dialog.hear(Self.replies.prefix(heard).joined() + text)
            guard case .finished(let outcomes, false) = actions.last else {
                Issue.record("not finished")
                continue
            }
            for (place, index) in [0, 2, 3].enumerated() where place >= heard {
                #expect(outcomes[index].result == (place == heard ? .delivered : .temporary))
            }
        }
        // Cut off within the yes.
        var dialog = Self.inContent(isSent: true)
        #expect(dialog.hear(Self.replies[0] + "250 2.0") == [Self.settled[0]])
        guard case .finished(let outcomes, false) = dialog.machine.ended(.closed) else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes.map(\.result) == [.delivered, .permanent, .delivered, .temporary])
    }

    /// One reply more than recipients: nobody knows what it is about, and the session is not used again.
    @Test func tooMany() {
        var together = Self.inContent(isSent: true)
        #expect(
            together.hear(Self.replies.joined() + "250 more\r\n")
                == Self.settled + [.finished(Self.outcomes, isReusable: false)])
        var later = Self.inContent(isSent: true)
        _ = later.hear(Self.replies.joined())
        #expect(later.hear("250 more\r\n") == [.close])
    }

    /// A reply without an end is given up like any other.
    @Test func endless() {
        var dialog = Self.inContent(isSent: true)
        var actions = dialog.hear(Self.replies[0])
        for _ in 0..<5000 where actions.count < 2 {
            actions += dialog.hear("450-\(String(repeating: "z", count: 500))\r\n")
        }
        guard case .finished(let outcomes, false) = actions.last else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes.map(\.result) == [.delivered, .permanent, .temporary, .temporary])
    }

    // MARK: While the message is sent

    /// A refusal before the end is the first recipient's; the server has not seen the end, so nobody has the message, and
    /// what it thinks of the others it did not say.
    @Test(arguments: ["552 5.3.4 too big", "451 later", "421 bye"]) func early(_ reply: String) {
        var dialog = Self.inContent(isSent: false)
        guard case .finished(let outcomes, false) = dialog.hear(reply + "\r\n").first else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes.map(\.reply.description) == [reply, "550 c", reply, reply])
        #expect(outcomes[0].result == (reply.hasPrefix("5") ? .permanent : .temporary))
        #expect(outcomes[2...].allSatisfy { $0.result == .temporary })
        #expect(dialog.said() == "")
    }

    @Test(arguments: ["250 taken\r\n", "354 go\r\n", "x\r\n", "25\r\n"]) func earlyNonsense(_ text: String) {
        var dialog = Self.inContent(isSent: false)
        guard case .finished(let outcomes, false) = dialog.hear(text).first else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes.map(\.result) == [.temporary, .permanent, .temporary, .temporary])
        #expect(dialog.said() == "")
    }

    @Test func endedInContent() {
        for end in Self.ends {
            var dialog = Self.inContent(isSent: false)
            guard case .finished(let outcomes, false) = dialog.machine.ended(end) else {
                Issue.record("not finished")
                continue
            }
            #expect(outcomes.map(\.result) == [.temporary, .permanent, .temporary, .temporary])
            #expect(dialog.said() == "")
        }
    }

    /// A message that cannot be read to its end has none: not an octet more is said.
    @Test func contentFailed() {
        var dialog = Self.inContent(isSent: false)
        let outcome = Outcome(.temporary, Reply(451, EnhancedStatus(4, 3, 0), "gone"))
        #expect(
            dialog.machine.contentFailed(outcome, .message)
                == .finished([outcome, Self.refused, outcome, outcome], isReusable: false))
        #expect(dialog.said() == "")
    }

    // MARK: Deadlines

    /// Each reply has its time: progress makes a new deadline, octets that dribble in make none.
    @Test func deadlines() {
        var dialog = Self.inContent(isSent: true)
        var waits = [dialog.machine.waitsFor]
        for reply in Self.replies.dropLast() {
            _ = dialog.hear(String(reply.dropLast(1)))
            #expect(dialog.machine.waitsFor == waits.last)
            _ = dialog.hear("\n")
            let wait = dialog.machine.waitsFor
            #expect(wait.kind == .finalReply && !waits.contains(wait))
            waits.append(wait)
        }
    }
}

/// The same server seen by SMTP: what is lost is told in the same words.
private enum ClientDialogProbe {
    static func smtpInFinalReply() -> ClientDialog {
        var dialog = ClientDialog(offering: ["PIPELINING"])
        _ = dialog.begin(SMTPTransaction(to: 1))
        _ = dialog.hear("250 a\r\n250 b\r\n354 c\r\n")
        dialog.machine.contentSent()
        return dialog
    }
}
