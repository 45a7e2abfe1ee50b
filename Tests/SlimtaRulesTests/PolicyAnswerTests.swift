// Answers of policy servers: what Postfix makes of each, word for word, and what is no answer.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaRules

@Suite struct PolicyAnswerTests {
    private static func facts() throws -> Facts {
        var facts = Facts(
            client: .ip(try #require(IPAddress("192.0.2.7")), port: 40000), edge: "submission",
            now: LocalTime(.now(), offset: 0))
        facts.ehlo = "client.example"
        facts.sender = .mailbox(Mailbox(localPart: "bob", domain: "sender.example"))
        facts.recipient = Mailbox(localPart: "one", domain: "mx.test")
        facts.recipients = [Mailbox(localPart: "one", domain: "mx.test")]
        return facts
    }

    private static let plain = PolicySession(id: 1, server: .unix)

    /// What comes of these answers at a stage, one service each.
    private static func verdict(
        _ answers: [String], at stage: Stage = .rcpt, _ session: PolicySession = plain
    ) throws -> Verdict {
        var round = PolicyRound(try facts(), at: stage, in: session)
        for (index, answer) in answers.enumerated() where !round.answered(PolicyAnswer(answer), by: "s\(index + 1)") {
            break
        }
        return round.verdict
    }

    private static func decision(_ answers: String..., at stage: Stage = .rcpt) throws -> String {
        switch try verdict(answers, at: stage).decision {
        case .goOn: "go on"
        case .accept: "accept"
        case .refuse(let reply): "\(reply)"
        }
    }

    // MARK: What Postfix makes of each action

    struct Recorded: Decodable, Sendable, CustomTestStringConvertible {
        let answer: String
        let at: String
        let rcptReply: [String]
        let dataReply: [String]
        var testDescription: String { "\(answer) at \(at)" }
    }

    static let actions: [Recorded] =
        SharedFiles.areThere ? ((try? SharedFiles.vector([Recorded].self, "policy-delegation/actions.json")) ?? []) : []

    /// Where we differ from Postfix, each with what we do: actions that nobody has but Postfix count as DUNNO, so that
    /// a service which knows more than we never stops mail.
    private static let unknown: Set<String> = [
        "354", "250", "DISCARD", "FILTER", "REDIRECT", "BCC", "permit_mynetworks", "reject_unauth_destination",
        "reject_unknown_sender_domain", "NOSUCH", "warn_if_reject", "reject_sender_login_mismatch",
    ]

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there"))
    func theRecordingIsWhole() { #expect(Self.actions.count == 84) }

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there"), arguments: actions)
    func action(_ recorded: Recorded) throws {
        var octets = ByteBuffer(string: recorded.answer + "\n\n")
        var parser = PolicyAnswerParser()
        guard case .answer(let answer) = parser.read(&octets) else { throw Unexpected() }
        let stage: Stage = recorded.at == "RCPT" ? .rcpt : .message
        var round = PolicyRound(try Self.facts(), at: stage, in: Self.plain)
        _ = round.answered(answer, by: "service")
        let word = String(recorded.answer.dropFirst("action=".count).prefix { $0 != " " })
        if Self.unknown.contains(word) {
            #expect(answer.doubt == .unknownAction && round.verdict.decision == .goOn)
            return
        }
        let theirs = try #require(stage == .rcpt ? recorded.rcptReply.first : recorded.dataReply.first)
        guard case .refuse(let ours) = round.verdict.decision else {
            #expect(theirs.hasPrefix("250 "))
            return
        }
        // Postfix says what was refused in words of its own; and our replies are ASCII.
        let text = theirs.replacing("Recipient address rejected: ", with: "")
            .replacing("<END-OF-MESSAGE>: End-of-data rejected: ", with: "").replacing("ü", with: "\\u{00fc}")
        #expect("\(ours)" == text)
    }

    private struct Unexpected: Error {}

    // MARK: Verbs

    @Test(arguments: [
        ("OK", PolicyAnswer.Action.accept), ("  ok  ", .accept), ("Permit", .accept), ("DUNNO", .goOn),
        ("dunno because", .goOn), ("PREPEND X: y", .prepend("X: y")), ("hold", .hold("")), ("HOLD  it ", .hold("it")),
        ("warn a b", .note("a b")), ("INFO", .note("")), ("REJECT\tno", .refuse(554, .init(status: nil, "no"))),
        ("defer_if_permit 4.2.0 grey", .deferIfPermit(.init(status: EnhancedStatus(4, 2, 0), "grey"))),
        ("450 4.7.1", .refuse(450, .init(status: EnhancedStatus(4, 7, 1), ""))),
        ("599 x", .refuse(599, .init(status: nil, "x"))),
    ])
    func verb(_ text: String, _ action: PolicyAnswer.Action) {
        let answer = PolicyAnswer(text)
        #expect(answer.action == action && answer.doubt == nil)
    }

    @Test(arguments: [
        ("550", PolicyAnswer.Doubt.bareNumber), ("1", .bareNumber), ("", .empty), ("   ", .empty),
        ("600 x", .unknownAction), ("399 x", .unknownAction), ("99999999999999999999 x", .unknownAction),
        ("0550 x", .unknownAction), ("DISCARD", .unknownAction), ("ß", .unknownAction),
        (String(repeating: "x", count: 5000), .unknownAction),
    ])
    func doubt(_ text: String, _ doubt: PolicyAnswer.Doubt) {
        let answer = PolicyAnswer(text)
        #expect(answer.doubt == doubt && answer.verb.utf8.count <= 32)
        #expect(answer.action == (doubt == .bareNumber ? .accept : .goOn))
    }

    // MARK: Replies

    @Test func aClassThatDoesNotFitIsReplaced() throws {
        #expect(try Self.decision("REJECT 4.2.2 full") == "554 5.2.2 <one@mx.test>: full")
        #expect(try Self.decision("DEFER 5.7.9 x") == "450 4.7.9 <one@mx.test>: x")
        #expect(try Self.decision("451 2.0.0 x") == "451 4.0.0 <one@mx.test>: x")
        #expect(try Self.decision("DEFER_IF_PERMIT 5.7.9 x") == "450 4.7.9 <one@mx.test>: x")
    }

    @Test func aboutAnAddressOnlyWhereThereIsOne() throws {
        #expect(try Self.decision("550 5.1.1 x", at: .mail) == "550 5.1.1 <bob@sender.example>: x")
        #expect(try Self.decision("550 5.1.1 x", at: .data) == "550 5.0.0 x")
        #expect(try Self.decision("450 4.1.1 x", at: .message) == "450 4.0.0 x")
        #expect(try Self.decision("550 5.1.1 x", at: .ehlo) == "550 5.0.0 <client.example>: x")
        #expect(try Self.decision("550 5.1.1 x", at: .connect) == "550 5.0.0 <192.0.2.7>: x")
    }

    @Test func aReplyIsOneLineOfPrintableASCII() throws {
        let text = try Self.decision("REJECT a\rb\u{1b}[2J\u{202e}" + String(repeating: "ü", count: 900))
        #expect(text.utf8.count <= 510 && text.utf8.allSatisfy { (0x20...0x7E).contains($0) })
        #expect(text.hasPrefix("554 5.7.1 <one@mx.test>: a\\u{000d}b\\u{001b}[2J\\u{202e}\\u{00fc}"))
    }

    // MARK: Several services

    @Test func theFirstThatDecidesIsTheLast() throws {
        #expect(try Self.decision("DUNNO", "OK", "REJECT") == "accept")
        #expect(try Self.decision("DUNNO", "REJECT no", "OK") == "554 5.7.1 <one@mx.test>: no")
        #expect(try Self.decision("DUNNO", "DISCARD", "WARN x") == "go on")
        var round = PolicyRound(try Self.facts(), at: .rcpt, in: Self.plain)
        #expect(round.answered(PolicyAnswer("WARN x"), by: "a") == true)
        #expect(round.answered(PolicyAnswer("OK"), by: "b") == false)
        // Whoever answers too late changes nothing.
        #expect(round.answered(PolicyAnswer("REJECT"), by: "c") == false)
        #expect(round.verdict.decision == .accept)
    }

    @Test func deferIfPermitWaitsForTheEnd() throws {
        #expect(try Self.decision("DEFER_IF_PERMIT grey") == "450 4.7.1 <one@mx.test>: grey")
        #expect(try Self.decision("DEFER_IF_PERMIT grey", "OK") == "450 4.7.1 <one@mx.test>: grey")
        #expect(
            try Self.decision("DEFER_IF_PERMIT grey", "550 5.1.1 no such user")
                == "550 5.1.1 <one@mx.test>: no such user")
        #expect(try Self.decision("DEFER_IF_PERMIT grey", "451 4.3.0 x") == "451 4.3.0 <one@mx.test>: x")
        #expect(try Self.decision("DEFER_IF_PERMIT one", "DEFER_IF_PERMIT two") == "450 4.7.1 <one@mx.test>: one")
        #expect(try Self.decision("DEFER_IF_PERMIT") == "450 4.7.1 <one@mx.test>: Service unavailable")
    }

    @Test func deferIfRejectChangesWhatIsForGood() throws {
        #expect(try Self.decision("DEFER_IF_REJECT maybe", "OK") == "accept")
        #expect(try Self.decision("DEFER_IF_REJECT maybe", "DUNNO") == "go on")
        #expect(try Self.decision("DEFER_IF_REJECT maybe", "REJECT no") == "450 4.7.1 <one@mx.test>: maybe")
        #expect(try Self.decision("DEFER_IF_REJECT maybe", "451 x") == "451 4.7.1 <one@mx.test>: x")
        #expect(try Self.decision("REJECT no", "DEFER_IF_REJECT maybe") == "554 5.7.1 <one@mx.test>: no")
        #expect(
            try Self.decision("DEFER_IF_PERMIT grey", "DEFER_IF_REJECT maybe", "REJECT no")
                == "450 4.7.1 <one@mx.test>: maybe")
    }

