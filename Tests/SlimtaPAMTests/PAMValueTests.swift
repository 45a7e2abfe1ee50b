// What PAM's codes mean, when answers leave, and what goes over the helper's socket.

import Testing

@testable import SlimtaPAM

@Suite struct PAMValueTests {
    @Test func aQuestion() throws {
        let question = try #require(PAMQuestion(login: "märia", password: Array("a b".utf8), host: "2001:db8::1"))
        let octets = question.octets
        #expect(PAMQuestion.read(octets) == .question(question))
        for count in octets.indices { #expect(PAMQuestion.read(Array(octets[..<count])) == .more) }
        #expect(PAMQuestion.read(octets + [0]) == .malformed)
        #expect(PAMQuestion.read([0, 1, 0, 0]) == .malformed)
        let local = try #require(PAMQuestion(login: "a", password: [1], host: nil))
        #expect(PAMQuestion.read(local.octets) == .question(local))
        let longest = try #require(
            PAMQuestion(
                login: String(repeating: "a", count: 255), password: [UInt8](repeating: 255, count: 512), host: "::1"))
        #expect(PAMQuestion.read(longest.octets) == .question(longest))
    }

    /// Modules make paths of names, and take a NUL for the end.
    @Test(arguments: [
        ("", "x"), ("a/b", "x"), ("../a", "x"), ("a\n", "x"), ("a\0b", "x"), ("a", ""), ("a", "x\0y"),
        (String(repeating: "a", count: 256), "x"), ("a", String(repeating: "x", count: 513)),
    ])
    func nobodysName(_ login: String, _ password: String) {
        #expect(PAMQuestion(login: login, password: Array(password.utf8), host: nil) == nil)
    }

    @Test func anAnswer() {
        for answer in [
            PAMAnswer.unavailable("why"), .late("why"),
            .said(PAMResult(phase: .account, code: 0, user: "a", text: "Success")),
            .said(PAMResult(phase: .authenticate, code: 19, text: "x", asksForMore: true)),
        ] {
            #expect(PAMAnswer(answer.octets) == answer)
            for count in answer.octets.indices { #expect(PAMAnswer(Array(answer.octets[..<count])) == nil) }
        }
        #expect(PAMAnswer([3]) == nil)
    }

    /// Codes of Linux-PAM: 3 and 4 are errors of service and system, 6, 7, 10 and 11 "no", 12, 13 and 27 "no longer".
    @Test(arguments: 0...31 as ClosedRange<Int32>)
    func meanings(_ code: Int32) {
        func meaning(_ phase: PAMResult.Phase, _ refuses: Bool = false) -> PAMResult.Meaning {
            PAMResult(phase: phase, code: code, text: "t").meaning(systemErrorsRefuse: refuses)
        }
        let failed = PAMResult.Meaning.failed("PAM: t (\(code))")
        let isNo = [6, 7, 10, 11, 12, 13, 27].contains(code)
        #expect(meaning(.authenticate) == (isNo ? .wrong : failed))
        switch code {
        case 0: #expect(meaning(.account) == .right)
        case 13: #expect(meaning(.account) == .refused("This login has expired"))
        case 12, 27: #expect(meaning(.account) == .refused("This password has expired: change it elsewhere"))
        default: #expect(meaning(.account) == (isNo ? .refused("This login is not allowed now") : failed))
        }
        #expect(meaning(.authenticate, true) == (isNo || code == 4 ? .wrong : failed))
        let more = PAMResult(phase: .authenticate, code: code, asksForMore: true).meaning(systemErrorsRefuse: true)
        #expect(more == .failed("PAM wants to know more than a password, and nobody can be asked"))
    }

    @Test func whenAnswersLeave() {
        var pace = PAMPace()
        #expect(pace.due(from: 1000, 1001, isRight: false) == 1100)
        #expect(pace.due(from: 1000, 1050, isRight: true) == 1050)
        #expect(pace.due(from: 2000, 2001, isRight: false) == 2100)
        // As long as the longest that a right password took of late.
        #expect(pace.due(from: 3000, 3400, isRight: true) == 3400)
        #expect(pace.due(from: 5000, 5000, isRight: false) == 5400)
        for _ in 0..<16 { _ = pace.due(from: 0, 150, isRight: true) }
        #expect(pace.due(from: 6000, 6000, isRight: false) == 6150)
    }
}
