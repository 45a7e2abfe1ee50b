// Conditions on what a message is made of: names that mail programs read and others do not, and what is beyond the limits.

import NIOCore
import SlimtaMIME
import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct ContentTestTests {
    private static func holds(_ test: ContentTest, _ facts: ContentFact) -> Condition.Finding {
        var known = plainFacts()
        known.content = facts
        return Condition(.content(test)).finding(known, at: .message, [:])
    }

    private static func field(_ disposition: String) -> ContentFact {
        content("Content-Type: application/octet-stream\r\n\(disposition)\r\n\r\nx\r\n")
    }

    /// Everything that a mail program shows as something that ends with ".exe".
    @Test(arguments: [
        "Content-Disposition: attachment; filename=a.exe", "Content-Disposition: attachment; filename=\"A.EXE\"",
        "Content-Disposition: attachment; filename=\"a.exe.\"",
        "Content-Disposition: attachment; filename=\"a.exe . \"",
        "Content-Disposition: attachment; filename*=utf-8''a%2Eexe",
        "Content-Disposition: attachment; filename*0=\"a.\"; filename*1=exe",
        "Content-Disposition: attachment; filename=\"=?utf-8?B?YS5leGU=?=\"",
        "Content-Disposition: attachment; filename*=utf-8''a%E2%80%8B.e%C2%ADxe",
        "Content-Disposition: attachment; filename=a.txt; filename*=utf-8''a.exe",
        "Content-Disposition: inline; filename=\"a.exe", "Content-Disposition: x;filename=a.exe",
        "content-disposition:attachment;\r\n\tFILENAME =\r\n a.exe",
    ])
    func namesAsMailProgramsReadThem(_ field: String) throws {
        #expect(Self.holds(.attachment(try texts("*.exe")), Self.field(field)) == .holds)
        #expect(Self.holds(.attachment(try texts("*.com")), Self.field(field)) == .fails)
    }

    @Test func ofMessagesWithinTheMessage() throws {
        let inner = parts(("application/x-msdownload", "a.exe"))
        let outer = content("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n" + inner)
        #expect(Self.holds(.attachment(try texts("*.exe")), outer) == .holds)
        #expect(Self.holds(.attachmentType(try texts("message/rfc822")), outer) == .holds)
        #expect(Self.holds(.parts([Comparison(.equal, 3)]), outer) == .holds)
    }

    /// Some mail programs decode a multipart or a message that is encoded as a whole.
    @Test(arguments: ["multipart/mixed; boundary=b", "message/rfc822"])
    func encodedAsAWhole(type: String) throws {
        let fact = content("Content-Type: \(type)\r\nContent-Transfer-Encoding: base64\r\n\r\nLS1i\r\n")
        #expect(Self.holds(.attachment(try texts("*.exe")), fact) == .unknown)
        #expect(Self.holds(.parts([Comparison(.more, 3)]), fact) == .unknown)
        #expect(Self.holds(.attachmentType(try texts(String(type.prefix { $0 != ";" }))), fact) == .holds)
    }

    /// What was not looked at is not known: a number is at least what was counted.
    @Test func beyondTheLimits() throws {
        var facts = ContentFacts()
        (facts.parts, facts.nesting, facts.exceeded) = (1000, 3, [.parts])
        let many = ContentFact(facts)
        #expect(Self.holds(.parts([Comparison(.more, 1000)]), many) == .holds)
        #expect(Self.holds(.parts([Comparison(.atLeast, 1001)]), many) == .holds)
        #expect(Self.holds(.parts([Comparison(.more, 5000)]), many) == .unknown)
        #expect(Self.holds(.parts([Comparison(.less, 10)]), many) == .fails)
        #expect(Self.holds(.parts([Comparison(.atMost, 10)]), many) == .fails)
        #expect(Self.holds(.parts([Comparison(.equal, 2000)]), many) == .unknown)
        #expect(Self.holds(.nesting([Comparison(.more, 3)]), many) == .unknown)
        #expect(Self.holds(.attachment(try texts("*.exe")), many) == .unknown)
        (facts.nesting, facts.exceeded) = (20, [.nesting])
        #expect(Self.holds(.nesting([Comparison(.more, 20)]), ContentFact(facts)) == .holds)
    }

    @Test func isReadOnlyWhereARuleAsks() throws {
        let condition = Condition(.content(.parts([Comparison(.more, 1)])))
        #expect(!RuleSet([Rule("r", at: .message, [], .hold)]).readsContent)
        #expect(RuleSet([Rule("r", at: .message, [condition], .hold)]).readsContent)
    }

    @Test func mistakes() throws {
        let domain = Condition(.content(.attachment(try texts("@example.com"))))
        #expect(domain.problem(at: .message)?.found == "\"@example.com\" for an attachment, which is no address")
        let never = Rule("never", at: .message, [Condition(.content(.parts([Comparison(.less, 0)])))], .hold)
        #expect(RuleSet.unreachable([never]).map(\.reason) == ["nothing is less than 0"])
        let all = Rule("all", at: .message, [Condition(.content(.attachment(try texts("*"))))], .accept)
        let exe = Rule("exe", at: .message, [Condition(.content(.attachment(try texts("*.exe"))))], .hold)
        #expect(RuleSet.unreachable([all, exe]).map(\.rule) == ["exe"])
    }
}