    @Test func holdAndNotes() throws {
        let verdict = try Self.verdict(["HOLD for review", "HOLD", "WARN odd\u{7}", "OK"])
        #expect(verdict.decision == .accept && verdict.heldBy == "s1")
        #expect(
            verdict.notes == [
                .init(rule: "s1", action: "HOLD: for review"), .init(rule: "s2", action: "HOLD"),
                .init(rule: "s3", action: "WARN: odd\\x07"),
            ])
    }

    @Test func fields() throws {
        let verdict = try Self.verdict(["PREPEND X-Policy:  yes", "PREPEND nonsense", "PREPEND X-Other: 1"])
        #expect(verdict.decision == .goOn && verdict.fields == ["X-Policy: yes\r\n", "X-Other: 1\r\n"])
        #expect(verdict.notes[1].action == "PREPEND ignored, no header field: nonsense")
    }

    @Test func whatIsAField() {
        let long = "X-A: " + String(repeating: "word  ", count: 40) + "end"
        let folded = PolicyField.field(long, smtpUTF8: false)
        #expect(folded?.split(separator: "\r\n").allSatisfy { $0.utf8.count <= 78 } == true)
        #expect(folded?.replacing("\r\n", with: "") == long)
        #expect(PolicyField.field("X-A: a\tb", smtpUTF8: false) == "X-A: a\tb\r\n")
        let word = String(repeating: "x", count: 990)
        #expect(PolicyField.field("X-A: \(word)", smtpUTF8: false) == "X-A: \(word)\r\n")
        #expect(PolicyField.field("X-A: \(word)1234", smtpUTF8: false) == nil)
        for bad in [
            "", ":", ": x", "X-A:", "X-A: ", "X A: x", "X-A : x", "ü: x", "X-A: a\rb", "X-A: a\u{0}b", "X-A: a\u{85}b",
        ] {
            #expect(PolicyField.field(bad, smtpUTF8: true) == nil, "\(bad)")
        }
        #expect(PolicyField.field("X-A: ü", smtpUTF8: false) == nil)
        #expect(PolicyField.field("X-A: ü", smtpUTF8: true) == "X-A: ü\r\n")
    }

    @Test func onFailure() throws {
        var round = PolicyRound(try Self.facts(), at: .rcpt, in: Self.plain)
        #expect(round.answered(PolicyOnFailure.accept.answer, by: "s") == true)
        #expect(round.verdict == Verdict())
        #expect(round.answered(PolicyOnFailure.tempfail.answer, by: "s") == false)
        #expect(
            round.verdict.decision == .refuse(Reply(451, .init(4, 3, 5), "<one@mx.test>: Policy service not available"))
        )
    }

    // MARK: Octets

    /// The answers in a text that comes in pieces of `size` octets.
    private static func read(_ text: [UInt8], by size: Int) -> (
        [PolicyAnswer], PolicyAnswerParser.Fault?, PolicyAnswerParser
    ) {
        var parser = PolicyAnswerParser()
        var answers: [PolicyAnswer] = []
        var rest = text[...]
        while !rest.isEmpty {
            var octets = ByteBuffer(bytes: rest.prefix(size))
            rest = rest.dropFirst(size)
            while octets.readableBytes > 0 {
                switch parser.read(&octets) {
                case .more: break
                case .answer(let answer): answers.append(answer)
                case .malformed(let fault): return (answers, fault, parser)
                }
            }
        }
        return (answers, nil, parser)
    }

    @Test(arguments: [1, 2, 3, 7, 10000]) func cutAnywhere(_ size: Int) {
        let text = Array("action=REJECT a=b\nmore=1\naction=OK\n\naction=DUNNO\r\n\r\nfoo=1\naction=\n\n".utf8)
        let (answers, fault, parser) = Self.read(text, by: size)
        #expect(fault == nil && parser.hasSeenCRLF && !parser.isWithinAnswer)
        #expect(answers == [PolicyAnswer("REJECT a=b"), PolicyAnswer("DUNNO"), PolicyAnswer("")])
    }

    @Test(arguments: [1, 3, 10000]) func noAnswer(_ size: Int) {
        func fault(_ text: String) -> PolicyAnswerParser.Fault? { Self.read(Array(text.utf8), by: size).1 }
        #expect(fault("\n") == .noAttribute)
        #expect(fault("rubbish\n\n") == .noName("rubbish"))
        #expect(fault("verdict=OK\n\n") == .noAction("verdict"))
        #expect(fault("ACTION=OK\n\n") == .noAction("ACTION"))
        #expect(fault("220 smtp.example.com ESMTP\r\n") == .noName("220 smtp.example.com ESMTP"))
        #expect(fault(String(repeating: "x", count: 9000)) == .tooLong)
        #expect(fault(String(repeating: "a=b\n", count: 3000)) == .tooLong)
    }

    @Test func nothingIsReadBehindAFault() {
        var parser = PolicyAnswerParser()
        var octets = ByteBuffer(string: "rubbish\naction=OK\n\n")
        #expect(parser.read(&octets) == .malformed(.noName("rubbish")))
        #expect(parser.read(&octets) == .malformed(.noName("rubbish")))
    }

    @Test func octetsThatAreNoUTF8() {
        let (answers, _, _) = Self.read(Array("action=REJECT a".utf8) + [0xFF, 0x00] + Array("b\n\n".utf8), by: 100)
        #expect(answers == [PolicyAnswer("REJECT a\u{FFFD}?b")])
    }
}
