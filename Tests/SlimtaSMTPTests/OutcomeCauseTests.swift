// Where outcomes come from: every stage of a transaction, and every way in which it can go wrong there.

import NIOCore
import SlimtaMail
import SlimtaSMTP
import Testing

struct OutcomeCauseTests {
    /// A session whose transaction, for one recipient, is at `stage`.
    static func dialog(at stage: OutcomeCause.Stage) -> ClientDialog {
        var dialog = ClientDialog(offering: ["PIPELINING", "8BITMIME"])
        _ = dialog.begin(SMTPTransaction(to: 1))
        switch stage {
        case .mail: break
        case .recipient: _ = dialog.hear("250 a\r\n")
        case .data: _ = dialog.hear("250 a\r\n250 b\r\n")
        case .content, .finalReply: _ = dialog.hear("250 a\r\n250 b\r\n354 c\r\n")
        }
        if stage == .finalReply { dialog.machine.contentSent() }
        return dialog
    }

    @Test(arguments: OutcomeCause.Stage.allCases) func ends(_ stage: OutcomeCause.Stage) {
        for (end, kind) in [
            (SMTPClientMachine.End.closed, OutcomeCause.Kind.lost), (.broken("x"), .lost), (.tlsFailed("x"), .lost),
            (.timedOut, .timedOut), (.cancelled, .cancelled),
        ] {
            var dialog = Self.dialog(at: stage)
            guard case .finished(let outcomes, false) = dialog.machine.ended(end) else {
                Issue.record("not finished")
                continue
            }
            #expect(outcomes.map(\.result) == [.temporary])
            #expect(dialog.machine.causes == [OutcomeCause(stage, kind)])
        }
    }

    @Test(arguments: OutcomeCause.Stage.allCases) func replies(_ stage: OutcomeCause.Stage) {
        let rest: [OutcomeCause.Stage: String] = [
            .mail: "503 b\r\n503 c\r\n", .recipient: "503 c\r\n250 reset\r\n", .data: "250 reset\r\n", .content: "",
            .finalReply: "",
        ]
        for (reply, kind) in [
            ("421 x", OutcomeCause.Kind.reply), ("451 x", .reply), ("452 4.5.3 x", .reply), ("550 x", .reply),
            ("354 x", .protocolError), ("hello", .protocolError),
        ] where stage != .data || reply != "354 x" {
            var dialog = Self.dialog(at: stage)
            let actions = dialog.hear(reply + "\r\n") + dialog.hear(rest[stage]!)
            guard case .finished(let outcomes, _) = actions.first else {
                Issue.record("\(stage) \(reply): \(actions)")
                continue
            }
            #expect(outcomes[0].isRemote == (kind == .reply))
            #expect(dialog.machine.causes == [OutcomeCause(stage, kind)])
        }
    }

    /// 452 and its like are about the transaction only if somebody was taken into it.
    @Test(
        arguments: [
            ("452 4.5.3 enough", true), ("452 enough", true), ("450 4.5.3 enough", true), ("552 5.5.3 enough", true),
            ("552 enough", true), ("452 4.3.1 disk full", false), ("452 4.2.2 mailbox full", false),
            ("450 4.2.0 greylisted", false), ("552 5.2.2 mailbox full", false), ("550 enough", false),
        ] as [(String, Bool)])
    func tooManyRecipients(_ reply: String, _ isTooMany: Bool) {
        for (first, expected) in [("250 ok", isTooMany), ("450 no", false)] {
            var dialog = ClientDialog(offering: ["PIPELINING"])
            _ = dialog.begin(SMTPTransaction(to: 2))
            _ = dialog.hear("250 a\r\n\(first)\r\n\(reply)\r\n451 no\r\n")
            guard case .finished(let outcomes, true) = dialog.hear("250 reset\r\n").first else {
                Issue.record("not finished")
                continue
            }
            #expect(dialog.machine.causes[1] == OutcomeCause(.recipient, expected ? .tooManyRecipients : .reply))
            let isPermanent = reply.hasPrefix("5") && !expected
            #expect(outcomes[1].result == (isPermanent ? .permanent : .temporary))
        }
    }

    @Test func whatIsNotAsked() {
        var dialog = ClientDialog(offering: ["PIPELINING", "SIZE 50"])
        _ = dialog.begin(SMTPTransaction(to: 1))
        #expect(dialog.machine.causes.map(\.kind) == [.lacking])
        var other = Self.dialog(at: .content)
        let outcome = Outcome(.permanent, Reply(554, EnhancedStatus(5, 6, 0), "bare"))
        _ = other.machine.contentFailed(outcome, .message)
        #expect(other.machine.causes == [OutcomeCause(.content, .message)])
    }
}
