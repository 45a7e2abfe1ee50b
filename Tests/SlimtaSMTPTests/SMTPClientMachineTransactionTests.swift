// Transactions of the client machine: which reply is whose, and what is left of a session afterwards.

import NIOCore
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import TestKit
import Testing

struct SMTPClientMachineTransactionTests {
    typealias Action = SMTPClientMachine.Action

    static let all = ["PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8"]

    @Test func pipelined() {
        var dialog = ClientDialog(offering: Self.all)
        #expect(dialog.begin(SMTPTransaction(to: 2)) == .wait)
        #expect(
            dialog.said()
                == "MAIL FROM:<a@client.test> SIZE=100\r\nRCPT TO:<one@server.test>\r\n"
                + "RCPT TO:<two@server.test>\r\nDATA\r\n")
        #expect(dialog.hear("250 a\r\n250 b\r\n") == [])
        #expect(dialog.hear("250 c\r\n354 go\r\n") == [.sendContent(allowsEightBit: true)])
        #expect(dialog.machine.waitsFor.kind == .content)
        dialog.machine.contentSent()
        #expect(dialog.machine.waitsFor.kind == .finalReply)
        let delivered = remoteOutcome(250, "queued", EnhancedStatus(2, 0, 0))
        #expect(dialog.hear("250 2.0.0 queued\r\n") == [.finished([delivered, delivered], isReusable: true)])
        #expect(dialog.machine.isReady)
        // And again.
        #expect(dialog.begin(SMTPTransaction(to: 1)) == .wait)
        #expect(dialog.hear("250 a\r\n250 b\r\n354 c\r\n") == [.sendContent(allowsEightBit: true)])
    }

    @Test func oneByOne() {
        var dialog = ClientDialog(offering: [])
        _ = dialog.begin(SMTPTransaction(to: 2))
        #expect(dialog.said() == "MAIL FROM:<a@client.test>\r\n")
        #expect(dialog.hear("250 ok\r\n") == [])
        #expect(dialog.said() == "RCPT TO:<one@server.test>\r\n")
        #expect(dialog.hear("251 ok\r\n") == [])
        #expect(dialog.said() == "RCPT TO:<two@server.test>\r\n")
        #expect(dialog.hear("550 no\r\n") == [])
        #expect(dialog.said() == "DATA\r\n")
        #expect(dialog.hear("354 ok\r\n") == [.sendContent(allowsEightBit: false)])
        dialog.machine.contentSent()
        #expect(
            dialog.hear("250 ok\r\n") == [
                .finished([remoteOutcome(250, "ok"), remoteOutcome(550, "no")], isReusable: true)
            ])
    }

    /// RFC 9422: what the server says it takes is what it gets.
    @Test func limits() {
        var dialog = ClientDialog(offering: ["PIPELINING", "LIMITS MAILMAX=2 RCPTMAX=1 RCPTDOMAINMAX=1"])
        #expect(dialog.begin(SMTPTransaction(to: 2)) == .wait)
        #expect(dialog.said() == "MAIL FROM:<a@client.test>\r\nRCPT TO:<one@server.test>\r\nDATA\r\n")
        #expect(dialog.hear("250 a\r\n250 b\r\n354 go\r\n") == [.sendContent(allowsEightBit: false)])
        dialog.machine.contentSent()
        guard case .finished(let outcomes, true)? = dialog.hear("250 ok\r\n").first else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes.map(\.result) == [.delivered, .temporary])
        #expect(dialog.machine.causes.map(\.kind) == [.reply, .tooManyRecipients])
        #expect(!dialog.machine.isUsedUp)
        #expect(dialog.begin(SMTPTransaction(to: 1)) == .wait)
        #expect(dialog.machine.isUsedUp)
        for (line, expected) in [
            ("LIMITS", nil), ("LIMITS RCPTMAX", nil), ("LIMITS RCPTMAX=0", nil), ("LIMITS RCPTMAX=x MAILMAX=3", nil),
            ("limits rcptmax=7 RCPTMAX=8", 7),
        ] as [(String, Int?)] {
            let extensions = ServerExtensions(ehlo: Reply(250, nil, lines: ["x", line]))
            #expect(extensions.maximumRecipients == expected, "\(line)")
        }
    }

    /// The same of domains: whoever is at one that is in the transaction already goes along, in whatever case it is written.
    @Test func limitOfDomains() {
        var dialog = ClientDialog(offering: ["PIPELINING", "LIMITS RCPTDOMAINMAX=2 RCPTMAX=3"])
        var transaction = SMTPTransaction(to: 1)
        transaction.recipients = ["a@one.test", "b@two.test", "c@three.test", "d@ONE.test", "e@two.test"].compactMap {
            Mailbox(parsing: $0)
        }
        #expect(dialog.begin(transaction) == .wait)
        #expect(
            dialog.said() == "MAIL FROM:<a@client.test>\r\nRCPT TO:<a@one.test>\r\nRCPT TO:<b@two.test>\r\n"
                + "RCPT TO:<d@ONE.test>\r\nDATA\r\n")
        #expect(dialog.hear("250 a\r\n250 b\r\n250 c\r\n250 d\r\n354 go\r\n") == [.sendContent(allowsEightBit: false)])
        dialog.machine.contentSent()
        guard case .finished(let outcomes, true)? = dialog.hear("250 ok\r\n").first else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes.map(\.result) == [.delivered, .delivered, .temporary, .delivered, .temporary])
        #expect(outcomes[2].reply.text.contains("of 2 domains") && outcomes[4].reply.text.contains("3 recipients"))
        #expect(dialog.machine.causes.map(\.kind) == [.reply, .reply, .tooManyRecipients, .reply, .tooManyRecipients])
    }

    @Test func nullSender() {
        var dialog = ClientDialog(offering: [])
        var transaction = SMTPTransaction(to: 1)
        transaction.sender = nil
        _ = dialog.begin(transaction)
        #expect(dialog.said() == "MAIL FROM:<>\r\n")
    }

    /// What is said with MAIL, by what the server offers and the message is.
    @Test(
        arguments: [
            ([], true, false, ""), (["SIZE"], false, false, " SIZE=100"), (["8BITMIME"], true, false, " BODY=8BITMIME"),
            (["8BITMIME"], false, false, ""), (["SMTPUTF8", "8BITMIME"], false, false, ""),
            (["SMTPUTF8", "8BITMIME"], true, true, " BODY=8BITMIME SMTPUTF8"), (["SMTPUTF8"], false, true, " SMTPUTF8"),
            (["SIZE 200", "SMTPUTF8", "8BITMIME"], true, true, " SIZE=100 BODY=8BITMIME SMTPUTF8"),
        ] as [([String], Bool, Bool, String)])
    func parameters(_ offer: [String], _ isEightBit: Bool, _ needsSMTPUTF8: Bool, _ parameters: String) {
        var dialog = ClientDialog(offering: offer)
        let transaction = SMTPTransaction(to: 1, isEightBit: isEightBit, smtpUTF8Need: needsSMTPUTF8 ? "x" : nil)
        let action = dialog.begin(transaction)
        if isEightBit, !offer.contains("8BITMIME") {
            let refusal = Outcome(
                .permanent, Reply(554, EnhancedStatus(5, 6, 3), "the server does not support 8BITMIME"))
            #expect(action == .finished([refusal], isReusable: true))
            #expect(dialog.said() == "")
        } else {
            #expect(action == .wait)
            #expect(dialog.said() == "MAIL FROM:<a@client.test>\(parameters)\r\n")
        }
    }

    /// Content of which not all was seen: declared where that is possible, and else found out while it is sent.
    @Test(arguments: [(["8BITMIME"], " BODY=8BITMIME"), ([], "")]) func perhapsEightBit(
        _ offer: [String], _ parameters: String
    ) {
        var dialog = ClientDialog(offering: offer)
        var transaction = SMTPTransaction(to: 1)
        transaction.eightBit = .perhaps
        #expect(dialog.begin(transaction) == .wait)
        #expect(dialog.said() == "MAIL FROM:<a@client.test>\(parameters)\r\n")
    }

    static func noSMTPUTF8(_ need: String) -> Outcome {
        Outcome(
            .permanent,
            Reply(550, EnhancedStatus(5, 6, 7), "the server does not support SMTPUTF8, which \(need) needs"))
    }

    /// Whoever needs it is named, for the sender of the message will ask.
    @Test func withoutSMTPUTF8() {
        var dialog = ClientDialog(offering: ["PIPELINING", "8BITMIME"])
        // The header needs it: nobody.
        let refusal = Self.noSMTPUTF8("the address \u{FC}@x.test in the field Cc")
        let international = SMTPTransaction(to: 2, smtpUTF8Need: "the address \u{FC}@x.test in the field Cc")
        #expect(dialog.begin(international) == .finished([refusal, refusal], isReusable: true))
        // One recipient needs it: the other goes on.
        var transaction = SMTPTransaction(to: 2)
        transaction.recipients[0] = Mailbox(localPart: "jörg", domain: "server.test")
        #expect(dialog.begin(transaction) == .wait)
        #expect(dialog.said() == "MAIL FROM:<a@client.test>\r\nRCPT TO:<two@server.test>\r\nDATA\r\n")
        #expect(dialog.hear("250 a\r\n250 b\r\n354 c\r\n") == [.sendContent(allowsEightBit: true)])
        dialog.machine.contentSent()
        let recipient = Self.noSMTPUTF8("the recipient j\u{F6}rg@server.test")
        #expect(dialog.hear("250 d\r\n") == [.finished([recipient, remoteOutcome(250, "d")], isReusable: true)])
        // The sender needs it: nobody.
        transaction = SMTPTransaction(to: 1)
        transaction.sender = Mailbox(localPart: "jörg", domain: "client.test")
        #expect(
            dialog.begin(transaction)
                == .finished([Self.noSMTPUTF8("the sender j\u{F6}rg@client.test")], isReusable: true))
        #expect(dialog.said() == "")
    }

    @Test func withSMTPUTF8() {
        var dialog = ClientDialog(offering: ["SMTPUTF8"])
        var transaction = SMTPTransaction(to: 1)
        transaction.recipients[0] = Mailbox(localPart: "jörg", domain: "server.test")
        _ = dialog.begin(transaction)
        #expect(dialog.said() == "MAIL FROM:<a@client.test> SMTPUTF8\r\n")
        _ = dialog.hear("250 ok\r\n")
        #expect(dialog.said() == "RCPT TO:<jörg@server.test>\r\n")
    }

    @Test(arguments: [(1000, true), (1001, false)])
    func size(_ size: Int, _ fits: Bool) {
        var dialog = ClientDialog(offering: Self.all)
        let action = dialog.begin(SMTPTransaction(to: 1, size: size))
        #expect((action == .wait) == fits)
        if case .finished(let outcomes, let isReusable) = action {
            #expect(outcomes[0].result == .permanent && outcomes[0].reply.status == EnhancedStatus(5, 3, 4))
            #expect(isReusable && dialog.said() == "")
        }
    }

    /// Threat 7: an address that would be two commands is none.
    @Test(arguments: ["a\r\nRSET", "a\nb", "a\u{0}b", "a\rb", "a\u{7F}"])
    func addressesThatAreCommands(_ local: String) {
        let evil = Mailbox(localPart: local, domain: "server.test")
        var dialog = ClientDialog(offering: Self.all)
        var transaction = SMTPTransaction(to: 2)
        transaction.recipients[0] = evil
        #expect(dialog.begin(transaction) == .wait)
        #expect(
            dialog.said().components == ["MAIL FROM:<a@client.test> SIZE=100", "RCPT TO:<two@server.test>", "DATA"])
        var other = ClientDialog(offering: Self.all)
        transaction = SMTPTransaction(to: 1)
        transaction.sender = evil
        guard case .finished(let outcomes, true) = other.begin(transaction) else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes[0].reply.status == EnhancedStatus(5, 1, 7))
        #expect(other.said() == "")
    }

    // MARK: Replies

    struct Case: Sendable, CustomTestStringConvertible {
        let replies: String
        let outcomes: [Outcome]
        var isReusable = true
        /// What is sent in between, behind the commands.
        var sent = ""
        /// What the server says to that.
        var then = ""

        var testDescription: String { replies }
    }

    /// Replies to pipelined MAIL, two RCPT, DATA that end the transaction without content.
    @Test(arguments: [
        // W19: each its own.
        Case(
            replies: "250 a\r\n450 b\r\n550 c\r\n554 d\r\n",
            outcomes: [remoteOutcome(450, "b"), remoteOutcome(550, "c")],
            sent: "RSET\r\n", then: "250 ok\r\n"),
        Case(
            replies: "250 a\r\n550 b\r\n550 c\r\n503 d\r\n",
            outcomes: [remoteOutcome(550, "b"), remoteOutcome(550, "c")],
            isReusable: false, sent: "RSET\r\n", then: "500 ok\r\n"),
        Case(
            replies: "250 a\r\n550 b\r\n550 c\r\n354 d\r\n",
            outcomes: [remoteOutcome(550, "b"), remoteOutcome(550, "c")],
            sent: ".\r\n", then: "250 ok\r\n"),
        Case(
            replies: "250 a\r\n550 b\r\n550 c\r\n354 d\r\n",
            outcomes: [remoteOutcome(550, "b"), remoteOutcome(550, "c")],
            sent: ".\r\n", then: "554 nobody\r\n"),
        Case(
            replies: "550 a\r\n503 b\r\n503 c\r\n503 d\r\n",
            outcomes: [remoteOutcome(550, "a"), remoteOutcome(550, "a")]),
        Case(
            replies: "451 a\r\n503 b\r\n503 c\r\n354 d\r\n",
            outcomes: [remoteOutcome(451, "a"), remoteOutcome(451, "a")],
            sent: ".\r\n", then: "250 ok\r\n"),
        Case(
            replies: "452 a\r\n250 b\r\n250 c\r\n503 d\r\n",
            outcomes: [remoteOutcome(452, "a"), remoteOutcome(452, "a")]),
        // DATA refused: for those who were accepted.
        Case(
            replies: "250 a\r\n250 b\r\n550 c\r\n451 d\r\n",
            outcomes: [remoteOutcome(451, "d"), remoteOutcome(550, "c")],
            sent: "RSET\r\n", then: "250 ok\r\n"),
        Case(
            replies: "250 a\r\n250 b\r\n250 c\r\n554 d\r\n",
            outcomes: [remoteOutcome(554, "d"), remoteOutcome(554, "d")],
            sent: "RSET\r\n", then: "250 ok\r\n"),
        // 421 at every point.
        Case(replies: "421 a\r\n", outcomes: [remoteOutcome(421, "a"), remoteOutcome(421, "a")], isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\n421 c\r\n", outcomes: [remoteOutcome(550, "b"), remoteOutcome(421, "c")],
            isReusable: false),
        Case(
            replies: "250 a\r\n250 b\r\n421 c\r\n", outcomes: [remoteOutcome(421, "c"), remoteOutcome(421, "c")],
            isReusable: false),
        Case(
            replies: "250 a\r\n250 b\r\n550 c\r\n421 d\r\n",
            outcomes: [remoteOutcome(421, "d"), remoteOutcome(550, "c")],
            isReusable: false),
        // RFC 5321 section 4.5.3.1.10.
        Case(
            replies: "250 a\r\n250 b\r\n552 too many\r\n451 d\r\n",
            outcomes: [remoteOutcome(451, "d"), Outcome(.temporary, Reply(552, nil, "too many"), isRemote: true)],
            sent: "RSET\r\n", then: "250 ok\r\n"),
        Case(
            replies: "250 a\r\n250 b\r\n552 5.2.2 full\r\n451 d\r\n",
            outcomes: [remoteOutcome(451, "d"), remoteOutcome(552, "full", EnhancedStatus(5, 2, 2))], sent: "RSET\r\n",
            then: "250 ok\r\n"),
        Case(
            replies: "250 a\r\n452 4.5.3 b\r\n552 c\r\n451 d\r\n",
            outcomes: [remoteOutcome(452, "b", EnhancedStatus(4, 5, 3)), remoteOutcome(552, "c")], sent: "RSET\r\n",
            then: "250 ok\r\n"),
        // What no server says.
        Case(
            replies: "354 a\r\n",
            outcomes: [protocolErrorOutcome("354 in reply to MAIL"), protocolErrorOutcome("354 in reply to MAIL")],
            isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\n354 c\r\n",
            outcomes: [remoteOutcome(550, "b"), protocolErrorOutcome("354 in reply to RCPT")], isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\n250 c\r\n250 d\r\n",
            outcomes: [remoteOutcome(550, "b"), protocolErrorOutcome("250 in reply to DATA")], isReusable: false),
        Case(
            replies: "250 a\r\n250 b\r\n550 c\r\n334 d\r\n",
            outcomes: [protocolErrorOutcome("334 in reply to DATA"), remoteOutcome(550, "c")], isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\n250 c\r\n354 d\r\n250 e\r\n",
            outcomes: [remoteOutcome(550, "b"), protocolErrorOutcome("250 in reply to the message")],
            isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\n250 c\r\n354 d\r\n25",
            outcomes: [remoteOutcome(550, "b"), protocolErrorOutcome("more replies than commands")],
            isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\n250 c\r\n354 d\r\n552 e\r\n",
            outcomes: [remoteOutcome(550, "b"), remoteOutcome(552, "e")], isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\n250 c\r\n354 d\r\n421 e\r\n",
            outcomes: [remoteOutcome(550, "b"), remoteOutcome(421, "e")], isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\n550 c\r\n554 d\r\n421 e\r\n",
            outcomes: [remoteOutcome(550, "b"), remoteOutcome(550, "c")], isReusable: false),
        Case(
            replies: "250 a\r\n550 b\r\ngarbage\r\n",
            outcomes: [remoteOutcome(550, "b"), protocolErrorOutcome("not an SMTP reply")], isReusable: false),
        Case(
            replies: "550 a\r\n550 b\r\n550 c\r\n550 d\r\n550 e\r\n",
            outcomes: [remoteOutcome(550, "a"), remoteOutcome(550, "a")], isReusable: false),
    ])
    func withoutContent(_ test: Case) {
        let octets = Array(test.replies.utf8)
        var cuts = [[octets], octets.map { [$0] }]
        // A reply too many can only be told from the next command's reply while it arrives with the others.
        if test.replies.components.count > 4 || test.replies.contains("garbage") { cuts.removeLast() }
        for chunks in cuts {
            var dialog = ClientDialog(offering: Self.all)
            _ = dialog.begin(SMTPTransaction(to: 2))
            _ = dialog.said()
            var actions = chunks.flatMap { dialog.hear($0) }
            #expect(dialog.said() == test.sent)
            if !test.then.isEmpty {
                #expect(actions == [])
                actions = dialog.hear(test.then)
            }
            #expect(actions == [.finished(test.outcomes, isReusable: test.isReusable)])
            #expect(dialog.machine.isReady == test.isReusable)
        }
    }

    /// Without PIPELINING nobody sends DATA for nobody.
    @Test func everyoneRefusedOneByOne() {
        var dialog = ClientDialog(offering: [])
        _ = dialog.begin(SMTPTransaction(to: 2))
        _ = dialog.hear("250 a\r\n")
        _ = dialog.hear("450 b\r\n")
        _ = dialog.said()
        #expect(dialog.hear("550 c\r\n") == [])
        #expect(dialog.said() == "RSET\r\n")
        #expect(
            dialog.hear("250 d\r\n") == [
                .finished([remoteOutcome(450, "b"), remoteOutcome(550, "c")], isReusable: true)
            ])
    }

    @Test func mailRefusedOneByOne() {
        var dialog = ClientDialog(offering: [])
        _ = dialog.begin(SMTPTransaction(to: 2))
        #expect(
            dialog.hear("550 a\r\n") == [
                .finished([remoteOutcome(550, "a"), remoteOutcome(550, "a")], isReusable: true)
            ])
    }

    /// With the content under way or sent; the second recipient was refused.
    static func inContent(isSent: Bool) -> ClientDialog {
        var dialog = ClientDialog(offering: all)
        _ = dialog.begin(SMTPTransaction(to: 2))
        _ = dialog.hear("250 a\r\n250 b\r\n550 c\r\n354 d\r\n")
        if isSent { dialog.machine.contentSent() }
        _ = dialog.said()
        return dialog
    }

    @Test(
        arguments: [
            ("250 ok\r\n", remoteOutcome(250, "ok"), true), ("451 e\r\n", remoteOutcome(451, "e"), true),
            ("554 e\r\n", remoteOutcome(554, "e"), true), ("421 e\r\n", remoteOutcome(421, "e"), false),
            ("354 e\r\n", protocolErrorOutcome("354 in reply to the message"), false),
            ("550-a\r\n551 b\r\n", protocolErrorOutcome("the lines of a reply have different codes"), false),
            ("250-a\r\n550 b\r\n", protocolErrorOutcome("the lines of a reply have different codes"), false),
            ("250-a\r\n451-b\r\n", protocolErrorOutcome("the lines of a reply have different codes"), false),
            ("55 no\r\n", protocolErrorOutcome("not an SMTP reply"), false),
            ("OK\r\n", protocolErrorOutcome("not an SMTP reply"), false),
            ("250 ok\r\n250 ok\r\n", remoteOutcome(250, "ok"), false), ("250 ok\r\n2", remoteOutcome(250, "ok"), false),
        ] as [(String, Outcome, Bool)])
    func finalReply(_ text: String, _ outcome: Outcome, _ isReusable: Bool) {
        var dialog = Self.inContent(isSent: true)
        #expect(dialog.hear(text) == [.finished([outcome, remoteOutcome(550, "c")], isReusable: isReusable)])
        #expect(dialog.said() == "")
    }

    /// RFC 5321 section 4.3.2: the first digit decides. What is not heard as a yes is sent a second time.
    @Test(
        arguments: [
            ("250-a\r\n251 b\r\n", remoteOutcome(250, "a"), false), ("250-a\r\nb\r\n", remoteOutcome(250, "a"), false),
            ("25\r\n", remoteOutcome(250, "25"), false), ("2\r\n", remoteOutcome(250, "2"), false),
            ("2500 x\r\n", remoteOutcome(250, "2500 x"), false), ("250_x\r\n", remoteOutcome(250, "250_x"), false),
            ("250", nil, false), ("250-a\r\n250-b\r\n", nil, false), ("2", nil, false), ("250 2.0.0 queu", nil, false),
            ("221 bye\r\n", remoteOutcome(221, "bye"), true),
            ("250 " + String(repeating: "y", count: 2500) + "\r\n", nil, true),
            (String(repeating: "250-z\r\n", count: 500) + "250 z\r\n", nil, true),
            (String(repeating: "250-" + String(repeating: "z", count: 2000) + "\r\n", count: 600), nil, false),
            (
                "2" + String(repeating: "y", count: 5000),
                remoteOutcome(250, "2" + String(repeating: "y", count: 999) + "..."), false
            ),
        ] as [(String, Outcome?, Bool)])
    func oddYes(_ text: String, _ expected: Outcome?, _ isReusable: Bool) {
        for end in [SMTPClientMachine.End.closed, .timedOut, .broken("reset"), .cancelled] {
            var dialog = Self.inContent(isSent: true)
            let actions = dialog.hear(text) + [dialog.machine.ended(end)].filter { $0 != .wait && $0 != .close }
            guard actions.count == 1, case .finished(let outcomes, isReusable) = actions[0] else {
                Issue.record("\(text.prefix(30)): \(actions)")
                continue
            }
            #expect(outcomes.map(\.result) == [.delivered, .permanent])
            #expect(outcomes[0].isRemote)
            if let expected { #expect(outcomes[0] == expected) }
        }
    }

    /// Before the end of the message was sent there is nothing to say yes to.
    @Test(arguments: ["250-a\r\n251 b\r\n", "25\r\n", "2"])
    func oddYesTooEarly(_ text: String) {
        var dialog = Self.inContent(isSent: false)
        let actions = dialog.hear(text) + [dialog.machine.ended(.closed)]
        guard case .finished(let outcomes, false) = actions[0] == .wait ? actions[1] : actions[0] else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes[0].result == .temporary)
    }

    /// A server that speaks while it should listen: a refusal counts, and nothing else.
    @Test(arguments: [
        ("552 too big\r\n", remoteOutcome(552, "too big")), ("451 e\r\n", remoteOutcome(451, "e")),
        ("421 e\r\n", remoteOutcome(421, "e")),
        ("250 ok\r\n", protocolErrorOutcome("250 in reply to the message")),
        ("354 e\r\n", protocolErrorOutcome("354 in reply to the message")),
        ("x\r\n", protocolErrorOutcome("not an SMTP reply")),
    ])
    func earlyReply(_ text: String, _ outcome: Outcome) {
        var dialog = Self.inContent(isSent: false)
        #expect(dialog.hear(text) == [.finished([outcome, remoteOutcome(550, "c")], isReusable: false)])
    }

    @Test func contentFailed() {
        var dialog = Self.inContent(isSent: false)
        let outcome = Outcome(.permanent, Reply(554, EnhancedStatus(5, 6, 0), "bare"))
        #expect(
            dialog.machine.contentFailed(outcome, .message)
                == .finished([outcome, remoteOutcome(550, "c")], isReusable: false))
        #expect(dialog.said() == "")
    }

    @Test(arguments: [
        ("", 0, "in reply to MAIL"), ("250 a\r\n", 1, "in reply to RCPT"),
        ("250 a\r\n550 b\r\n550 c\r\n554 d\r\n", 3, ""), ("250 a\r\n550 b\r\n250 c\r\n", 2, "in reply to DATA"),
    ])
    func ended(_ replies: String, _ settled: Int, _ place: String) {
        for end in [SMTPClientMachine.End.closed, .timedOut, .broken("reset"), .cancelled] {
            var dialog = ClientDialog(offering: Self.all)
            _ = dialog.begin(SMTPTransaction(to: 2))
            _ = dialog.hear(replies)
            guard case .finished(let outcomes, false) = dialog.machine.ended(end) else {
                Issue.record("not finished")
                continue
            }
            for (index, outcome) in outcomes.enumerated() {
                if index < settled - 1 {
                    #expect(outcome.reply.code == 550)
                } else {
                    #expect(outcome.result == .temporary && !outcome.isRemote)
                    if end != .cancelled { #expect(outcome.reply.text.contains(place)) }
                }
            }
            #expect(dialog.hear("250 ok\r\n") == [])
        }
    }

    @Test(arguments: [true, false])
    func endedInContent(_ isSent: Bool) {
        for end in [SMTPClientMachine.End.closed, .timedOut, .broken("reset"), .tlsFailed("x"), .cancelled] {
            var dialog = Self.inContent(isSent: isSent)
            guard case .finished(let outcomes, false) = dialog.machine.ended(end) else {
                Issue.record("not finished")
                continue
            }
            #expect(outcomes[0].result == .temporary && !outcomes[0].isRemote)
            #expect(outcomes[1] == remoteOutcome(550, "c"))
        }
    }

    // MARK: Sessions with a past

    static func used() -> ClientDialog {
        var dialog = ClientDialog(offering: all)
        _ = dialog.begin(SMTPTransaction(to: 1))
        _ = dialog.hear("250 a\r\n250 b\r\n354 c\r\n")
        dialog.machine.contentSent()
        _ = dialog.hear("250 d\r\n")
        _ = dialog.said()
        return dialog
    }

    @Test func staleSession() {
        var dialog = Self.used()
        _ = dialog.begin(SMTPTransaction(to: 1))
        guard case .stale(let outcomes) = dialog.machine.ended(.closed) else {
            Issue.record("not stale")
            return
        }
        #expect(outcomes.map(\.result) == [.temporary])
        var other = Self.used()
        _ = other.begin(SMTPTransaction(to: 2))
        #expect(other.hear("421 bye\r\n") == [.stale([remoteOutcome(421, "bye"), remoteOutcome(421, "bye")])])
        // Until it takes content: some say so only at RCPT.
        for replies in ["", "250 a\r\n", "250 a\r\n250 b\r\n"] {
            for last in ["", "421 enough\r\n"] {
                var third = Self.used()
                _ = third.begin(SMTPTransaction(to: 1))
                var actions = third.hear(replies + last)
                if last.isEmpty { actions = [third.machine.ended(.closed)] }
                guard case .stale = actions.first else {
                    Issue.record("not stale")
                    continue
                }
            }
        }
        // Not a silence: it could go on and on.
        var fourth = Self.used()
        _ = fourth.begin(SMTPTransaction(to: 1))
        guard case .finished(_, false) = fourth.machine.ended(.timedOut) else {
            Issue.record("not finished")
            return
        }
    }

    /// A limit of messages in a session, in whatever words: only a new session is believed.
    @Test(arguments: ["452 4.3.2 too many messages", "451 later", "550 5.7.1 enough", "554 no", "503 again?"])
    func mailRefusedInUsedSession(_ reply: String) {
        var dialog = Self.used()
        _ = dialog.begin(SMTPTransaction(to: 2))
        guard case .stale(let outcomes) = dialog.hear(reply + "\r\n").first else {
            Issue.record("not stale")
            return
        }
        #expect(outcomes.count == 2 && outcomes[0].reply.description == reply)
        #expect(!dialog.machine.isReady)
        var fresh = ClientDialog(offering: Self.all)
        _ = fresh.begin(SMTPTransaction(to: 2))
        #expect(fresh.hear(reply + "\r\n503 x\r\n503 x\r\n503 x\r\n") == [.finished(outcomes, isReusable: true)])
    }

    /// Whatever an idle session hears ends it: 421, or the answer to a question that nobody asked.
    @Test(arguments: ["421 idle\r\n", "250 ok\r\n", "2", "\r\n"])
    func idleSessionHearsSomething(_ text: String) {
        var dialog = Self.used()
        #expect(dialog.hear(text) == [.close])
        #expect(!dialog.machine.isReady)
        #expect(dialog.hear(text) == [])
    }

    @Test func quit() {
        var dialog = Self.used()
        #expect(dialog.machine.quit(into: &dialog.out) == .wait)
        #expect(dialog.said() == "QUIT\r\n")
        #expect(dialog.machine.waitsFor.kind == .quit)
        #expect(dialog.hear("221 bye\r\n") == [.close])
        var other = Self.used()
        _ = other.machine.quit(into: &other.out)
        #expect(other.machine.ended(.timedOut) == .close)
        var early = ClientDialog()
        #expect(early.machine.quit(into: &early.out) == .close)
        #expect(early.said() == "")
    }

    /// Each group of commands has a deadline of its own, and octets that dribble in do not make a new one.
    @Test func deadlines() {
        var dialog = ClientDialog()
        var waits = [dialog.machine.waitsFor]
        func next(_ wait: SMTPClientMachine.Wait) {
            #expect(wait.number != waits.last?.number)
            waits.append(wait)
        }
        _ = dialog.hear("220-x\r\n")
        #expect(dialog.machine.waitsFor == waits.last)
        _ = dialog.hear("220 x\r\n")
        next(dialog.machine.waitsFor)
        _ = dialog.hear(["x", "PIPELINING"].ehloReply)
        next(dialog.machine.waitsFor)
        #expect(waits.last?.kind == .idle)
        _ = dialog.begin(SMTPTransaction(to: 2))
        next(dialog.machine.waitsFor)
        #expect(waits.last?.kind == .reply(recipients: 2))
        _ = dialog.hear("250 x\r\n250 x\r\n250 x\r\n")
        #expect(dialog.machine.waitsFor == waits.last)
        _ = dialog.hear("354 x\r\n")
        next(dialog.machine.waitsFor)
        dialog.machine.contentSent()
        next(dialog.machine.waitsFor)
        _ = dialog.hear("250 x\r\n")
        next(dialog.machine.waitsFor)
    }

    /// Replies are kept short.
    @Test func longReplies() {
        let line = String(repeating: "ü", count: 700)
        var dialog = ClientDialog(offering: [])
        _ = dialog.begin(SMTPTransaction(to: 1))
        guard case .finished(let outcomes, _) = dialog.hear("550-5.7.1 \(line)\r\n550 5.7.1 more\r\n").first else {
            Issue.record("not finished")
            return
        }
        #expect(outcomes[0].reply.lines == [String(repeating: "ü", count: 500) + "..."])
        #expect(outcomes[0].reply.status == EnhancedStatus(5, 7, 1))
    }

    /// Whatever a server says, in whatever pieces: no trap, and one outcome for each recipient.
    @Test(arguments: 0..<200) func anyServer(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let words = [
            "220 x\r\n", "250 x\r\n", "250-PIPELINING\r\n", "250 STARTTLS\r\n", "354 x\r\n", "421 x\r\n", "450 x\r\n",
            "550 x\r\n", "250 x\r\n", "250 x\r\n", "250-AUTH SCRAM-SHA-1\r\n", "250", "\r\n", "x", "334 x\r\n",
            "235 x\r\n", "\u{0}",
        ]
        for _ in 0..<50 {
            var dialog = ClientDialog(
                [.none, .opportunistic, .required].randomElement(using: &random)!,
                credentials: Bool.random(using: &random) ? .init(username: "a", password: "b") : nil,
                dialect: Bool.random(using: &random) ? .smtp : .lmtp)
            var isInTransaction = false
            var isOver = false
            for _ in 0..<30 where !isOver {
                var actions = dialog.hear(words.randomElement(using: &random)!)
                if Int.random(in: 0..<25, using: &random) == 0 {
                    let ends: [SMTPClientMachine.End] = [.closed, .timedOut, .broken("x"), .tlsFailed("x"), .cancelled]
                    actions.append(dialog.machine.ended(ends.randomElement(using: &random)!))
                }
                while !actions.isEmpty {
                    switch actions.removeFirst() {
                    case .wait: break
                    case .startTLS: dialog.machine.tlsEstablished(into: &dialog.out)
                    case .compute: actions.append(dialog.compute())
                    case .ready:
                        #expect(!isInTransaction)
                        // What came with the last reply may have ended the session since.
                        guard dialog.machine.isReady else { break }
                        isInTransaction = true
                        actions.append(dialog.begin(SMTPTransaction(to: 3)))
                    case .sendContent:
                        if dialog.machine.waitsFor.kind == .content { dialog.machine.contentSent() }
                    case .settled(let recipient, _): #expect(isInTransaction && recipient < 3)
                    case .finished(let outcomes, let isReusable):
                        #expect(isInTransaction && outcomes.count == 3)
                        isInTransaction = false
                        if isReusable, dialog.machine.isReady {
                            isInTransaction = true
                            actions.append(dialog.begin(SMTPTransaction(to: 3)))
                        } else {
                            isOver = true
                        }
                    case .stale(let outcomes):
                        #expect(isInTransaction && outcomes.count == 3)
                        isOver = true
                    case .failed, .close:
                        #expect(!isInTransaction)
                        isOver = true
                    }
                }
            }
        }
    }
}

extension String {
    /// The lines without their ends.
    var components: [String] {
        split(separator: "\r\n", omittingEmptySubsequences: true).map(String.init)
    }
}
